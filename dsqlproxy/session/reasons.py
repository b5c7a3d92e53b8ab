"""Why a session ended: the word in logs, metrics and reports."""

from enum import StrEnum
from typing import Final


class CloseReason(StrEnum):
    """Why a session ended; the label of a metric and the field of a log line."""

    CLIENT_TERMINATED = "client_terminated"  # Terminate, in order
    CLIENT_CLOSED = "client_closed"  # end of stream without Terminate
    CLIENT_LOST = "client_lost"  # the connection broke
    UPSTREAM_ENDED = "upstream_ended"  # after a FATAL that the client got
    UPSTREAM_LOST = "upstream_lost"  # without a word
    SESSION_LIMIT = "session_limit"  # pinned, or no other upstream in time
    MESSAGE_TOO_LARGE = "message_too_large"  # over the limit where it cannot go on
    LOGIN_FAILED = "login_failed"  # the cluster refused, or was not reached
    REFUSED = "refused"  # by the proxy: role, limit, protocol
    SHUTTING_DOWN = "shutting_down"  # the proxy ends
    INTERNAL_ERROR = "internal_error"  # a bug of ours


ENDED_BY_US: Final = frozenset(
    (
        CloseReason.SHUTTING_DOWN,
        CloseReason.SESSION_LIMIT,
        CloseReason.MESSAGE_TOO_LARGE,
    )
)
"""The upstream goes on until it is told to terminate."""
