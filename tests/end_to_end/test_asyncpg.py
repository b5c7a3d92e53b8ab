"""asyncpg through the proxy: binary, prepared, portals, COPY, pools."""

import asyncio
import datetime
import io
import uuid
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import LARGE_RESULT, LARGE_ROWS, RULES, Served, serve


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


def _address(served: Served) -> dict[str, Any]:
    place = {"host": served.host, "port": served.port}
    return {**place, "user": "admin", "database": "postgres", "timeout": 10}


@pytest_asyncio.fixture
async def connection(served: Served) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(**_address(served))
    yield connection
    await connection.close()


# -- queries -------------------------------------------------------------------------


async def test_values_come_back_as_they_went(connection: Any) -> None:
    values = [
        42,
        "žluťoučký 🐎",
        b"\x00\xff bytes",
        1.5,
        Decimal("12345678901234567890.12"),
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.UTC),
        uuid.UUID(int=7),
        True,
        [1, None, 3],
        None,
    ]
    query = (
        "select $1::int, $2::text, $3::bytea, $4::float8, $5::numeric, $6::date,"
        " $7::timestamptz, $8::uuid, $9::bool, $10::int[], $11::text"
    )
    assert list(await connection.fetchrow(query, *values)) == values


async def test_a_prepared_statement_tells_its_types_and_runs_again(
    connection: Any,
) -> None:
    statement = await connection.prepare("select $1::int * 2 as twice")
    assert [each.name for each in statement.get_parameters()] == ["int4"]
    assert [each.name for each in statement.get_attributes()] == ["twice"]
    assert [await statement.fetchval(n) for n in range(10)] == [*range(0, 20, 2)]


async def test_statements_are_cached_and_the_oldest_closed(served: Served) -> None:
    address = _address(served)
    connection = await asyncpg.connect(**address, statement_cache_size=2)
    for _ in range(3):
        for number in range(5):
            assert await connection.fetchval(f"select {number}") == number
    query = "select count(*) from pg_prepared_statements"
    assert await connection.fetchval(query) <= 3
    await connection.close()


async def test_statements_may_go_uncached(served: Served) -> None:
    address = _address(served)
    connection = await asyncpg.connect(**address, statement_cache_size=0)
    found = [await connection.fetchval("select $1::int", n) for n in range(20)]
    assert found == [*range(20)]
    await connection.close()


async def test_several_statements_run_as_a_script(connection: Any) -> None:
    assert await connection.execute("select 1; select 2, 3") == "SELECT 1"
    assert await connection.execute("show timezone") == "SHOW"


async def test_a_cursor_reads_a_portal_in_parts(
    served: Served, connection: Any
) -> None:
    query = "select n from generate_series(1, 2000) as n"
    async with connection.transaction():
        numbers = [row["n"] async for row in connection.cursor(query, prefetch=300)]
        assert numbers == [*range(1, 2001)]
        cursor = await connection.cursor(query)
        assert (await cursor.fetchrow())["n"] == 1
        assert [row["n"] for row in await cursor.fetch(3)] == [2, 3, 4]
        if not served.has_rules:  # asyncpg moves by the statement MOVE
            await cursor.forward(10)
            assert (await cursor.fetchrow())["n"] == 15


async def test_executemany_runs_in_one_transaction(connection: Any) -> None:
    await connection.execute("create table many (id int primary key)")
    await connection.executemany(
        "insert into many values ($1)", [(n,) for n in range(500)]
    )
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await connection.executemany(
            "insert into many values ($1)", [(1000,), (1,), (1001,)]
        )
    assert caught.value.constraint_name == "many_pkey"
    assert await connection.fetchval("select count(*) from many") == 500


async def test_a_large_result_arrives_whole(connection: Any) -> None:
    rows = await connection.fetch(LARGE_RESULT)
    assert (len(rows), {len(row[0]) for row in rows}) == (LARGE_ROWS, {1000})


async def test_a_large_parameter_arrives_whole(connection: Any) -> None:
    text = "x" * 5_000_000
    assert await connection.fetchval("select length($1::text)", text) == len(text)


# -- COPY ----------------------------------------------------------------------------


async def test_records_are_copied_to_a_table_and_back(connection: Any) -> None:
    await connection.execute("create table copied (id int, t text)")
    records = [(number, f"row {number}") for number in range(3000)]
    tag = await connection.copy_records_to_table("copied", records=records)
    assert tag == "COPY 3000"
    assert [tuple(row) for row in await connection.fetch("table copied")] == records
    out = io.BytesIO()
    query = "select id from copied where id < $1 order by 1"
    assert await connection.copy_from_query(query, 3, output=out) == "COPY 3"
    assert out.getvalue() == b"0\n1\n2\n"


async def test_a_file_is_copied_in_and_out(connection: Any) -> None:
    await connection.execute("create table copied_file (id int, t text)")
    data = b"".join(b"%d,row\n" % number for number in range(2000))
    table = {"table_name": "copied_file", "format": "csv"}
    await connection.copy_to_table(source=io.BytesIO(data), **table)
    out = io.BytesIO()
    await connection.copy_from_table(output=out, **table)
    assert out.getvalue() == data


