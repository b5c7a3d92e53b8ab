"""What a client is told when its session cannot begin or go on (no I/O).

The one place where an exception becomes an ErrorResponse. What the cluster sent is
passed on field by field; only DETAIL and HINT that it left empty are filled.
"""

from typing import Final

from dsqlproxy.dsql import MAX_MESSAGE_BYTES
from dsqlproxy.errors import (
    ConnectionLost,
    DsqlProxyError,
    MessageTooLarge,
    OutcomeUnknown,
    Peer,
    SessionLimitReached,
    ShuttingDown,
    UpstreamRejected,
)
from dsqlproxy.pgproto.messages import ErrorResponse, NoticeResponse
from dsqlproxy.session.tracker import Tracker


def last_words(error: DsqlProxyError) -> ErrorResponse:
    """Give the FATAL that tells a client of an error."""
    if isinstance(error, UpstreamRejected):
        sent = {code for code, _ in error.fields}
        ours = (("D", error.detail), ("H", error.hint))
        added = tuple(pair for pair in ours if pair[1] and pair[0] not in sent)
        return ErrorResponse(error.fields + added)
    return ErrorResponse.build(
        "FATAL", error.sqlstate, error.message, detail=error.detail, hint=error.hint
    )


def sqlstate_of(error: DsqlProxyError) -> str:
    """Give the SQLSTATE that the client sees for an error."""
    return last_words(error).sqlstate


def upstream_lost(
    tracker: Tracker,
    *,
    client_fault: str = "",
    not_replaced: str = "",
    is_unsent: bool = False,
    is_at_limit: bool = False,
) -> ConnectionLost:
    """Say what a lost upstream means for what was under way.

    ``client_fault`` is what the client sent last, if it was not the protocol: a
    server closes for that without a word. ``not_replaced`` says why a session with
    nothing under way did not get another upstream, ``is_unsent`` that its client had
    said something that was kept back, ``is_at_limit`` that the cluster has closed it
    for its age.
    """
    message = "the connection to the Aurora DSQL cluster was lost"
    if tracker.may_have_committed:
        return OutcomeUnknown(
            message,
            peer=Peer.UPSTREAM,
            detail="It is not known whether the transaction was committed.",
            hint="Reconnect, and check whether the work took effect before you"
            " repeat it.",
        )
    if client_fault:
        detail = f"It closed after the client had broken the protocol: {client_fault}."
        hint = "This is a bug of the client or its driver."
    elif tracker.outstanding:
        detail = "A statement was running; its outcome is unknown."
        hint = "Reconnect, and check whether it took effect before you repeat it."
    elif tracker.in_transaction:
        detail = "The open transaction was rolled back."
        hint = "Reconnect and repeat the transaction."
    else:
        detail = "Nothing was running."
        if not_replaced:
            detail += f" It could not be replaced: {not_replaced.rstrip('.')}."
        hint = "Reconnect."
        if is_unsent:
            hint = "Reconnect and repeat the last statement: it was not sent."
    if is_at_limit and (tracker.outstanding or tracker.in_transaction):
        detail += " The cluster's session limit was reached."
    return ConnectionLost(message, peer=Peer.UPSTREAM, detail=detail, hint=hint)


def session_limit(not_replaced: str) -> SessionLimitReached:
    """Say that the cluster's limit ends a session that could not be swapped."""
    return SessionLimitReached(
        "terminating connection because the session limit of Aurora DSQL is reached",
        detail=f"It could not be carried over to a new connection:"
        f" {not_replaced.rstrip('.')}.",
        hint="Reconnect.",
    )


def shutting_down() -> ShuttingDown:
    """Say that the proxy ends."""
    return ShuttingDown(
        "terminating connection because dsqlproxy is shutting down",
        hint="Reconnect when it is running again.",
    )


def internal_error(session_id: str) -> DsqlProxyError:
    """Say that the fault is ours; the log has the traceback."""
    return DsqlProxyError(
        "internal error in dsqlproxy",
        detail=f"Session {session_id}.",
        hint="Its log says more; please report it.",
    )


_TOO_LARGE: Final = "message is too large for Aurora DSQL"
_SEND_LESS: Final = "Send the data in smaller statements or batches."


def too_large(length: int) -> ErrorResponse:
    """Say that one message is over the cluster's limit, in a session that goes on."""
    return ErrorResponse.build(
        "ERROR",
        MessageTooLarge.sqlstate,
        _TOO_LARGE,
        detail=f"The message has {length:,} bytes; the limit is"
        f" {MAX_MESSAGE_BYTES:,} (10 MiB).",
        hint=_SEND_LESS,
    )


def message_too_large() -> MessageTooLarge:
    """Say that a message is over the limit where the session cannot go on."""
    return MessageTooLarge(
        _TOO_LARGE,
        detail=f"The limit is 10 MiB ({MAX_MESSAGE_BYTES:,} bytes) for one message.",
        hint=_SEND_LESS,
    )


def dropped_parameters(names: tuple[str, ...]) -> NoticeResponse:
    """Say which startup parameters did not go to the cluster."""
    listed = ", ".join(f'"{name}"' for name in names)
    return NoticeResponse.build(
        "WARNING",
        "01000",
        f"startup parameters not supported by Aurora DSQL were left out: {listed}",
        hint="Remove them from the connection settings, or set"
        " unsupported_parameters: pass to send them anyway.",
    )
