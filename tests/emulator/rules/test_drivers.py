"""Drivers and psql work behind the rules as they do without them."""

import asyncio
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg import errors as pg_errors

from dsqlproxy.emulator.postgres import find_psql, wheel_bin_dir
from tests.kit.ruled import (
    RuledServer,
)


async def test_psycopg_works_as_usual(server: RuledServer) -> None:
    async with await server.connect() as connection:
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (%s)", [1])
        with pytest.raises(pg_errors.FeatureNotSupported):
            async with connection.transaction(), connection.transaction():
                pass  # a savepoint
        async with connection.pipeline():
            cursors = [
                await connection.execute("INSERT INTO t VALUES (%s) RETURNING a", [n])
                for n in range(10)
            ]
        assert [await cursor.fetchone() for cursor in cursors][-1] == (9,)
        cursor = connection.cursor()
        async with cursor.copy("COPY t FROM STDIN") as copy:
            await copy.write(b"5\n6\n")
        with pytest.raises(pg_errors.ProgramLimitExceeded):
            async with cursor.copy("COPY t FROM STDIN") as copy:
                await copy.write(b"1\n" * 3001)
        await cursor.executemany("INSERT INTO t VALUES (%s)", [(n,) for n in range(20)])
        async with cursor.copy("COPY t TO STDOUT") as copy:
            assert len([row async for row in copy.rows()]) == 33
        with pytest.raises(
            psycopg.errors.FeatureNotSupported, match="statement_timeout"
        ):
            await connection.execute("SET statement_timeout = 5")


async def test_asyncpg_works_as_usual(server: RuledServer) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=server.port, user="admin", database="postgres"
    )
    try:
        await connection.execute("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
        await connection.execute("CREATE TABLE d (a positive, b text)")
        await connection.executemany("INSERT INTO d VALUES ($1, $2)", [(1, "x")] * 5)
        # An unknown type makes asyncpg read the catalog, WITH RECURSIVE.
        rows = await connection.fetch("SELECT array_agg(a) AS a FROM d")
        assert rows[0]["a"] == [1] * 5
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute("DELETE FROM d")
        records = [(n, "y") for n in range(1, 4)]
        assert await connection.copy_records_to_table("d", records=records) == "COPY 3"
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="Truncate"):
            await connection.execute("TRUNCATE d")
        with pytest.raises(asyncpg.ProgramLimitExceededError):
            await connection.execute(
                "INSERT INTO d SELECT 1 FROM generate_series(1, $1)", 3001
            )
        assert await connection.fetchval("SELECT count(*) FROM d") == 3
    finally:
        await connection.close()


_COMMANDS = (r"\d", r"\dt+", r"\d t", r"\l", r"\du", r"\dn", r"\df", r"\di+", r"\dp")


async def test_the_commands_of_psql_show_what_they_show_without_rules(
    database: Path, server: RuledServer
) -> None:
    psql = find_psql(wheel_bin_dir())
    if psql is None:
        pytest.skip("no psql")
    outputs = []
    for host, port in ((str(database.parent), 5432), ("127.0.0.1", server.port)):
        process = await asyncio.create_subprocess_exec(
            *(str(psql), "-X", "-h", host, "-p", str(port), "-U", "admin", "postgres"),
            *(word for command in _COMMANDS for word in ("-c", command)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        outputs.append(output.decode())
    assert outputs[0] == outputs[1]
    assert "ERROR" not in outputs[0]
