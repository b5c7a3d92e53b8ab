"""The open sessions, as an operator sees them.

Sessions enter and leave on the event loop's thread and are read there too, so
nothing here needs a lock; other threads ask through a ``LoopBridge``.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Protocol


class SessionState(StrEnum):
    """What a session is doing."""

    LOGIN = "login"
    HELD = "held"
    """Its login waits for credentials, a waking cluster or its turn."""
    IDLE = "idle"
    ACTIVE = "active"
    IN_TRANSACTION = "in_transaction"
    SWAPPING = "swapping"
    """Its client's messages are held while it moves to a new upstream."""
    CLOSING = "closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One row of ``/sessions`` and of ``dsqlproxy status``."""

    id: str
    listener: str
    client: str
    user: str
    database: str
    application_name: str
    state: SessionState
    age_seconds: float
    upstream_age_seconds: float | None
    bytes_in: int
    bytes_out: int
    swaps: int = 0
    seconds_to_swap: float | None = None
    """Until its next upstream is opened; 0 once that is due, None before its first."""
    pin: str = ""
    """Why it cannot be moved to another upstream now; empty when it can."""
    held_for: str = ""
    """What its login waits for, as its client was told; empty when for nothing."""


class ObservableSession(Protocol):
    """What a session shows of itself; ``bytes_in`` is what its client sent."""

    @property
    def listener_name(self) -> str:
        """The listener that accepted it."""

    @property
    def bytes_in(self) -> int:
        """Bytes from the client so far."""

    @property
    def bytes_out(self) -> int:
        """Bytes to the client so far."""

    def info(self) -> SessionInfo:
        """Say everything; called only when somebody looks."""


class OpenSessions:
    """The set of open sessions, oldest first."""

    def __init__(self) -> None:
        self._sessions: dict[int, ObservableSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: ObservableSession) -> None:
        """Begin to show a session."""
        self._sessions[id(session)] = session

    def discard(self, session: ObservableSession) -> None:
        """Stop showing a session, if it was shown."""
        self._sessions.pop(id(session), None)

    def rows(self) -> list[dict[str, object]]:
        """Give every session as a row of ``/sessions``."""
        return [asdict(session.info()) for session in self._sessions.values()]

    def traffic(self) -> Iterator[tuple[str, int, int]]:
        """Give listener, bytes in and bytes out of every session, cheaply."""
        for session in self._sessions.values():
            yield session.listener_name, session.bytes_in, session.bytes_out
