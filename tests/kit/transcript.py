"""Plays of raw frames for a client, and what a server answered frame by frame.

A play is a list of lines: bytes to send, and how far to read before the next one,
and the types of all frames that answer::

    Play("two queries", "TDCZ TDCZ", Say(query("select 1")), Say(query("select 2")))

The answer of PostgreSQL itself and the answer through the proxy must be the same
frames; `Transcript.normalised` takes out what differs between any two sessions.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, FrameReader, frame
from dsqlproxy.pgproto.messages import AUTHENTICATION_OK, BackendKeyData
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from tests.kit.frames import TERMINATE

SECONDS = 10.0
_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Say:
    """Frames to send at once, and the answers that end the wait, one letter each.

    ``until="CZ"`` reads up to a CommandComplete and on to a ReadyForQuery; an empty
    one reads nothing.
    """

    data: bytes
    until: str = "Z"


class Play:
    """What a client says in one session, and the answers' types after the greeting."""

    def __init__(self, name: str, answers: str, *lines: Say, **parameters: str) -> None:
        self.name = name
        self.answers = answers.replace(" ", "")
        self.lines = lines
        self.parameters = parameters


@dataclass(frozen=True, slots=True)
class Transcript:
    """All frames of a session, from the first after AuthenticationOk to its end."""

    frames: tuple[Frame, ...]

    @property
    def letters(self) -> str:
        """The types of the frames after the greeting, or after AuthenticationOk."""
        letters = "".join(chr(kind) for kind, _ in self.frames[1:])
        return letters.partition("Z")[2] if "Z" in letters else letters

    @property
    def normalised(self) -> list[tuple[str, bytes]]:
        """The frames without process ids and keys, which no two sessions share."""
        return [(chr(kind), _normalised(kind, body)) for kind, body in self.frames]


def _normalised(kind: int, body: bytes) -> bytes:
    match kind:
        case BackendType.BACKEND_KEY_DATA:
            # The lengths are to be the same, too.
            return bytes(4 + len(BackendKeyData.decode(body).secret_key))
        case BackendType.NOTIFICATION_RESPONSE:
            return bytes(4) + body[4:]
        case _:
            return body


class Player:
    """A client that says a program, in chunks of so many bytes."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        chunk_bytes: int | None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._chunk_bytes = chunk_bytes
        self._frames = FrameReader(max_bytes=_MAX_BYTES)
        self._received: list[Frame] = []
        self._seen = 0  # how many of them were waited for

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, where: Path | tuple[str, int], *, chunk_bytes: int | None = None
    ) -> "AsyncIterator[Self]":
        """Connect to a unix socket or to a port."""
        if isinstance(where, Path):
            streams = await asyncio.open_unix_connection(where)
        else:
            streams = await asyncio.open_connection(*where)
            connection: socket.socket = streams[1].get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            yield cls(*streams, chunk_bytes)
        finally:
            streams[1].close()
            with contextlib.suppress(ConnectionError):
                await streams[1].wait_closed()

    async def perform(self, play: Play) -> Transcript:
        """Log in, say every line, take leave, and give all that came."""
        asked = {"user": "admin", "database": "postgres", **play.parameters}
        startup = StartupMessage(PROTOCOL_3_0, tuple(asked.items()))
        async with asyncio.timeout(SECONDS):
            self._writer.write(startup.encode())
            while await self._read() and not self._is_ready:
                pass
            self._seen = len(self._received)
            for line in play.lines:
                await self._send(line.data)
                for letter in line.until:
                    await self._read_until(ord(letter))
            await self._send(TERMINATE)
            while await self._read():
                pass
        first, *_ = frames = tuple(self._received)
        assert frame(*first) == AUTHENTICATION_OK.encode()
        return Transcript(frames)

    @property
    def _is_ready(self) -> bool:
        return self._received[-1:] == [Frame(BackendType.READY_FOR_QUERY, b"I")]

    async def _send(self, data: bytes) -> None:
        size = self._chunk_bytes or max(1, len(data))
        for start in range(0, len(data), size):
            # A server that has said FATAL may be gone.
            with contextlib.suppress(ConnectionError):
                self._writer.write(data[start : start + size])
                await self._writer.drain()
            if self._chunk_bytes:
                await asyncio.sleep(0)  # so that the chunks are chunks

    async def _read_until(self, kind: int) -> None:
        """Read up to the next frame of a type that was not waited for before."""
        while True:
            while self._seen < len(self._received):
                self._seen += 1
                if self._received[self._seen - 1].type == kind:
                    return
            assert await self._read(), f"the server left; it said {self._received}"

    async def _read(self) -> bool:
        try:
            data = await self._reader.read(65_536)
        except ConnectionError:
            data = b""
        self._received += self._frames.feed(data)
        return bool(data)


async def perform(
    play: Play, where: Path | tuple[str, int], *, chunk_bytes: int | None = None
) -> Transcript:
    """Perform a program in a session of its own."""
    async with Player.connect(where, chunk_bytes=chunk_bytes) as player:
        return await player.perform(play)
