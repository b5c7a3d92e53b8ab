"""One client's life, from accept to close.

    admission -> AuthenticationOk -> upstream login -> greeting -> relay -> last words

A session owns its client channel and its upstream channel and closes both,
whatever happens. Every ending becomes a `CloseReason`, a metric and a log line
here, and every exception an ErrorResponse (`last_words`).
"""

import asyncio
import contextlib
from collections.abc import Awaitable

from dsqlproxy.channel.channel import Channel
from dsqlproxy.errors import (
    DsqlProxyError,
    ProtocolError,
    RoleNotAllowed,
    TooManyConnections,
)
from dsqlproxy.listen.admission import Admitted, Departed, admit
from dsqlproxy.ops.metrics import CancelOutcome
from dsqlproxy.ops.sessions import SessionInfo, SessionState
from dsqlproxy.pgproto.codes import TransactionStatus
from dsqlproxy.pgproto.messages import (
    AUTHENTICATION_OK,
    BackendKeyData,
    BackendMessage,
    ReadyForQuery,
)
from dsqlproxy.pgproto.startup import CancelRequest
from dsqlproxy.session import last_words as words
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay import Relay, RelayEnding
from dsqlproxy.session.report import Report, doing
from dsqlproxy.session.services import Services
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from dsqlproxy.upstream.parameters import upstream_parameters

LINGER_SECONDS = 2.0
"""How long a peer may take for the last bytes once its session is over."""

LEAVE_SECONDS = 5.0
"""How long an upstream may take to close after Terminate."""


