"""What keeps a session on the upstream that it has: each reason, and its sentence."""

from enum import StrEnum
from typing import Final

from dsqlproxy.errors import SwapError


class PinReason(StrEnum):
    """Why a session cannot be carried over; the label of a metric."""

    DESYNCED = "desynced"
    ENVIRONMENT = "environment"
    MEMORY = "memory"
    SETTINGS = "settings"
    LISTEN = "listen"
    PREPARE = "prepare"
    CURSOR = "cursor"
    LOAD = "load"
    TEMPORARY = "temporary"
    ADVISORY_LOCK = "advisory_lock"
    ROLE = "role"
    STALE = "stale_statement"
    MISMATCH = "mismatch"

    @property
    def sentence(self) -> str:
        """The reason in plain words, for a DETAIL."""
        return _SENTENCES[self]


_SENTENCES: Final = {
    PinReason.DESYNCED: "the session's messages could not be followed",
    PinReason.ENVIRONMENT: "a prepared statement may have been parsed under settings"
    " that changed in the same request",
    PinReason.MEMORY: "the session's prepared statements take too much memory",
    PinReason.SETTINGS: "the session has set too many different parameters",
    PinReason.LISTEN: "the session listens to notifications",
    PinReason.PREPARE: "the session has statements made with PREPARE",
    PinReason.CURSOR: "the session has a cursor that was declared WITH HOLD",
    PinReason.LOAD: "the session has loaded a library",
    PinReason.TEMPORARY: "the session has had temporary objects",
    PinReason.ADVISORY_LOCK: "the session holds advisory locks",
    PinReason.ROLE: "the session has changed its role",
    PinReason.STALE: "a prepared statement of the session no longer fits its tables",
    PinReason.MISMATCH: "a new upstream could not be made equal to the old one",
}

FOUND_BY_ASKING: Final = frozenset(
    (
        PinReason.TEMPORARY,
        PinReason.ADVISORY_LOCK,
        PinReason.ROLE,
        PinReason.MISMATCH,
        PinReason.ENVIRONMENT,
    )
)
"""Reasons that only an upstream can tell, when a swap is tried."""


class NotCarriedOver(SwapError):
    """What a session has cannot be carried to another upstream, now or at all."""

    def __init__(
        self,
        message: str,
        *,
        reason: PinReason | None = None,
        may_retry: bool = False,
        detail: str = "",
    ) -> None:
        super().__init__(message, detail=detail)
        self.reason = reason
        self.may_retry = may_retry
        """Whether the same question may be asked again at once, one time."""


def pinned(reason: PinReason, *, detail: str = "") -> NotCarriedOver:
    """Make the error of a reason, in its own words."""
    return NotCarriedOver(reason.sentence, reason=reason, detail=detail)
