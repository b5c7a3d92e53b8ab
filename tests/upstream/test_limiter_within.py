"""How long a client waits for its turn, and who is not even let into the queue."""

import pytest

from dsqlproxy.errors import TooManyConnections
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.upstream.limiter import MOST_WAITING
from tests.upstream.limited import Stage, Visitor, stage, turns


def is_refused(visitor: Visitor) -> bool:
    """Whether the limiter let it go without a turn."""
    return isinstance(visitor.error, TooManyConnections)


def words(visitor: Visitor) -> str:
    """What it was refused with."""
    assert isinstance(visitor.error, TooManyConnections)
    return visitor.error.detail


async def wake_up(on: Stage) -> Visitor:
    """Have a login refused by a cluster that wakes up."""
    (first,) = on.logins(1, "first ")
    await turns()
    first.refuse(Cause.WAKING_UP)
    await turns()
    on.inside.clear()
    return first


async def test_who_could_not_go_in_time_is_refused_at_once() -> None:
    async with stage(rate=10, burst=3) as on:
        visitors = on.logins(10, within=0.55)
        await turns()
        assert [is_refused(visitor) for visitor in visitors] == 8 * [False] + 2 * [True]
        assert "5 clients wait" in words(visitors[8])
        assert "10 logins a second" in words(visitors[8])
        assert visitors[8].told == []
        await on.loop.advance(0.51)
        assert len(on.inside) == 8


async def test_who_waited_as_long_as_it_may_is_refused() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        on.swap("urgent", is_urgent=True)  # not in its lane, but before it
        waiting = on.login("waiting", within=0.15)
        await on.loop.advance(0.149)
        assert not waiting.has_left
        assert on.limiter.waiting == 1
        await on.loop.advance(0.002)
        assert is_refused(waiting)
        assert "At most 10 logins a second" in words(waiting)
        assert on.limiter.waiting == 0
        assert on.loop.pending == []
        await on.loop.advance(1)
        assert on.inside == ["taken", "urgent"]


async def test_whose_turn_comes_in_time_is_left_alone() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        waiting = on.login("waiting", within=0.15)
        await on.loop.advance(10)
        assert waiting.is_inside
        assert on.loop.pending == []


async def test_who_is_cancelled_takes_its_limit_with_it() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        waiting = on.login("waiting", within=10)
        await turns()
        assert len(on.loop.pending) == 2
        waiting.cancel()
        await turns()
        assert on.loop.pending == []


async def test_a_limit_in_the_moment_of_the_turn_changes_nothing() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        waiting = on.login("waiting", within=10)
        await turns()
        limit, timer = sorted(on.loop.pending, key=lambda timer: -timer.when)
        on.loop.now = limit.when
        timer.fire()
        limit.fire()
        await turns()
        assert waiting.is_inside


async def test_who_is_cancelled_in_the_moment_of_its_limit_leaves_no_trace() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        waiting = on.login("waiting", within=0.1)
        on.login("next")
        await turns()
        limit, _ = sorted(on.loop.pending, key=lambda timer: timer.when)
        limit.fire()
        waiting.cancel()
        await on.loop.advance(0.101)
        assert on.inside == ["taken", "next"]


async def test_a_limit_in_the_moment_of_a_cancel_changes_nothing() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        waiting = on.login("waiting", within=0.1)
        await turns()
        limit, _ = sorted(on.loop.pending, key=lambda timer: timer.when)
        waiting.cancel()
        limit.fire()
        await turns()
        assert waiting.task.cancelled()


async def test_with_no_time_at_all_one_goes_now_or_not() -> None:
    async with stage(rate=10, burst=1) as on:
        now, too_late = on.logins(2, within=0)
        await turns()
        assert now.is_inside
        assert is_refused(too_late)
        assert too_late.told == []


async def test_with_no_time_at_all_a_pause_is_the_end() -> None:
    async with stage(rate=10, burst=10) as on:
        await wake_up(on)
        late = on.login("late", within=0)
        await turns()
        assert "waking up" in words(late)
        assert late.told == []
        assert on.loop.pending == []


async def test_a_pause_alone_makes_nobody_be_refused_before_its_time() -> None:
    async with stage(rate=10, burst=10) as on:
        await wake_up(on)
        visitors = on.logins(10, within=0.2)
        await on.loop.advance(0.199)
        assert not any(visitor.has_left for visitor in visitors)
        await on.loop.advance(0.002)
        assert all("waking up" in words(visitor) for visitor in visitors)
        await on.loop.advance(10)
        assert on.inside == []


async def test_in_a_pause_the_rest_of_it_counts_for_those_behind_the_tokens() -> None:
    async with stage(rate=10, burst=10) as on:
        await wake_up(on)
        visitors = on.logins(14, within=0.75)  # 10 after the pause of 0.5 s, then 2
        await turns()
        assert [visitor.name for visitor in visitors if visitor.has_left] == [
            "12",
            "13",
        ]


async def test_a_scout_that_takes_long_is_not_waited_for_beyond_the_limit() -> None:
    async with stage(rate=10, burst=10) as on:
        await wake_up(on)
        scout, other = on.logins(2, within=1.0)
        await on.loop.advance(1.001)
        assert scout.is_inside
        assert is_refused(other)


async def test_without_a_limit_one_waits_as_long_as_it_takes() -> None:
    async with stage(rate=0.01, burst=1) as on:
        on.logins(4)
        await on.loop.advance(299)
        assert len(on.inside) == 3
        await on.loop.advance(2)
        assert len(on.inside) == 4


async def test_the_queue_has_an_end_for_those_without_a_limit_too() -> None:
    async with stage(rate=1, burst=1) as on:
        taken, *waiting = on.logins(1 + MOST_WAITING)
        refused = on.login("refused")
        swap = on.swap("swap", is_urgent=True)
        await turns()
        assert taken.is_inside
        assert f"{MOST_WAITING:,} wait already" in words(refused)
        assert on.limiter.waiting == MOST_WAITING + 1
        waiting[5].cancel()
        await turns()
        assert not on.login("in its place").ending.done()
        await turns()
        assert on.limiter.waiting == MOST_WAITING + 1
        for visitor in (swap, *waiting):
            visitor.cancel()


async def test_an_ear_that_fails_leaves_no_place_behind() -> None:
    def fail(_cause: Cause | None) -> None:
        raise ConnectionError

    async with stage(rate=1, burst=1) as on:
        on.login("taken")
        await turns()
        with pytest.raises(ConnectionError):
            async with on.limiter.login(within=10, on_wait=fail):
                raise AssertionError("it was not its turn")
        assert on.limiter.waiting == 0
        assert on.loop.pending == []