async def test_a_source_that_fails_ends_its_copy(connection: Any) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"1\n"
        raise RuntimeError("no more")

    await connection.execute("create table half_copied (id int)")
    with pytest.raises(RuntimeError, match="no more"):
        await connection.copy_to_table("half_copied", source=source())
    assert await connection.fetchval("select count(*) from half_copied") == 0


# -- errors, transactions, time ------------------------------------------------------


async def test_a_transaction_commits_or_rolls_back(connection: Any) -> None:
    await connection.execute("create table kept (id int)")
    async with connection.transaction():
        await connection.execute("insert into kept values ($1)", 1)

    async def fail() -> None:
        async with connection.transaction():
            await connection.execute("insert into kept values (2)")
            await connection.execute("select 1 / 0")

    with pytest.raises(asyncpg.DivisionByZeroError):
        await fail()
    assert [row[0] for row in await connection.fetch("table kept")] == [1]


async def test_an_error_fails_the_transaction_until_its_end(connection: Any) -> None:
    transaction = connection.transaction()
    await transaction.start()
    with pytest.raises(asyncpg.UndefinedTableError) as caught:
        await connection.fetch("select * from nowhere")
    assert (caught.value.sqlstate, caught.value.position) == ("42P01", "15")
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await connection.fetch("select 1")
    await transaction.rollback()
    assert await connection.fetchval("select 1") == 1


async def test_a_savepoint_is_refused_by_the_rules_alone(
    served: Served, connection: Any
) -> None:
    outer = connection.transaction()
    await outer.start()
    if served.has_rules:
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="SAVEPOINT"):
            await connection.transaction().start()
    else:
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.execute("select 1 / 0")
        assert await connection.fetchval("select 1") == 1
    await outer.rollback()


async def test_a_query_that_takes_too_long_is_cancelled(
    served: Served, connection: Any
) -> None:
    before = served.emulator.counts.cancels_forwarded
    with pytest.raises(TimeoutError):
        await connection.fetch("select pg_sleep(60)", timeout=0.2)
    assert await connection.fetchval("select 1") == 1
    assert served.emulator.counts.cancels_forwarded == before + 1


async def test_notices_reach_their_listener(connection: Any) -> None:
    notices: list[str] = []
    connection.add_log_listener(lambda _, message: notices.append(message.message))
    await connection.execute("drop table if exists nothing")
    await asyncio.sleep(0)  # listeners are called by the loop
    assert notices == ['table "nothing" does not exist, skipping']


async def test_settings_of_the_session_are_the_clusters_to_judge(
    served: Served,
) -> None:
    settings = {"application_name": "tests", "work_mem": "8MB"}
    connection = await asyncpg.connect(**_address(served), server_settings=settings)
    assert connection.get_settings().application_name == "tests"
    found = await connection.fetchval("show work_mem")
    assert found == ("4MB" if served.has_rules else "8MB")
    await connection.close()


async def test_notifications_arrive_without_rules(
    served: Served, connection: Any
) -> None:
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def hear(_: Any, __: int, channel: str, payload: str) -> None:
        heard.put_nowait((channel, payload))

    if served.has_rules:
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="Listen"):
            await connection.add_listener("news", hear)
        return
    await connection.add_listener("news", hear)
    await connection.execute("notify news, 'good'")
    assert await heard.get() == ("news", "good")
    await connection.remove_listener("news", hear)


async def test_a_type_of_the_users_own_is_looked_up(connection: Any) -> None:
    await connection.execute("create domain positive as int check (value > 0)")
    # An array of it is a type that asyncpg has to ask the catalogs about.
    assert await connection.fetchval("select array[7::positive]") == [7]
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await connection.fetchval("select $1::int::positive", -7)
    assert caught.value.constraint_name == "positive_check"


# -- pools ---------------------------------------------------------------------------


async def test_a_pool_resets_its_connections_which_the_rules_refuse(
    served: Served,
) -> None:
    async with asyncpg.create_pool(**_address(served), min_size=1, max_size=2) as pool:
        if served.has_rules:
            # asyncpg's reset query has pg_advisory_unlock_all(), CLOSE ALL and
            # UNLISTEN *: DSQL supports none of them.
            with pytest.raises(asyncpg.FeatureNotSupportedError):
                await pool.fetchval("select 1")
        else:
            assert await pool.fetchval("select 1") == 1


async def test_a_pool_with_a_reset_of_its_own_works_with_the_rules(
    served: Served,
) -> None:
    async def reset(connection: Any) -> None:
        await connection.execute("reset all")

    async def work(pool: Any, number: int) -> tuple[int, str]:
        async with pool.acquire() as connection:
            before = await connection.fetchval("show application_name")
            await connection.execute("set application_name to 'dirty'")
            return await connection.fetchval("select $1::int", number), before

    async with (
        asyncpg.create_pool(
            **_address(served), min_size=1, max_size=4, reset=reset
        ) as pool,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(work(pool, number)) for number in range(40)]
    assert [task.result() for task in tasks] == [(number, "") for number in range(40)]
