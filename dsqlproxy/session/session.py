"""One client's life, from accept to close.

    admission -> AuthenticationOk -> upstream login -> greeting -> relay -> last words
                                                               keeper ⟳

A session owns its client channel and its upstream channel and closes both,
whatever happens. Every ending becomes a `CloseReason`, a metric and a log line
here, and every exception an ErrorResponse (`last_words`). While it lives, its
keeper replaces the upstream under the relay (`keeper.py`).
"""

import asyncio
import contextlib
from collections.abc import Awaitable

from dsqlproxy.channel.channel import Channel
from dsqlproxy.errors import DsqlProxyError, ProtocolError
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
from dsqlproxy.session.first_login import FirstLogin
from dsqlproxy.session.keeper import Keeper
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.opening import choose_role, refuse_if_full
from dsqlproxy.session.reasons import ENDED_BY_US, CloseReason
from dsqlproxy.session.relay import Relay, RelayEnding
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.report import Report, doing
from dsqlproxy.session.services import Services
from dsqlproxy.session.state import SessionMemory
from dsqlproxy.situations import sessions as situations
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
        self._login = FirstLogin(client, services, self._report)
        self._kept: Kept | None = None
        self._keeper: Keeper | None = None
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
        return self._kept.relay.bytes_in if self._kept else 0

    @property
    def bytes_out(self) -> int:
        """Bytes to the client since the login."""
        return self._kept.relay.bytes_out if self._kept else 0

    def info(self) -> SessionInfo:
        """Say everything about it, for ``/sessions``."""
        now = self._services.clock()
        keeper = self._keeper
        return SessionInfo(
            id=self.id,
            listener=self.listener_name,
            client=self._client_name,
            user=self._parameter("user"),
            database=self._parameter("database"),
            application_name=self._parameter("application_name"),
            state=self._state(),
            age_seconds=round(now - self._opened_at, 3),
            upstream_age_seconds=round(keeper.upstream_age, 3) if keeper else None,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            swaps=keeper.swaps if keeper else 0,
            seconds_to_swap=round(keeper.seconds_to_swap, 3) if keeper else None,
            pin=keeper.pin if keeper else "",
            held_for=self._login.held_for,
        )

    def _state(self) -> SessionState:
        if self._kept is None:
            return SessionState.HELD if self._login.held_for else SessionState.LOGIN
        relay = self._kept.relay
        if relay.ended.done():
            return SessionState.CLOSING
        if relay.state is RelayState.PAUSED:
            return SessionState.SWAPPING
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
        elif self._kept is not None:
            self._kept.relay.drain()
        else:
            self._login.abandon()

    def stop(self) -> None:
        """End now, whatever is running."""
        self.drain()
        if self._kept is not None:
            self._kept.relay.stop()

    # -- its life ------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client; returns when both channels are closed."""
        try:
            await self._serve()
        except Exception as error:  # noqa: BLE001 - one session must not end the others
            self._report.failed(error)
            if self._kept is None:
                # Whatever fails in saying so must not end the others either.
                with contextlib.suppress(OSError):
                    await self._refuse(situations.internal_error(self.id))
        finally:
            self._client.abort()
            if self._kept is not None:
                self._kept.upstream.channel.abort()
                self._kept.memory.close()

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
                reason,
                bytes_in=self.bytes_in,
                bytes_out=self.bytes_out,
                swaps=self._keeper.swaps if self._keeper else 0,
            )

    async def _live(self, admitted: Admitted) -> CloseReason:
        try:
            role = choose_role(admitted, self._services.config)
            refuse_if_full(self._services)
        except DsqlProxyError as error:
            self._report.refused(error)
            await self._refuse(error)
            return CloseReason.REFUSED
        self._services.admitted.add(self)
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
        startup = UpstreamStartup(role, parameters)
        started_at = self._services.clock()
        try:
            upstream = await self._login.run(startup)
        except DsqlProxyError as error:
            self._report.login_failed(error)
            await self._refuse(error)
            return CloseReason.LOGIN_FAILED
        if upstream is None:
            if not self._is_draining:
                return CloseReason.CLIENT_CLOSED
            await self._refuse(situations.shutting_down())
            return CloseReason.SHUTTING_DOWN
        seconds = self._services.clock() - started_at
        self._report.connected(upstream, role=role, seconds=seconds)
        kept = self._kept = self._build(upstream, startup)
        self._greet(admitted, upstream, dropped)
        ending = await self._relay_until_end(kept)
        await self._part(kept.relay, ending)
        return ending.reason

    def _build(self, upstream: Upstream, startup: UpstreamStartup) -> Kept:
        """Put together what lives as long as the session does."""
        memory = SessionMemory(
            startup.parameters,
            upstream.parameters,
            budget=self._services.statement_budget,
            private_name=f"dsqlproxy_{self._services.new_id()}{self.id}",
        )
        return Kept(
            services=self._services,
            report=self._report,
            relay=Relay(client=self._client, upstream=upstream.channel, memory=memory),
            memory=memory,
            startup=startup,
            upstream=upstream,
        )

    async def _relay_until_end(self, kept: Kept) -> RelayEnding:
        """Let bytes pass until the end, over one upstream after another."""
        keeper = self._keeper = Keeper(kept)
        kept.relay.keeper = keeper
        self._services.watch.add(keeper)
        try:
            kept.relay.start()
            if self._is_draining:
                self.drain()
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(keeper.run())
                ending = await kept.relay.ended
                keeping.cancel()
        finally:
            self._services.watch.discard(keeper)
            keeper.close()
        return ending

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
                    relay.tracker,
                    client_fault=relay.client_fault,
                    not_replaced=self._why_not_replaced(),
                    is_unsent=relay.is_client_waiting,
                    is_at_limit=bool(self._keeper and self._keeper.is_at_limit),
                )
            case CloseReason.SESSION_LIMIT:
                error = situations.session_limit(self._why_not_replaced())
            case CloseReason.MESSAGE_TOO_LARGE:
                error = situations.message_too_large()
            case CloseReason.SHUTTING_DOWN:
                error = situations.shutting_down()
            case _:
                error = None
        await self._await_answers(relay)
        relay.close(ending.reason)
        if ending.reason is CloseReason.CLIENT_CLOSED:
            await self._client.drain()  # to the last byte, at its own pace
        if error is not None:
            age = self._keeper.upstream_age if self._keeper else 0.0
            self._report.ended_with(error, relay.tracker, age=age)
            relay.parting.say(words.last_words(error).encode())
            await _wait(relay.parting.wait_spoken(), LINGER_SECONDS)
        if ending.reason in ENDED_BY_US:
            relay.terminate_upstream()
        is_told = error is not None or ending.reason is CloseReason.UPSTREAM_ENDED
        is_quiet = relay.tracker.is_quiet
        if is_told and (not is_quiet or ending.reason is CloseReason.MESSAGE_TOO_LARGE):
            # It may be sending, and must have its last words before a reset.
            await self._client.linger(LINGER_SECONDS, is_sending=True)
        else:
            await self._client.close_within(LINGER_SECONDS)
        await upstream.close_within(LINGER_SECONDS)

    def _why_not_replaced(self) -> str:
        return self._keeper.why_not_replaced if self._keeper else ""

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
        kept = target._kept if target else None  # noqa: SLF001 - its own kind
        upstream = kept.upstream if kept else None
        if target is None or upstream is None or upstream.key is None:
            self._report.cancelled(CancelOutcome.UNKNOWN_KEY)
            return
        if kept and kept.relay.state is RelayState.PAUSED:
            # On an upstream that is being replaced it could only hit our own question.
            self._report.cancelled(CancelOutcome.NOTHING_RUNNING, of=target.id)
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
