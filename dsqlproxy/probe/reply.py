"""What a cluster answered, taken apart (no I/O)."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Final

from dsqlproxy.errors import ProtocolError, UpstreamRejected
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import ErrorResponse, NoticeResponse, ParameterStatus

Row = tuple[str | None, ...]

_COUNT: Final = struct.Struct("!H")
_LENGTH: Final = struct.Struct("!i")


class Ending(StrEnum):
    """How a connection was ended by the other side."""

    CLOSED = "closed (FIN)"
    GOODBYE = "closed (TLS close_notify)"
    RESET = "reset (RST)"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Reply:
    """The frames that came in answer, in order, and how long they took."""

    frames: tuple[Frame, ...]
    seconds: float
    ending: Ending | None = None
    """How the connection ended, if it did."""
    is_whole: bool = True
    """Whether every ReadyForQuery came that was waited for."""

    @property
    def types(self) -> str:
        """The types in order, repeated ones counted: ``1 2 D*5 C Z``."""
        return types_of(self.frames)

    @property
    def error(self) -> ErrorResponse | None:
        """The first error."""
        for one in self.frames:
            if one.type == BackendType.ERROR_RESPONSE:
                return ErrorResponse.decode(one.body)
        return None

    @property
    def sqlstate(self) -> str:
        """The code of the first error; empty where there is none."""
        return self.error.sqlstate if self.error else ""

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the statements that were completed."""
        return tuple(
            _text(one.body.rstrip(b"\0"))
            for one in self.frames
            if one.type == BackendType.COMMAND_COMPLETE
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows, as text."""
        return tuple(
            tuple(_values(one.body))
            for one in self.frames
            if one.type == BackendType.DATA_ROW
        )

    @property
    def status(self) -> str:
        """The letter of the last ReadyForQuery; empty where none came."""
        letters = [
            _text(one.body)
            for one in self.frames
            if one.type == BackendType.READY_FOR_QUERY
        ]
        return letters[-1] if letters else ""

    @property
    def verdict(self) -> str:
        """A word for what became of it: ok, its error, the end, or silence."""
        if self.error is not None:
            return short(self.error)
        if self.ending is not None:
            return f"connection {self.ending}"
        return "ok" if self.is_whole else "silence"

    def count(self, kind: BackendType) -> int:
        """Count the frames of a type."""
        return sum(one.type == kind for one in self.frames)

    def value(self) -> str | None:
        """Give the one value of the one row; `ProtocolError` if it is another form."""
        rows = self.rows
        if [len(row) for row in rows] != [1]:
            raise ProtocolError(f"not one value was answered, but {self.types}")
        return rows[0][0]


def types_of(frames: Iterable[Frame]) -> str:
    """Write the types of frames, repeated ones counted."""
    words = []
    for letter, run in groupby(chr(one.type) for one in frames):
        count = len(list(run))
        words.append(letter if count == 1 else f"{letter}*{count}")
    return " ".join(words)


def parameters_of(frames: Iterable[Frame]) -> dict[str, str]:
    """Give what was reported as ParameterStatus, in order."""
    decoded = (
        ParameterStatus.decode(one.body)
        for one in frames
        if one.type == BackendType.PARAMETER_STATUS
    )
    return {one.name: one.value for one in decoded}


def short(error: ErrorResponse | NoticeResponse) -> str:
    """Give severity and SQLSTATE."""
    return f"{error.severity} {error.sqlstate}"


def said(error: ErrorResponse | NoticeResponse) -> str:
    """Give all that an error says."""
    words = [f"{short(error)}: {error.message}"]
    words += (
        f"{name}: {text}"
        for name, text in (("DETAIL", error.detail), ("HINT", error.hint))
        if text
    )
    return ". ".join(words)


def rejection_said(error: UpstreamRejected) -> str:
    """Give all that the cluster said when it refused a login."""
    return said(ErrorResponse(error.fields))


def _values(body: bytes) -> Iterator[str | None]:
    try:
        position = _COUNT.size
        for _ in range(_COUNT.unpack_from(body)[0]):
            (size,) = _LENGTH.unpack_from(body, position)
            position += _LENGTH.size
            if size < 0:
                yield None
            else:
                yield _text(body[position : position + size])
                position += size
    except struct.error:
        raise ProtocolError("a row has an invalid layout") from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