class Session:
    """One client connection; `run` is its whole life."""

    def __init__(self, client: Channel, services: Services) -> None:
        self.id = services.new_id()
        self._client = client
        self._services = services
        self._opened_at = services.clock()
        self._client_name = client.peer_name
        self._report = Report(services, session_id=self.id, client=self._client_name)
        self._admitted: Admitted | None = None
        self._login: asyncio.Timeout | None = None
        self._upstream: Upstream | None = None
        self._relay: Relay | None = None
        self._key: BackendKeyData | None = None
        self._is_draining = False
        self.is_being_cancelled = False

    # -- what others see -----------------------------------------------------------

    @property
    def listener_name(self) -> str:
        """The listener that accepted it."""
        return self._services.config.name

    @property
    def bytes_in(self) -> int:
        """Bytes from the client since the login."""
        return self._relay.bytes_in if self._relay else 0

    @property
    def bytes_out(self) -> int:
        """Bytes to the client since the login."""
        return self._relay.bytes_out if self._relay else 0

    def info(self) -> SessionInfo:
        """Say everything about it, for ``/sessions``."""
        now = self._services.clock()
        opened_at = self._upstream.opened_at if self._upstream else None
        return SessionInfo(
            id=self.id,
            listener=self.listener_name,
            client=self._client_name,
            user=self._parameter("user"),
            database=self._parameter("database"),
            application_name=self._parameter("application_name"),
            state=self._state(),
            age_seconds=round(now - self._opened_at, 3),
            upstream_age_seconds=None
            if opened_at is None
            else round(now - opened_at, 3),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )

    def _state(self) -> SessionState:
        relay = self._relay
        if relay is None:
            return SessionState.LOGIN
        if relay.ended.done():
            return SessionState.CLOSING
        return doing(relay.tracker)

    def _parameter(self, name: str) -> str:
        startup = self._admitted.startup if self._admitted else None
        return (startup.get(name) or "") if startup else ""

    # -- what the proxy tells it ---------------------------------------------------

    def drain(self) -> None:
        """End at the next quiet moment, which may be now."""
        self._is_draining = True
        if self._admitted is None:
            self._client.abort()  # it has not asked for anything yet
        elif self._relay is not None:
            self._relay.when_quiet(self._relay.stop)
        else:
            self._abandon_login()

    def stop(self) -> None:
        """End now, whatever is running."""
        self.drain()
        if self._relay is not None:
            self._relay.stop()

    # -- its life ------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client; returns when both channels are closed."""
        try:
            await self._serve()
        except Exception as error:  # noqa: BLE001 - one session must not end the others
            self._report.failed(error)
            if self._relay is None:
                # Whatever fails in saying so must not end the others either.
                with contextlib.suppress(OSError):
                    await self._refuse(words.internal_error(self.id))
        finally:
            self._client.abort()
            if self._upstream is not None:
                self._upstream.channel.abort()

    async def _serve(self) -> None:
        try:
            async with asyncio.timeout(self._services.config.login_timeout):
                asked = await admit(self._client, tls=self._services.tls)
        except TimeoutError:
            self._report.departed("no startup packet within login_timeout")
            return
        except ProtocolError as error:
            self._report.refused(error)
            await self._refuse(error)
            return
        match asked:
            case Departed(reason, hint):
                self._report.departed(reason, hint)
                await self._client.close_within(LINGER_SECONDS)
            case CancelRequest():
                await self._cancel(asked)
                await self._client.close_within(LINGER_SECONDS)
            case Admitted():
                await self._serve_admitted(asked)

    async def _serve_admitted(self, admitted: Admitted) -> None:
        services = self._services
        self._admitted = admitted
        services.open_sessions.add(self)
        self._report.opened(admitted.startup)
        reason = CloseReason.INTERNAL_ERROR
        try:
            reason = await self._live(admitted)
        except asyncio.CancelledError:
            reason = CloseReason.SHUTTING_DOWN
            raise
        finally:
            if self._key is not None:
                services.cancel_keys.forget(self._key)
            services.admitted.discard(self)
            services.open_sessions.discard(self)
            self._report.closed(
                reason, bytes_in=self.bytes_in, bytes_out=self.bytes_out
            )

    async def _live(self, admitted: Admitted) -> CloseReason:
        try:
            role = self._choose_role(admitted)
            self._take_place()
        except DsqlProxyError as error:
            self._report.refused(error)
            await self._refuse(error)
            return CloseReason.REFUSED
        if admitted.negotiation is not None:
            self._client.write(admitted.negotiation.encode())
        # At once: a client needs no password whatever comes now, pg_isready wants no
        # more than this, and afterwards any failure can be told in full.
        self._client.write(AUTHENTICATION_OK.encode())
        config = self._services.config
        parameters, dropped = upstream_parameters(
            admitted.startup.parameters,
            role=role,
            database=config.database,
            startup_options=config.startup_options or "",
            unsupported=config.unsupported_parameters,
        )
        try:
            upstream = await self._log_in(UpstreamStartup(role, parameters))
        except DsqlProxyError as error:
            self._report.login_failed(error)
            await self._refuse(error)
            return CloseReason.LOGIN_FAILED
        if upstream is None:
            if not self._is_draining:
                return CloseReason.CLIENT_CLOSED
            await self._refuse(words.shutting_down())
            return CloseReason.SHUTTING_DOWN
        self._upstream = upstream
        self._greet(admitted, upstream, dropped)
        relay = self._relay = Relay(client=self._client, upstream=upstream.channel)
        relay.start()
        if self._is_draining:
            self.drain()
        ending = await relay.ended
        await self._part(relay, ending)
        return ending.reason

    def _choose_role(self, admitted: Admitted) -> str:
        """Say as whom the session logs in; `RoleNotAllowed` names who would do."""
        config = self._services.config
        user = admitted.startup.get("user")
        allowed = (config.role,) if config.role else config.roles
        hint = f"Connect as {' or '.join(allowed)}." if allowed else ""
        if not user:
            message = "no PostgreSQL user name specified in startup packet"
            raise RoleNotAllowed(
                message, hint=hint or "Set a user name, such as admin."
            )
        if config.role:
            return config.role
        if config.roles and user not in config.roles:
            message = f'role "{user}" is not served by this listener'
            raise RoleNotAllowed(message, hint=hint)
        return user

    def _take_place(self) -> None:
        services = self._services
        limit = services.config.max_sessions
        if len(services.admitted) >= limit:
            raise TooManyConnections(
                "dsqlproxy has too many sessions on this listener",
                detail=f"The limit is {limit}.",
                hint="Close some, or raise max_sessions.",
            )
        services.admitted.add(self)

    async def _log_in(self, startup: UpstreamStartup) -> Upstream | None:
        """Open the upstream; None when meanwhile the client left or the proxy ends."""
        services = self._services
        started_at = services.clock()
        try:
            async with asyncio.timeout(None) as self._login:
                self._client.when_ended(self._client_ended_in_login)
                if self._is_draining:
                    self._abandon_login()
                upstream = await services.connector.open(startup)
        except TimeoutError:
            return None
        finally:
            self._client.when_ended(None)
            self._login = None
        seconds = services.clock() - started_at
        self._report.connected(startup.role, seconds, address=str(upstream.address))
        return upstream

    def _client_ended_in_login(self) -> None:
        # Who has sent requests and then the end of its stream may wait for the
        # answers; who has sent nothing (pg_isready) wants none.
        if self._client.is_lost or not self._client.has_unread:
            self._abandon_login()

    def _abandon_login(self) -> None:
        """Give up the login, if one is under way and not given up already."""
        if self._login is not None and not self._login.expired():
            self._login.reschedule(asyncio.get_running_loop().time())

    def _greet(
        self, admitted: Admitted, upstream: Upstream, dropped: tuple[str, ...]
    ) -> None:
        """Say what a server says between AuthenticationOk and the first request."""
        services = self._services
        self._key = services.cancel_keys.mint(
            self,
            process_id=upstream.key.process_id if upstream.key else None,
            key_bytes=admitted.key_bytes,
        )
        greeting: list[BackendMessage] = [*upstream.parameters, self._key]
        greeting += upstream.notices
        if dropped:
            greeting.append(words.dropped_parameters(dropped))
        greeting.append(ReadyForQuery(TransactionStatus.IDLE))
        self._client.write(b"".join(message.encode() for message in greeting))
        self._report.ready()

    # -- its end -------------------------------------------------------------------

    async def _part(self, relay: Relay, ending: RelayEnding) -> None:
        """Say the last words that the ending calls for, and close both channels."""
        upstream = relay.upstream
        match ending.reason:
            case CloseReason.UPSTREAM_LOST:
                error: DsqlProxyError | None = words.upstream_lost(
                    relay.tracker, client_fault=relay.client_fault
                )
            case CloseReason.MESSAGE_TOO_LARGE:
                error = words.message_too_large()
            case CloseReason.SHUTTING_DOWN:
                error = words.shutting_down()
            case _:
                error = None
        await self._await_answers(relay)
        relay.close(ending.reason)
        if ending.reason is CloseReason.CLIENT_CLOSED:
            await self._client.drain()  # to the last byte, at its own pace
        if error is not None:
            self._report.ended_with(error, relay.tracker)
            relay.say_last(words.last_words(error).encode())
            await _wait(relay.wait_spoken(), LINGER_SECONDS)
        if ending.reason in {CloseReason.SHUTTING_DOWN, CloseReason.MESSAGE_TOO_LARGE}:
            relay.terminate_upstream()
        is_told = error is not None or ending.reason is CloseReason.UPSTREAM_ENDED
        is_quiet = relay.tracker.is_quiet
        if is_told and (not is_quiet or ending.reason is CloseReason.MESSAGE_TOO_LARGE):
            # It may be sending, and must have its last words before a reset.
            await self._client.linger(LINGER_SECONDS)
        else:
            await self._client.close_within(LINGER_SECONDS)
        await upstream.close_within(LINGER_SECONDS)

    async def _await_answers(self, relay: Relay) -> None:
        """Wait for an upstream that was told to terminate, while it still answers.

        It closes when it has; a client that has only ended its own stream gets all
        of it, however slow the upstream is, or itself.
        """
        passed = -1
        while not relay.closed.is_set():
            is_owed = relay.tracker.outstanding or relay.tracker.desynced
            if self._client.is_lost or (relay.bytes_out == passed and not is_owed):
                return
            passed = relay.bytes_out
            await _wait(relay.closed.wait(), LEAVE_SECONDS)

    async def _refuse(self, error: DsqlProxyError) -> None:
        """Tell a client why it gets no session."""
        self._client.write(words.last_words(error).encode())
        await self._client.linger(LINGER_SECONDS)

    async def _cancel(self, request: CancelRequest) -> None:
        """Pass a cancel on to the upstream of the session that it means."""
        services = self._services
        target = services.cancel_keys.find(request)
        upstream = target._upstream if target else None  # noqa: SLF001 - its own kind
        if target is None or upstream is None or upstream.key is None:
            self._report.cancelled(CancelOutcome.UNKNOWN_KEY)
            return
        outcome, failure = CancelOutcome.FORWARDED, None
        if not target.is_being_cancelled:  # one on its way serves all who ask
            target.is_being_cancelled = True
            try:
                # By the target's own connector: the request may come in elsewhere.
                connector = target._services.connector  # noqa: SLF001
                await connector.cancel(upstream.key, address=upstream.address)
            except DsqlProxyError as error:
                outcome, failure = CancelOutcome.FAILED, error
            finally:
                target.is_being_cancelled = False
        self._report.cancelled(outcome, of=target.id, error=failure)


async def _wait(awaitable: Awaitable[object], seconds: float) -> None:
    """Wait, but not longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await awaitable
