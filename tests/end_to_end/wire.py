"""A client of the proxy that says byte for byte what a test wants, and what follows."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import psycopg

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import (
    AUTHENTICATION_OK,
    BackendKeyData,
    ErrorResponse,
    NoticeResponse,
    ParameterStatus,
)
from dsqlproxy.pgproto.startup import (
    PROTOCOL_3_0,
    CancelRequest,
    ProtocolVersion,
    StartupMessage,
)
from tests.kit.scripted import Conversation
from tests.kit.stack import RunningProxy

SOON = 20.0
"""No step of these tests takes a tenth of this; what does, hangs."""


def query(sql: str) -> bytes:
    return frame(FrontendType.QUERY, sql.encode() + b"\0")


def startup(_version: ProtocolVersion = PROTOCOL_3_0, /, **parameters: str) -> bytes:
    named = {"user": "admin", "database": "postgres", **parameters}
    pairs = tuple((name, value) for name, value in named.items() if value)
    return StartupMessage(_version, pairs).encode()


@dataclass(slots=True)
class Greeting:
    """What came between AuthenticationOk and the first ReadyForQuery."""

    settings: dict[str, str] = field(default_factory=dict)
    notices: list[NoticeResponse] = field(default_factory=list)
    key: BackendKeyData | None = None

    @property
    def cancel_request(self) -> CancelRequest:
        assert self.key is not None
        return CancelRequest(self.key.process_id, self.key.secret_key)


class RawClient(Conversation):
    """One connection to a proxy."""

    @classmethod
    @asynccontextmanager
    async def connect(cls, proxy: RunningProxy) -> "AsyncIterator[Self]":
        """Open a TCP connection and say nothing; no test waits for long."""
        async with asyncio.timeout(SOON):
            async with await cls.dial(proxy.host, proxy.port) as client:
                yield client

    @classmethod
    @asynccontextmanager
    async def session(
        cls, proxy: RunningProxy, **parameters: str
    ) -> "AsyncIterator[Self]":
        """Open a session and wait until it is ready."""
        async with cls.connect(proxy) as client:
            await client.send(startup(**parameters))
            await client.receive_greeting()
            yield client

    async def receive_greeting(self) -> Greeting:
        greeting = Greeting()
        first = await self.receive_frame()
        assert frame(*first) == AUTHENTICATION_OK.encode(), first
        for kind, body in await self.receive_until_ready():
            match kind:
                case BackendType.PARAMETER_STATUS:
                    status = ParameterStatus.decode(body)
                    greeting.settings[status.name] = status.value
                case BackendType.BACKEND_KEY_DATA:
                    greeting.key = BackendKeyData.decode(body)
                case BackendType.NOTICE_RESPONSE:
                    greeting.notices.append(NoticeResponse.decode(body))
                case _:
                    assert kind == BackendType.READY_FOR_QUERY, body
        return greeting

    async def receive_until_ready(self) -> list[Frame]:
        """Give the frames up to ReadyForQuery, itself included."""
        frames = [await self.receive_frame()]
        while frames[-1].type != BackendType.READY_FOR_QUERY:
            frames.append(await self.receive_frame())
        return frames

    async def ask(self, sql: str) -> list[str]:
        """Give the first column of the answer to a Query."""
        await self.send(query(sql))
        return first_columns(await self.receive_until_ready())

    async def receive_fatal(self) -> ErrorResponse:
        """Give the FATAL that ends this connection, and see that it ends.

        An AuthenticationOk before it is passed over.
        """
        received = await self.receive_frame()
        if frame(*received) == AUTHENTICATION_OK.encode():
            received = await self.receive_frame()
        error = fatal_in(received)
        await self.receive_end()
        return error

    def end_writing(self) -> None:
        """Close our side; answers still come."""
        self._socket.shutdown(socket.SHUT_WR)


def first_columns(frames: list[Frame]) -> list[str]:
    """Give the first column of each DataRow; an error is the test's failure."""
    values = []
    for kind, body in frames:
        assert kind != BackendType.ERROR_RESPONSE, ErrorResponse.decode(body)
        if kind == BackendType.DATA_ROW:
            length = int.from_bytes(body[2:6])
            values.append(body[6 : 6 + length].decode())
    return values


def fatal_in(received: Frame) -> ErrorResponse:
    """Read a frame that has to be a FATAL."""
    assert received.type == BackendType.ERROR_RESPONSE, received
    error = ErrorResponse.decode(received.body)
    assert error.severity == "FATAL", error
    return error


def frames_in(data: bytes) -> list[Frame]:
    """Take a stream apart that must consist of whole frames."""
    frames, rest = whole_frames(data)
    assert not rest, f"the stream ends within a frame: {rest[:100]!r}"
    return frames


def whole_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """Take a stream apart; what is left is the beginning of a frame."""
    frames = []
    start = 0
    while len(data) - start >= 5:
        end = start + 1 + int.from_bytes(data[start + 1 : start + 5])
        if end > len(data):
            break
        frames.append(Frame(data[start], data[start + 5 : end]))
        start = end
    return frames, data[start:]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something has happened in it."""
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.001)


async def all_ended(proxy: RunningProxy, emulator: Emulator) -> None:
    """Wait until no session is left, on either side of the proxy."""
    await until(lambda: not proxy.proxy._sessions and not emulator.open_sessions)


async def logged(proxy: RunningProxy, pattern: str) -> str:
    """Wait for a line of the log that has the pattern; give it."""
    found: list[str] = []

    def is_there() -> bool:
        lines = proxy.log.getvalue().splitlines()
        found.extend(line for line in lines if re.search(pattern, line))
        return bool(found)

    try:
        await until(is_there)
    except TimeoutError:
        raise AssertionError(f"{pattern!r} not in {proxy.log.getvalue()}") from None
    return found[0]


async def until_active(postgres: EmbeddedPostgres, sql: str = "%pg_sleep%") -> None:
    """Wait until PostgreSQL runs a statement like this one."""
    dsn = f"host='{postgres.directory}' user=admin dbname=postgres"
    find = "select from pg_stat_activity where state = 'active' and query like %s"
    async with (
        asyncio.timeout(SOON),
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
    ):
        found = 0
        while not found:
            others = f"{find} and pid <> pg_backend_pid()"
            found = (await connection.execute(others, [sql])).rowcount
