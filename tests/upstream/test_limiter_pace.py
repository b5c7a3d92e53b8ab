"""Logins that may begin together begin at a pace, and nobody is refused for it."""

import asyncio

from hypothesis import given, strategies as st

from dsqlproxy.errors import TooManyConnections
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.upstream.bucket import Bucket
from dsqlproxy.upstream.limiter import LoginLimiter
from tests.upstream.limited import FakeLoop, stage, turns

AT_ONCE = 3
A_SECOND = 10.0
PACE = (A_SECOND, AT_ONCE)


async def test_some_begin_at_once_and_the_others_one_by_one() -> None:
    async with stage(rate=100, burst=100, pace=PACE) as on:
        on.logins(AT_ONCE + 3)
        await turns()
        assert (len(on.inside), on.limiter.waiting) == (AT_ONCE, 3)
        await on.loop.advance(0.099)
        assert len(on.inside) == AT_ONCE
        await on.loop.advance(0.002)
        assert (len(on.inside), on.limiter.waiting) == (AT_ONCE + 1, 2)
        await on.loop.advance(0.2)
        assert (len(on.inside), on.limiter.waiting) == (AT_ONCE + 3, 0)


async def test_who_may_not_wait_for_the_cluster_waits_for_the_pace() -> None:
    async with stage(rate=10, burst=100, pace=PACE) as on:
        visitors = on.logins(AT_ONCE + 9, within=0.0)
        await on.loop.advance(0.901)
        assert len(on.inside) == AT_ONCE + 9
        assert not any(visitor.told for visitor in visitors)


async def test_who_waits_longer_than_it_may_is_served_if_it_is_for_the_pace() -> None:
    async with stage(rate=10, burst=AT_ONCE + 20, pace=PACE) as on:
        paced = on.logins(AT_ONCE + 20, "paced", within=0.05)
        beyond = on.logins(5, "beyond", within=0.05)
        await on.loop.advance(2.001)
        assert all(visitor.is_inside for visitor in paced)
        assert all(isinstance(each.error, TooManyConnections) for each in beyond)


class Ticking(FakeLoop):
    """Its time goes on between two looks."""

    def time(self) -> float:
        self.now += 1e-5
        return self.now


async def test_a_moment_that_comes_between_two_looks_refuses_nobody() -> None:
    for step in range(60):
        loop = Ticking()
        pace = Bucket(A_SECOND, 1)
        limiter = LoginLimiter(1000, 1000, pace=pace, running_loop=lambda: loop)  # noqa: B023
        async with limiter.login(), asyncio.TaskGroup() as group:
            loop.now += 1 / A_SECOND - step * 2e-6
            group.create_task(limiter.login(within=0.0).__aenter__())
            await turns()
            await loop.advance(1.0)


async def test_the_pace_does_not_hide_that_there_is_no_token() -> None:
    async with stage(rate=10, burst=AT_ONCE, pace=PACE) as on:
        visitors = on.logins(AT_ONCE + 1, within=0.0)
        await turns()
        assert isinstance(visitors[-1].error, TooManyConnections)


async def test_a_pause_ends_the_time_of_who_may_not_wait_for_the_cluster() -> None:
    async with stage(rate=100, burst=100, pace=PACE) as on:
        first, *_, last = on.logins(AT_ONCE + 2, within=0.0)
        await turns()
        first.refuse(Cause.WAKING_UP)
        await on.loop.advance(0.3)
        assert isinstance(last.error, TooManyConnections)


async def test_who_waits_for_more_than_a_moment_is_told() -> None:
    async with stage(rate=100, burst=100, pace=PACE) as on:
        *soon, late = on.logins(AT_ONCE + 11, within=10)
        await turns()
        assert late.told == [None]
        assert not any(visitor.told for visitor in soon)


async def test_who_leaves_gives_back_its_place_and_its_token() -> None:
    async with stage(rate=10, burst=100, pace=PACE) as on:
        leaving = on.logins(AT_ONCE + 20)[AT_ONCE:]
        last = on.login("last")
        await turns()
        for visitor in leaving:
            visitor.cancel()
        await on.loop.advance(0.101)
        assert last.is_inside
        assert on.limiter._tokens.seconds_until(96, on.loop.now) == 0.0


async def test_a_refusal_stops_those_that_wait_for_the_pace() -> None:
    async with stage(rate=100, burst=100, pace=PACE) as on:
        first, *_ = on.logins(AT_ONCE + 50)
        await turns()
        first.refuse(Cause.WAKING_UP)
        await on.loop.advance(60.0)
        assert on.inside == ["0", "1", "2", "3"]  # the last one is the scout


async def test_swaps_do_not_wait_behind_clients() -> None:
    async with stage(rate=100, burst=100, pace=PACE) as on:
        on.logins(AT_ONCE + 20)
        on.swap("early")
        on.swap("urgent", is_urgent=True)
        await turns()
        assert on.inside[AT_ONCE:] == ["early", "urgent"]


async def test_clusters_share_the_pace_of_a_loop() -> None:
    async with stage(rate=100, burst=100, pace=PACE) as on:
        pace = on.limiter._pace
        assert pace is not None
        on.logins(AT_ONCE)
        await turns()
        other = LoginLimiter(100, 100, pace=pace, running_loop=lambda: on.loop)
        assert other._logins.buckets == (other._tokens, pace)
        assert pace.seconds_until(1, on.loop.now) > 0.0


@given(
    st.lists(
        st.tuples(st.floats(0.0, 1.0), st.none() | st.floats(0.0, 1.0)),
        min_size=1,
        max_size=60,
    )
)
async def test_no_span_of_time_has_more_than_the_pace(
    visits: list[tuple[float, float | None]],
) -> None:
    async with stage(rate=1000, burst=1000, pace=PACE) as on:
        leaving = []
        for number, (gap, leaves_after) in enumerate(visits):
            await on.loop.advance(gap)
            visitor = on.login(str(number))
            if leaves_after is not None:
                leaving.append((on.loop.now + leaves_after, visitor))
            for when, who in leaving:
                if when <= on.loop.now and who.is_waiting:
                    who.cancel()
        await on.loop.advance(100.0)
        begun, order = on.begun, [int(name) for name in on.inside]
    assert order == sorted(order)
    for first in range(len(begun)):
        for last in range(first, len(begun)):
            most = AT_ONCE + A_SECOND * (begun[last] - begun[first])
            assert last - first + 1 <= most + 1e-6


async def test_a_loop_that_is_late_goes_on() -> None:
    async with stage(rate=1000, burst=1000, pace=PACE) as on:
        on.logins(AT_ONCE * 5)
        await turns()
        for _ in range(4):
            on.loop.now += 10.0
            (timer,) = on.loop.pending
            timer.fire()
            await turns()
        assert len(on.inside) == AT_ONCE * 5
