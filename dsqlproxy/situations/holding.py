"""A client that is held: what it is told meanwhile, and what when it was in vain."""

from typing import Final, NamedTuple

from dsqlproxy.errors import (
    DsqlProxyError,
    TokenError,
    TooManyConnections,
    UpstreamRejected,
)
from dsqlproxy.situations.cluster import Cause


class Remark(NamedTuple):
    """What a NoticeResponse says."""

    message: str
    detail: str = ""
    hint: str = ""


_OF_CLUSTERS: Final = {
    Cause.WAKING_UP: Remark(
        "dsqlproxy waits for the cluster to wake up",
        detail="A cluster that was idle for long takes some seconds.",
    ),
    Cause.TOO_MANY_CONNECTIONS: Remark(
        "dsqlproxy waits for the cluster to have a free connection",
        detail="The cluster said: too many open connections.",
        hint="Close sessions that are not needed, or ask AWS for a higher quota.",
    ),
    Cause.RATE_EXCEEDED: Remark(
        "dsqlproxy waits for the cluster to take logins again",
        detail="The cluster said: rate exceeded; it counts the logins of all programs.",
        hint="With several proxies on one cluster, set max_connect_rate in each to "
        "its part of the cluster's rate.",
    ),
}


def held_for_credentials(error: DsqlProxyError) -> Remark:
    """Say that credentials are wanted, why there are none, and what mends it."""
    if isinstance(error, UpstreamRejected):
        said = next((value for code, value in error.fields if code == "H"), "")
        return Remark(
            "dsqlproxy waits for other AWS credentials: the cluster refuses those that "
            "there are",
            detail=f"The cluster says: {said}" if said else "",
            hint=error.detail or error.hint,
        )
    return Remark(
        f"dsqlproxy waits for AWS credentials: {error.message}",
        detail=error.detail,
        hint=error.hint,
    )


def held_for_source() -> Remark:
    """Say that credentials are being fetched, which takes its time."""
    return Remark("dsqlproxy waits for AWS credentials: their source does not answer")


def with_limit(remark: Remark, seconds: float) -> Remark:
    """Add for how long a client is held."""
    limit = f"It waits for up to {seconds:g} s (hold_timeout)." if seconds else ""
    return remark._replace(detail=" ".join(filter(None, (remark.detail, limit))))


def held_for_cluster(cause: Cause) -> Remark:
    """Say what the cluster is not ready for."""
    return _OF_CLUSTERS[cause]


def held_for_turn() -> Remark:
    """Say that other clients log in before this one."""
    return Remark(
        "dsqlproxy waits for a turn to log in",
        detail="So many clients come at once that max_connect_rate is reached.",
    )


def gave_up(error: DsqlProxyError, *, seconds: float) -> DsqlProxyError:
    """Give the same error with how long its client was held for it.

    A new one: what is wrong with the credentials is told to many.
    """
    waited = f"The client was held for {seconds:.3g} s (hold_timeout)."
    detail = f"{error.detail} {waited}" if error.detail else waited
    match error:
        case UpstreamRejected():
            return UpstreamRejected(
                error.message, fields=error.fields, detail=detail, hint=error.hint
            )
        case TokenError() | TooManyConnections():
            return type(error)(error.message, detail=detail, hint=error.hint)
        case _:
            raise AssertionError("nobody is held for it, because only time mends it")
