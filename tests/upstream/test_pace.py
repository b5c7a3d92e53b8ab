"""Logins that may begin together, by a clock that stands still until it is moved."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hypothesis import given, strategies as st

from dsqlproxy.errors import TooManyConnections
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.upstream.pace import Pace
from tests.upstream.limited import FakeLoop, stage, turns

AT_ONCE = 3
A_SECOND = 10.0


@dataclass
class Walk:
    """Some who go at a pace, and when each came through."""

    loop: FakeLoop
    pace: Pace
    group: asyncio.TaskGroup
    through: list[tuple[str, float]] = field(default_factory=list)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def come(self, name: str) -> None:
        async def go() -> None:
            await self.pace.wait()
            self.through.append((name, self.loop.now))

        self.tasks[name] = self.group.create_task(go())

    @property
    def names(self) -> str:
        return "".join(name for name, _ in self.through)


@asynccontextmanager
async def walk() -> AsyncIterator[Walk]:
    loop = FakeLoop()
    async with asyncio.TaskGroup() as group:
        yield Walk(loop, Pace(A_SECOND, AT_ONCE, running_loop=lambda: loop), group)
        await loop.advance(1000)
    assert loop.pending == []


async def test_some_go_at_once_and_the_others_one_by_one() -> None:
    async with walk() as on:
        for name in "abcdef":
            on.come(name)
        await turns()
        assert (on.names, on.pace.waiting) == ("abc", 3)
        await on.loop.advance(0.099)
        assert on.names == "abc"
        await on.loop.advance(0.002)
        assert (on.names, on.pace.waiting) == ("abcd", 2)
        await on.loop.advance(0.2)
        assert (on.names, on.pace.waiting) == ("abcdef", 0)


async def test_a_loop_that_is_late_lets_all_go_whose_moment_has_passed() -> None:
    async with walk() as on:
        for number in range(AT_ONCE + 20):
            on.come(str(number))
        await turns()
        on.loop.now += 1.05
        for timer in on.loop.pending:
            if timer.when <= on.loop.now:
                timer.fire()
        await turns()
        assert len(on.through) == AT_ONCE + 10


async def test_who_leaves_gives_its_moment_back() -> None:
    async with walk() as on:
        for name in "abc":
            on.come(name)
        on.come("x")
        on.come("d")
        await turns()
        on.tasks["x"].cancel()
        await turns()
        on.come("e")
        await on.loop.advance(0.201)
        assert on.names == "abcde"


async def test_who_leaves_in_its_moment_gives_it_back() -> None:
    async with walk() as on:
        for name in "abc":
            on.come(name)
        on.come("x")
        await turns()
        (timer,) = on.loop.pending
        on.loop.now = timer.when
        timer.fire()
        on.tasks["x"].cancel()
        await turns()
        on.come("d")
        await turns()
        assert on.names == "abcd"


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=60))
async def test_no_span_of_time_has_more_than_the_pace(gaps: list[float]) -> None:
    async with walk() as on:
        for number, gap in enumerate(gaps):
            await on.loop.advance(gap)
            on.come(str(number))
    order = [int(name) for name, _ in on.through]
    times = [when for _, when in on.through]
    assert order == list(range(len(gaps)))
    for first in range(len(times)):
        for last in range(first, len(times)):
            most = AT_ONCE + A_SECOND * (times[last] - times[first])
            assert last - first + 1 <= most + 1e-6


# -- in the limiter --------------------------------------------------------------------


async def test_the_pace_refuses_nobody() -> None:
    async with stage(rate=10, burst=100, pace=(A_SECOND, AT_ONCE)) as on:
        visitors = on.logins(AT_ONCE + 10, within=0.0)
        await turns()
        assert (len(on.inside), on.limiter.waiting) == (AT_ONCE, 10)
        await on.loop.advance(1.001)
        assert (len(on.inside), on.limiter.waiting) == (AT_ONCE + 10, 0)
        assert not any(visitor.told for visitor in visitors)


async def test_the_pace_does_not_hide_that_there_is_no_token() -> None:
    async with stage(rate=10, burst=AT_ONCE, pace=(A_SECOND, AT_ONCE)) as on:
        visitors = on.logins(AT_ONCE + 1, within=0.0)
        await turns()
        assert isinstance(visitors[-1].error, TooManyConnections)


async def test_swaps_do_not_wait_behind_clients() -> None:
    async with stage(rate=100, burst=100, pace=(A_SECOND, AT_ONCE)) as on:
        on.logins(AT_ONCE + 20)
        on.swap("early")
        on.swap("urgent", is_urgent=True)
        await turns()
        assert on.inside[AT_ONCE:] == ["early", "urgent"]


async def test_who_goes_ahead_after_a_pause_does_not_wait_behind_others() -> None:
    async with stage(rate=100, burst=100, pace=(A_SECOND, AT_ONCE)) as on:
        first, *_ = on.logins(AT_ONCE + 50)
        await turns()
        first.refuse(Cause.WAKING_UP)
        await turns()
        scout = on.login("scout")
        await on.loop.advance(1.0)
        assert scout.is_inside
        assert len(on.inside) < AT_ONCE + 50


async def test_who_leaves_while_it_keeps_to_the_pace_is_forgotten() -> None:
    async with stage(rate=100, burst=100, pace=(A_SECOND, AT_ONCE)) as on:
        *_, last = on.logins(AT_ONCE + 5)
        await turns()
        last.cancel()
        await turns()
        assert on.limiter.waiting == 4
        await on.loop.advance(1.0)
        assert len(on.inside) == AT_ONCE + 4
