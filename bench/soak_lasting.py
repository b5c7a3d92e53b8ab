"""Sessions that live for many session limits, and look after each swap.

What a session was told (settings, prepared statements) must hold at each of its
statements, over however many upstreams.
"""

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import psycopg

from bench.soak_tally import Place, Tally, expect

LIFE_SECONDS = 15.0
"""A few session limits."""

_ZONES = ("Asia/Tokyo", "Europe/Berlin", "UTC")
_SETTINGS = (
    "select %s::int, current_setting('timezone'), current_setting('search_path'),"
    " current_setting('extra_float_digits')"
)
_ROWS = 50


def _moments(random_: random.Random, stop: threading.Event) -> Iterator[float]:
    """Give pauses between statements until a life is over: bursts, and idling."""
    ends_at = time.monotonic() + LIFE_SECONDS
    while time.monotonic() < ends_at and not stop.is_set():
        yield random_.choice((0.0, 0.0, 0.005, 0.05, 0.5))


async def keep_psycopg(place: Place, tally: Tally, *, stop: threading.Event) -> None:
    """Keep settings and server-side statements; in between pipelines and COPY."""
    random_ = random.Random()  # noqa: S311 - of a load, not of a key
    connection = await psycopg.AsyncConnection.connect(
        place.dsn, autocommit=True, prepare_threshold=2
    )
    async with connection:
        zone = random_.choice(_ZONES)
        await connection.execute(f"set timezone to '{zone}'")
        await connection.execute("set search_path to 'a b', public")
        wanted = (zone, '"a b", public', "1")
        for number, pause in enumerate(_moments(random_, stop)):
            cursor = await connection.execute(_SETTINGS, (number,))
            expect(await cursor.fetchone(), (number, *wanted))
            tally.note("psycopg, statement")
            if number % 10 == 3:
                await _pipeline(connection, wanted)
                tally.note("psycopg, pipeline")
            elif number % 10 == 6:
                await _transaction(connection)
                tally.note("psycopg, transaction with COPY")
            await asyncio.sleep(pause)


async def _pipeline(
    connection: "psycopg.AsyncConnection[tuple[object, ...]]", wanted: tuple[str, ...]
) -> None:
    async with connection.pipeline() as pipeline:
        cursors = []
        for number in range(_ROWS):
            cursors.append(await connection.execute(_SETTINGS, (number,)))
            if number == _ROWS // 2:
                await pipeline.sync()
        for number, cursor in enumerate(cursors):
            expect(await cursor.fetchone(), (number, *wanted))


async def _transaction(
    connection: "psycopg.AsyncConnection[tuple[object, ...]]",
) -> None:
    """Copy in and out within a transaction that idles, and is undone."""
    with contextlib.suppress(psycopg.Rollback):
        async with connection.transaction(), connection.cursor() as cursor:
            await cursor.execute("set local timezone to 'America/Lima'")
            async with cursor.copy("copy public.soaked from stdin") as into:
                for number in range(_ROWS):
                    await into.write_row((number, "x" * 100))
            await asyncio.sleep(0.05)
            out = [row async for row in _copied(cursor)]
            expect(len(out), _ROWS)
            raise psycopg.Rollback


async def _copied(
    cursor: "psycopg.AsyncCursor[tuple[object, ...]]",
) -> AsyncIterator[object]:
    async with cursor.copy("copy public.soaked to stdout") as out:
        async for row in out.rows():
            yield row


async def keep_asyncpg(place: Place, tally: Tally, *, stop: threading.Event) -> None:
    """Keep statements that were prepared once, some of them only used much later."""
    random_ = random.Random()  # noqa: S311 - of a load, not of a key
    connection = await asyncpg.connect(**place.address)
    try:
        await connection.execute("set timezone to 'Asia/Tokyo'")
        await connection.fetch("select set_config('enable_seqscan', 'off', false)")
        asks = await connection.prepare(
            "select $1::int, current_setting('timezone'),"
            " current_setting('enable_seqscan')"
        )
        others = [
            await connection.prepare(f"select $1::int + {n}") for n in range(_ROWS)
        ]
        turn = itertools.cycle(range(_ROWS))
        for number, pause in enumerate(_moments(random_, stop)):
            row = await asks.fetchrow(number)
            expect(tuple(row), (number, "Asia/Tokyo", "off"))
            which = next(turn)
            expect(await others[which].fetchval(number), number + which)
            tally.note("asyncpg, prepared statement", 2)
            if number % 10 == 5:
                await _portal(connection)
                tally.note("asyncpg, portal")
            await asyncio.sleep(pause)
    finally:
        await leave(connection)


async def _portal(connection: "asyncpg.Connection") -> None:
    async with connection.transaction():
        numbers = "select n from generate_series(1, 100) as n"
        portal = connection.cursor(numbers, prefetch=20)
        expect(len([row async for row in portal]), 100)


async def leave(connection: "asyncpg.Connection") -> None:
    """Close; what a lost connection says to that has been said before."""
    with contextlib.suppress(asyncpg.InterfaceError, OSError):
        await connection.close(timeout=10)
