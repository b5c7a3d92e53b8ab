"""A client's session on a real PostgreSQL, seen as the relay sees it, and moved.

`Carried` is a session whose bytes pass a scanner, a tracker and a memory on their
way; `carry` opens another upstream and does what a driver of `Replica` does.
"""

import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, FrameReader, FrameScanner, frame
from dsqlproxy.pgproto.messages import ParameterStatus
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from dsqlproxy.session.pins import NotCarriedOver
from dsqlproxy.session.replay import Answers, Replica, Request
from dsqlproxy.session.settings import BASE_NAMES
from dsqlproxy.session.state import SessionMemory
from dsqlproxy.session.statements import Budget
from dsqlproxy.session.tracker import Tracker
from dsqlproxy.upstream.parameters import Parameters
from tests.kit.frames import SYNC, bind, describe, execute

PRIVATE_NAME = "dsqlproxy_0123456789abcdef"

_SEVERAL = 1 << 20


@dataclass
class Upstream:
    """A connection that is logged in."""

    connection: socket.socket
    reported: tuple[ParameterStatus, ...]

    def converse(self, request: Request) -> Answers:
        """Ask in private, and wait for all answers."""
        answers = Answers(request)
        answers.receive(self.send(request.data))
        while not answers.is_done:
            answers.receive(self.read())
        assert answers.take_rest() == b""
        return answers

    def send(self, data: bytes) -> bytes:
        """Send, and give what came meanwhile: a server that is not read stops too."""
        heard = b""
        self.connection.setblocking(False)
        while data:
            can_read, can_write, _ = select.select(
                [self.connection], [self.connection], []
            )
            if can_write:
                data = data[self.connection.send(data) :]
            if can_read:
                heard += self.read()
        self.connection.setblocking(True)
        return heard

    def read(self) -> bytes:
        data = self.connection.recv(_SEVERAL)
        assert data, "the server has closed"
        return data


