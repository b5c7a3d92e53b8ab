"""The storm: programs played direct, and moved at every quiet moment, are the same.

SWAP 5.I.90 with H3, H4 and I5: every frame that the client gets, and at each quiet
moment what the server says of the session (settings, prepared statements with text and
types, the unnamed one), which shows a private statement left behind as well (5.D.61).
I3, I6, I7: `check_wire` follows each frame on all connections.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from random import SystemRandom

import pytest
import uvloop
from hypothesis import settings

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.pgproto.framing import Frame
from tests.kit.frames import FLUSH, SYNC, bind, describe, execute, parse, query
from tests.kit.storm_programs import Program, Step
from tests.kit.tamper import Seen
from tests.kit.tamper_plans import Way
from tests.swaps.storms import Tally, Twins, Weather, new_twins
from tests.swaps.wire import check_wire

SHORT = 90
"""Programs in a run of all tests: with seeds from 0 on, so that it is always the same
run, and one that catches the variants of `broken.py`. A long one begins anywhere."""

LONG_SECONDS = 480.0
AT_ONCE = 2


async def storm(
    postgres: EmbeddedPostgres, seeds: Iterator[int], *, seconds: float
) -> Tally:
    """Play the programs of all seeds, or until time is up; fail at a difference."""
    total = Tally()
    ends_at = time.monotonic() + seconds

    async def play_some(number: int) -> None:
        async with new_twins(postgres, number) as twins:
            for seed in seeds:
                await twins.run(seed)
                if time.monotonic() > ends_at:
                    break
            total.add(twins.tally)

    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(play_some(number))
    return total


@pytest.mark.timeout(600)
def test_storm_property_no_program_can_tell_that_it_is_moved(
    postgres: EmbeddedPostgres,
) -> None:
    is_long = settings.get_current_profile_name() == "deep"
    first = SystemRandom().randrange(1 << 30) if is_long else 0
    seeds = range(first, first + (1 << 20 if is_long else SHORT))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(storm(postgres, iter(seeds), seconds=LONG_SECONDS))
    print(f"storm from seed {first}: {tally}")  # noqa: T201 - shown when asked for
    assert tally.programs >= SHORT
    assert tally.swaps >= 6 * tally.programs, "that is no storm"
    assert tally.excused <= tally.programs / 10, "too much is excused"


# -- what a storm met ------------------------------------------------------------------


async def put_off(
    postgres: EmbeddedPostgres, program: Program, weather: Weather
) -> Counter[str]:
    """Play a program, and give why swaps of it were put off."""
    async with new_twins(postgres) as twins:
        await twins.run(0, program, weather)
        return twins.tally.put_off


# PostgreSQL describes an INSERT, UPDATE or DELETE without a look at its table, so the
# old upstream does not tell that it is stale; the new one refuses to parse it. That was
# once taken for a difference that nothing can mend, and such a session ended at its
# limit.
@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("a", "insert into shape values (1)"),
        ("a", "update shape set v = ''"),
        ("a", "delete from shape where v = ''"),
        ("", "insert into shape values (1)"),
    ],
)
async def test_a_write_to_a_table_that_is_gone_does_not_stop_a_swap(
    postgres: EmbeddedPostgres, name: str, sql: str
) -> None:
    program = [
        Step("prepare", parse(sql, name=name) + SYNC),
        Step("drop", elsewhere="drop table shape"),
        Step("rest", SYNC),
        Step("use", bind(statement=name) + execute() + SYNC),
    ]
    assert not await put_off(postgres, program, Weather.AT_REST)
    reasons = await put_off(postgres, program, Weather.PATIENT)
    assert [*reasons] == [
        "a prepared statement of the session no longer fits its tables"
    ]


# asyncpg prepares with a Flush and idles; what it has prepared must survive.
async def test_a_pipeline_of_parses_alone_is_moved(postgres: EmbeddedPostgres) -> None:
    program = [
        Step("prepare", parse("select 1", name="a") + describe("S", "a") + FLUSH),
        Step("use", bind(statement="a") + execute() + SYNC),
    ]
    async with new_twins(postgres) as twins:
        await twins.run(0, program, Weather.AT_REST)
        assert twins.tally.swaps == 2


# -- the check of what passed ----------------------------------------------------------


class Passing:
    """What one moved session said and heard, and what passed for it."""

    def __init__(self, twins: Twins) -> None:
        player = twins._player
        assert player is not None
        self.seen = list(twins.proxy.tamper.seen)
        self.said = player.said
        self.heard = list(player.heard)

    def at(self, connection: int, kind: str) -> int:
        """Give where the first frame of a kind to a server stands."""
        wanted = (connection, Way.TO_SERVER, kind)
        return next(
            at
            for at, one in enumerate(self.seen)
            if (one.connection, one.way, one.kind) == wanted
        )

    def check(self) -> None:
        check_wire(self.seen, self.said, self.heard)


async def moved_once(postgres: EmbeddedPostgres) -> Passing:
    program = [Step("one", query("select 1")), Step("two", query("select 2"))]
    async with new_twins(postgres) as twins:
        await twins.run(0, program, Weather.AT_REST)
        passing = Passing(twins)
    passing.check()
    return passing


async def test_a_frame_that_is_lost_or_said_twice_is_found(
    postgres: EmbeddedPostgres,
) -> None:
    passing = await moved_once(postgres)
    at = passing.at(1, "Q")
    whole = passing.seen
    for part in ([], [whole[at]] * 2):
        passing.seen = [*whole[:at], *part, *whole[at + 1 :]]
        with pytest.raises(AssertionError, match="other frames than the client sent"):
            passing.check()


async def test_a_frame_to_an_upstream_that_was_replaced_is_found(
    postgres: EmbeddedPostgres,
) -> None:
    passing = await moved_once(postgres)
    at = passing.at(2, "Q")
    late = passing.seen[at]
    passing.seen[at] = Seen(1, late.way, late.frame)
    with pytest.raises(AssertionError, match="upstream that was replaced"):
        passing.check()


async def test_a_private_answer_that_reaches_the_client_is_found(
    postgres: EmbeddedPostgres,
) -> None:
    passing = await moved_once(postgres)
    passing.heard.insert(-1, Frame(ord("3"), b""))
    with pytest.raises(AssertionError, match="other frames than the servers sent"):
        passing.check()
