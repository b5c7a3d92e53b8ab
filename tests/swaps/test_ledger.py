"""Writers under swaps and deaths: what was acknowledged is there, once (H5, I1, I2).

Six writers, in three ways, through a proxy that moves their sessions over and over,
while upstreams are killed at random: by the end of the stream, by a reset, by a FATAL.
"""

import asyncio
import random
import re

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.ledger import Ledger, Outcome, Writes
from tests.kit.swapping import STORM, SWAPPED, Swapping, swapping
from tests.kit.tamper_plans import Eof, Fatal, Plan, Reset, Way, after, at_byte, before

SEED = 74
TOLD = {"08006", "08007", "57P01"}
"""What a writer may be told of a death: a row of the table, or the server's FATAL."""
LOST_ITS_WORDS = re.compile("server closed the connection|exit pipeline mode")
"""What psycopg makes of a FATAL in pipeline mode; that there was one is shown for every
byte in `test_cuts.py`, and by the other writers here."""


@pytest.fixture
def dsn(postgres: EmbeddedPostgres) -> str:
    return f"host={postgres.directory} user=postgres dbname=postgres"


@pytest.mark.parametrize("deaths", [0, 60], ids=["swaps", "swaps and deaths"])
async def test_what_was_acknowledged_is_there_once(
    postgres: EmbeddedPostgres, dsn: str, deaths: int
) -> None:
    stop = asyncio.Event()
    async with Ledger.create(dsn) as ledger, swapping(postgres, window=STORM) as proxy:
        async with asyncio.timeout(25), asyncio.TaskGroup() as group:
            for way in (*Writes, *Writes):
                group.create_task(ledger.write(proxy.dsn(), way, stop=stop))
            await _more(ledger, 20)
            await _kill(proxy, ledger, deaths)
            await proxy.until(SWAPPED, 200)
            await _more(ledger, 200)
            stop.set()
        ledger.verify(await ledger.check())
        if not deaths:
            assert ledger.failures == []
        untold = [one for one in ledger.failures if one.sqlstate not in TOLD]
        assert all(LOST_ITS_WORDS.search(one.message) for one in untold), untold


async def _kill(proxy: Swapping, ledger: Ledger, deaths: int) -> None:
    """Kill one upstream after the other, at a byte that nobody knows before."""
    rng = random.Random(SEED)  # noqa: S311 - to be repeated
    for _ in range(deaths):
        number = rng.choice(proxy.tamper.open_numbers)
        way = rng.choice(list(Way))
        if rng.random() < 0.3:  # between two messages
            moment = rng.choice((before, after))(way.value, rng.randrange(1, 20))
            plan = proxy.tamper.plan(moment, Fatal(), connection=number)
        else:
            passed = proxy.tamper.connections[number - 1]._passed[way]
            moment = at_byte(way.value, passed + rng.randrange(1, 600))
            fault = rng.choice((Eof(), Reset()))
            plan = proxy.tamper.plan(moment, fault, connection=number)
        await _fired(plan, ledger)


async def _fired(plan: Plan, ledger: Ledger) -> None:
    """Wait for a death, or until that upstream has long been replaced."""
    done = ledger.counts[Outcome.ACKNOWLEDGED]
    await ledger.until(
        lambda: plan.fired.is_set() or ledger.counts[Outcome.ACKNOWLEDGED] > done + 20
    )


async def _more(ledger: Ledger, rows: int) -> None:
    wanted = ledger.counts[Outcome.ACKNOWLEDGED] + rows
    await ledger.until(lambda: ledger.counts[Outcome.ACKNOWLEDGED] >= wanted)
