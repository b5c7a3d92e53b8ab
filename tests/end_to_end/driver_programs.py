"""What drivers do in one session, where each line stands on those before it.

Each program takes a connection string and gives what it saw, so that two servers, or
two ways to one, can be compared. Its tables are `CREATED`, to be made anew before.
"""

import asyncio
import datetime
import io
from decimal import Decimal
from typing import Any

import asyncpg
import pg8000.native
import psycopg
import psycopg2
import psycopg2.extensions
import pytest

from tests.end_to_end.test_differential import (
    FAILING,
    SETTINGS,
    Seen,
    _fields,
    _places,
)

CREATED = (
    "drop table if exists books, more",
    "create table books (id int primary key, title text not null)",
    "insert into books values (1, 'Ulysses'), (2, 'Čapek')",
)
NUMBERS = "select n, n::text as t from generate_series(1, 50) as n"


# -- psycopg 3 -----------------------------------------------------------------------


def psycopg_life(dsn: str) -> Seen:
    """What one session goes through: each line stands on those before it."""
    seen: Seen = []
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=2) as connection:
        connection.add_notice_handler(lambda diag: seen.append(_fields(diag)))
        ask = connection.execute
        for number in range(5):  # prepared by the driver on the way
            row = ask("select %s::int + 1, %b::float8", (number, 0.1)).fetchone()
            seen.append(row)
        ask("set search_path to elsewhere, public")
        ask("set datestyle to 'SQL, DMY'")
        ask("set timezone to 'Asia/Tokyo'")
        seen.append(
            ask("select date '03/04/2020', timestamptz 'epoch'::text").fetchall()
        )
        with connection.transaction():
            ask("insert into books values (3, 'Dune')")
            try:
                with connection.transaction():
                    ask("insert into books values (3, 'again')")
            except psycopg.errors.UniqueViolation as error:
                seen.append(_fields(error.diag))
            with connection.transaction(savepoint_name="inner"):
                ask("set local extra_float_digits to 0")
                seen.append(ask("select 0.1::float4, 1::float8 / 3").fetchone())
        seen.append(ask("select 0.1::float4, 1::float8 / 3").fetchone())
        with connection.transaction(force_rollback=True):
            ask("set intervalstyle to iso_8601")
            seen.append(ask("select interval '1 day'::text").fetchone())
        seen.append(ask("show intervalstyle").fetchone())
        ask("do $$ begin raise warning 'look' using hint = 'there'; end $$")
        for statement in FAILING:
            for how in ({}, {"prepare": True}, {"binary": True}):
                seen.append(_refused(connection, statement, **how))
        info = connection.info
        seen.append([info.parameter_status(name) for name in SETTINGS])
        seen.append((info.transaction_status.name, info.encoding))
    return seen


def _refused(connection: Any, statement: str, **how: Any) -> object:
    try:
        connection.execute(statement, **how)
    except psycopg.Error as error:
        return (error.sqlstate, _fields(error.diag))
    return "it was not refused"


def psycopg_cursors(dsn: str) -> Seen:
    seen: Seen = []
    with psycopg.connect(dsn) as connection:
        for size in (1, 7, 100):
            with connection.cursor("walker") as cursor:
                cursor.execute(NUMBERS)
                cursor.itersize = size
                seen += [cursor.fetchmany(3), cursor.fetchone(), list(cursor)]
            connection.commit()
        with connection.cursor("scroller", scrollable=True) as cursor:
            cursor.execute("select * from books order by id")
            seen.append(cursor.fetchall())
            cursor.scroll(0, "absolute")
            seen.append(list(cursor))
        connection.rollback()
    return seen


def psycopg_pipelines(dsn: str) -> Seen:
    """Pipelines one after another, some of which fail in their middle."""
    seen: Seen = []
    # Not prepared: psycopg thinks that it has what an error made the server skip.
    how: dict[str, Any] = {"autocommit": True, "prepare_threshold": None}
    with psycopg.connect(dsn, **how) as connection:
        for size in (1, 3, 20):
            with connection.pipeline() as pipeline:
                cursors = [
                    connection.execute("select %s::int, %s", (n, "x" * n))
                    for n in range(size)
                ]
                pipeline.sync()
                connection.execute("insert into books values (%s, 'p')", (size + 100,))
                seen += [cursor.fetchall() for cursor in cursors]
            for broken in range(3):
                try:
                    with connection.pipeline():
                        for number in range(3):
                            divisor = 0 if number == broken else 1
                            connection.execute("select 1 / %s::int", (divisor,))
                            connection.execute("set timezone to 'UTC'")
                except psycopg.errors.DivisionByZero as error:
                    seen.append(_fields(error.diag))
                seen.append(connection.execute("show timezone").fetchone())
        with connection.pipeline(), connection.transaction():
            connection.execute("update books set title = title || '!'")
        seen.append(connection.execute("table books order by id").fetchall())
    return seen


