"""What the sessions of one listener share; `app` builds it."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dsqlproxy.clocks import Clocks
from dsqlproxy.config import ListenerConfig
from dsqlproxy.listen.cancel import CancelKeys
from dsqlproxy.ops.health import Health
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.metrics import Metrics
from dsqlproxy.ops.sessions import OpenSessions
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.session.lifetime import Backoff, SwapWindow
from dsqlproxy.session.statements import Budget
from dsqlproxy.session.watch import Watch
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from dsqlproxy.upstream.limiter import LoginLimiter
from dsqlproxy.upstream.resolve import Address

if TYPE_CHECKING:
    from dsqlproxy.session.session import Session


class UpstreamConnector(Protocol):
    """What a session asks of a connector."""

    async def open(self, startup: UpstreamStartup) -> Upstream:
        """Open a session on the cluster."""

    async def cancel(
        self, key: BackendKeyData, *, address: Address | None = None
    ) -> None:
        """Cancel what a session on the cluster is doing."""


class UpstreamCredentials(Protocol):
    """What a session that waits for credentials asks of a `TokenSource`."""

    async def ready(self, *, within: float) -> None:
        """Wait for a fetch that is under way; the error if there is nothing then."""

    async def changed(self) -> None:
        """Wait until there is something to sign with; not at all if there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the sessions of one listener share."""

    config: ListenerConfig
    connector: UpstreamConnector
    credentials: UpstreamCredentials
    cancel_keys: CancelKeys["Session"]
    open_sessions: OpenSessions
    admitted: "set[Session]"
    """The sessions of this listener that count against ``max_sessions``."""
    metrics: Metrics
    health: Health
    log: EventLog
    clocks: Clocks
    limiter: LoginLimiter
    """Shared by all listeners of one cluster."""
    watch: Watch
    statement_budget: Budget
    """What all sessions together may keep of prepared statements."""
    new_window: Callable[[], SwapWindow]
    """Gives the instants of an upstream's life, each with a jitter of its own."""
    new_backoff: Callable[[], Backoff]
    new_id: Callable[[], str]
    tls: ssl.SSLContext | None = None

    @property
    def clock(self) -> Callable[[], float]:
        """The monotonic clock, for what takes no longer than this machine is awake."""
        return self.clocks.monotonic
