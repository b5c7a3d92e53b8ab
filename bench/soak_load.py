"""The clients of a soak: each kind again and again until it is told to stop.

A worker does one piece of work per call and says what it was. What it provokes on
purpose (a division by zero, a cancelled query) it counts as expected. Any other
exception is kept by whoever calls it: in the end a fault explains it, or nothing.
"""

import asyncio
import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import asyncpg
import psycopg

from bench.soak_lasting import LIFE_SECONDS, keep_asyncpg, keep_psycopg, leave
from bench.soak_programs import MODES, load_by_pgbench, talk_by_psql
from bench.soak_tally import Place, ServerSaid, Tally, expect

STOP_SECONDS = 45.0
"""How long a piece of work may take that was begun before the end."""

_REST_SECONDS = 0.5
"""Between two pieces of work, and after an error: a machine that is busy to its limit
would measure itself, and a server that is not there yet only fails again."""

_SOCKET_SECONDS = 30.0
_PARAMETERS = b"user\0admin\0database\0postgres\0\0"
_STARTUP = struct.pack("!II", 8 + len(_PARAMETERS), 196608) + _PARAMETERS
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_QUERY = b"Q" + struct.pack("!I", 4 + 9) + b"select 1\0"
_FATAL = re.compile(rb"VFATAL\0C([0-9A-Z]{5})\0M([^\0]*)")


Work = Callable[[Place, Tally], object]
AsyncWork = Callable[[Place, Tally], Awaitable[object]]


@contextlib.contextmanager
def run_load(place: Place, tally: Tally, stop: threading.Event) -> Iterator[None]:
    """Run all workers for the length of the block; ``stop`` ends them after it.

    A worker that does not end in time hangs, which counts as an error of its own.
    """
    blocking: dict[str, Work] = {
        **{f"pgbench {mode}": partial(load_by_pgbench, mode=mode) for mode in MODES},
        "psql": talk_by_psql,
        "psql again": talk_by_psql,
        "query": query,
        "copy": copy,
        "read_much": read_much,
        "come_and_go": come_and_go,
        "half_close": half_close,
    }
    calls: dict[str, Callable[[], None]] = {
        name: partial(_repeat, work, place, tally, stop)
        for name, work in blocking.items()
    }
    calls["tasks"] = lambda: asyncio.run(_run_tasks(place, tally, stop))
    threads = [
        threading.Thread(target=call, name=name, daemon=True)
        for name, call in calls.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                tally.note_incident(thread.name, "", "hangs")


def _repeat(work: Work, place: Place, tally: Tally, stop: threading.Event) -> None:
    name = threading.current_thread().name
    while not stop.is_set():
        try:
            work(place, tally)
        except Exception as error:  # noqa: BLE001 - kept, and judged at the end
            tally.note_error(name, error)
        stop.wait(_REST_SECONDS)


async def _run_tasks(place: Place, tally: Tally, stop: threading.Event) -> None:
    async def repeat(name: str, work: AsyncWork) -> None:
        while not stop.is_set():
            try:
                await work(place, tally)
            except Exception as error:  # noqa: BLE001 - kept, and judged at the end
                tally.note_error(name, error)
            await asyncio.sleep(_REST_SECONDS)

    works: list[tuple[str, AsyncWork]] = [
        *[("psycopg", partial(keep_psycopg, stop=stop))] * 4,
        *[("asyncpg", partial(keep_asyncpg, stop=stop))] * 4,
        ("idle", partial(stay_idle, stop=stop)),
        ("asyncpg, short", use_asyncpg),
        ("asyncpg, pool", use_pool),
        ("cancel", cancel),
    ]
    async with asyncio.TaskGroup() as group:
        for name, work in works:
            group.create_task(repeat(name, work))


# -- blocking clients ----------------------------------------------------------------


def query(place: Place, tally: Tally) -> None:
    """Ask in every way that psycopg has, and fail in a transaction."""
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        for number in range(50):
            prepare = (None, True, False)[number % 3]
            cursor = connection.execute("select %s::int", (number,), prepare=prepare)
            expect(cursor.fetchone(), (number,))
            tally.note("query")
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (n,)) for n in range(50)]
            expect([each.fetchone() for each in cursors], [(n,) for n in range(50)])
        tally.note("pipeline of 50")
        try:
            with connection.transaction():
                connection.execute("select 1 / 0")
        except psycopg.errors.DivisionByZero:
            tally.note_expected("22012 division by zero")
        expect(connection.execute("select 1").fetchone(), (1,))


