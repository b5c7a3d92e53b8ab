"""The cluster that is asked: ways to it, and logins that may be unusual.

Two rules stand over all of it. TLS is always verified as for any login. And the
token goes only where an ordinary login would send it: to the cluster's own name,
verified, when it asks for a password in the clear; `knock`, which takes any other
name along, cannot send one.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.clocks import Clocks
from dsqlproxy.dsql import ADMIN_ROLE, DATABASE
from dsqlproxy.errors import (
    ConnectionLost,
    DsqlProxyError,
    Peer,
    ProtocolError,
    UpstreamRejected,
)
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import BackendKeyData, PasswordMessage
from dsqlproxy.pgproto.startup import (
    PROTOCOL_3_0,
    CancelRequest,
    ProtocolVersion,
    StartupMessage,
)
from dsqlproxy.probe.line import Line
from dsqlproxy.probe.masking import ADDRESS, Masking
from dsqlproxy.probe.pace import Pace
from dsqlproxy.probe.reply import Ending, rejection_said
from dsqlproxy.upstream.connector import Target, UpstreamStartup
from dsqlproxy.upstream.encryption import Way, client_context
from dsqlproxy.upstream.login import LoggedIn, Login, PasswordWanted
from dsqlproxy.upstream.resolve import Address, Resolver
from dsqlproxy.upstream.securing import Attempt, secure

NO_SUCH_CLUSTER: Final = "probe0of0dsqlproxy0no0name"
"""An id of the right form that no cluster has; a token never goes to it."""

_AGAINST_IT: Final = (ConnectionLost, ProtocolError, UpstreamRejected)
"""What a cluster raises; anything else is trouble on the way to it, or with AWS."""

_LIFETIME: Final = re.compile(r"(X-Amz-Expires=)[0-9]+")


class Signer(Protocol):
    """What is asked of a `TokenSource`."""

    async def sign(self, request: SigningRequest) -> Token:
        """Sign a token."""


@dataclass(slots=True)
class LoginAttempt:
    """How far a login came."""

    heard: list[Frame] = field(default_factory=list)
    """All that the cluster said."""
    asked_for_password: bool = False
    line: Line | None = None
    """The session, if there is one."""
    failure: DsqlProxyError | None = None
    """What stands against it, by the cluster's words or behaviour."""
    ending: Ending | None = None
    """How the connection ended, where that was all."""

    @property
    def verdict(self) -> str:
        """A word for what became of it: accepted, or the cluster's error."""
        if self.line is not None:
            return "accepted"
        if isinstance(self.failure, UpstreamRejected):
            fields = dict(self.failure.fields)
            return f"{fields.get('V', fields.get('S', ''))} {fields.get('C', '')}"
        if self.ending is not None:
            return f"connection {self.ending}"
        if self.failure is not None:
            return "not a login"
        if self.asked_for_password:
            return "asks for a password"
        return "lets in without a password"

    @property
    def said(self) -> str:
        """All that the cluster said against it."""
        if isinstance(self.failure, UpstreamRejected):
            return rejection_said(self.failure)
        return self.failure.message if self.failure else self.verdict


