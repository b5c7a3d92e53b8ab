"""The catalogue's rows of clients that waited in vain."""

from typing import Final

from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.situations.holding import (
    Remark,
    gave_up,
    held_for_cluster,
    held_for_credentials,
    held_for_turn,
    with_limit,
)
from dsqlproxy.situations.rows_cluster import (
    RATE_EXCEEDED,
    TOO_MANY_CONNECTIONS,
    WAKING_UP,
)
from dsqlproxy.situations.rows_credentials import SSO_EXPIRED
from dsqlproxy.situations.situation import Section, Situation, Waits
from dsqlproxy.situations.waiting import no_turn_in_time, too_many_waiting

_HELD_SECONDS: Final = 10.0
_RATE: Final = 100.0


def _held(
    key: str, title: str, error: DsqlProxyError, *, remark: Remark, mends: str
) -> Situation:
    """Make the row of a client that was held for all of `hold_timeout`."""
    return Situation(
        key=key,
        title=title,
        example=gave_up(error, seconds=_HELD_SECONDS),
        mends=mends,
        waits=Waits.HELD,
        remark=with_limit(remark, _HELD_SECONDS),
    )


def _no_turn(
    key: str, title: str, cause: Cause | None, *, remark: Remark, mends: str
) -> Situation:
    """Make the row of a client whose turn to log in did not come."""
    return _held(
        key,
        title,
        no_turn_in_time(rate=_RATE, cause=cause),
        remark=remark,
        mends=mends,
    )


WAITING: Final = Section(
    "A client waited in vain",
    "What passes is waited for: a client is held for up to `hold_timeout` (10 s), is "
    "told why by a NOTICE at once, and goes on as soon as it can. These are the errors "
    "at the end of that time. With `hold_timeout: 0` nobody is held, and the error of "
    "the cause comes at once, without the NOTICE and without the time in its DETAIL.",
    (
        _held(
            "held-for-credentials",
            "Held for credentials",
            SSO_EXPIRED,
            remark=held_for_credentials(SSO_EXPIRED),
            mends="What the HINT says, for every cause of missing credentials above. "
            "Clients that are held then go on by themselves.",
        ),
        _held(
            "held-for-a-waking-cluster",
            "Held for a cluster that wakes up",
            WAKING_UP,
            remark=held_for_cluster(Cause.WAKING_UP),
            mends="Time. Raise `hold_timeout` to cover the longest awakening.",
        ),
        _held(
            "held-for-a-free-connection",
            "Held for a connection that the cluster does not have",
            TOO_MANY_CONNECTIONS,
            remark=held_for_cluster(Cause.TOO_MANY_CONNECTIONS),
            mends="Close sessions, or ask AWS for a higher quota.",
        ),
        _held(
            "held-for-the-rate",
            "Held for the cluster's rate of logins",
            RATE_EXCEEDED,
            remark=held_for_cluster(Cause.RATE_EXCEEDED),
            mends="Keep connections open; lower `max_connect_rate` where several "
            "proxies share a cluster.",
        ),
        Situation(
            key="queue-full",
            title="Too many clients wait to log in",
            example=too_many_waiting(10_000, rate=_RATE),
            mends="Use a pool of connections; the cluster would not take more either.",
        ),
        Situation(
            key="turn-too-late",
            title="The turn to log in would come too late",
            example=too_many_waiting(1_001, rate=_RATE, within=_HELD_SECONDS),
            mends="Use a pool of connections, or raise `hold_timeout`.",
        ),
        _no_turn(
            "no-turn",
            "The turn to log in did not come",
            None,
            remark=held_for_turn(),
            mends="Use a pool of connections, or raise `hold_timeout`.",
        ),
        _no_turn(
            "no-turn-while-waking-up",
            "Others have found the cluster waking up",
            Cause.WAKING_UP,
            remark=held_for_cluster(Cause.WAKING_UP),
            mends="Time. While one login waits for the cluster to wake up, the others "
            "are not sent to it.",
        ),
        _no_turn(
            "no-turn-for-a-free-connection",
            "Others have found the cluster full",
            Cause.TOO_MANY_CONNECTIONS,
            remark=held_for_cluster(Cause.TOO_MANY_CONNECTIONS),
            mends="Close sessions, or ask AWS for a higher quota.",
        ),
        _no_turn(
            "no-turn-for-the-rate",
            "Others have found the cluster's rate exceeded",
            Cause.RATE_EXCEEDED,
            remark=held_for_cluster(Cause.RATE_EXCEEDED),
            mends="Keep connections open; lower `max_connect_rate` where several "
            "proxies share a cluster.",
        ),
    ),
)