@dataclass
class Carried:
    """A session, and what a relay would know of it."""

    directory: Path
    parameters: Parameters
    upstream: Upstream
    memory: SessionMemory
    tracker: Tracker = field(default_factory=Tracker)
    swaps: int = 0
    heard: list[Frame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sent = FrameScanner(
            FRONTEND_SYMBOLS, max_bytes=64 << 20, asked=self.memory.frontend
        )
        self._received = FrameScanner(
            BACKEND_SYMBOLS, max_bytes=64 << 20, asked=self.memory.backend
        )

    def ask(self, *frames: bytes) -> list[Frame]:
        """Send frames and give the answers, once nothing is outstanding."""
        data = b"".join(frames)
        dropped = self.tracker.note_sent(self._sent.scan(data))
        if dropped:
            self.memory.note_dropped(dropped)
        answers: list[Frame] = []
        held = b""
        reader = FrameReader(max_bytes=64 << 20)
        data = self.upstream.send(data)
        while data or self.tracker.outstanding:
            data = data or self.upstream.read()
            answers += reader.feed(data)
            held += data
            effects = self.tracker.note_received(self._received.scan(held))
            held = held[self._received.cut :]
            if effects:
                self.memory.note_effects(effects)
            data = b""
        self.heard += answers
        return answers

    def swap(self, *, may_drop_stale: bool = False) -> Replica:
        """Go on with another upstream, or raise and go on with this one."""
        assert self.tracker.is_quiet
        with _rolled_back(connect(self.directory, self.parameters)) as new:
            replica = Replica(self.memory)
            replica.take(new.converse(replica.baseline(new.reported)))
            replica.take(new.converse(replica.early()))
            return self.cut_over(new, replica, may_drop_stale=may_drop_stale)

    def cut_over(
        self, new: Upstream, replica: Replica, *, may_drop_stale: bool = False
    ) -> Replica:
        """Do what is done at the swap point, with an upstream prepared before."""
        inspection = replica.inspection(may_drop_stale=may_drop_stale)
        old = self.upstream.converse(inspection)
        replica.take(new.converse(replica.completion(old)))
        self._adopt(new, replica)
        return replica

    def recover(self) -> Replica:
        """Lose the upstream, and go on with another one, without asking the old."""
        self.upstream.connection.close()
        with _rolled_back(connect(self.directory, self.parameters)) as new:
            replica = Replica(self.memory)
            replica.take(new.converse(replica.baseline(new.reported)))
            replica.take(new.converse(replica.early()))
            replica.take(new.converse(replica.restoration()))
            self._adopt(new, replica)
            return replica

    def take_snapshot(self) -> None:
        """Ask for the settings, to be remembered."""
        replica = Replica(self.memory)
        replica.note_snapshot(self.upstream.converse(replica.snapshot()))

    def _adopt(self, new: Upstream, replica: Replica) -> None:
        told = FrameReader().feed(replica.verified())
        assert {one.type for one in told} <= {BackendType.PARAMETER_STATUS}
        self.heard += told
        replica.commit()
        old, self.upstream = self.upstream, new
        self.tracker = Tracker()
        self.swaps += 1
        old.connection.close()

    def values(self, *sql: str) -> list[list[bytes | None]]:
        """Run queries by the extended protocol, under names of their own."""
        found = []
        for one in sql:
            found += rows(self.ask(*private_query(one)))
        return found

    def close(self) -> None:
        self.upstream.connection.close()
        self.memory.close()


def connect(directory: Path, parameters: Parameters) -> Upstream:
    """Log in; to a server that trusts everyone."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(directory / ".s.PGSQL.5432"))
    connection.sendall(StartupMessage(PROTOCOL_3_0, parameters).encode())
    reader = FrameReader()
    greeting: list[Frame] = []
    while not greeting or greeting[-1].type != BackendType.READY_FOR_QUERY:
        data = connection.recv(65_536)
        assert data, greeting
        greeting += reader.feed(data)
    reported = tuple(
        ParameterStatus.decode(one.body)
        for one in greeting
        if one.type == BackendType.PARAMETER_STATUS
    )
    return Upstream(connection, reported)


@contextmanager
def carried(
    directory: Path, *, budget: Budget | None = None, **parameters: str
) -> Iterator[Carried]:
    """Log in as a client would, through a relay."""
    named = {"user": "postgres", "database": "postgres", **parameters}
    pairs = tuple(named.items())
    upstream = connect(directory, pairs)
    memory = SessionMemory(
        pairs,
        upstream.reported,
        budget=budget or Budget(),
        private_name=PRIVATE_NAME,
    )
    session = Carried(directory, pairs, upstream, memory)
    try:
        yield session
    finally:
        session.close()


@contextmanager
def _rolled_back(new: Upstream) -> Iterator[Upstream]:
    try:
        yield new
    except BaseException:
        new.connection.close()
        raise


def prepared(session: Carried) -> tuple[Upstream, Replica]:
    """Do what is done in the background, before the swap point."""
    new = connect(session.directory, session.parameters)
    replica = Replica(session.memory)
    replica.take(new.converse(replica.baseline(new.reported)))
    replica.take(new.converse(replica.early()))
    return new, replica


def refused(session: Carried, *, may_drop_stale: bool = False) -> NotCarriedOver:
    """Try to swap; give the reason why it was not done."""
    swaps = session.swaps
    try:
        session.swap(may_drop_stale=may_drop_stale)
    except NotCarriedOver as failure:
        assert session.swaps == swaps
        return failure
    raise AssertionError("it was done")


def compare(directory: Path, program: Sequence[bytes], **parameters: str) -> None:
    """Run a program directly and with a swap after each portion; compare all."""
    with (
        carried(directory, budget=None, **parameters) as direct,
        carried(directory, budget=None, **parameters) as moved,
    ):
        for number, portion in enumerate(program):
            expected, found = direct.ask(portion), moved.ask(portion)
            assert (number, found) == (number, expected)
            if moved.tracker.is_quiet:
                moved.swap(may_drop_stale=True)
        assert moved.swaps
        assert moved.values(SHOW, STATEMENTS) == direct.values(SHOW, STATEMENTS)
        assert dict(moved.memory.reported) == dict(direct.memory.reported)


# -- what is asked of both -------------------------------------------------------------

OWN_NAME = "a question of the test"
SHOW = "select " + ", ".join(f"current_setting('{name}', true)" for name in BASE_NAMES)
STATEMENTS = (
    "select name, statement, parameter_types::text, result_types::text, from_sql"
    " from pg_prepared_statements where name <> 'a question of the test' order by name"
)


# -- frames ----------------------------------------------------------------------------


def raw_parse(text: bytes, *, name: bytes = b"", types: tuple[int, ...] = ()) -> bytes:
    """A Parse of any bytes, with types of parameters."""
    tail = len(types).to_bytes(2) + b"".join(one.to_bytes(4) for one in types)
    return frame(ord("P"), name + b"\0" + text + b"\0" + tail)


def use(name: str = "", *values: str) -> bytes:
    """Run a prepared statement."""
    return bind(*values, statement=name) + describe() + execute() + SYNC


def private_query(sql: str) -> tuple[bytes, ...]:
    """An extended query under a name of its own; it leaves nothing behind."""
    name = OWN_NAME.encode()
    closing = frame(ord("C"), b"S" + name + b"\0")
    return (
        raw_parse(sql.encode(), name=name),
        frame(ord("B"), b"\0" + name + b"\0\0\0\0\0\0\0"),
        frame(ord("E"), b"\0\0\0\0\0"),
        closing,
        frame(ord("S")),
    )


def rows(answers: list[Frame]) -> list[list[bytes | None]]:
    """The values of all rows."""
    return [_values(one.body) for one in answers if one.type == BackendType.DATA_ROW]


def _values(body: bytes) -> list[bytes | None]:
    values: list[bytes | None] = []
    position = 2
    for _ in range(int.from_bytes(body[:2])):
        size = int.from_bytes(body[position : position + 4], signed=True)
        position += 4
        values.append(None if size < 0 else body[position : position + size])
        position += max(size, 0)
    return values