def copy(place: Place, tally: Tally) -> None:
    """Copy a megabyte in and out, in one transaction that is undone."""
    line = b"%d\t" + b"x" * 95 + b"\n"
    with psycopg.connect(place.dsn) as connection, connection.cursor() as cursor:
        with cursor.copy("copy public.soaked from stdin") as into:
            for number in range(10_000):
                into.write(line % number)
        expect(cursor.rowcount, 10_000)
        with cursor.copy("copy public.soaked to stdout") as out:
            received = sum(len(data) for data in out)
        expect(received, sum(len(line % number) for number in range(10_000)))
        connection.rollback()
    tally.note("copy of 1 MB in and out")


def read_much(place: Place, tally: Tally) -> None:
    """Read 5 MB to the end, and leave another such result in the middle."""
    wanted = "select repeat('x', 1000) from generate_series(1, 5000)"
    with psycopg.connect(place.dsn) as connection:
        expect(len(connection.execute(wanted).fetchall()), 5000)
    tally.note("result of 5 MB")
    connection = psycopg.connect(place.dsn)
    connection.pgconn.send_query(wanted.encode())
    connection.pgconn.consume_input()
    connection.close()
    tally.note("result left in the middle")


def come_and_go(place: Place, tally: Tally) -> None:
    """Connect in all the ways in which one may leave again."""
    with psycopg.connect(place.dsn):
        pass
    tally.note("connect")
    for words in (b"", _SSL_REQUEST, _STARTUP[:9], _STARTUP, _STARTUP + _QUERY[:3]):
        for is_rude in (False, True):
            with _dial(place) as connection:
                connection.sendall(words)
                if words == _SSL_REQUEST:
                    expect(connection.recv(1), b"N")
                if is_rude:  # RST
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            tally.note("connection dropped")


def half_close(place: Place, tally: Tally) -> None:
    """Send a query, close one's side, and still get the answer."""
    with _dial(place) as connection:
        connection.sendall(_STARTUP + _QUERY)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65_536):
            received += data
    if found := _FATAL.search(received):
        raise ServerSaid(found[1].decode(), found[2].decode())
    expect(received[-6:], b"Z\0\0\0\5I")
    expect(received.count(b"SELECT 1\0"), 1)
    tally.note("half-close")


def _dial(place: Place) -> socket.socket:
    return socket.create_connection((place.host, place.port), _SOCKET_SECONDS)


# -- clients on an event loop --------------------------------------------------------


async def use_asyncpg(place: Place, tally: Tally) -> None:
    """Prepare, read a portal in parts, copy, run into a time limit."""
    connection = await asyncpg.connect(**place.address)
    try:
        for number in range(50):
            expect(await connection.fetchval("select $1::int", number), number)
            tally.note("asyncpg query")
        async with connection.transaction():
            numbers = "select n from generate_series(1, 1000) as n"
            portal = connection.cursor(numbers, prefetch=100)
            expect(len([row async for row in portal]), 1000)
        tally.note("asyncpg portal")
        try:
            await connection.fetch("select pg_sleep(30)", timeout=0.05)
        except TimeoutError:
            tally.note_expected("asyncpg's time limit")
        expect(await connection.fetchval("select 1"), 1)
    finally:
        await leave(connection)


async def use_pool(place: Place, tally: Tally) -> None:
    """Use a pool of ten, whose reset query runs at each release."""
    async with asyncpg.create_pool(**place.address, min_size=2, max_size=10) as pool:

        async def work(number: int) -> None:
            query = "select $1::int, pg_sleep(0.005)"
            expect(await pool.fetchval(query, number), number)
            tally.note("asyncpg pool")

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(work(number))


async def cancel(place: Place, tally: Tally) -> None:
    """Cancel a query that runs, and go on in the same session."""
    async with await psycopg.AsyncConnection.connect(
        place.dsn, autocommit=True
    ) as connection:
        for _ in range(10):
            try:
                async with asyncio.timeout(0.05):
                    await connection.execute("select pg_sleep(30)")
            except TimeoutError:
                tally.note_expected("57014 cancelled")
            cursor = await connection.execute("select 1")
            expect(await cursor.fetchone(), (1,))


async def stay_idle(place: Place, tally: Tally, *, stop: threading.Event) -> None:
    """Hold a dozen sessions over a few limits; each must be there when it is asked."""
    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for _ in range(12):
            opening = psycopg.AsyncConnection.connect(place.dsn, autocommit=True)
            connections.append(await stack.enter_async_context(await opening))
        await asyncio.to_thread(stop.wait, LIFE_SECONDS)
        for connection in connections:
            cursor = await connection.execute("select 1")
            expect(await cursor.fetchone(), (1,))
    tally.note("idle session", len(connections))
