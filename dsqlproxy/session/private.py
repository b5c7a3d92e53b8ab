"""What the proxy itself asks an upstream, and the answers (no I/O).

A private conversation must leave no trace: no simple Query, which would destroy the
client's unnamed statement; statements of its own under a random name, closed in the
same breath; and a Sync after each item, so that one that fails takes no other with it.

The driver writes ``request.data``, feeds an `Answers` with what comes, and hands it
back. What a server says of itself at any time (asides) is kept apart.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Self

from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.codes import BackendType, FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import Frame, FrameReader, frame
from dsqlproxy.pgproto.messages import SYNC, ErrorResponse, ParameterStatus
from dsqlproxy.session.pins import NotCarriedOver
from dsqlproxy.session.statements import Statement

MAX_ANSWER_BYTES: Final = 16 << 20
"""For one message; a row description with 1,600 columns has 140 KB."""

_ASIDES: Final = frozenset(
    (
        BackendType.NOTICE_RESPONSE,
        BackendType.PARAMETER_STATUS,
        BackendType.NOTIFICATION_RESPONSE,
    )
)
_FATAL: Final = frozenset(("FATAL", "PANIC"))

_INTERRUPTIONS: Final = frozenset(("40001", "57014"))
"""The schema was changed by someone (OC001 on Aurora DSQL); a cancel came late."""

_NULL: Final = (1 << 32) - 1


class Kind(Enum):
    """What an item asks, and the answers that mean that it was done."""

    CAPTURE = ("312DC33",)
    SET = ("312C3",)
    SET_CONFIG = ("312DC3",)
    PARSE = ("1",)
    CLOSE = ("3",)
    DESCRIBE = ("tT", "tn")
    SYNC = ("",)

    @property
    def is_question(self) -> bool:
        """Whether nothing changes by it, so that it may be asked again."""
        return self in {Kind.CAPTURE, Kind.DESCRIBE}


class Item(NamedTuple):
    """One thing that is asked, up to its ReadyForQuery."""

    kind: Kind
    frames: bytes
    key: bytes = b""  # the statement's name
    setting: str = ""
    statement: Statement | None = None
    is_essential: bool = False  # what follows is wrong without it
    names: tuple[str, ...] = ()  # the settings asked about
    is_generic: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What is written in one go; ``units`` are the ReadyForQuery that answer it."""

    data: bytes
    units: int
    items: tuple[Item, ...] = ()

    @classmethod
    def of(cls, items: Iterable[Item]) -> Self:
        """Put items together, each with its Sync."""
        items = tuple(items)
        data = b"".join(item.frames + SYNC for item in items)
        return cls(data, len(items), items)


class Unit(NamedTuple):
    """What answered one item, without the ReadyForQuery."""

    frames: tuple[Frame, ...]

    @property
    def types(self) -> str:
        """The types of the frames, a letter each."""
        return "".join(chr(one.type) for one in self.frames)

    @property
    def error(self) -> ErrorResponse | None:
        """The error that ended it, if one did."""
        if self.frames and self.frames[-1].type == BackendType.ERROR_RESPONSE:
            return ErrorResponse.decode(self.frames[-1].body)
        return None

    @property
    def sqlstate(self) -> str:
        """The code of its error; empty where all went well."""
        return self.error.sqlstate if self.error else ""

    @property
    def row(self) -> tuple[bytes | None, ...]:
        """The values of its one row."""
        (body,) = (one.body for one in self.frames if one.type == BackendType.DATA_ROW)
        return tuple(_values(body))

    @property
    def content(self) -> bytes:
        """All of it, to be compared."""
        return b"".join(frame(one.type, one.body) for one in self.frames)


