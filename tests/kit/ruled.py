"""A PostgreSQL behind DSQL's SQL rules, and nothing else: no TLS, no token.

`ruled_postgres` starts one for a module; `serve_rules` splices connections through
`SqlRules`; `RawClient` speaks frames to it, for what drivers do not send.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psycopg

from dsqlproxy.emulator.faults import SqlFaults
from dsqlproxy.emulator.rules import (
    BACKEND_PARAMETERS,
    SETUP_SQL,
    ClusterState,
    SqlRules,
)
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, FrameReader, frame
from dsqlproxy.pgproto.messages import ErrorResponse
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from tests.kit.servers import a_postgres

_MAX_BYTES = 1 << 30


ROW_LIMIT = ("54000", "transaction row limit exceeded")
TWO_DDL = ("0A000", "multiple ddl statements not supported in a transaction")
MIXED = ("0A000", "ddl and dml are not supported in the same transaction")
NO_TRUNCATE = ("0A000", "unsupported statement: Truncate")
FAILED = (
    "25P02",
    "current transaction is aborted, commands ignored until end of transaction block",
)

FRESH = """
    DROP SCHEMA public CASCADE; CREATE SCHEMA public;
    GRANT USAGE, CREATE ON SCHEMA public TO admin WITH GRANT OPTION;
    SET ROLE admin; CREATE TABLE t (a int)
"""
"""For the superuser: an empty database but for one table of the role admin."""


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - to be repeated, not to be secret


def faults_with(**probabilities: float) -> SqlFaults:
    return SqlFaults(seeded(7), **probabilities)  # type: ignore[arg-type]


@contextmanager
def ruled_postgres() -> Iterator[Path]:
    """Start PostgreSQL for a module's tests; give the path of its socket."""
    with a_postgres(*SETUP_SQL) as server:
        path = server.address.unix_path
        assert path is not None
        yield path


async def run_directly(postgres: Path, sql: str, *, user: str = "admin") -> None:
    """Run statements in one transaction, the rules apart."""
    conninfo = f"host={postgres.parent} user={user} dbname=postgres"
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        await connection.execute(sql.encode())


@dataclass
class RuledServer:
    """Where to connect to, and the frames that PostgreSQL was sent."""

    port: int = 0
    sent: list[Frame] = field(default_factory=list)

    async def connect(self, *, user: str = "admin") -> "psycopg.AsyncConnection":
        conninfo = f"host=127.0.0.1 port={self.port} user={user} dbname=postgres"
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)

    @asynccontextmanager
    async def raw(self) -> "AsyncIterator[RawClient]":
        streams = await asyncio.open_connection("127.0.0.1", self.port)
        async with _logged_in(RawClient(*streams)) as client:
            yield client


@asynccontextmanager
async def direct(postgres: Path) -> "AsyncIterator[RawClient]":
    """Connect around the rules, to see what PostgreSQL itself answers."""
    streams = await asyncio.open_unix_connection(postgres)
    async with _logged_in(RawClient(*streams)) as client:
        yield client


