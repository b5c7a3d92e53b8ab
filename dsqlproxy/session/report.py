"""What a session says of itself: log events, metrics, health, in one place."""

from dsqlproxy.errors import ConnectionLost, DsqlProxyError, ShuttingDown
from dsqlproxy.ops.metrics import (
    CancelOutcome,
    RecoveryOutcome,
    SwapOutcome,
    connect_outcome,
)
from dsqlproxy.ops.sessions import SessionState
from dsqlproxy.pgproto.startup import StartupMessage
from dsqlproxy.session.last_words import last_words
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.services import Services
from dsqlproxy.session.tracker import Tracker
from dsqlproxy.situations.cluster import is_refusal
from dsqlproxy.situations.holding import Remark
from dsqlproxy.upstream.connector import Upstream


def doing(tracker: Tracker) -> SessionState:
    """Say what a session that is logged in is doing."""
    if tracker.outstanding:
        return SessionState.ACTIVE
    if tracker.in_transaction:
        return SessionState.IN_TRANSACTION
    return SessionState.IDLE


class Report:
    """The events of one session, in the order of its life."""

    def __init__(self, services: Services, *, session_id: str, client: str) -> None:
        self._services = services
        self._listener = services.config.name
        self._client = client
        self._log = services.log.bind(session=session_id)
        self._began_at = services.clock()
        self._deferred_because = ""  # as the last warning said
        self._is_pinned = False

    def departed(self, reason: str, hint: str = "") -> None:
        """Note a connection that never asked for a session.

        A bare TCP probe is an everyday thing; one that a hint can help is not.
        """
        note = self._log.info if hint else self._log.debug
        note("client left", client=self._client, reason=reason, hint=hint)

    def refused(self, error: DsqlProxyError) -> None:
        """Note what the proxy itself does not allow."""
        self._log.warning(
            "session refused",
            listener=self._listener,
            client=self._client,
            code=error.sqlstate,
            message=error.message,
            detail=error.detail,
            hint=error.hint,
        )

    def opened(self, startup: StartupMessage) -> None:
        """Note a client that asked for a session."""
        self._services.metrics.session_opened(self._listener)
        self._log.info(
            "session opened",
            listener=self._listener,
            client=self._client,
            user=startup.get("user") or "",
            application_name=startup.get("application_name") or "",
        )

    def held(self, remark: Remark, *, is_first: bool) -> None:
        """Note that the client waits, and why; it has been told the same."""
        if is_first:
            self._services.metrics.held(self._listener, +1)
        self._log.info(
            "session held",
            listener=self._listener,
            reason=remark.message,
            detail=remark.detail,
            hint=remark.hint,
        )

    def left_while_held(self, reason: str) -> None:
        """Note a client that would not wait; it may not have shown the reason."""
        self._log.warning("client gave up", client=self._client, reason=reason)

    def released(self) -> None:
        """Note that a client that was held waits no more, however that ended."""
        self._services.metrics.held(self._listener, -1)

    def connected(self, upstream: Upstream, *, role: str, seconds: float) -> None:
        """Note a login that the cluster accepted."""
        self._services.metrics.upstream_connected(self._listener, seconds)
        self._services.health.note_login(self._listener)
        self._log.info(
            "upstream connected",
            role=role,
            seconds=round(seconds, 3),
            address=str(upstream.address),
            spare=False,
        )

    # -- one upstream after another ------------------------------------------------

    def not_connected(self, error: DsqlProxyError) -> None:
        """Count an attempt to log in that failed; there may be others."""
        self._services.metrics.upstream_failed(self._listener, connect_outcome(error))

    def swapped(self, *, age: float, pause: float) -> None:
        """Note a completed swap, and how long the client would have had to wait."""
        self._services.metrics.swap(self._listener, SwapOutcome.COMPLETED)
        self._deferred_because = ""
        self._services.metrics.swap_pause(pause)
        self._log.info(
            "upstream swapped",
            reason="session_limit",
            age=round(age, 3),
            pause_ms=round(pause * 1000, 1),
        )

    def not_swapped(
        self, outcome: SwapOutcome, reason: str, *, age: float, pause: float
    ) -> None:
        """Note a swap that was put off, or rolled back; it will be tried again.

        A warning once for each reason: a pinned session is tried again and again.
        """
        self._services.metrics.swap(self._listener, outcome)
        if pause:
            self._services.metrics.swap_pause(pause)
        is_news = reason != self._deferred_because and not self._is_pinned
        self._deferred_because = reason
        (self._log.warning if is_news else self._log.debug)(
            "swap deferred",
            outcome=outcome,
            reason=reason,
            age=round(age, 3),
            pause_ms=round(pause * 1000, 1),
        )

    def pinned(self, pin: str, reason: str, *, instead_of: str) -> None:
        """Note that the session cannot be moved, or ("") that it can be again."""
        if instead_of:
            self._services.metrics.pinned(instead_of, -1)
        self._is_pinned = bool(pin)
        if pin:
            self._services.metrics.pinned(pin, +1)
            self._log.warning("session pinned", pin=pin, reason=reason)

    def lost_in_silence(self) -> None:
        """Note an upstream that is gone; the client need not know yet."""
        self._log.info("upstream lost", state=SessionState.IDLE)

    def recovered(self, seconds: float) -> None:
        """Note a lost upstream that was replaced."""
        self._services.metrics.recovery(RecoveryOutcome.RECOVERED)
        self._log.info("session recovered", seconds=round(seconds, 3))

    def not_recovered_yet(self, error: DsqlProxyError) -> None:
        """Note an attempt that came to nothing; there will be another."""
        self._log.debug("recovery attempt failed", reason=str(error))

    def recovery_failed(self, error: DsqlProxyError) -> None:
        """Note a lost upstream that is not replaced: the session ends."""
        self._services.metrics.recovery(RecoveryOutcome.FAILED)
        self._log.warning("recovery failed", reason=str(error))

    def no_snapshot(self, error: DsqlProxyError) -> None:
        """Note settings that could not be asked for."""
        self._log.debug("no snapshot", reason=str(error))

    def login_failed(self, error: DsqlProxyError) -> None:
        """Note a login that failed, in the words that the client gets."""
        sent = last_words(error)
        self._services.health.note_login_failure(
            self._listener,
            sqlstate=sent.sqlstate,
            message=sent.message,
            is_refusal=is_refusal(error),
        )
        self._log.warning(
            "login failed",
            code=sent.sqlstate,
            message=sent.message,
            detail=sent.detail,
            hint=sent.hint,
        )

    def ready(self) -> None:
        """Note that the client has its first ReadyForQuery."""
        seconds = self._services.clock() - self._began_at
        self._services.metrics.client_ready(self._listener, seconds)

    def ended_with(
        self, error: DsqlProxyError, tracker: Tracker, *, age: float
    ) -> None:
        """Note an error that ends a living session; ``age`` is its upstream's."""
        event = "upstream lost" if isinstance(error, ConnectionLost) else "ending"
        is_orderly = isinstance(error, ShuttingDown) and tracker.is_quiet
        (self._log.info if is_orderly else self._log.warning)(
            event,
            state=doing(tracker),
            code=error.sqlstate,
            age=round(age, 3),
            message=error.message,
            detail=error.detail,
            hint=error.hint,
        )

    def statement_refused(self, error: DsqlProxyError) -> None:
        """Note a statement that the proxy itself answered with an error."""
        self._log.warning(
            "statement refused",
            code=error.sqlstate,
            message=error.message,
            detail=error.detail,
            hint=error.hint,
        )

    def cancelled(
        self,
        outcome: CancelOutcome,
        *,
        of: str = "",
        error: DsqlProxyError | None = None,
    ) -> None:
        """Note what became of a cancel request."""
        self._services.metrics.cancel(outcome)
        if error is None:
            self._log.debug("cancel", outcome=outcome, of=of)
        else:
            self._log.warning("cancel", outcome=outcome, of=of, message=str(error))

    def failed(self, error: Exception) -> None:
        """Note a bug of ours, with its traceback."""
        self._log.error("session failed", code=DsqlProxyError.sqlstate, exc_info=error)

    def closed(
        self, reason: CloseReason, *, bytes_in: int, bytes_out: int, swaps: int
    ) -> None:
        """Note the end."""
        self._services.metrics.session_closed(
            self._listener, reason=reason, bytes_in=bytes_in, bytes_out=bytes_out
        )
        self._log.info(
            "session closed",
            reason=reason,
            seconds=round(self._services.clock() - self._began_at, 3),
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            swaps=swaps,
        )