class Answers:
    """The answers to one request; fed with bytes until `is_done`.

    Raises `NotCarriedOver` for what no answer can be: FATAL, a transaction, a message
    of another kind. An error within an item is an answer like any other, except that
    one of an interruption is raised when all is answered: the question may be asked
    again (``may_retry``).
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._reader = FrameReader(max_bytes=MAX_ANSWER_BYTES)
        self._units: list[Unit] = []
        self._frames: list[Frame] = []
        self._asides: list[bytes] = []
        self._rest = b""
        self.reported: list[ParameterStatus] = []
        """What was reported meanwhile, in order."""

    @property
    def is_done(self) -> bool:
        """Whether every item has been answered."""
        return len(self._units) >= self._request.units

    @property
    def units(self) -> tuple[Unit, ...]:
        """The answers so far, one for each item."""
        return tuple(self._units)

    def __iter__(self) -> Iterator[tuple[Item, Unit]]:
        """Give each item with its answer; for a request that is answered."""
        return zip(self._request.items, self._units, strict=True)

    def receive(self, data: bytes) -> None:
        """Take the next bytes; what follows the last answer is left for `take_rest`."""
        try:
            message = None if self.is_done else self._reader.next_frame(data)
            while message is not None:
                self._take(message)
                if self.is_done:
                    self._raise_if_interrupted()
                    return
                message = self._reader.next_frame()
        except ProtocolError as error:
            raise NotCarriedOver(f"a private answer is malformed: {error}") from error

    def take_asides(self) -> list[bytes]:
        """Hand over the frames that answer nothing, as they came."""
        asides, self._asides = self._asides, []
        return asides

    def take_rest(self) -> bytes:
        """Hand over what came after the last answer: not ours, and maybe a part."""
        return self._reader.take_rest()

    def _take(self, message: Frame) -> None:
        if message.type in _ASIDES:
            self._asides.append(frame(message.type, message.body))
            if message.type == BackendType.PARAMETER_STATUS:
                self.reported.append(ParameterStatus.decode(message.body))
        elif message.type == BackendType.READY_FOR_QUERY:
            self._end_unit(message.body)
        else:
            self._frames.append(message)
            if message.type == BackendType.ERROR_RESPONSE:
                _raise_if_fatal(ErrorResponse.decode(message.body))

    def _end_unit(self, status: bytes) -> None:
        if status != bytes((TransactionStatus.IDLE,)):
            raise NotCarriedOver("a private question was asked within a transaction")
        unit = Unit(tuple(self._frames))
        self._frames = []
        items = self._request.items
        kind = items[len(self._units)].kind if items else Kind.SYNC
        if unit.error is None and unit.types not in kind.value:
            msg = f"a private question got the answer {unit.types!r}"
            raise NotCarriedOver(msg)
        self._units.append(unit)

    def _raise_if_interrupted(self) -> None:
        if not self._request.items:
            return
        for item, unit in self:
            if item.kind.is_question and unit.sqlstate in _INTERRUPTIONS:
                msg = f"a private question was interrupted ({unit.sqlstate})"
                raise NotCarriedOver(msg, may_retry=True)


def _raise_if_fatal(error: ErrorResponse) -> None:
    if error.severity in _FATAL:
        msg = f"the upstream ended the session ({error.sqlstate})"
        raise NotCarriedOver(msg)


# -- frames ----------------------------------------------------------------------------


def parse(name: bytes, sql: bytes) -> bytes:
    """Make a Parse without types of parameters."""
    return frame(FrontendType.PARSE, name + b"\0" + sql + b"\0\0\0")


def run(name: bytes, values: tuple[bytes, ...] = ()) -> bytes:
    """Make a Bind of text values and an Execute, in a portal of the same name."""
    parts = [name + b"\0" + name + b"\0\0\0", len(values).to_bytes(2)]
    parts += (len(value).to_bytes(4) + value for value in values)
    bind = frame(FrontendType.BIND, b"".join((*parts, b"\0\0")))
    return bind + frame(FrontendType.EXECUTE, name + b"\0\0\0\0\0")


def close(name: bytes) -> bytes:
    """Make a Close of a statement; none of that name is no error."""
    return frame(FrontendType.CLOSE, b"S" + name + b"\0")


def close_portal(name: bytes) -> bytes:
    """Make a Close of a portal."""
    return frame(FrontendType.CLOSE, b"P" + name + b"\0")


def describe(name: bytes) -> bytes:
    """Make a Describe of a statement."""
    return frame(FrontendType.DESCRIBE, b"S" + name + b"\0")


def _values(row: bytes) -> Iterator[bytes | None]:
    position = 2
    for _ in range(int.from_bytes(row[:2])):
        size = int.from_bytes(row[position : position + 4])
        position += 4
        if size == _NULL:
            yield None
        else:
            yield row[position : position + size]
            position += size
