"""The clients of a soak: each kind again and again until it is told to stop.

A worker does one small piece of work per call and says what it was. What it provokes
on purpose (a division by zero, a cancelled query) it counts as expected; any other
exception is counted as unexplained by whoever calls it.
"""

import asyncio
import contextlib
import itertools
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import psycopg

from bench.processes import BenchError, clean_environment
from dsqlproxy.emulator.postgres import locate

STOP_SECONDS = 40.0
"""How long a piece of work may take that was begun before the end."""

ROLE = "admin"
DATABASE = "postgres"

_SOCKET_SECONDS = 30.0
_PARAMETERS = b"user\0admin\0database\0postgres\0\0"
_STARTUP = struct.pack("!II", 8 + len(_PARAMETERS), 196608) + _PARAMETERS
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_QUERY = b"Q" + struct.pack("!I", 4 + 9) + b"select 1\0"
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)
_PROCESSED = re.compile(
    r"^number of transactions actually processed: (\d+)", re.MULTILINE
)
_MODES = tuple(
    itertools.product(("simple", "extended", "prepared"), ("tpcb-like", "select-only"))
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the proxy listens."""

    host: str
    port: int

    @property
    def dsn(self) -> str:
        """The way in, for libpq."""
        return (
            f"host={self.host} port={self.port} user={ROLE} dbname={DATABASE}"
            " connect_timeout=30"
        )


@dataclass(slots=True)
class Tally:
    """What was done and what went wrong; counted by many threads."""

    operations: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    unexplained: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str, count: int = 1) -> None:
        """Count operations that went well."""
        with self.lock:
            self.operations[name] += count

    def note_expected(self, name: str) -> None:
        """Count an error that was provoked."""
        with self.lock:
            self.expected[name] += 1

    def note_unexplained(self, name: str, what: str) -> None:
        """Count an error that should not have been."""
        first_line = (what.strip().splitlines() or [""])[0]
        with self.lock:
            self.unexplained[f"{name}: {first_line[:100]}"] += 1


Work = Callable[[Place, Tally], object]
AsyncWork = Callable[[Place, Tally], Awaitable[object]]


@contextlib.contextmanager
def run_load(place: Place, tally: Tally, stop: threading.Event) -> Iterator[None]:
    """Run all workers for the length of the block; ``stop`` ends them after it.

    A worker that does not end in time hangs, which counts as an error of its own.
    """
    blocking: tuple[Work, ...] = (
        *(query, query),
        *(copy, read_much, come_and_go, half_close, load_by_pgbench),
    )
    calls: dict[str, Callable[[], None]] = {
        f"{_name(work)} {number}": partial(_repeat, work, place, tally, stop)
        for number, work in enumerate(blocking)
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
                tally.note_unexplained(thread.name, "hangs")


def _repeat(work: Work, place: Place, tally: Tally, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            work(place, tally)
        except Exception as error:  # noqa: BLE001 - counted, and the soak fails
            tally.note_unexplained(_name(work), _describe(error))


async def _run_tasks(place: Place, tally: Tally, stop: threading.Event) -> None:
    async def repeat(work: AsyncWork) -> None:
        while not stop.is_set():
            try:
                await work(place, tally)
            except Exception as error:  # noqa: BLE001 - counted, and the soak fails
                tally.note_unexplained(_name(work), _describe(error))

    async with asyncio.TaskGroup() as group:
        for work in (use_asyncpg, use_asyncpg, use_pool, cancel, cancel, stay_idle):
            group.create_task(repeat(work))


def _name(work: object) -> str:
    return str(getattr(work, "__name__", work))


def _describe(error: Exception) -> str:
    sqlstate = getattr(error, "sqlstate", None) or ""
    return f"{type(error).__name__} {sqlstate} {error}"


# -- blocking clients ----------------------------------------------------------------


def query(place: Place, tally: Tally) -> None:
    """Ask in every way that psycopg has, and fail in a transaction."""
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        for number in range(50):
            prepare = (None, True, False)[number % 3]
            cursor = connection.execute("select %s::int", (number,), prepare=prepare)
            _expect(cursor.fetchone(), (number,))
            tally.note("query")
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (n,)) for n in range(50)]
            _expect([each.fetchone() for each in cursors], [(n,) for n in range(50)])
        tally.note("pipeline of 50")
        try:
            with connection.transaction():
                connection.execute("select 1 / 0")
        except psycopg.errors.DivisionByZero:
            tally.note_expected("22012 division by zero")
        _expect(connection.execute("select 1").fetchone(), (1,))


def copy(place: Place, tally: Tally) -> None:
    """Copy a megabyte in and out, in one transaction that is undone."""
    line = b"%d\t" + b"x" * 95 + b"\n"
    with psycopg.connect(place.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("create table if not exists soaked (id int, t text)")
        with cursor.copy("copy soaked from stdin") as into:
            for number in range(10_000):
                into.write(line % number)
        _expect(cursor.rowcount, 10_000)
        with cursor.copy("copy soaked to stdout") as out:
            received = sum(len(data) for data in out)
        _expect(received, sum(len(line % number) for number in range(10_000)))
        connection.rollback()
    tally.note("copy of 1 MB in and out")


def read_much(place: Place, tally: Tally) -> None:
    """Read 20 MB to the end, and leave another such result in the middle."""
    wanted = "select repeat('x', 1000) from generate_series(1, 20000)"
    with psycopg.connect(place.dsn) as connection:
        _expect(len(connection.execute(wanted).fetchall()), 20_000)
    tally.note("result of 20 MB")
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
                    _expect(connection.recv(1), b"N")
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
    _expect(received[-6:], b"Z\0\0\0\5I")
    _expect(received.count(b"SELECT 1\0"), 1)
    tally.note("half-close")


def load_by_pgbench(place: Place, tally: Tally) -> None:
    """Run a few seconds of pgbench, in another of its modes each time."""
    mode, script = _MODES[tally.operations["pgbench run"] % len(_MODES)]
    out = pgbench(place, "-n", "-M", mode, "-b", script, "-c4", "-j1", "-T2")
    failed, processed = _FAILED.search(out), _PROCESSED.search(out)
    _expect(failed and failed[1], "0")
    tally.note("pgbench transaction", int(processed[1]) if processed else 0)
    tally.note("pgbench run")


def pgbench(place: Place, *words: str) -> str:
    """Run pgbench through the proxy; give what it says; `BenchError` if it fails."""
    environment = {
        "PGHOST": place.host,
        "PGPORT": str(place.port),
        "PGUSER": ROLE,
        "PGDATABASE": DATABASE,
    }
    done = subprocess.run(
        [str(locate(os.environ) / "pgbench"), *words],
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=STOP_SECONDS,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        msg = f"pgbench ended with code {done.returncode}: {said}"
        raise BenchError(msg)
    return done.stdout


def _dial(place: Place) -> socket.socket:
    return socket.create_connection((place.host, place.port), _SOCKET_SECONDS)


# -- clients on an event loop --------------------------------------------------------


def _address(place: Place) -> dict[str, object]:
    where = {"host": place.host, "port": place.port}
    return {**where, "user": ROLE, "database": DATABASE, "timeout": 30}


async def use_asyncpg(place: Place, tally: Tally) -> None:
    """Prepare, read a portal in parts, copy, run into a time limit."""
    connection = await asyncpg.connect(**_address(place))
    try:
        for number in range(50):
            _expect(await connection.fetchval("select $1::int", number), number)
            tally.note("asyncpg query")
        async with connection.transaction():
            numbers = "select n from generate_series(1, 1000) as n"
            portal = connection.cursor(numbers, prefetch=100)
            _expect(len([row async for row in portal]), 1000)
        tally.note("asyncpg portal")
        try:
            await connection.fetch("select pg_sleep(30)", timeout=0.05)
        except TimeoutError:
            tally.note_expected("asyncpg's time limit")
        _expect(await connection.fetchval("select 1"), 1)
    finally:
        await connection.close()


async def use_pool(place: Place, tally: Tally) -> None:
    """Use a pool of ten, whose reset query runs at each release."""
    async with asyncpg.create_pool(**_address(place), min_size=2, max_size=10) as pool:

        async def work(number: int) -> None:
            query = "select $1::int, pg_sleep(0.005)"
            _expect(await pool.fetchval(query, number), number)
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
            _expect(await cursor.fetchone(), (1,))


async def stay_idle(place: Place, tally: Tally) -> None:
    """Hold twenty sessions for a while."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            connection = await psycopg.AsyncConnection.connect(place.dsn)
            await stack.enter_async_context(connection)
        await asyncio.sleep(2.0)
    tally.note("idle session", 20)


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        msg = f"expected {str(wanted)[:40]}, found {str(found)[:40]}"
        raise AssertionError(msg)
