"""What `Tamper` is to do, and when: moments, faults, and plans that join the two.

A moment names a frame by its direction and its type, as scripts do: ``">Q"`` is a
Query on its way to the server, ``"<Z"`` a ReadyForQuery on its way to the proxy,
``">"`` any frame. The frames of the login are not counted::

    before("<D", 2, containing=b"UTC")    the second such row, before it passes
    after(">S")                           the first Sync, when the server has it
    at_byte("<", 117)                     when 117 bytes have passed since the login
    on_login()                            a startup packet, before the server has it
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import ErrorResponse, NoticeResponse, ParameterStatus


class Way(StrEnum):
    """Where a frame goes."""

    TO_SERVER = ">"
    TO_PROXY = "<"


class How(StrEnum):
    """How a connection ends."""

    EOF = "eof"
    RESET = "reset"


# -- moments -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in the conversation of one connection."""

    way: Way
    kind: str = ""
    count: int = 1
    containing: bytes = b""
    is_before: bool = False
    byte: int | None = None
    is_login: bool = False

    def matches(self, way: Way, frame: Frame) -> bool:
        """Whether this is such a frame; which one of them is not asked here."""
        return (
            self.byte is None
            and not self.is_login
            and way is self.way
            and self.kind in {"", chr(frame.type)}
            and self.containing in frame.body
        )


def before(frame: str, count: int = 1, *, containing: bytes = b"") -> Moment:
    """Name the moment before a frame passes."""
    return Moment(Way(frame[0]), frame[1:], count, containing, is_before=True)


def after(frame: str, count: int = 1, *, containing: bytes = b"") -> Moment:
    """Name the moment after a frame has passed."""
    return Moment(Way(frame[0]), frame[1:], count, containing)


def at_byte(way: str, byte: int) -> Moment:
    """Name the moment when exactly so many bytes have passed since the login."""
    return Moment(Way(way), byte=byte)


def on_login() -> Moment:
    """Name the moment when a startup packet has come, and the server has nothing."""
    return Moment(Way.TO_SERVER, is_login=True, is_before=True)


# -- faults --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Eof:
    """End the connection in order, without a word."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection: the proxy gets a TCP RST."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """Say a FATAL, then end in order."""

    sqlstate: str = "57P01"
    message: str = "terminating connection due to administrator command"

    def encode(self) -> bytes:
        """Give the frame."""
        return ErrorResponse.build("FATAL", self.sqlstate, self.message).encode()


@dataclass(frozen=True, slots=True)
class Error:
    """Give an ERROR in place of an answer, up to its ReadyForQuery.

    At a frame to the server it is the answer to that frame's Sync, Query or
    FunctionCall; at a frame to the proxy, the answer from that frame on. The server
    has done what it was asked: use it where that does not matter.
    """

    sqlstate: str = "40001"
    message: str = "change conflicts with another transaction (OC000)"

    def encode(self) -> bytes:
        """Give the frame."""
        return ErrorResponse.build("ERROR", self.sqlstate, self.message).encode()


@dataclass(frozen=True, slots=True)
class Replace:
    """Give another body than the server's to a frame to the proxy.

    At a frame to the server, to the first frame of type ``kind`` in its answer.
    """

    edit: Callable[[bytes], bytes]
    kind: str = "D"


@dataclass(frozen=True, slots=True)
class Stall:
    """Neither read nor write in either direction until the plan is released."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Hold back one direction until the plan is released."""


@dataclass(frozen=True, slots=True)
class Swallow:
    """Pass a frame on to nobody; for moments before one."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Pass the first half of a frame; then nothing until released, or the end."""

    then: How | Literal["silence"] = "silence"


@dataclass(frozen=True, slots=True)
class Inject:
    """Send bytes to the proxy that no server sent: garbage, a notice, a setting."""

    data: bytes

    @classmethod
    def notice(cls, message: str = "look") -> "Inject":
        """Inject a NoticeResponse."""
        return cls(NoticeResponse.build("NOTICE", "00000", message).encode())

    @classmethod
    def parameter_status(cls, name: str, value: str) -> "Inject":
        """Inject a ParameterStatus."""
        return cls(ParameterStatus(name, value).encode())

    @classmethod
    def garbage(cls) -> "Inject":
        """Inject what is no frame: an impossible length."""
        return cls(b"\xff" * 20)


Fault = (
    Eof | Reset | Fatal | Error | Replace | Stall | Delay | Swallow | Cut | Inject
)  # fmt: skip


# -- plans ---------------------------------------------------------------------------


@dataclass(eq=False)
class Plan:
    """A fault at a moment; on one connection, or on the first that comes to it."""

    moment: Moment
    fault: Fault
    connection: int | None = None
    is_every: bool = False
    """Whether it is for every such frame from the first one on, on all connections."""
    fired: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    fired_on: list[int] = field(default_factory=list)
    """The numbers of the connections, in order."""
    _matches: Counter[int] = field(default_factory=Counter)

    def release(self) -> None:
        """Let go what the plan holds back."""
        self.released.set()

    def is_due(self, number: int, way: Way, frame: Frame) -> bool:
        """Count a frame of a connection; say whether it is the one."""
        if not self._concerns(number) or not self.moment.matches(way, frame):
            return False
        self._matches[number] += 1
        seen = self._matches[number]
        return seen >= self.moment.count if self.is_every else seen == self.moment.count

    def is_due_on_login(self, number: int) -> bool:
        """Say whether it is for the login of a connection."""
        return self.moment.is_login and self._concerns(number)

    def bytes_until(self, number: int, way: Way, passed: int) -> int | None:
        """Say how many bytes are still to pass on a connection, if that is its way."""
        if self.moment.byte is None or self.moment.way is not way:
            return None
        if number in self.fired_on:
            return None
        left = self.moment.byte - passed
        return left if left >= 0 and self._concerns(number) else None

    def fire(self, number: int) -> None:
        """Note that it is being carried out."""
        self.fired_on.append(number)
        self.fired.set()

    def _concerns(self, number: int) -> bool:
        if self.fired_on and not self.is_every:
            return False
        return self.connection in {None, number}
