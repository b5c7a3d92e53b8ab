"""Opens sessions on a cluster: resolve, connect, secure, log in.

    host name -> addresses -> TCP -> TLS (direct, or by SSLRequest) -> token -> ready

One time limit stands over the whole way. Whatever fails on it, and at whichever
await it is cancelled, no socket and no task is left.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.channel.channel import Channel
from dsqlproxy.clocks import Clocks, Reading
from dsqlproxy.config.addresses import TcpAddress
from dsqlproxy.config.model import ListenerConfig
from dsqlproxy.dsql import PORT
from dsqlproxy.errors import TokenError, UpstreamRejected
from dsqlproxy.pgproto.messages import (
    BackendKeyData,
    NoticeResponse,
    ParameterStatus,
    PasswordMessage,
)
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, CancelRequest, StartupMessage
from dsqlproxy.situations import network
from dsqlproxy.situations.cluster import Cause, cause_of, with_advice
from dsqlproxy.situations.network import Phase
from dsqlproxy.upstream.encryption import Way, client_context
from dsqlproxy.upstream.login import LoggedIn, Login, PasswordWanted
from dsqlproxy.upstream.parameters import Parameters
from dsqlproxy.upstream.redaction import Redaction
from dsqlproxy.upstream.resolve import Address, Resolver, resolve
from dsqlproxy.upstream.securing import Attempt, Secured, secure

CANCEL_SECONDS = 5.0
"""A cancel that takes longer has lost its race with the query (dsql-cli: 5 s)."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster, and how to reach it.

    Four names of it may all differ: the host that the token is signed for, the
    address that is dialled, the name in SNI and certificate, and what
    ``startup_options`` tell a PrivateLink endpoint.
    """

    host: str
    region: str
    port: int = PORT
    connect_address: TcpAddress | None = None
    server_name: str | None = None
    ca_file: Path | None = None
    negotiation: Literal["auto", "direct", "postgres"] = "auto"
    timeout_seconds: float = 10.0
    token_lifetime_seconds: int = 60

    @classmethod
    def from_listener(cls, listener: ListenerConfig) -> Self:
        """Take what concerns the upstream out of a listener's configuration."""
        return cls(
            host=listener.endpoint.host,
            region=listener.endpoint.region,
            connect_address=listener.connect_address,
            server_name=listener.server_name,
            ca_file=listener.ca_file,
            negotiation=listener.tls_negotiation,
            timeout_seconds=listener.connect_timeout,
            token_lifetime_seconds=listener.token_lifetime,
        )

    @property
    def dialled(self) -> TcpAddress:
        """What is resolved and connected to."""
        return self.connect_address or TcpAddress(self.host, self.port)

    def __str__(self) -> str:
        """Name the address that is dialled, and the cluster if that is another."""
        via = "" if self.connect_address is None else f" (for {self.host})"
        return f"{self.dialled}{via}"


@dataclass(frozen=True, slots=True)
class UpstreamStartup:
    """As whom, and with which startup parameters, a session is opened."""

    role: str
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Upstream:
    """An open session on the cluster. Who gets it closes ``channel``."""

    channel: Channel
    parameters: tuple[ParameterStatus, ...]
    key: BackendKeyData | None
    notices: tuple[NoticeResponse, ...]
    opened_at: Reading
    """When its TCP connect began: the cluster cannot have counted for longer."""
    address: Address
    """Where it is; a cancel request has to go there too."""


class TokenSigner(Protocol):
    """What a connector asks of its `ClusterTokens`."""

    async def sign(self, request: SigningRequest) -> Token:
        """Sign a token."""

    @property
    def failure(self) -> TokenError | None:
        """Why nothing can be signed, as of now; None while something can, or may."""

    def note_refused(self, token: Token, cause: Cause) -> None:
        """Learn that the cluster refused a token, for a cause that is about it."""

    def note_accepted(self, token: Token) -> None:
        """Learn that the cluster took a token."""


