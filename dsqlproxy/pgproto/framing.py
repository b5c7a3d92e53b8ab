"""Frames: a type byte, a length that counts itself, a body.

Two ways of finding them in a stream, for two uses:

* `FrameReader` takes a conversation apart: it keeps every byte until its frame is
  whole. For logins and for the emulator.
* `FrameScanner` watches a stream that goes by. It keeps nothing but the first few
  bytes of the few large frames that someone asked to see; a small frame whose end
  has not come it leaves with its caller, so that small frames pass whole or not at
  all. For the relay, whose speed it decides: its loop is flat, without a call or a
  generator per frame.
"""

from collections.abc import Callable, Mapping
from copy import copy
from struct import Struct
from types import MappingProxyType
from typing import NamedTuple

from dsqlproxy.errors import ProtocolError

HEADER_BYTES = 5
HEADER = Struct("!Bi")

MAX_BACKEND_FRAME_BYTES = 0x3FFFFFFF + 1024
"""PostgreSQL cannot build a message over 1 GiB less one (MaxAllocSize, memutils.h)."""

MAX_CONVERSATION_FRAME_BYTES = 1 << 20
"""Nothing said before the first ReadyForQuery comes near this (libpq: 30,000)."""


class Frame(NamedTuple):
    """One whole frame; ``body`` excludes the header."""

    type: int
    body: bytes


def frame(kind: int, body: bytes = b"") -> bytes:
    """Put the header before a body."""
    return HEADER.pack(kind, len(body) + 4) + body


