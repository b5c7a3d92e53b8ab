import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.ledger import Check, Ledger, Outcome, Writes
from tests.kit.tamper import Tamper
from tests.kit.tamper_plans import Eof, Error, Fatal, Swallow, after, at_byte, before


@pytest_asyncio.fixture
async def ledger(postgres: EmbeddedPostgres) -> AsyncIterator[Ledger]:
    dsn = f"host='{postgres.directory}' user=postgres dbname=postgres"
    async with Ledger.create(dsn, writer="admin") as ledger:
        yield ledger


def has_written(ledger: Ledger, count: int) -> bool:
    return len(ledger.outcomes) > count


def through(tamper: Tamper) -> str:
    return (
        f"host={tamper.host} port={tamper.port} user=admin dbname=postgres"
        " sslmode=disable gssencmode=disable"
    )


@pytest.mark.parametrize("way", Writes)
async def test_writers_that_nothing_disturbs_are_acknowledged(
    ledger: Ledger, way: Writes
) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(ledger.write(ledger.dsn, way, stop=stop))
        await ledger.until(lambda: len(ledger.outcomes) > 100)
        stop.set()
    assert ledger.counts == {Outcome.ACKNOWLEDGED: len(ledger.outcomes)}
    assert (ledger.failures, ledger.connects) == ([], 3)
    ledger.verify(await ledger.check())


@pytest.mark.parametrize("way", Writes)
async def test_upstreams_that_die_lose_and_double_nothing(
    ledger: Ledger, postgres: EmbeddedPostgres, way: Writes
) -> None:
    stop = asyncio.Event()
    async with Tamper(postgres) as tamper:
        for number in range(1, 60):
            # From the first byte of the first statement to some statements later.
            tamper.plan(at_byte("<", number * 7), Eof(), connection=number)
        async with asyncio.TaskGroup() as group:
            group.create_task(ledger.write(through(tamper), way, stop=stop))
            await ledger.until(lambda: ledger.connects >= 60)
            stop.set()
    assert {failure.outcome for failure in ledger.failures} <= {
        Outcome.UNKNOWN,
        Outcome.FAILED,
    }
    assert ledger.counts[Outcome.UNKNOWN]
    ledger.verify(await ledger.check())


async def test_all_writers_survive_that_everything_is_closed(
    ledger: Ledger, postgres: EmbeddedPostgres
) -> None:
    stop = asyncio.Event()
    async with Tamper(postgres) as tamper, asyncio.TaskGroup() as group:
        for way in Writes:
            group.create_task(ledger.write(through(tamper), way, stop=stop))
        for round_ in range(1, 8):
            await ledger.until(partial(has_written, ledger, round_ * 30))
            tamper.close_all()
        stop.set()
    ledger.verify(await ledger.check())


@pytest.mark.parametrize(
    ("way", "fault_at", "outcome"),
    [
        # Begin, three inserts, commit: the fifth answer is the commit's.
        (Writes.TRANSACTION, 4, Outcome.FAILED),
        (Writes.TRANSACTION, 5, Outcome.UNKNOWN),
        (Writes.AUTOCOMMIT, 1, Outcome.UNKNOWN),
    ],
)
@pytest.mark.parametrize("sqlstate", ["08006", "08007", "57P01", "57P02"])
async def test_an_outcome_is_unknown_only_while_a_commit_is_outstanding(
    ledger: Ledger,
    postgres: EmbeddedPostgres,
    way: Writes,
    fault_at: int,
    outcome: Outcome,
    sqlstate: str,
) -> None:
    stop = asyncio.Event()
    async with Tamper(postgres) as tamper:
        plan = tamper.plan(before("<C", fault_at), Fatal(sqlstate))
        async with asyncio.TaskGroup() as group:
            group.create_task(ledger.write(through(tamper), way, stop=stop))
            await plan.fired.wait()
            await ledger.until(lambda: ledger.failures)
            stop.set()
    (failure, *_) = ledger.failures
    assert (failure.sqlstate, failure.outcome) == (sqlstate, outcome)
    ledger.verify(await ledger.check())


