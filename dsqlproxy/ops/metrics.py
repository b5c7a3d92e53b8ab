"""The numbers of the proxy, in a registry of its own.

Callers say what happened (``session_opened``, ``upstream_connected``); which series
that moves is decided here. Every series with a known label value exists from the
start at 0, so that a rate or an alert sees the first event too. Label values come
from the configuration or the code, never from a peer.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import partial
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from dsqlproxy.errors import (
    TokenError,
    TooManyConnections,
    UpstreamRejected,
    UpstreamUnavailable,
)

CONNECT_BUCKETS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
READY_BUCKETS: Final = (0.001, *CONNECT_BUCKETS, 30.0)
"""From a spare session at hand to a client that was held for a waking cluster."""

PAUSE_BUCKETS: Final = (0.001, 0.0025, *CONNECT_BUCKETS)
"""From a quiet session on a cluster nearby to one that was held for its last answer."""

Traffic = Iterable[tuple[str, int, int]]
"""Listener, bytes from the client, bytes to the client: one row a session."""


class ConnectOutcome(StrEnum):
    """How an attempt to open an upstream ended."""

    CONNECTED = "connected"
    UNAVAILABLE = "unavailable"
    REJECTED = "rejected"
    NO_TOKEN = "no_token"  # noqa: S105 - the name of an outcome
    LIMITED = "limited"
    FAILED = "failed"


class TokenOutcome(StrEnum):
    """How signing a token ended."""

    SIGNED = "signed"
    FAILED = "failed"


class CancelOutcome(StrEnum):
    """What became of a CancelRequest."""

    FORWARDED = "forwarded"
    NOTHING_RUNNING = "nothing_running"
    UNKNOWN_KEY = "unknown_key"
    FAILED = "failed"


class SwapOutcome(StrEnum):
    """How an attempt to move a session to a new upstream ended."""

    COMPLETED = "completed"
    DEFERRED = "deferred"
    """Not begun, or given up before the session was asked for anything."""
    FAILED = "failed"


class RecoveryOutcome(StrEnum):
    """What became of a session whose upstream was lost while it was quiet."""

    RECOVERED = "recovered"
    FAILED = "failed"


def connect_outcome(error: BaseException) -> ConnectOutcome:
    """Say which outcome an exception of the connector stands for."""
    match error:
        case UpstreamUnavailable():
            return ConnectOutcome.UNAVAILABLE
        case UpstreamRejected():
            return ConnectOutcome.REJECTED
        case TokenError():
            return ConnectOutcome.NO_TOKEN
        case TooManyConnections():
            return ConnectOutcome.LIMITED
        case _:
            return ConnectOutcome.FAILED


class Metrics:
    """The metrics of one proxy; ``registry`` is what ``/metrics`` shows.

    ``close_reasons`` and ``pin_reasons`` are shown at 0 from the start.
    ``open_traffic`` gives the bytes of the sessions that are still open, and
    ``connect_queues`` how many logins wait for each listener's cluster. Both are
    called by ``refresh``, on the event loop's thread, where no session can close
    between being counted as open and being counted as closed.
    """

    def __init__(
        self,
        *,
        listeners: Iterable[str],
        version: str,
        close_reasons: Iterable[str] = (),
        open_traffic: Callable[[], Traffic] = tuple,
        pin_reasons: Iterable[str] = (),
        connect_queues: Callable[[], Iterable[tuple[str, int]]] = tuple,
    ) -> None:
        names = tuple(listeners)
        self._connect_queues = connect_queues
        registry = CollectorRegistry()
        gauge = partial(Gauge, registry=registry)
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._sessions_open = gauge(
            "dsqlproxy_sessions_open", "Sessions that are open now.", ["listener"]
        )
        self._sessions = counter(
            "dsqlproxy_sessions",
            "Sessions that have ended, by the reason.",
            ["listener", "reason"],
        )
        self._held = gauge(
            "dsqlproxy_sessions_held",
            "Clients whose login waits for credentials, for a waking cluster or for "
            "their turn.",
            ["listener"],
        )
        self._pinned = gauge(
            "dsqlproxy_sessions_pinned",
            "Sessions that cannot be moved to a new upstream now, by the reason.",
            ["reason"],
        )
        self._swaps = counter(
            "dsqlproxy_swaps",
            "Attempts to move a session to a new upstream, by how they ended.",
            ["listener", "outcome"],
        )
        self._swap_pause_seconds = histogram(
            "dsqlproxy_swap_pause_seconds",
            "Time in a swap for which the client's messages were held.",
            buckets=PAUSE_BUCKETS,
        )
        self._recoveries = counter(
            "dsqlproxy_recoveries",
            "Upstreams lost under a quiet session, by whether they were replaced.",
            ["outcome"],
        )
        self._connects = counter(
            "dsqlproxy_upstream_connects",
            "Attempts to open a session with the cluster, by how they ended.",
            ["listener", "outcome"],
        )
        self._connect_seconds = histogram(
            "dsqlproxy_upstream_connect_seconds",
            "Time to reach the cluster, secure the connection and log in.",
            ["listener"],
            buckets=CONNECT_BUCKETS,
        )
        self._connect_queue = gauge(
            "dsqlproxy_connect_queue",
            "Logins that wait for their turn at the listener's cluster; listeners of "
            "one cluster have one queue.",
            ["listener"],
        )
        self._ready_seconds = histogram(
            "dsqlproxy_client_ready_seconds",
            "Time from a client's startup packet to its first ReadyForQuery.",
            ["listener", "warm"],
            buckets=READY_BUCKETS,
        )
        self._tokens = counter(
            "dsqlproxy_tokens_signed",
            "Tokens that were asked for, by whether they could be signed.",
            ["outcome"],
        )
        self._cancels = counter(
            "dsqlproxy_cancels",
            "Cancel requests of clients, by what became of them.",
            ["outcome"],
        )
        self._bytes = _ByteCounter(names, open_traffic)
        registry.register(self._bytes)
        build = Info("dsqlproxy_build", "The running version.", registry=registry)
        build.info({"version": version})
        ProcessCollector(registry=registry)
        self.registry: Collector = _WithoutCreationTimes(registry)
        self._create_series(names, tuple(close_reasons))
        for pin_reason in pin_reasons:
            self._pinned.labels(pin_reason)

    def refresh(self) -> None:
        """Bring up to date what is asked for; on the event loop's thread."""
        self._bytes.refresh()
        for listener, waiting in self._connect_queues():
            self._connect_queue.labels(listener).set(waiting)

    def session_opened(self, listener: str) -> None:
        """Count a session that was accepted."""
        self._sessions_open.labels(listener).inc()

    def session_closed(
        self, listener: str, *, reason: str, bytes_in: int, bytes_out: int
    ) -> None:
        """Count a session that has ended, with all that went through it.

        Call it in the same turn of the loop that takes the session out of
        ``open_traffic``, so that its bytes are counted once.
        """
        self._sessions_open.labels(listener).dec()
        self._sessions.labels(listener, reason).inc()
        self._bytes.add(listener, bytes_in, bytes_out)

    def held(self, listener: str, change: int) -> None:
        """Note that so many more clients (or fewer: -1) are held at their login."""
        self._held.labels(listener).inc(change)

    def pinned(self, reason: str, change: int) -> None:
        """Note that so many more sessions (or fewer: -1) are pinned for a reason."""
        self._pinned.labels(reason).inc(change)

    def swap(self, listener: str, outcome: str) -> None:
        """Count an attempt to move a session to a new upstream."""
        self._swaps.labels(listener, outcome).inc()

    def swap_pause(self, seconds: float) -> None:
        """Note for how long a swap held a client's messages, seen by it or not."""
        self._swap_pause_seconds.observe(seconds)

    def recovery(self, outcome: str) -> None:
        """Count an upstream that was lost under a quiet session."""
        self._recoveries.labels(outcome).inc()

    def upstream_connected(self, listener: str, seconds: float) -> None:
        """Count a login that the cluster accepted, and how long it took."""
        self._connects.labels(listener, ConnectOutcome.CONNECTED).inc()
        self._connect_seconds.labels(listener).observe(seconds)

    def upstream_failed(self, listener: str, outcome: str) -> None:
        """Count an attempt that failed; ``connect_outcome`` names the outcome."""
        self._connects.labels(listener, outcome).inc()

    def client_ready(
        self, listener: str, seconds: float, *, warm: bool = False
    ) -> None:
        """Note how long a client waited; ``warm`` if a spare session was at hand."""
        self._ready_seconds.labels(listener, _flag(warm)).observe(seconds)

    def token_signed(self, outcome: str = TokenOutcome.SIGNED) -> None:
        """Count a token that was signed, or could not be."""
        self._tokens.labels(outcome).inc()

    def cancel(self, outcome: str) -> None:
        """Count a cancel request."""
        self._cancels.labels(outcome).inc()

    def _create_series(self, listeners: Iterable[str], reasons: Iterable[str]) -> None:
        for listener in listeners:
            self._sessions_open.labels(listener)
            self._held.labels(listener)
            self._connect_seconds.labels(listener)
            self._connect_queue.labels(listener)
            self._ready_seconds.labels(listener, _flag(is_set=False))
            for reason in reasons:
                self._sessions.labels(listener, reason)
            for outcome in ConnectOutcome:
                self._connects.labels(listener, outcome)
            for swap_outcome in SwapOutcome:
                self._swaps.labels(listener, swap_outcome)
        for token_outcome in TokenOutcome:
            self._tokens.labels(token_outcome)
        for cancel_outcome in CancelOutcome:
            self._cancels.labels(cancel_outcome)
        for recovery_outcome in RecoveryOutcome:
            self._recoveries.labels(recovery_outcome)