def psycopg_statements_kept(dsn: str) -> Seen:
    """Statements prepared under one set of settings and used under another (51)."""
    seen: Seen = []
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
        queries = (
            "select date '01/02/2020', '05.06.2020'::date::text",
            "select (timestamptz '2020-01-01 12:00')::text, %s::timestamptz::text",
            "select title, %s::text from books order by id",
        )
        for style in ("MDY", "DMY", "German", "SQL, MDY", "ISO, MDY"):
            connection.execute(f"set datestyle to '{style}'".encode())
            for query in queries:
                values = ["2020-03-04 05:06:07+08"] * query.count("%s")
                seen.append(connection.execute(query.encode(), values).fetchall())
        zone = connection.cursor(binary=True)
        for name in ("UTC", "Asia/Tokyo", "America/New_York"):
            zone.execute("select set_config('TimeZone', %s, false)", (name,))
            seen += [zone.fetchall(), connection.info.parameter_status("TimeZone")]
            zone.execute(queries[1].encode(), ("2020-03-04 05:06:07+08",))
            seen.append(zone.fetchall())
    return seen


def psycopg_copies(dsn: str) -> Seen:
    """COPY between other statements, and within a transaction."""
    seen: Seen = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.cursor()
        for start in (10, 20):
            with connection.transaction():
                with cursor.copy("copy books from stdin") as copy:
                    for number in range(start, start + 5):
                        copy.write_row((number, f"book {number}"))
                seen.append(cursor.rowcount)
                cursor.execute("select count(*) from books")
                seen.append(cursor.fetchone())
            with cursor.copy("copy (select * from books order by 1) to stdout") as copy:
                seen.append(b"".join(bytes(data) for data in copy))
        for words in ("not a row\n", "30\tgood\nthirty\tbad\n"):
            try:
                with cursor.copy("copy books from stdin") as copy:
                    copy.write(words)
            except psycopg.Error as error:
                seen.append(_fields(error.diag))
        with pytest.raises(ZeroDivisionError), cursor.copy("copy books from stdin"):
            seen.append(1 // 0)  # the client gives the COPY up
        seen.append(connection.execute("select count(*) from books").fetchone())
    return seen


# -- psycopg 2 -----------------------------------------------------------------------


def psycopg2_life(dsn: str) -> Seen:
    seen: Seen = []
    connection = psycopg2.connect(dsn)
    cursor = connection.cursor()

    def ask(query: str, *values: object) -> None:
        try:
            cursor.execute(query, values or None)
        except psycopg2.Error as error:
            seen.extend((error.pgcode, error.pgerror))
        else:
            seen.append((cursor.statusmessage, cursor.rowcount))
        if cursor.description:
            seen.append(cursor.fetchall())

    ask("set local timezone to 'Asia/Tokyo'")
    ask("select timestamptz 'epoch'::text")
    connection.commit()
    ask("show timezone")
    ask("savepoint one")
    ask("select 1 / 0")
    ask("rollback to savepoint one")
    ask("insert into books values (%s, %s)", 5, "it's \\ ž")
    connection.commit()
    named = connection.cursor("walker")
    named.itersize = 9
    named.execute(NUMBERS)
    seen.append(list(named))
    connection.rollback()
    connection.autocommit = True
    ask("set search_path to nowhere, \"a 'b'\", public")
    ask("do $$ begin raise notice 'look'; end $$")
    cursor.copy_expert("copy books from stdin csv", io.StringIO("30,x\n31,y\n"))
    out = io.StringIO()
    cursor.copy_expert("copy books to stdout csv header", out)
    seen += [out.getvalue(), cursor.rowcount, list(connection.notices)]
    for statement in FAILING:
        ask(statement)
    ask("show search_path")
    ask("reset all")
    ask("show search_path")
    seen += [connection.get_parameter_status(name) for name in SETTINGS]
    connection.close()
    return seen


def psycopg2_encodings(dsn: str) -> Seen:
    """Texts that are other bytes in another encoding (50)."""
    seen: Seen = []
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("insert into books values (6, 'Mýto'), (7, 'été')")
    for encoding in ("LATIN1", "LATIN2", "WIN1252", "UTF8"):
        connection.set_client_encoding(encoding)
        for text in ("ý", "é"):
            cursor.execute("select %s, length(%s)", (text, text))
            seen += [cursor.fetchall(), connection.encoding]
            cursor.execute("select title from books where title like %s", [f"%{text}%"])
            seen.append(cursor.fetchall())
    connection.close()
    return seen


# -- asyncpg -------------------------------------------------------------------------


def asyncpg_idle_statements(dsn: str) -> Seen:
    """Statements that are prepared, and used after something else (34)."""
    return asyncio.run(_asyncpg_idle_statements(**_places(dsn)))


async def _asyncpg_idle_statements(**place: Any) -> Seen:
    seen: Seen = []
    settings = {"application_name": "idle", "search_path": "a, public"}
    connection = await asyncpg.connect(**place, server_settings=settings)
    # Parse, Describe and Flush: no Sync comes before the next message.
    first = await connection.prepare("select $1::int + 1 as n, $2::text as t")
    second = await connection.prepare("select title from books where id = $1")
    seen.append(await first.fetch(1, "x"))
    seen.append(await second.fetchval(2))
    await connection.execute("set timezone to 'Asia/Tokyo'; set datestyle to 'SQL'")
    third = await connection.prepare("select date '03/04/2020', $1::timestamptz")
    await connection.execute("set datestyle to 'SQL, DMY'")
    moment = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    for each, values in ((third, (moment,)), (first, (2, "y")), (second, (1,))):
        seen.append([tuple(row) for row in await each.fetch(*values)])
    seen.append([tuple(each) for each in first.get_parameters()])
    seen.append([tuple(each) for each in third.get_attributes()])
    try:
        await connection.prepare("select * from nowhere")
    except asyncpg.PostgresError as error:
        seen.append(error.as_dict())
    seen.append(await first.fetchrow(3, "after an error"))
    async with connection.transaction():
        seen.append([tuple(row) async for row in first.cursor(4, "z", prefetch=1)])
        cursor = await connection.cursor(NUMBERS)
        seen += [await cursor.fetch(5), await cursor.fetchrow(), await cursor.fetch(5)]
        try:
            async with connection.transaction():
                await connection.execute("insert into books values (1, 'again')")
        except asyncpg.PostgresError as error:
            seen.append(error.as_dict())
    await connection.executemany(
        "insert into books values ($1, $2)", [(n, f"book {n}") for n in range(50, 60)]
    )
    more = [Decimal("1.50"), b"\x00\xff", [1, None], True, 0.5]
    query = "select $1::numeric, $2::bytea, $3::int[], $4::bool, $5::float4"
    seen.append(await connection.fetchrow(query, *more))
    seen.append(await second.fetchval(55))
    settings_seen = connection.get_settings()
    seen += [getattr(settings_seen, name) for name in SETTINGS]
    await connection.close()
    return [_plain(each) for each in seen]


def _plain(value: Any) -> object:
    if isinstance(value, asyncpg.Record):
        return tuple(value.items())
    return [_plain(each) for each in value] if isinstance(value, list) else value


def asyncpg_pool(dsn: str) -> Seen:
    """A pool, whose connections are reset whenever they come back to it."""
    return asyncio.run(_asyncpg_pool(**_places(dsn)))


async def _asyncpg_pool(**place: Any) -> Seen:
    seen: Seen = []
    async with asyncpg.create_pool(min_size=1, max_size=1, **place) as pool:
        for number in range(5):
            async with pool.acquire() as connection:
                seen.append(await connection.fetchval("show timezone"))
                await connection.execute("set timezone to 'Asia/Tokyo'")
                seen.append(await connection.fetchval("select $1::int * 2", number))
                async with connection.transaction():
                    await connection.execute("set local search_path to a, b")
                    seen.append(await connection.fetchval("show search_path"))
                seen.append(await connection.fetchval("show search_path"))
                seen.append(await connection.fetchval("show timezone"))
    return seen


# -- pg8000 --------------------------------------------------------------------------


def pg8000_life(dsn: str) -> Seen:
    seen: Seen = []
    with pg8000.native.Connection(**_places(dsn), application_name="p") as connection:
        kept = connection.prepare("select :a::int + 1, date '01/02/2020'")
        seen.append(kept.run(a=1))
        connection.run("set datestyle to 'ISO, DMY'")
        seen.append(kept.run(a=2))
        connection.run("start transaction")
        connection.run("insert into books values (7, 'Emma')")
        connection.run("set timezone to 'Asia/Tokyo'")
        connection.run("rollback")
        seen.append(connection.run("show timezone"))
        for statement in FAILING:
            try:
                connection.run(statement)
            except pg8000.native.DatabaseError as error:
                seen.append(error.args[0])
            seen.append(kept.run(a=3))
        kept.close()
        connection.run("copy books from stdin", stream=["8\tDune\n", "9\tSolaris\n"])
        out = io.BytesIO()
        connection.run("copy books to stdout", stream=out)
        seen += [out.getvalue(), list(connection.notices)]
        seen.append(connection.run("select * from books where id > :n", n=1))
        seen.append(dict(connection.parameter_statuses))
    return seen