async def test_an_error_at_commit_is_a_failure(
    ledger: Ledger, postgres: EmbeddedPostgres
) -> None:
    stop = asyncio.Event()
    async with Tamper(postgres) as tamper:
        # The answer to the commit is an error, and the transaction is not committed.
        plan = tamper.plan(before(">Q", containing=b"commit"), Error("40001"))
        tamper.plan(before(">Q", containing=b"commit"), Swallow())
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(
                ledger.write(through(tamper), Writes.TRANSACTION, stop=stop)
            )
            await plan.fired.wait()
            tamper.close_all()
            await ledger.until(lambda: ledger.failures)
            stop.set()
            await writing
    ledger.verify(await ledger.check())


class TestTheAccount:
    """What the ledger is for is found, each by itself."""

    async def written(self, ledger: Ledger, way: Writes) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(ledger.write(ledger.dsn, way, stop=stop))
            await ledger.until(lambda: len(ledger.outcomes) > 5)
            stop.set()

    async def change(self, ledger: Ledger, sql: str, id_: UUID) -> None:
        async with await psycopg.AsyncConnection.connect(ledger.dsn) as connection:
            await connection.execute(sql.encode(), (id_,))

    async def test_a_row_that_is_lost(self, ledger: Ledger) -> None:
        await self.written(ledger, Writes.AUTOCOMMIT)
        one = next(iter(ledger.outcomes))
        await self.change(ledger, "delete from ledger where id = %s", one)
        assert await ledger.check() == Check(missing=1)
        with pytest.raises(AssertionError, match="missing=1"):
            ledger.verify(await ledger.check())

    async def test_a_row_that_came_twice(self, ledger: Ledger) -> None:
        await self.written(ledger, Writes.PIPELINE)
        one = next(iter(ledger.outcomes))
        again = "insert into ledger select * from ledger where id = %s"
        await self.change(ledger, again, one)
        assert await ledger.check() == Check(doubled=1)

    async def test_a_row_whose_failure_was_reported(self, ledger: Ledger) -> None:
        await self.written(ledger, Writes.TRANSACTION)
        one = next(iter(ledger.outcomes))
        ledger.outcomes[one] = Outcome.FAILED
        assert await ledger.check() == Check(failed_but_present=1)

    async def test_a_row_that_nobody_wrote(self, ledger: Ledger) -> None:
        await self.change(ledger, "insert into ledger values (%s)", uuid4())
        assert await ledger.check() == Check(foreign=1)

    async def test_a_row_of_unknown_outcome_may_be_there_or_not(
        self, ledger: Ledger
    ) -> None:
        await self.written(ledger, Writes.AUTOCOMMIT)
        one, other, *_ = ledger.outcomes
        ledger.outcomes[one] = ledger.outcomes[other] = Outcome.UNKNOWN
        await self.change(ledger, "delete from ledger where id = %s", one)
        assert (await ledger.check()).is_clean


# A proxy that sends a lost INSERT again: the fault that the ledger must find.
async def test_a_statement_that_was_replayed_is_found(
    ledger: Ledger, postgres: EmbeddedPostgres
) -> None:
    stop = asyncio.Event()
    async with Tamper(postgres) as tamper:
        tamper.plan(after("<C"), Eof(), every=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(
                ledger.write(through(tamper), Writes.AUTOCOMMIT, stop=stop)
            )
            await ledger.until(lambda: len(ledger.outcomes) > 3)
            stop.set()
    for lost in ledger.outcomes:
        async with await psycopg.AsyncConnection.connect(ledger.dsn) as connection:
            await connection.execute("insert into ledger values (%s)", (lost,))
    assert (await ledger.check()).doubled == len(ledger.outcomes)
