"""What the clients of a soak have to say: work done, and every error that they saw."""

import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

ROLE = "admin"
DATABASE = "postgres"

_SAID = (
    ("the connection to the Aurora DSQL cluster was lost", "08006"),
    ("the session limit of Aurora DSQL is reached", "57P01"),
    ("due to administrator command", "57P01"),
    ("because of crash of another server process", "57P02"),
    ("the database system is ", "57P03"),
    ("the emulator has no way to PostgreSQL", "08006"),
    ("waking up cluster", "08006"),
    ("too many open connections", "53300"),
    ("rate exceeded", "53400"),
    ("could not connect to ", "08001"),
)
"""Texts and what stands for them: libpq gives no SQLSTATE of a failed connect, and
pgbench gives none at all."""

_OF_ASYNCPG = "08003"
"""It gives this one itself to a statement that met a FATAL, which its text has."""

_ON_COMMAND = re.compile(r"terminating connection with ([0-9A-Z]{5}) on command")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the proxy listens."""

    host: str
    port: int

    @property
    def dsn(self) -> str:
        """The way in, for libpq."""
        return (
            f"host={self.host} port={self.port} user={ROLE} dbname={DATABASE}"
            " connect_timeout=30"
        )

    @property
    def environment(self) -> dict[str, str]:
        """The way in, for a program of PostgreSQL."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": ROLE,
            "PGDATABASE": DATABASE,
            "PGCONNECT_TIMEOUT": "30",
        }

    @property
    def address(self) -> dict[str, object]:
        """The way in, for asyncpg."""
        where = {"host": self.host, "port": self.port}
        return {**where, "user": ROLE, "database": DATABASE, "timeout": 30}


@dataclass(frozen=True, slots=True)
class Incident:
    """An error that a client saw; ``at`` is of the monotonic clock."""

    at: float
    client: str
    sqlstate: str
    """Empty where the client had no word from the server, only a closed connection."""
    text: str

    @property
    def title(self) -> str:
        """The same without its time, for counting."""
        return f"{self.client}: {self.sqlstate or 'no SQLSTATE'} {self.text[:200]}"


class ServerSaid(Exception):
    """An error that a program of PostgreSQL printed, or that came over a socket."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class WrongAnswer(Exception):
    """An answer that no fault explains: other values, or values that are missing."""


@dataclass(slots=True)
class Tally:
    """What was done and what went wrong; counted by many threads."""

    operations: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    """Errors that a client provoked."""
    incidents: list[Incident] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str, count: int = 1) -> None:
        """Count operations that went well."""
        with self.lock:
            self.operations[name] += count

    def note_expected(self, name: str) -> None:
        """Count an error that was provoked."""
        with self.lock:
            self.expected[name] += 1

    def note_error(self, client: str, error: BaseException) -> None:
        """Keep an error that was not provoked; it is judged when all have ended."""
        for one in _leaves(error):
            sqlstate = sqlstate_of(one)
            words = str(one).strip().splitlines() or [""]
            text = f"{type(one).__name__}: {words[0]}"
            self.note_incident(client, sqlstate, text)

    def note_incident(self, client: str, sqlstate: str, text: str) -> None:
        """Keep what a client was told."""
        incident = Incident(time.monotonic(), client, sqlstate, text)
        with self.lock:
            self.incidents.append(incident)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def sqlstate_of(error: BaseException) -> str:
    """Give the SQLSTATE that an error has or speaks of; empty without one."""
    if isinstance(error, WrongAnswer):
        return ""
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate == _OF_ASYNCPG or not sqlstate:
        sqlstate = sqlstate_in(str(error))
    return sqlstate


def sqlstate_in(text: str) -> str:
    """Give the SQLSTATE of a message, by its words; empty if it is not known."""
    if found := _ON_COMMAND.search(text):
        return found[1]
    return next((state for words, state in _SAID if words in text), "")


def expect(found: object, wanted: object) -> None:
    """Raise `WrongAnswer` where an answer is not what it must be."""
    if found != wanted:
        msg = f"expected {str(wanted)[:60]}, found {str(found)[:60]}"
        raise WrongAnswer(msg)
