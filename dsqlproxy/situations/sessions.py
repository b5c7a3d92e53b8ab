"""What ends or refuses a session on the proxy's side of the way.

Who the client is, whether there is a place for it, what became of its upstream, what
it may send, and the end of the proxy itself.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from dsqlproxy.dsql import ADMIN_ROLE, MAX_MESSAGE_BYTES
from dsqlproxy.errors import (
    ConnectionLost,
    DsqlProxyError,
    MessageTooLarge,
    OutcomeUnknown,
    Peer,
    RoleNotAllowed,
    SessionLimitReached,
    ShuttingDown,
    TooManyConnections,
)

# -- no place for it -------------------------------------------------------------------


def no_user(served: Sequence[str]) -> RoleNotAllowed:
    """Say that the client names nobody; ``served`` are those that it may name."""
    return RoleNotAllowed(
        "no PostgreSQL user name specified in startup packet",  # PostgreSQL's words
        hint=_connect_as(served) or f"Set a user name, such as {ADMIN_ROLE}.",
    )


def role_not_served(user: str, served: Sequence[str]) -> RoleNotAllowed:
    """Say that the client names a role outside `roles`."""
    return RoleNotAllowed(
        f'role "{user}" is not served by this listener', hint=_connect_as(served)
    )


def too_many_sessions(limit: int) -> TooManyConnections:
    """Say that the listener has as many sessions as it may."""
    return TooManyConnections(
        "dsqlproxy has too many sessions on this listener",
        detail=f"The limit is {limit}.",
        hint="Close some, or raise max_sessions.",
    )


def _connect_as(served: Sequence[str]) -> str:
    return f"Connect as {' or '.join(served)}." if served else ""


# -- its upstream is gone --------------------------------------------------------------


class UnderWay(Enum):
    """What a session was doing when its upstream was lost."""

    NOTHING = auto()
    TRANSACTION = auto()
    """A transaction was open, and no statement ran."""
    STATEMENT = auto()
    COMMIT = auto()
    """Something that may have committed."""


def upstream_lost(
    under_way: UnderWay,
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
    if under_way is UnderWay.COMMIT:
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
    elif under_way is UnderWay.STATEMENT:
        detail = "A statement was running; its outcome is unknown."
        hint = "Reconnect, and check whether it took effect before you repeat it."
    elif under_way is UnderWay.TRANSACTION:
        detail = "The open transaction was rolled back."
        hint = "Reconnect and repeat the transaction."
    else:
        detail = "Nothing was running."
        if not_replaced:
            detail += f" It could not be replaced: {not_replaced.rstrip('.')}."
        hint = "Reconnect."
        if is_unsent:
            hint = "Reconnect and repeat the last statement: it was not sent."
    if is_at_limit and under_way is not UnderWay.NOTHING:
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


# -- what it sent ----------------------------------------------------------------------

_TOO_LARGE: Final = "message is too large for Aurora DSQL"
_SEND_LESS: Final = "Send the data in smaller statements or batches."


def statement_too_large(length: int) -> MessageTooLarge:
    """Say that one statement is over the cluster's limit; the session goes on."""
    return MessageTooLarge(
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


# -- the proxy -------------------------------------------------------------------------


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
