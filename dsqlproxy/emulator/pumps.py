"""Both directions of a session: what the client sends, what PostgreSQL answers.

Backpressure is end to end: a side that does not take its bytes stops the reading of
the other. How the session ends is one value, `Ending`, set once.
"""

import asyncio
from enum import Enum, auto
from typing import Final, Protocol

from dsqlproxy.channel.channel import Channel
from dsqlproxy.dsql import MAX_MESSAGE_BYTES
from dsqlproxy.emulator.line import ClientLine
from dsqlproxy.emulator.shared import SessionRules
from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import (
    MAX_BACKEND_FRAME_BYTES,
    SILENT,
    Frame,
    FrameReader,
    FrameScanner,
    Symbols,
)
from dsqlproxy.pgproto.messages import TERMINATE, ErrorResponse

# Boundaries are all that is wanted here.
_FROM_CLIENT: Final = Symbols(dict.fromkeys(FrontendType, SILENT))
_FROM_BACKEND: Final = Symbols(dict.fromkeys(BackendType, SILENT))


class Ending(Enum):
    """Why the pumps stopped."""

    CLIENT_LEFT = auto()
    BACKEND_LEFT = auto()
    SESSION_LIMIT = auto()
    MESSAGE_TOO_LARGE = auto()
    FATAL = auto()


class MessageTooLarge(Exception):
    """A message is above the cluster's limit, or its length cannot be one."""


class Stream(Protocol):
    """One direction: bytes in, bytes to pass on."""

    @property
    def at_boundary(self) -> bool:
        """Whether what was passed on ends with a whole frame."""

    def take(self, data: bytes) -> bytes:
        """Take the next bytes; give what is to be passed on."""


class SplicedStream:
    """Passes bytes on as they are, watching the boundaries of frames."""

    def __init__(self, symbols: Symbols, *, max_bytes: int) -> None:
        self._scanner = FrameScanner(symbols, max_bytes=max_bytes)
        self._held = b""

    @property
    def at_boundary(self) -> bool:
        """Whether what was passed on ends with a whole frame."""
        return self._scanner.at_boundary

    def take(self, data: bytes) -> bytes:
        """Pass on all but the beginning of a header."""
        if self._held:
            data = self._held + data
        scanner = self._scanner
        scanner.scan(data)
        if scanner.overlong:
            raise MessageTooLarge
        cut = scanner.cut
        if cut == len(data):
            self._held = b""
            return data
        self._held = data[cut:]
        return data[:cut]

    @classmethod
    def from_client(cls) -> "SplicedStream":
        """Watch what a client sends: a message over 10 MiB ends it."""
        return cls(_FROM_CLIENT, max_bytes=MAX_MESSAGE_BYTES)

    @classmethod
    def from_backend(cls) -> "SplicedStream":
        """Watch what PostgreSQL sends."""
        return cls(_FROM_BACKEND, max_bytes=MAX_BACKEND_FRAME_BYTES)


class RuledStream:
    """Passes on whole frames, or what the rules put in their place."""

    at_boundary: Final = True

    def __init__(self, translate: "Translate", *, max_bytes: int) -> None:
        self._translate = translate
        self._frames = FrameReader(max_bytes=max_bytes)

    def take(self, data: bytes) -> bytes:
        """Translate the frames that are whole now."""
        passed: list[bytes] = []
        try:
            frame = self._frames.next_frame(data)
            while frame is not None:
                passed += self._translate(frame)
                frame = self._frames.next_frame()
        except ProtocolError:
            raise MessageTooLarge from None
        return b"".join(passed)


class Translate(Protocol):
    """One direction of the rules."""

    def __call__(self, frame: Frame, /) -> list[bytes]:
        """Give what is passed on for a frame."""


class Pumps:
    """Joins a client and its session of PostgreSQL until one of them ends.

    Owns neither; whoever made the channels closes them after `run`.
    """

    def __init__(
        self, client: ClientLine, backend: Channel, *, rules: SessionRules | None
    ) -> None:
        self.client = client
        self.backend = backend
        self._from_client: Stream
        self._from_backend: Stream
        if rules is None:
            self._from_client = SplicedStream.from_client()
            self._from_backend = SplicedStream.from_backend()
        else:
            self._from_client = RuledStream(
                rules.from_client, max_bytes=MAX_MESSAGE_BYTES
            )
            self._from_backend = RuledStream(
                rules.from_backend, max_bytes=MAX_BACKEND_FRAME_BYTES
            )
        self._last_word: ErrorResponse | None = None
        self._ending: asyncio.Future[Ending] = (
            asyncio.get_running_loop().create_future()
        )

    async def run(self) -> Ending:
        """Pump until something ends; what is unsent then is still in the buffers."""
        self.client.attach(_FromClient(self))
        self.backend.attach(_FromBackend(self))
        return await self._ending

    def end(self, ending: Ending) -> None:
        """Stop; the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def end_with(self, response: ErrorResponse) -> None:
        """Send a last word as soon as the client's stream is between two frames."""
        self._last_word = response
        self._speak_last()

    def client_sent(self, data: bytes) -> None:
        """Pass the client's bytes on, if they still go anywhere."""
        if self._ending.done() or self.client.is_cut:
            return
        try:
            passed = self._from_client.take(data)
        except MessageTooLarge:
            self.end(Ending.MESSAGE_TOO_LARGE)
        else:
            self.backend.write(passed)

    def backend_sent(self, data: bytes) -> None:
        """Pass PostgreSQL's bytes on."""
        if not self._ending.done():
            self.client.write(self._from_backend.take(data))
            self._speak_last()

    def client_ended(self) -> None:
        """Let PostgreSQL answer what came, then end its session.

        In the middle of a message there is nothing to be answered any more.
        """
        if self._from_client.at_boundary and not self.client.is_cut:
            self.backend.write(TERMINATE)
        else:
            self.end(Ending.CLIENT_LEFT)

    def _speak_last(self) -> None:
        if self._last_word and self._from_backend.at_boundary:
            self.client.write(self._last_word.encode())
            self.end(Ending.FATAL)


class _FromClient:
    """The client's bytes and news."""

    __slots__ = ("_pumps",)

    def __init__(self, pumps: Pumps) -> None:
        self._pumps = pumps

    def received(self, data: bytes) -> None:
        self._pumps.client_sent(data)

    def ended(self) -> None:
        self._pumps.client_ended()

    def lost(self, _: Exception | None) -> None:
        self._pumps.end(Ending.CLIENT_LEFT)

    def writing_paused(self) -> None:
        self._pumps.backend.pause_reading()

    def writing_resumed(self) -> None:
        self._pumps.backend.resume_reading()


class _FromBackend:
    """PostgreSQL's bytes and news."""

    __slots__ = ("_pumps",)

    def __init__(self, pumps: Pumps) -> None:
        self._pumps = pumps

    def received(self, data: bytes) -> None:
        self._pumps.backend_sent(data)

    def ended(self) -> None:
        self._pumps.end(Ending.BACKEND_LEFT)

    def lost(self, _: Exception | None) -> None:
        self._pumps.end(Ending.BACKEND_LEFT)

    def writing_paused(self) -> None:
        self._pumps.client.pause_reading()

    def writing_resumed(self) -> None:
        self._pumps.client.resume_reading()