@asynccontextmanager
async def _logged_in(client: "RawClient") -> "AsyncIterator[RawClient]":
    try:
        await client.log_in()
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def serve_rules(
    postgres: Path, faults: SqlFaults | None = None
) -> AsyncIterator[RuledServer]:
    ruled = RuledServer()
    cluster = ClusterState()
    splices: set[asyncio.Task[None]] = set()

    async def splice(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        splices.add(task)
        rules = SqlRules(cluster=cluster, faults=faults or faults_with())
        try:
            await _splice(postgres, reader, writer, rules, ruled.sent)
        finally:
            splices.discard(task)

    server = await asyncio.start_server(splice, "127.0.0.1", 0)
    async with server:
        ruled.port = server.sockets[0].getsockname()[1]
        yield ruled
    if splices:
        await asyncio.wait(splices)


async def _splice(
    postgres: Path,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    rules: SqlRules,
    sent: list[Frame],
) -> None:
    startup = await _startup(reader, writer)
    back_reader, back_writer = await asyncio.open_unix_connection(postgres)
    back_writer.write(startup.encode())

    async def from_client() -> None:
        frames = FrameReader(max_bytes=_MAX_BYTES)
        while data := await reader.read(65536):
            for received in frames.feed(data):
                passed = rules.from_client(received)
                sent.extend(FrameReader(max_bytes=_MAX_BYTES).feed(b"".join(passed)))
                back_writer.write(b"".join(passed))
        back_writer.write(frame(FrontendType.TERMINATE))

    async def from_backend() -> None:
        frames = FrameReader(max_bytes=_MAX_BYTES)
        while data := await back_reader.read(65536):
            for received in frames.feed(data):
                writer.write(b"".join(rules.from_backend(received)))
        writer.close()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(from_client())
            group.create_task(from_backend())
    except* ConnectionError:
        pass  # a test hung up
    finally:
        for side in (writer, back_writer):
            side.close()


async def _startup(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> StartupMessage:
    while True:
        length = int.from_bytes(await reader.readexactly(4), "big")
        body = await reader.readexactly(length - 4)
        if length != 8:
            break
        writer.write(b"N")  # SSLRequest, GSSENCRequest
    texts = body[4:].rstrip(b"\0").decode().split("\0")
    parameters = tuple(zip(texts[::2], texts[1::2], strict=True))
    return StartupMessage(PROTOCOL_3_0, parameters + BACKEND_PARAMETERS)


@dataclass
class RawClient:
    """Frames to and from a session."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: FrameReader = field(default_factory=lambda: FrameReader(max_bytes=1 << 30))
    waiting: list[Frame] = field(default_factory=list)

    async def log_in(self) -> None:
        user = (("user", "admin"), ("database", "postgres"))
        self.writer.write(StartupMessage(PROTOCOL_3_0, user).encode())
        await self.until_ready()

    def send(self, *messages: bytes) -> None:
        self.writer.write(b"".join(messages))

    async def ask(self, *messages: bytes) -> list[Frame]:
        self.send(*messages)
        return await self.until_ready()

    async def receive(self) -> Frame:
        while not self.waiting:
            data = await self.reader.read(65536)
            assert data, "the server closed the connection"
            self.waiting += self.frames.feed(data)
        return self.waiting.pop(0)

    async def until(self, kind: BackendType) -> list[Frame]:
        received = [await self.receive()]
        while received[-1].type != kind:
            received.append(await self.receive())
        return received

    async def until_ready(self) -> list[Frame]:
        return await self.until(BackendType.READY_FOR_QUERY)

    async def count(self, table: str = "t") -> int:
        sql = f"SELECT count(*)::text FROM {table}"  # noqa: S608 - our own names
        (row,) = [
            body
            for kind, body in await self.ask(query(sql))
            if kind == BackendType.DATA_ROW
        ]
        return int(row[6:])

    async def close(self) -> None:
        self.send(frame(FrontendType.TERMINATE))
        self.writer.close()
        await self.writer.wait_closed()


def query(sql: str) -> bytes:
    return frame(FrontendType.QUERY, sql.encode() + b"\0")


def parse(sql: str, name: str = "") -> bytes:
    body = f"{name}\0{sql}\0".encode() + bytes(2)
    return frame(FrontendType.PARSE, body)


def bind(statement: str = "", portal: str = "") -> bytes:
    return frame(FrontendType.BIND, f"{portal}\0{statement}\0".encode() + bytes(6))


def describe_portal(portal: str = "") -> bytes:
    return frame(FrontendType.DESCRIBE, f"P{portal}\0".encode())


def describe_statement(name: str = "") -> bytes:
    return frame(FrontendType.DESCRIBE, f"S{name}\0".encode())


def execute(portal: str = "", *, rows: int = 0) -> bytes:
    body = f"{portal}\0".encode() + rows.to_bytes(4, "big")
    return frame(FrontendType.EXECUTE, body)


def close_statement(name: str) -> bytes:
    return frame(FrontendType.CLOSE, f"S{name}\0".encode())


def insert_rows(count: int) -> str:
    return f"INSERT INTO t SELECT generate_series(1, {count})"


def extended(sql: str) -> bytes:
    """Give the messages of one statement, without Sync."""
    return parse(sql) + bind() + describe_portal() + execute()


def types(received: list[Frame]) -> str:
    """Give the type letters of frames, to compare with a transcript."""
    return "".join(chr(kind) for kind, _ in received)


def errors(received: list[Frame]) -> list[tuple[str, str]]:
    return [
        (error.sqlstate, error.message)
        for kind, body in received
        if kind == BackendType.ERROR_RESPONSE
        for error in [ErrorResponse.decode(body)]
    ]


def the_error(received: list[Frame]) -> ErrorResponse:
    (body,) = [body for kind, body in received if kind == BackendType.ERROR_RESPONSE]
    return ErrorResponse.decode(body)


def tags(received: list[Frame]) -> list[str]:
    return [
        body.rstrip(b"\0").decode()
        for kind, body in received
        if kind == BackendType.COMMAND_COMPLETE
    ]


def status(received: list[Frame]) -> str:
    """Give the transaction status of the last ReadyForQuery."""
    last = received[-1]
    assert last.type == BackendType.READY_FOR_QUERY
    return last.body.decode()