class Connector:
    """Opens sessions and sends cancel requests for one `Target`.

    Raises `ConfigError` at once if there is no authority to verify a cluster with.
    It owns nothing between calls but the memory of how TLS began last time.
    """

    def __init__(
        self,
        target: Target,
        tokens: TokenSigner,
        *,
        clocks: Clocks,
        logger: logging.Logger,
        resolver: Resolver = resolve,
    ) -> None:
        self._target = target
        self._tokens = tokens
        self._clocks = clocks
        self._logger = logger
        self._resolver = resolver
        self._context = client_context(target.ca_file)
        self._server_name = target.server_name or target.host
        self._known_way: Way | None = None

    async def open(
        self,
        startup: UpstreamStartup,
        *,
        on_phase: Callable[[Attempt], None] | None = None,
    ) -> Upstream:
        """Open a session, ready for its first request.

        ``on_phase`` is told at the beginning of each phase how far the attempt is.
        Raises `UpstreamUnavailable`, `UpstreamRejected`, `TokenError`, or
        `ProtocolError` when the peer does not speak as a cluster does.
        """
        if (failure := self._tokens.failure) is not None:
            raise failure  # before anything is dialled
        async with self._attempt(self._target.timeout_seconds, on_phase) as attempt:
            secured = await self._secure(attempt)
            try:
                logged_in = await self._log_in(secured.channel, startup, attempt)
            except BaseException:
                secured.channel.abort()
                raise
        return Upstream(
            channel=secured.channel,
            parameters=logged_in.parameters,
            key=logged_in.key,
            notices=logged_in.notices,
            opened_at=secured.opened_at,
            address=secured.address,
        )

    async def cancel(
        self, key: BackendKeyData, *, address: Address | None = None
    ) -> None:
        """Ask the cluster to cancel what the session with ``key`` is doing.

        Returns when the cluster has closed the connection, which is all the answer
        there is; raises `UpstreamUnavailable` when it could not be told.
        """
        seconds = min(self._target.timeout_seconds, CANCEL_SECONDS)
        async with self._attempt(seconds) as attempt:
            channel = (await self._secure(attempt, address)).channel
            try:
                attempt.enter(Phase.CANCEL)
                channel.write(CancelRequest(key.process_id, key.secret_key).encode())
                try:
                    while await channel.read():
                        pass  # nothing is said here, and it would not matter
                except ConnectionError:
                    pass  # a reset is an end too
            finally:
                channel.abort()

    @asynccontextmanager
    async def _attempt(
        self, seconds: float, on_phase: Callable[[Attempt], None] | None = None
    ) -> AsyncIterator[Attempt]:
        """Put a time limit over an attempt, and say in which phase it ran out."""
        attempt = Attempt(on_phase)
        try:
            async with asyncio.timeout(seconds):
                yield attempt
        except TimeoutError:
            raise network.too_late(
                str(self._target), seconds=seconds, phase=attempt.phase
            ) from None
        finally:
            for refusal in attempt.refusals:
                self._logger.debug("%s refused %s", self._target, refusal)

    async def _secure(
        self, attempt: Attempt, address: Address | None = None
    ) -> Secured:
        """Connect and begin TLS, in the ways allowed, the last good one first."""
        target = self._target
        attempt.addresses = (address,) if address else ()
        if not attempt.addresses:
            attempt.enter(Phase.RESOLVE)
            dialled = target.dialled
            attempt.addresses = await self._resolver(dialled.host, dialled.port)
        ways = self._ways()
        # A first try must leave time for the other way.
        may_try_another = len(ways) > 1 and not self._known_way
        secured = await secure(
            attempt,
            ways,
            name=str(target),
            context=self._context,
            server_name=self._server_name,
            clocks=self._clocks,
            seconds=target.timeout_seconds / len(ways) if may_try_another else None,
        )
        self._known_way = secured.way
        return secured

    def _ways(self) -> tuple[Way, ...]:
        """Say in which order to try; one refused way costs a connection."""
        if self._target.negotiation == "direct":
            return (Way.DIRECT,)
        if self._target.negotiation == "postgres":
            return (Way.REQUEST,)
        if self._known_way is Way.REQUEST:
            return (Way.REQUEST, Way.DIRECT)
        return (Way.DIRECT, Way.REQUEST)

    async def _log_in(
        self, channel: Channel, startup: UpstreamStartup, attempt: Attempt
    ) -> LoggedIn:
        """Hold the login conversation."""
        try:
            logged_in = await self._converse(channel, startup, attempt)
        except ConnectionError:
            raise network.closed_during_login(str(self._target)) from None
        except UpstreamRejected as error:
            cause = cause_of(error)
            if attempt.token is not None and cause.is_about_the_token:
                self._tokens.note_refused(attempt.token, cause)
            raise with_advice(error, role=startup.role) from None
        if attempt.token is not None:
            self._tokens.note_accepted(attempt.token)
        return logged_in

    async def _converse(
        self, channel: Channel, startup: UpstreamStartup, attempt: Attempt
    ) -> LoggedIn:
        """Send startup packet and token, which is signed while the packet travels."""
        channel.write(StartupMessage(PROTOCOL_3_0, startup.parameters).encode())
        attempt.enter(Phase.SIGN)
        token = await self._tokens.sign(
            SigningRequest(
                host=self._target.host,
                region=self._target.region,
                role=startup.role,
                lifetime_seconds=self._target.token_lifetime_seconds,
            )
        )
        attempt.token = token
        attempt.enter(Phase.LOG_IN)
        login = Login()
        redaction = Redaction(token.reveal())
        while data := await channel.read():
            try:
                events = login.receive(data)
            except UpstreamRejected as error:
                raise redaction.of_rejection(error) from None
            for event in events:
                if isinstance(event, PasswordWanted):
                    channel.write(PasswordMessage(token.reveal()).encode())
                else:
                    channel.unread(login.take_rest())
                    return redaction.of_logged_in(event)
        raise ConnectionResetError("the end came before ReadyForQuery")
