"""What keeper, swap and recovery of one session share."""

from dataclasses import dataclass

from dsqlproxy.errors import DsqlProxyError, SwapError
from dsqlproxy.session.pins import PinReason
from dsqlproxy.session.relay import Relay
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.replay import Replica
from dsqlproxy.session.report import Report
from dsqlproxy.session.services import Services
from dsqlproxy.session.state import SessionMemory
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup


@dataclass(slots=True, kw_only=True)
class Kept:
    """A session that is kept alive."""

    services: Services
    report: Report
    relay: Relay
    memory: SessionMemory
    startup: UpstreamStartup
    """What every upstream of the session is opened with; the same each time, since
    RESET goes back to it (measured on PostgreSQL 16)."""
    upstream: Upstream
    """The one in use; replaced together with the relay's, by `adopt`."""

    found_pin: str = ""
    """What only a server could tell, when a swap was tried: temporary tables, locks."""

    @property
    def upstream_age(self) -> float:
        """How old the upstream is, in seconds, by the clock that counted most."""
        now = self.services.clocks.read()
        return now.seconds_since(self.upstream.opened_at)

    @property
    def pin(self) -> str:
        """Why the session cannot be moved, in a word; empty while it can be."""
        if self.relay.not_understood:
            return PinReason.DESYNCED
        return self.memory.pin or self.found_pin

    @property
    def why_pinned(self) -> str:
        """Why the session cannot be moved, in words for its client."""
        reason = self.relay.not_understood
        if reason:
            return f"{PinReason.DESYNCED.sentence}: {reason}"
        return PinReason(self.pin).sentence if self.pin else ""

    def refuse_if_pinned(self) -> None:
        """Raise `SwapError` if the session cannot be moved."""
        if self.relay.not_understood:
            raise SwapError(self.why_pinned)
        self.memory.refuse_if_pinned()

    async def open_upstream(self) -> Upstream:
        """Open another upstream, as the first one was."""
        services = self.services
        started_at = services.clock()
        try:
            upstream = await services.connector.open(self.startup)
        except DsqlProxyError as error:
            self.report.not_connected(error)
            raise
        seconds = services.clock() - started_at
        self.report.connected(upstream, role=self.startup.role, seconds=seconds)
        return upstream

    @property
    def why_not_recovered(self) -> str:
        """Why a lost upstream is not replaced."""
        if self.services.config.recovery == "off":
            return "recovery is switched off"
        return self.why_pinned or "its settings had changed a moment before"

    known_at_bytes: int = 0
    """How much the client had said when the settings were last asked for."""

    @property
    def is_stale(self) -> bool:
        """Whether settings may have changed since they were last asked for.

        A prepared statement that calls set_config can have done so unseen.
        """
        if self.memory.is_dirty:
            return True
        has_spoken = self.relay.bytes_in != self.known_at_bytes
        return has_spoken and self.memory.might_be_dirty

    def note_settings_known(self) -> None:
        """Note that the settings have just been asked for."""
        self.known_at_bytes = self.relay.bytes_in

    @property
    def may_recover(self) -> bool:
        """Whether a lost upstream can be replaced without asking the old one."""
        if self.services.config.recovery == "off" or self.pin:
            return False
        if self.services.config.recovery == "exact":
            return not self.memory.might_be_dirty
        return not self.is_stale

    @property
    def wants_snapshot(self) -> bool:
        """Whether settings may have changed since they were last asked for."""
        can_help = self.services.config.recovery != "off" and not self.pin
        return can_help and self.is_stale

    def adopt(self, upstream: Upstream, replica: Replica, changed: bytes) -> None:
        """Go on with another upstream: the point of no return, in one turn.

        `SwapError` if the session has begun to end meanwhile.
        """
        if self.relay.state is not RelayState.PAUSED:
            raise SwapError("the session is ending")
        replica.commit()
        self.note_settings_known()
        self.upstream = upstream
        self.found_pin = ""
        self.relay.cut_over(upstream.channel, changed)