class Cluster:
    """One cluster, and as whom it is asked."""

    def __init__(
        self,
        target: Target,
        tokens: Signer,
        startup: UpstreamStartup,
        *,
        clocks: Clocks,
        masking: Masking,
        pace: Pace,
        resolver: Resolver,
    ) -> None:
        self.target = target
        self.role = startup.role
        self.clocks = clocks
        self.pace = pace
        self._tokens = tokens
        self._parameters = startup.parameters
        self._masking = masking
        self._resolver = resolver
        self._context = client_context(target.ca_file)
        self._server_name = target.server_name or target.host
        self._way: Way | None = None
        if target.negotiation != "auto":
            direct = target.negotiation == "direct"
            self._way = Way.DIRECT if direct else Way.REQUEST

    # -- what a login says ---------------------------------------------------------

    def startup(
        self,
        *,
        role: str | None = None,
        options: str = "",
        parameters: Sequence[tuple[str, str]] = (),
        version: ProtocolVersion = PROTOCOL_3_0,
    ) -> StartupMessage:
        """Make the startup packet of an ordinary session, with something added."""
        mine = dict(self._parameters)
        if role is not None:
            mine["user"] = role
        if options:
            before = mine.get("options", "")
            mine["options"] = f"{before} {options}" if before else options
        mine.update(parameters)
        return StartupMessage(version, tuple(mine.items()))

    async def token(
        self,
        *,
        role: str | None = None,
        lifetime_seconds: int | None = None,
        claimed_seconds: int | None = None,
    ) -> str:
        """Sign a token, which no report will show.

        ``claimed_seconds`` is written into it afterwards as its lifetime; its
        signature does not fit then.
        """
        token = await self._tokens.sign(
            SigningRequest(
                host=self.target.host,
                region=self.target.region,
                role=role or self.role,
                lifetime_seconds=lifetime_seconds or self.target.token_lifetime_seconds,
            )
        )
        value = token.reveal()
        if claimed_seconds is not None:
            value = _LIFETIME.sub(rf"\g<1>{claimed_seconds}", value)
        for told in (token.reveal(), value):
            self._masking.add_token(told)
        return value

    # -- ways to it ----------------------------------------------------------------

    @asynccontextmanager
    async def secured(
        self,
        *,
        way: Way | None = None,
        server_name: str | None = None,
        address: Address | None = None,
    ) -> AsyncIterator[Line]:
        """Connect and begin TLS; nobody is logged in yet. Closes it afterwards.

        Raises `UpstreamUnavailable`, as ways that are refused do too.
        """
        ways = (way,) if way else self._ways()
        line = await self._secure(ways, server_name or self._server_name, address)
        try:
            yield line
        finally:
            line.channel.abort()
            await line.channel.wait_closed()

    @asynccontextmanager
    async def attempt(
        self, startup: StartupMessage | None = None, *, token: str | None = None
    ) -> AsyncIterator[LoginAttempt]:
        """Log in, and tell how far it came; a refusal raises nothing.

        ``token`` goes instead of one that is signed when it is asked for.
        """
        attempt = LoginAttempt()
        async with self.secured() as line:
            line.send((startup or self.startup()).encode())
            try:
                if await self._wants_password(line, login := Login(), attempt):
                    password = PasswordMessage(token or await self.token())
                    line.send(password.encode())
                    await self._wants_password(line, login, attempt)
            except _AGAINST_IT as failure:
                attempt.failure = failure
            else:
                line.greeting = tuple(attempt.heard)
                attempt.line = line
            yield attempt
            if attempt.line is not None:
                await line.close()

    async def knock(self, *, server_name: str) -> LoginAttempt:
        """Ask under another name, as far as it goes without a token.

        Raises `UpstreamUnavailable` where TLS does not begin under that name.
        """
        attempt = LoginAttempt()
        # Nothing of ours goes along: only what every client says.
        nobody = (("user", ADMIN_ROLE), ("database", DATABASE))
        async with self.secured(server_name=server_name) as line:
            line.send(StartupMessage(PROTOCOL_3_0, nobody).encode())
            try:
                await self._wants_password(line, Login(), attempt)
            except _AGAINST_IT as failure:
                attempt.failure = failure
        return attempt

    @asynccontextmanager
    async def session(
        self, startup: StartupMessage | None = None
    ) -> AsyncIterator[Line]:
        """Open a session; raises what stands against it."""
        async with self.attempt(startup) as attempt:
            if attempt.failure is not None:
                raise attempt.failure
            assert attempt.line is not None  # noqa: S101 - it is one or the other
            yield attempt.line

    async def cancel(self, key: BackendKeyData, address: Address) -> str:
        """Ask to cancel what a session does; tell how that was answered."""
        request = CancelRequest(key.process_id, key.secret_key)
        async with self.secured(address=address) as line:
            line.send(request.encode())
            reply = await line.hear(seconds=self.pace.silence_seconds)
        return f"{reply.types} {reply.ending or 'silence'}".strip()

    def other_server_name(self) -> str:
        """Name a cluster that does not exist, where this one is."""
        _, dot, domain = self._server_name.partition(".")
        return f"{NO_SUCH_CLUSTER}{dot}{domain}"

    # -- inside --------------------------------------------------------------------

    def _ways(self) -> tuple[Way, ...]:
        return (self._way,) if self._way else (Way.DIRECT, Way.REQUEST)

    async def _secure(
        self, ways: Sequence[Way], server_name: str, address: Address | None
    ) -> Line:
        dialled = self.target.dialled
        addresses: Sequence[Address] = (address,) if address else ()
        if not addresses:
            addresses = await self._resolver(dialled.host, dialled.port)
        for one in addresses:
            self._masking.add(str(one.sockaddr[0]), ADDRESS)
        secured = await secure(
            Attempt(addresses=addresses),
            ways,
            name=str(self.target),
            context=self._context,
            server_name=server_name,
            clocks=self.clocks,
            seconds=self.target.timeout_seconds / len(ways),
        )
        if len(ways) > 1:
            self._way = secured.way
        return Line(
            secured.channel,
            address=secured.address,
            opened_at=secured.opened_at,
            clocks=self.clocks,
        )

    async def _wants_password(
        self, line: Line, login: Login, attempt: LoginAttempt
    ) -> bool:
        """Listen until the cluster wants a password, or else is ready."""
        while True:
            attempt.ending = await line.collect(attempt.heard)
            if attempt.ending is not None:
                msg = f"the connection was {attempt.ending} during login"
                raise ConnectionLost(msg, peer=Peer.UPSTREAM)
            one = attempt.heard[-1]
            if one.type == BackendType.NEGOTIATE_PROTOCOL_VERSION:
                continue  # asked for here; an ordinary login would not go on
            for event in login.receive(frame(one.type, one.body)):
                match event:
                    case PasswordWanted():
                        attempt.asked_for_password = True
                        return True
                    case LoggedIn():
                        return False
