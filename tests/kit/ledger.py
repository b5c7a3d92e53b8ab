"""Writers with ids of their own, and the account of what became of each (H5).

Every row carries an id that the client made. Afterwards the table must hold each id
that was acknowledged exactly once, each of unknown outcome at most once, and none
whose failure was reported before anything of it could run::

    async with Ledger.create(direct_dsn) as ledger:
        async with asyncio.TaskGroup() as group:
            for writes in Writes:
                group.create_task(ledger.write(proxy_dsn, writes, stop=stop))
            …
            stop.set()
        ledger.verify(await ledger.check())

An outcome is unknown where the connection was lost while the statement that commits
was outstanding: SQLSTATE 08006 or 08007, 57P01 and its like, or no word at all.
Before that statement a lost transaction has failed, and so has one of another error:
40001 at COMMIT says that nothing happened.
"""

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Self

import psycopg

_INSERT = "insert into ledger (id, way) values (%s, %s)"
_PIPELINED = 3
"""Rows of one transaction in pipeline mode."""
_RETRY_SECONDS = 0.01
"""Between two failed attempts to connect; connecting has no event to wait for."""

Connection = psycopg.AsyncConnection[tuple[object, ...]]


class Writes(StrEnum):
    """How a writer writes."""

    AUTOCOMMIT = auto()
    TRANSACTION = auto()
    PIPELINE = auto()


class Outcome(StrEnum):
    """What a writer knows of an id."""

    ACKNOWLEDGED = auto()
    UNKNOWN = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Check:
    """How the table and the writers disagree; all must be 0."""

    missing: int = 0
    """Acknowledged, and not there."""
    doubled: int = 0
    """There more than once, whatever was said of it."""
    failed_but_present: int = 0
    foreign: int = 0
    """There, and nobody wrote it."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is lost, run twice or made up."""
        return self == Check()


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a writer met."""

    sqlstate: str
    message: str
    outcome: Outcome


@dataclass
class Ledger:
    """The table, and what all writers know; it drops the table at its end."""

    dsn: str = field(repr=False)
    outcomes: dict[uuid.UUID, Outcome] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    connects: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def create(cls, dsn: str, *, writer: str = "") -> AsyncIterator[Self]:
        """Make the table, on a way of its own; the role ``writer`` may use it."""
        ledger = cls(dsn)
        async with ledger._direct() as connection:
            await connection.execute("drop table if exists ledger")
            # No key: a row that comes twice must be seen, not refused.
            await connection.execute("create table ledger (id uuid, way text)")
            if writer:
                await connection.execute(f'grant all on ledger to "{writer}"'.encode())
        try:
            yield ledger
        finally:
            async with ledger._direct() as connection:
                await connection.execute("drop table ledger")

    @property
    def counts(self) -> Counter[Outcome]:
        """How many ids have which outcome."""
        return Counter(self.outcomes.values())

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds; it is asked after each outcome."""
        while not condition():
            self.news.clear()
            await self.news.wait()

    async def write(self, dsn: str, way: Writes, *, stop: asyncio.Event) -> None:
        """Write until told to stop; a lost connection is replaced by another."""
        while not stop.is_set():
            connection = await self._connect(dsn, stop)
            if connection is None:
                return
            async with connection:
                while not stop.is_set() and not connection.closed:
                    await self._write_once(connection, way)

    async def check(self) -> Check:
        """Compare the table with what the writers know, when all have ended."""
        async with self._direct() as connection:
            cursor = await connection.execute("select id from ledger")
            present = Counter(row[0] for row in await cursor.fetchall())
        said = self.outcomes
        return Check(
            missing=sum(
                outcome is Outcome.ACKNOWLEDGED and id_ not in present
                for id_, outcome in said.items()
            ),
            doubled=sum(count > 1 for count in present.values()),
            failed_but_present=sum(
                outcome is Outcome.FAILED and id_ in present
                for id_, outcome in said.items()
            ),
            foreign=sum(id_ not in said for id_ in present),
        )

    def verify(self, check: Check) -> None:
        """Fail where something was lost, doubled or made up; tell how it went."""
        story = f"{check}; said: {dict(self.counts)}; errors: {self.failures[-5:]}"
        assert check.is_clean, story

    # -- inside --------------------------------------------------------------------

    def _direct(self) -> "contextlib.AbstractAsyncContextManager[Connection]":
        return _closing(psycopg.AsyncConnection.connect(self.dsn, autocommit=True))

    async def _connect(self, dsn: str, stop: asyncio.Event) -> Connection | None:
        while not stop.is_set():
            try:
                connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
            except psycopg.OperationalError:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_SECONDS):
                        await stop.wait()
            else:
                self.connects += 1
                return connection
        return None

    async def _write_once(self, connection: Connection, way: Writes) -> None:
        attempt = _Attempt([uuid.uuid4() for _ in range(_rows(way))])
        outcome = Outcome.UNKNOWN  # where the writer is cancelled, for instance
        try:
            await _WAYS[way](connection, attempt)
            outcome = Outcome.ACKNOWLEDGED
        except psycopg.Error as error:
            outcome = attempt.outcome_of(error)
            message = str(error).partition("\n")[0]
            self.failures.append(Failure(error.sqlstate or "", message, outcome))
            if not connection.closed:
                await _roll_back(connection)
        finally:
            self.outcomes.update(dict.fromkeys(attempt.ids, outcome))
            self.news.set()


