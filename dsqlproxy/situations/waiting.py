"""A client whose turn to log in does not come: the queue is long, or the cluster busy.

The proxy makes only so many logins a second to a cluster, and none for a while after
the cluster has refused some; whoever comes meanwhile waits in a queue that has an end.
"""

from typing import Final

from dsqlproxy.errors import TooManyConnections
from dsqlproxy.situations.cluster import Cause

_MESSAGE: Final = "no login to the cluster was possible in time"
_USE_AGAIN: Final = (
    "Keep connections open and use them again, for example with a pool, or raise"
    " hold_timeout."
)
# AWS documentation (quotas): the number of connections can be raised on request; the
# rate is counted for all programs that connect to the cluster.
_HINTS: Final = {
    None: _USE_AGAIN,
    Cause.WAKING_UP: "Try again in some seconds, or raise hold_timeout.",
    Cause.TOO_MANY_CONNECTIONS: "Close sessions that are not needed, or ask AWS for a"
    " higher quota.",
    Cause.RATE_EXCEEDED: "With several proxies on one cluster, set max_connect_rate in"
    " each to its part of the cluster's rate.",
}
_BUSY: Final = {
    Cause.WAKING_UP: "The cluster is waking up",
    Cause.TOO_MANY_CONNECTIONS: "The cluster has too many open connections",
    Cause.RATE_EXCEEDED: "The cluster takes no more logins at the moment",
}


def too_many_waiting(
    waiting: int, *, rate: float, within: float | None = None
) -> TooManyConnections:
    """Say that so many wait already that this client's turn would come too late.

    ``within`` is how long it may wait, in seconds; None: the queue itself is full.
    """
    pace = f"at most {rate:g} logins a second are made (max_connect_rate)"
    if within is None:
        return TooManyConnections(
            "too many clients wait for a login to the cluster",
            detail=f"{waiting:,} wait already; {pace}.",
            hint=_USE_AGAIN,
        )
    return TooManyConnections(
        _MESSAGE,
        detail=f"{waiting:,} clients wait already; {pace}, and hold_timeout leaves"
        f" this one {round(within, 2):g} s.",
        hint=_USE_AGAIN,
    )


def no_turn_in_time(*, rate: float, cause: Cause | None = None) -> TooManyConnections:
    """Say that a client has waited as long as it may; ``cause``: for a busy cluster."""
    reason = (
        f"At most {rate:g} logins a second are made to the cluster (max_connect_rate)"
        if cause is None
        else _BUSY[cause]
    )
    return TooManyConnections(
        _MESSAGE,
        detail=f"{reason}, and hold_timeout lets no client wait any longer.",
        hint=_HINTS[cause],
    )