class FrameReader:
    """Collects the bytes of one direction and gives back whole frames.

    Raises `ProtocolError` for a length below 4 or above ``max_bytes``; after that
    the stream's boundaries are lost and the reader must not be fed again.
    """

    __slots__ = ("_buffer", "_max_bytes")

    def __init__(self, *, max_bytes: int = MAX_CONVERSATION_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that they complete."""
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            kind, length = HEADER.unpack_from(buffer, start)
            if not 4 <= length <= self._max_bytes:
                msg = f"invalid length {length} of a message of type {chr(kind)!r}"
                raise ProtocolError(msg)
            end = start + 1 + length
            if end > len(buffer):
                break
            frames.append(Frame(kind, bytes(buffer[start + HEADER_BYTES : end])))
            start = end
        del buffer[:start]
        return frames

    def next_frame(self, data: bytes = b"") -> Frame | None:
        """Take the next bytes; return one frame, leaving what follows it in place."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < HEADER_BYTES:
            return None
        kind, length = HEADER.unpack_from(buffer)
        if not 4 <= length <= self._max_bytes:
            msg = f"invalid length {length} of a message of type {chr(kind)!r}"
            raise ProtocolError(msg)
        if len(buffer) < 1 + length:
            return None
        body = bytes(buffer[HEADER_BYTES : 1 + length])
        del buffer[: 1 + length]
        return Frame(kind, body)

    def take_rest(self) -> bytes:
        """Hand over what has been fed and not returned, for the next reader."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


class FrameScanner:
    """Finds frame boundaries as bytes pass, and writes down what passed.

    What passed is told as a script: one symbol for each whole frame, in order.
    ``symbols`` says which: a number is the symbol itself, `SILENT` leaves frames of
    that type out, and a function is asked with the bytes and where the body is.
    ``asked`` names functions that this stream asks instead; they may remember what
    they see, and are called once for each frame, in the order of the frames.

    After each `scan`, ``cut`` says how many of the bytes may be passed on. Fewer
    than were given in three cases only; the rest is to be given again, with what
    follows it:

    * the chunk ends within a header: at most four bytes, on which no peer can act;
    * the frame that begins at ``cut`` is unfinished and small enough that it is only
      passed on whole (``symbols`` says what is small). ``missing_bytes`` of it are
      still to come: collect that many before the next scan, since one before that
      only finds the frame unfinished again;
    * ``overlong`` is set: the frame that begins at ``cut`` is above ``max_bytes``,
      and the caller decides about it before the next scan. ``max_bytes`` must be
      more than a chunk can have: a frame that came whole is not measured.

    Any other frame passes as it comes. Of one that came in parts a function is shown
    the first `BODY_BYTES` only.

    A type outside ``symbols`` or an impossible length sets ``lost``: scanning ends,
    everything may be passed on. The stream is then no longer understood, but it is
    not disturbed either; its receiver will say what it thinks of it.
    """

    __slots__ = (
        "_asked", "_body", "_kind", "_limit", "_rest", "_table", "_whole",
        "cut", "lost", "missing_bytes", "overlong",
    )  # fmt: skip

    def __init__(
        self,
        symbols: "Symbols",
        *,
        max_bytes: int,
        asked: "Mapping[int, AskedSymbol] | None" = None,
    ) -> None:
        if asked:
            symbols = symbols.asking(asked)
        self._table = symbols.table
        self._asked = symbols.asked
        self._whole = symbols.whole
        self._limit = max_bytes
        self.cut = 0
        self.missing_bytes = 0
        """What the frame at ``cut`` lacks; 0 where not even its header has come."""
        self.lost = ""
        """Why the stream is no longer understood; empty while it is."""
        self.overlong: tuple[int, int] | None = None
        """(type, length) of the frame at ``cut`` that is above the limit."""
        self._rest = 0  # bytes of the current body that are still to come
        self._kind = 0  # type of the current frame
        self._body = b""  # its first bytes

    @property
    def at_boundary(self) -> bool:
        """Whether what was passed on so far ends with a whole frame."""
        return not self._rest and not self.lost

    @property
    def rest_bytes(self) -> int:
        """How many bytes of the frame that was passed on in part are still to come."""
        return self._rest

    def scan(self, data: bytes) -> bytes:
        """Give the script of the frames that ``data`` completes."""
        script: list[bytes] = []
        position = self._resume(data, script) if self._rest else 0
        self.cut = size = len(data)
        self.missing_bytes = 0
        if self.lost:
            return b""
        last_header = size - HEADER_BYTES
        table = self._table
        unpack = HEADER.unpack_from
        # The hot loop: under 100 ns a frame in CPython 3.11. A helper call or a
        # generator for every frame in here would cost as much again.
        while position <= last_header:
            kind, length = unpack(data, position)
            end = position + 1 + length
            if end > size or length < 4:
                self._begin_frame(data, position, length)
                return b"".join(script)
            symbol = table[kind]
            if symbol:
                script.append(symbol)
            elif symbol is None:
                try:
                    ask = self._asked[kind]
                    script.append(ask(data, position + HEADER_BYTES, end))
                except LookupError:
                    self._lose("type", kind, length)
                    return b"".join(script)
            position = end
        self.cut = position
        return b"".join(script)

    def _begin_frame(self, data: bytes, position: int, length: int) -> None:
        """Take up a frame that is unfinished, impossible or overlong."""
        kind = data[position]
        is_asked = kind in self._asked
        if length < 4:
            self._lose("length", kind, length)
        elif self._table[kind] is None and not is_asked:
            self._lose("type", kind, length)
        elif length > self._limit:
            self.cut = position
            self.overlong = (kind, length)
        elif length <= self._whole.get(kind, 0):
            self.cut = position
            self.missing_bytes = position + 1 + length - len(data)
        else:
            self._kind = kind
            self._rest = position + 1 + length - len(data)
            start = position + HEADER_BYTES
            self._body = data[start : start + BODY_BYTES] if is_asked else b""

    def _resume(self, data: bytes, script: list[bytes]) -> int:
        """Go on in the body that earlier bytes began; return where it ends."""
        taken = min(self._rest, len(data))
        ask = self._asked.get(self._kind)
        if ask and len(self._body) < BODY_BYTES:
            self._body += data[: min(taken, BODY_BYTES - len(self._body))]
        self._rest -= taken
        if self._rest:
            return taken
        try:
            if ask:
                script.append(ask(self._body, 0, len(self._body)))
            else:
                script.append(self._table[self._kind] or b"")
        except LookupError:
            self._lose("body", self._kind, len(self._body))
        self._body = b""
        return taken

    def _lose(self, what: str, kind: int, length: int) -> None:
        self.lost = f"unexpected {what} of a message ({kind:#04x}, {length} bytes)"


class FrameParts(list[bytes]):
    """The beginning of a frame that a scanner did not let pass, until it is whole.

    A list, so that whether it has anything costs no call.
    """

    __slots__ = ("_missing_bytes",)

    def begin(self, data: bytes, missing_bytes: int) -> None:
        """Keep the beginning, and how much is missing as far as the scanner knows."""
        self.append(data)
        self._missing_bytes = missing_bytes

    def join(self, data: bytes) -> bytes:
        """Take the next bytes; give all of them when the frame may be whole."""
        self.append(data)
        self._missing_bytes -= len(data)
        return self.take() if self._missing_bytes <= 0 else b""

    def take(self) -> bytes:
        """Hand over what there is."""
        data = b"".join(self)
        self.clear()
        return data


SILENT = 0
"""In `Symbols`: frames of this type are left out of the script."""

BODY_BYTES = 64
"""How much of a body is kept for a function where it was passed on in parts."""

AskedSymbol = Callable[[bytes, int, int], bytes]
"""Gives the symbol of the frame whose body is data[start:end]; `LookupError` where
no such body can be."""


class Symbols:
    """How each type that may occur is written in a script; made once per direction.

    ``whole`` says which frames are passed on in one piece: those of these types whose
    length is at most so many bytes. They must be less than a scanner's ``max_bytes``.
    """

    __slots__ = ("asked", "table", "whole")

    def __init__(
        self,
        symbols: Mapping[int, int | AskedSymbol],
        *,
        whole: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.whole = {int(kind): most for kind, most in whole.items()}
        self.asked = {
            int(kind): symbol for kind, symbol in symbols.items() if callable(symbol)
        }
        # Symbols are kept as bytes, ready to be joined; None is asked, or unknown.
        table: list[bytes | None] = [None] * 256
        for kind, symbol in symbols.items():
            if not callable(symbol):
                table[kind] = b"" if symbol == SILENT else bytes((symbol,))
        self.table = tuple(table)

    def asking(self, asked: Mapping[int, AskedSymbol]) -> "Symbols":
        """Give the same, with these functions instead of what was there."""
        changed = copy(self)
        changed.asked = {**self.asked, **{int(kind): f for kind, f in asked.items()}}
        # One table serves all sessions, unless a type is not asked about in it.
        if any(self.table[kind] is not None for kind in asked):
            changed.table = tuple(
                None if kind in asked else symbol
                for kind, symbol in enumerate(self.table)
            )
        return changed
