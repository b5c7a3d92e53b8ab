"""What a session says of itself: log events, metrics, health, in one place."""

from dsqlproxy.errors import ConnectionLost, DsqlProxyError, ShuttingDown
from dsqlproxy.ops.metrics import CancelOutcome, connect_outcome
from dsqlproxy.ops.sessions import SessionState
from dsqlproxy.pgproto.startup import StartupMessage
from dsqlproxy.session.last_words import last_words
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.services import Services
from dsqlproxy.session.tracker import Tracker


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

    def connected(self, role: str, seconds: float, *, address: str) -> None:
        """Note a login that the cluster accepted."""
        self._services.metrics.upstream_connected(self._listener, seconds)
        self._services.health.note_login(self._listener)
        self._log.info(
            "upstream connected",
            role=role,
            seconds=round(seconds, 3),
            address=address,
            spare=False,
        )

    def login_failed(self, error: DsqlProxyError) -> None:
        """Note a login that failed, in the words that the client gets."""
        sent = last_words(error)
        self._services.metrics.upstream_failed(self._listener, connect_outcome(error))
        self._services.health.note_login_failure(
            self._listener, sqlstate=sent.sqlstate, message=sent.message
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

    def ended_with(self, error: DsqlProxyError, tracker: Tracker) -> None:
        """Note an error that ends a living session."""
        event = "upstream lost" if isinstance(error, ConnectionLost) else "ending"
        is_orderly = isinstance(error, ShuttingDown) and tracker.is_quiet
        log = self._log.bind(state=doing(tracker), code=error.sqlstate)
        if error.detail:
            log = log.bind(detail=error.detail)
        (log.info if is_orderly else log.warning)(event)

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
        self._log.error("session failed", exc_info=error)

    def closed(self, reason: CloseReason, *, bytes_in: int, bytes_out: int) -> None:
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
            swaps=0,
        )
