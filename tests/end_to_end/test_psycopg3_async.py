"""psycopg 3 on an event loop, through the proxy; `test_psycopg3` has the other half."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors
from psycopg.pq import TransactionStatus

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import (
    LARGE_RESULT,
    LARGE_ROWS,
    RULES,
    Served,
    serve,
    wait_until_running,
)

Connection = psycopg.AsyncConnection[tuple[object, ...]]


@pytest.fixture(scope="module", params=RULES)
def served(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[Served]:
    with serve(postgres, has_rules=request.param) as served:
        yield served


@pytest.fixture(autouse=True)
def settled(served: Served) -> Iterator[None]:
    yield
    served.settle()


@pytest_asyncio.fixture
async def connection(served: Served) -> AsyncIterator[Connection]:
    async with await Connection.connect(served.dsn, autocommit=True) as connection:
        yield connection


async def _ask(connection: Connection, query: bytes, *values: object) -> object:
    cursor = await connection.execute(query, values)
    row = await cursor.fetchone()
    return row[0] if row else None


async def test_simple_extended_and_prepared_give_the_same(
    connection: Connection,
) -> None:
    for prepare in (None, False, True):
        cursor = await connection.execute("select 6 * 7", prepare=prepare)
        assert await cursor.fetchall() == [(42,)]
        query = "select %s::int + %s::int"
        cursor = await connection.execute(query, (40, 2), prepare=prepare)
        assert await cursor.fetchall() == [(42,)]


async def test_a_pipeline_of_many_statements(connection: Connection) -> None:
    async with connection.pipeline():
        cursors = [
            await connection.execute("select %s::int", (number,))
            for number in range(1000)
        ]
        rows = [await cursor.fetchone() for cursor in cursors]
    assert rows == [(number,) for number in range(1000)]


async def test_executemany_in_a_pipeline_rolls_back_as_one(
    connection: Connection,
) -> None:
    await connection.execute("create table async_many (id int primary key)")

    async def insert() -> None:
        async with connection.cursor() as cursor, connection.transaction():
            query = "insert into async_many values (%s)"
            await cursor.executemany(query, [(1,), (2,), (1,), (3,)])

    with pytest.raises(errors.UniqueViolation) as caught:
        await insert()
    assert caught.value.diag.constraint_name == "async_many_pkey"
    assert await _ask(connection, b"select count(*) from async_many") == 0


async def test_rows_are_copied_in_and_out(connection: Connection) -> None:
    await connection.execute("create table async_copied (id int, t text)")
    cursor = connection.cursor()
    async with cursor.copy("copy async_copied from stdin") as copy:
        for number in range(3000):
            await copy.write_row((number, "é" * 50))
    assert cursor.rowcount == 3000
    async with cursor.copy("copy async_copied to stdout (format binary)") as copy:
        copy.set_types(["int4", "text"])
        rows = [row async for row in copy.rows()]
    assert rows == [(number, "é" * 50) for number in range(3000)]


async def test_a_large_result_arrives_whole(connection: Connection) -> None:
    cursor = await connection.execute(LARGE_RESULT)
    rows = await cursor.fetchall()
    assert (len(rows), {len(str(text)) for (text,) in rows}) == (LARGE_ROWS, {1000})


async def test_cancelling_the_task_cancels_the_query(
    served: Served, connection: Connection
) -> None:
    # psycopg sends a CancelRequest when its task is cancelled.
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await connection.execute("select pg_sleep(60)")
    assert connection.info.transaction_status == TransactionStatus.IDLE
    assert await _ask(connection, b"select 1") == 1
    assert served.emulator.counts.cancels_forwarded >= 1


async def test_a_query_is_cancelled_from_another_task(
    served: Served, connection: Connection
) -> None:
    async with asyncio.TaskGroup() as group:

        async def cancel_soon() -> None:
            await asyncio.to_thread(wait_until_running, served, "pg_sleep(61)")
            await connection.cancel_safe()

        group.create_task(cancel_soon())
        with pytest.raises(errors.QueryCanceled, match="due to user request"):
            await connection.execute("select pg_sleep(61)")
    assert await _ask(connection, b"select 1") == 1


async def test_an_error_and_its_recovery(served: Served) -> None:
    async with await Connection.connect(served.dsn) as connection:
        with pytest.raises(errors.UndefinedTable) as caught:
            await connection.execute("select * from nowhere")
        assert caught.value.sqlstate == "42P01"
        with pytest.raises(errors.InFailedSqlTransaction):
            await connection.execute("select 1")
        await connection.rollback()
        assert await _ask(connection, b"select 1") == 1


async def test_notices_come_in_their_place(connection: Connection) -> None:
    notices: list[str | None] = []
    connection.add_notice_handler(lambda diag: notices.append(diag.message_primary))
    async with connection.transaction():
        await connection.execute("drop table if exists nothing_here")
        assert notices == ['table "nothing_here" does not exist, skipping']


async def test_twenty_sessions_work_at_once(served: Served) -> None:
    async def work(name: int) -> object:
        async with await Connection.connect(served.dsn) as connection:
            query = b"select pg_sleep(0.01), %s::int"
            cursor = await connection.execute(query, (name,))
            return await cursor.fetchone()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(name)) for name in range(20)]
    assert [task.result() for task in tasks] == [("", name) for name in range(20)]


async def test_notifications_arrive_without_rules(
    served: Served, connection: Connection
) -> None:
    if served.has_rules:
        with pytest.raises(errors.FeatureNotSupported, match="Listen"):
            await connection.execute("listen news")
        return
    await connection.execute("listen news")
    async with await Connection.connect(served.dsn, autocommit=True) as other:
        await other.execute("select pg_notify('news', 'good')")
    heard = [notify async for notify in connection.notifies(timeout=10, stop_after=1)]
    assert [(notify.channel, notify.payload) for notify in heard] == [("news", "good")]
