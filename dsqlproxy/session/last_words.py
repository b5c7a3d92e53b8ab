"""What a client is told when its session cannot begin or go on (no I/O).

The one place where an exception becomes an ErrorResponse. What the cluster sent is
passed on field by field; only DETAIL and HINT that it left empty are filled.
"""

from dsqlproxy.errors import ConnectionLost, DsqlProxyError, UpstreamRejected
from dsqlproxy.pgproto.messages import ErrorResponse, NoticeResponse
from dsqlproxy.session.tracker import Tracker
from dsqlproxy.situations import sessions
from dsqlproxy.situations.holding import Remark
from dsqlproxy.situations.sessions import UnderWay
from dsqlproxy.situations.startup import parameters_left_out


def last_words(error: DsqlProxyError, *, severity: str = "FATAL") -> ErrorResponse:
    """Give the ErrorResponse that tells a client of an error.

    The cluster's own comes with its own severity.
    """
    if isinstance(error, UpstreamRejected):
        sent = {code for code, _ in error.fields}
        ours = (("D", error.detail), ("H", error.hint))
        added = tuple(pair for pair in ours if pair[1] and pair[0] not in sent)
        return ErrorResponse(error.fields + added)
    return ErrorResponse.build(
        severity, error.sqlstate, error.message, detail=error.detail, hint=error.hint
    )


def upstream_lost(
    tracker: Tracker,
    *,
    client_fault: str = "",
    not_replaced: str = "",
    is_unsent: bool = False,
    is_at_limit: bool = False,
) -> ConnectionLost:
    """Say what a lost upstream means for what was under way; see the situation."""
    if tracker.may_have_committed:
        under_way = UnderWay.COMMIT
    elif tracker.outstanding:
        under_way = UnderWay.STATEMENT
    elif tracker.in_transaction:
        under_way = UnderWay.TRANSACTION
    else:
        under_way = UnderWay.NOTHING
    return sessions.upstream_lost(
        under_way,
        client_fault=client_fault,
        not_replaced=not_replaced,
        is_unsent=is_unsent,
        is_at_limit=is_at_limit,
    )


def dropped_parameters(names: tuple[str, ...]) -> NoticeResponse:
    """Warn of startup parameters that did not go to the cluster."""
    return warning(parameters_left_out(names))


def warning(what: Remark) -> NoticeResponse:
    """Tell a client, before its first request, what it will have to do without."""
    return NoticeResponse.build(
        "WARNING", "01000", what.message, detail=what.detail, hint=what.hint
    )


def remark(what: Remark) -> NoticeResponse:
    """Tell a client that is held why it waits."""
    return NoticeResponse.build(
        "NOTICE", "00000", what.message, detail=what.detail, hint=what.hint
    )
