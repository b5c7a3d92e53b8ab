"""A client that says byte for byte what a test wants, on a plain connection.

::

    async with WireClient.session(proxy.where) as client:
        assert await client.value("select 1") == "1"
        frames = await client.ask(parse("select 2") + bind() + execute() + SYNC)
        assert letters(frames) == "12DCZ"

It reads nothing by itself: what a server sent unasked is found by the next question.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Self

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import BackendKeyData, ErrorResponse
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, CancelRequest, StartupMessage
from tests.kit.frames import TERMINATE, query
from tests.kit.scripted import Conversation

SECONDS = 15.0
"""No conversation of a test takes a tenth of this; what does, hangs."""


class WireClient(Conversation):
    """One session, as its client."""

    key: BackendKeyData

    @classmethod
    @asynccontextmanager
    async def session(
        cls, where: tuple[str, int], **parameters: str
    ) -> AsyncIterator[Self]:
        """Log in, as ``postgres`` unless told otherwise; closed when left."""
        named = {"user": "postgres", "database": "postgres", **parameters}
        async with asyncio.timeout(SECONDS), await cls.dial(*where) as client:
            client._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            startup = StartupMessage(PROTOCOL_3_0, tuple(named.items()))
            await client.send(startup.encode())
            for kind, body in await client.until_ready():
                if kind == BackendType.BACKEND_KEY_DATA:
                    client.key = BackendKeyData.decode(body)
            yield client

    @property
    def cancel_request(self) -> bytes:
        """The packet that cancels what this session does."""
        return CancelRequest(self.key.process_id, self.key.secret_key).encode()

    async def ask(self, data: bytes, *, readies: int = 1) -> list[Frame]:
        """Send frames, and give what comes up to ReadyForQuery."""
        await self.send(data)
        frames: list[Frame] = []
        for _ in range(readies):
            frames += await self.until_ready()
        return frames

    async def until_ready(self) -> list[Frame]:
        """Give the frames up to ReadyForQuery."""
        return await self.until("Z")

    async def until(self, kind: str) -> list[Frame]:
        """Give the frames up to one of a type."""
        frames = [await self.receive_frame()]
        while chr(frames[-1].type) != kind:
            frames.append(await self.receive_frame())
        return frames

    async def value(self, sql: str) -> str:
        """Give the one value that a Query answers; the unnamed statement is gone."""
        (value,) = values(await self.ask(query(sql)))
        return value

    async def process_id(self) -> str:
        """Say by which server process the session is served."""
        return await self.value("select pg_backend_pid()")

    async def fatal(self) -> ErrorResponse:
        """Give the FATAL that ends this session, and see that nothing else comes."""
        received = await self.receive_frame()
        assert chr(received.type) == "E", received
        error = ErrorResponse.decode(received.body)
        assert error.severity == "FATAL", error
        await self.receive_end()
        return error

    async def leave(self) -> None:
        """Say Terminate; see that nothing was said that was not asked for."""
        await self.send(TERMINATE)
        await self.receive_end()

    def end_writing(self) -> None:
        """Say nothing more, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def send_now(self, data: bytes) -> None:
        """Send within this turn of the loop."""
        assert self._socket.send(data) == len(data)


def letters(frames: Iterable[Frame]) -> str:
    """Give the types of frames."""
    return "".join(chr(kind) for kind, _ in frames)


def values(frames: Iterable[Frame]) -> list[str]:
    """Give the first column of each DataRow; an error is the test's failure."""
    found = []
    for kind, body in frames:
        assert kind != BackendType.ERROR_RESPONSE, ErrorResponse.decode(body)
        if kind == BackendType.DATA_ROW:
            length = int.from_bytes(body[2:6])
            found.append(body[6 : 6 + length].decode())
    return found


def error(frames: Iterable[Frame]) -> ErrorResponse:
    """Give the one error among frames."""
    (body,) = (body for kind, body in frames if kind == BackendType.ERROR_RESPONSE)
    return ErrorResponse.decode(body)
