"""What all sessions of one emulator share."""

import hmac
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dsqlproxy.emulator.backend import BackendAddress
from dsqlproxy.emulator.faults import Faults
from dsqlproxy.emulator.limits import Slots, TokenBucket
from dsqlproxy.emulator.sigv4 import TokenVerifier
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.startup import CancelRequest


class SessionRules(Protocol):
    """The SQL rules at work on one session."""

    def from_client(self, frame: Frame) -> list[bytes]:
        """Give what PostgreSQL gets for a frame of the client."""

    def from_backend(self, frame: Frame) -> list[bytes]:
        """Give what the client gets for a frame of PostgreSQL."""


class Rulebook(Protocol):
    """The rules of a cluster; absent where an emulator has none."""

    @property
    def server_version(self) -> str:
        """What a cluster says of itself; it is PostgreSQL 16."""

    @property
    def cluster_sql(self) -> Sequence[str]:
        """What a superuser runs once, before the first session."""

    def for_session(self) -> SessionRules:
        """Begin with a new session."""

    def refused_parameter(self, parameters: Sequence[tuple[str, str]]) -> str | None:
        """Name the first startup parameter that the cluster refuses."""

    def backend_parameters(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Give what PostgreSQL's session begins with, for what the client asks."""

    def mapping_query(self, principal_arn: str) -> str:
        """Give the SQL that finds the principal's grant of the session's role."""


class OpenSession(Protocol):
    """What others may do to a session that is open."""

    @property
    def key(self) -> BackendKeyData | None:
        """What a CancelRequest for it must carry."""

    def arm(self) -> None:
        """Begin to count for a fault given just now."""

    def expire(self) -> None:
        """End at once without a word, as at the session limit."""

    def end_with_fatal(self, sqlstate: str) -> None:
        """End with a FATAL, at the next boundary between frames."""


class Sessions:
    """The sessions that are open, from their login to their end."""

    def __init__(self) -> None:
        self._open: set[OpenSession] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenSession]:
        return iter(tuple(self._open))

    def add(self, session: OpenSession) -> None:
        """Take a session that has logged in."""
        self._open.add(session)

    def discard(self, session: OpenSession) -> None:
        """Forget a session that ends."""
        self._open.discard(session)

    def find(self, request: CancelRequest) -> OpenSession | None:
        """Find the session with exactly this key."""
        for session in self._open:
            key = session.key
            if (
                key is not None
                and key.process_id == request.process_id
                and hmac.compare_digest(key.secret_key, request.secret_key)
            ):
                return session
        return None


@dataclass(slots=True)
class Counts:
    """What has happened so far, for tests and ``status``."""

    connections: int = 0
    logins_accepted: int = 0
    logins_refused: Counter[str] = field(default_factory=Counter)
    """By SQLSTATE."""
    cancels_forwarded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The cluster that an emulator plays, seen from its sessions."""

    cluster_id: str
    hosts: frozenset[str]
    """The names of the cluster: in SNI, and in tokens."""
    cluster_arn: str
    verifier: TokenVerifier
    backend: BackendAddress
    forbidden_roles: frozenset[str]
    rulebook: Rulebook | None
    faults: Faults
    bucket: TokenBucket
    slots: Slots
    wall_clock: Callable[[], float]
    session_limit: float
    login_timeout: float
    sessions: Sessions = field(default_factory=Sessions)
    counts: Counts = field(default_factory=Counts)