class _ByteCounter(Collector):
    """``dsqlproxy_bytes_total``: closed sessions plus, at each look, the open ones.

    Scrapes read what the last ``refresh`` found, from their own thread.
    """

    def __init__(
        self, listeners: Iterable[str], open_traffic: Callable[[], Traffic]
    ) -> None:
        self._open_traffic = open_traffic
        self._closed = dict.fromkeys(listeners, (0, 0))
        self._shown = dict(self._closed)

    def add(self, listener: str, bytes_in: int, bytes_out: int) -> None:
        _add(self._closed, listener, bytes_in, bytes_out)

    def refresh(self) -> None:
        total = dict(self._closed)
        for row in self._open_traffic():
            _add(total, *row)
        self._shown = total

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "dsqlproxy_bytes",
            "Bytes of clients: in is what they sent, out what they were sent.",
            labels=["listener", "direction"],
        )
        for listener, (bytes_in, bytes_out) in self._shown.items():
            family.add_metric([listener, "in"], bytes_in)
            family.add_metric([listener, "out"], bytes_out)
        yield family


class _WithoutCreationTimes(Collector):
    """Leaves out the ``_created`` series, which double the page and help nobody."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample
                for sample in metric.samples
                if sample.name != f"{metric.name}_created"
            ]
            yield metric


def _add(
    total: dict[str, tuple[int, int]], listener: str, bytes_in: int, bytes_out: int
) -> None:
    before_in, before_out = total.get(listener, (0, 0))
    total[listener] = (before_in + bytes_in, before_out + bytes_out)


def _flag(is_set: bool) -> str:
    return "true" if is_set else "false"