@dataclass
class _Attempt:
    """The ids of one transaction, and whether its end has been asked for."""

    ids: list[uuid.UUID]
    is_committing: bool = False

    def outcome_of(self, error: psycopg.Error) -> Outcome:
        """Say what an error means for the rows."""
        sqlstate = error.sqlstate or ""
        # Class 08 and no SQLSTATE at all: the connection is lost. A FATAL of a server
        # that ends the session (57P01, 57P02, …) can come between a commit and its
        # acknowledgement.
        is_lost = not sqlstate or sqlstate[:2] == "08" or sqlstate[:3] == "57P"
        return Outcome.UNKNOWN if self.is_committing and is_lost else Outcome.FAILED


async def _autocommit(connection: Connection, attempt: _Attempt) -> None:
    attempt.is_committing = True
    (id_,) = attempt.ids
    await connection.execute(_INSERT, (id_, Writes.AUTOCOMMIT))


async def _transaction(connection: Connection, attempt: _Attempt) -> None:
    await connection.execute("begin")
    for id_ in attempt.ids:
        await connection.execute(_INSERT, (id_, Writes.TRANSACTION))
    attempt.is_committing = True
    cursor = await connection.execute("commit")
    assert cursor.statusmessage == "COMMIT", "the transaction had failed unnoticed"


async def _pipeline(connection: Connection, attempt: _Attempt) -> None:
    """Write rows of one implicit transaction, up to the Sync at the pipeline's end."""
    attempt.is_committing = True  # all of it may be outstanding at once
    async with connection.pipeline():
        for id_ in attempt.ids:
            await connection.execute(_INSERT, (id_, Writes.PIPELINE))


_WAYS: dict[Writes, Callable[[Connection, _Attempt], Awaitable[None]]] = {
    Writes.AUTOCOMMIT: _autocommit,
    Writes.TRANSACTION: _transaction,
    Writes.PIPELINE: _pipeline,
}


def _rows(way: Writes) -> int:
    return 1 if way is Writes.AUTOCOMMIT else _PIPELINED


async def _roll_back(connection: Connection) -> None:
    """Leave a transaction that failed; the connection may be lost by now."""
    with contextlib.suppress(psycopg.Error):
        await connection.execute("rollback")


@asynccontextmanager
async def _closing(opening: Awaitable[Connection]) -> AsyncIterator[Connection]:
    connection = await opening
    try:
        yield connection
    finally:
        await connection.close()
