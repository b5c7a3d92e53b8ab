"""Many clients at once, of three kinds, that come, stay and can be asked.

async with crowd(proxy, 50) as clients:
    await clients.all_served()
    await clients.all_answer()
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import psycopg

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.messages import NoticeResponse
from tests.end_to_end.wire import RawClient, fatal_in, startup, until
from tests.kit.stack import RunningProxy

_PID = "select pg_backend_pid()::text"


class Refused(Exception):
    """What a client was told instead of being served, in full."""


@dataclass(frozen=True, slots=True)
class Client:
    """A session that is open."""

    ask: Callable[[str], Awaitable[object]]
    """Asks for one value; whatever is wrong raises."""
    notices: tuple[NoticeResponse, ...] = ()
    """What it was told before it was served, as far as its driver tells."""


Connect = Callable[[RunningProxy], AbstractAsyncContextManager[Client]]


@asynccontextmanager
async def by_hand(proxy: RunningProxy) -> AsyncIterator[Client]:
    """Say and read every byte."""
    notices = []
    async with await RawClient.dial(proxy.host, proxy.port) as client:
        await client.send(startup())
        received = await client.receive_frame()
        while received.type != BackendType.READY_FOR_QUERY:
            if received.type == BackendType.NOTICE_RESPONSE:
                notices.append(NoticeResponse.decode(received.body))
            elif received.type == BackendType.ERROR_RESPONSE:
                said = fatal_in(received)
                words = (said.sqlstate, said.message, said.detail, said.hint)
                raise Refused(" ".join(words))
            received = await client.receive_frame()

        async def ask(sql: str) -> object:
            return next(iter(await client.ask(sql)), None)

        yield Client(ask, tuple(notices))


@asynccontextmanager
async def by_psycopg(proxy: RunningProxy) -> AsyncIterator[Client]:
    """Use psycopg's asynchronous connection."""
    try:
        connection = await psycopg.AsyncConnection.connect(
            proxy.dsn(connect_timeout=30), autocommit=True
        )
    except psycopg.Error as error:
        raise Refused(str(error)) from None
    async with connection:

        async def ask(sql: str) -> object:
            cursor = await connection.execute(sql.encode())
            row = await cursor.fetchone() if cursor.description else None
            return row and row[0]

        yield Client(ask)


@asynccontextmanager
async def by_asyncpg(proxy: RunningProxy) -> AsyncIterator[Client]:
    """Use asyncpg."""
    try:
        connection = await asyncpg.connect(
            host=proxy.host,
            port=proxy.port,
            user="admin",
            database="postgres",
            ssl=False,
            timeout=30,
        )
    except asyncpg.PostgresError as error:
        raise Refused(f"{error.sqlstate} {error}") from None  # with DETAIL and HINT
    try:
        yield Client(connection.fetchval)
    finally:
        await connection.close(timeout=10)


KINDS: tuple[Connect, ...] = (by_hand, by_psycopg, by_asyncpg)


@dataclass(slots=True)
class Crowd:
    """Clients that came at once, each in a task of its own."""

    number: int
    served: list[Client] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    _may_leave: asyncio.Event = field(default_factory=asyncio.Event)

    async def all_served(self) -> None:
        """Wait until everybody has a session."""
        await until(lambda: len(self.served) == self.number or self.refused)
        assert not self.refused, self.refused[0]

    async def all_refused(self) -> None:
        """Wait until everybody was told why not."""
        await until(lambda: len(self.refused) == self.number or self.served)
        assert not self.served

    async def all_answer(self) -> None:
        """Ask everybody who has a session."""
        for client in self.served:
            assert await client.ask("select '1'") == "1"

    async def begin_some(self) -> None:
        """Have every third begin a transaction, and stay in it."""
        for client in self.served[::3]:
            await client.ask("begin")
            assert await client.ask("select '2'") == "2"

    async def process_ids(self) -> list[object]:
        """Ask everybody which process of PostgreSQL serves it."""
        return [await client.ask(_PID) for client in self.served]

    async def visit(self, connect: Connect, proxy: RunningProxy) -> None:
        """Come, and stay as long as the crowd does."""
        try:
            async with connect(proxy) as client:
                self.served.append(client)
                await self._may_leave.wait()
        except Refused as refused:
            self.refused.append(refused)

    def leave(self) -> None:
        """Let everybody go."""
        self._may_leave.set()


@asynccontextmanager
async def crowd(
    proxy: RunningProxy, number: int, *, kinds: tuple[Connect, ...] = KINDS
) -> AsyncIterator[Crowd]:
    """Let so many clients come, kind after kind; they leave at the block's end."""
    clients = Crowd(number)
    async with asyncio.TaskGroup() as group:
        for connect in itertools.islice(itertools.cycle(kinds), number):
            group.create_task(clients.visit(connect, proxy))
        yield clients
        clients.leave()


def count(proxy: RunningProxy, pattern: str) -> int:
    """Count the lines of a proxy's log that have a pattern."""
    return sum(
        re.search(pattern, line) is not None
        for line in proxy.log.getvalue().splitlines()
    )
