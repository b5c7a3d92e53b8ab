"""What a question is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dsqlproxy.probe.cluster import Cluster
from dsqlproxy.probe.pace import Pace
from dsqlproxy.probe.report import Answer


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that is not known of a cluster, and how it is asked.

    ``ask`` opens the connections that it needs and leaves nothing behind. It may
    raise any `DsqlProxyError`: the question then could not be asked.
    """

    key: str
    words: str
    matters: str
    """What of the proxy depends on the answer."""
    ask: Callable[[Cluster], Awaitable[Answer]]
    extra_seconds: Callable[[Pace], float] = lambda _: 0.0
    """How long it waits by itself, beside the time that any question has."""
