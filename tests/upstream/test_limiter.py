"""Who may log in when, by a clock that stands still until it is moved."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import TokenError, TooManyConnections
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.upstream.limiter import SWAPS_AT_ONCE, LoginLimiter
from tests.upstream.limited import Stage, stage, turns


async def test_a_burst_goes_through_at_once_and_then_the_rate() -> None:
    async with stage(rate=10, burst=3) as on:
        for number in range(6):
            on.login(str(number))
        await turns()
        assert (on.inside, on.limiter.waiting) == (["0", "1", "2"], 3)
        await on.loop.advance(0.099)
        assert len(on.inside) == 3
        await on.loop.advance(0.002)
        assert (on.inside[3:], on.limiter.waiting) == (["3"], 2)
        await on.loop.advance(0.2)
        assert (on.inside[4:], on.limiter.waiting) == (["4", "5"], 0)


async def test_tokens_that_nobody_took_are_there_up_to_the_burst() -> None:
    async with stage(rate=10, burst=3) as on:
        for number in range(3):
            on.login(str(number))
        await on.loop.advance(100)
        for number in range(4):
            on.login(f"later {number}")
        await turns()
        assert len(on.inside) == 6


async def test_a_newcomer_does_not_overtake() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        on.login("first")
        await turns()
        on.loop.now += 0.2  # there is a token, and no timer has said so yet
        on.login("second")
        await turns()
        assert on.inside == ["taken", "first"]


async def test_who_gives_up_waiting_loses_nobody_a_place_or_a_token() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        first, second = on.login("first"), on.login("second")
        on.login("third")
        await turns()
        second.cancel()
        first.cancel()
        await turns()
        assert on.limiter.waiting == 1
        await on.loop.advance(0.101)
        assert on.inside == ["taken", "third"]


async def test_who_gives_up_in_the_moment_of_its_turn_passes_it_on() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        first = on.login("first")
        on.login("second")
        await turns()
        (timer,) = on.loop.pending
        on.loop.now = timer.when
        timer.fire()  # the first is told ...
        first.cancel()  # ... and cancelled before it could go
        await turns()
        assert on.inside == ["taken", "second"]
        assert on.limiter.waiting == 0


async def test_who_gave_up_is_passed_over_even_before_it_could_say_so() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        first = on.login("first")
        on.login("second")
        await turns()
        (timer,) = on.loop.pending
        on.loop.now = timer.when
        first.cancel()
        timer.fire()
        await turns()
        assert on.inside == ["taken", "second"]


async def test_when_nobody_waits_no_timer_runs() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        waiting = on.login("first")
        await turns()
        assert len(on.loop.pending) == 1
        waiting.cancel()
        await turns()
        assert on.loop.pending == []


async def test_a_login_that_fails_has_cost_its_token() -> None:
    async with stage(rate=10, burst=1) as on:
        with pytest.raises(ConnectionError):
            async with on.limiter.login():
                raise ConnectionError
        on.login("next")
        await turns()
        assert on.inside == []
        await on.loop.advance(0.101)
        assert on.inside == ["next"]


async def test_swaps_take_a_tenth_and_logins_pass_them() -> None:
    async with stage(rate=100, burst=50) as on:
        on.let_go()
        for number in range(8):
            on.swap(f"swap {number}")
        await turns()
        assert len(on.inside) == 5  # a tenth of the burst
        for number in range(20):
            on.login(f"login {number}")
        await turns()
        assert len(on.inside) == 25
        await on.loop.advance(0.201)
        assert on.inside[25:] == ["swap 5", "swap 6"]


async def test_swaps_draw_on_the_tokens_of_all() -> None:
    async with stage(rate=10, burst=2) as on:
        on.swap("swap")
        on.login("first")
        on.login("second")
        await turns()
        assert on.inside == ["swap", "first"]
        await on.loop.advance(0.101)
        assert on.inside == ["swap", "first", "second"]


async def test_a_swap_is_not_starved_by_logins_that_came_later() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        on.swap("swap")
        for number in range(5):
            on.login(str(number))
        await on.loop.advance(0.101)
        assert on.inside == ["taken", "swap"]


@pytest.mark.parametrize("is_urgent", [False, True])
async def test_eight_swaps_are_under_way_at_once(*, is_urgent: bool) -> None:
    async with stage(rate=1000, burst=1000) as on:
        for number in range(10):
            on.swap(str(number), is_urgent=is_urgent)
        await on.loop.advance(100)
        assert len(on.inside) == SWAPS_AT_ONCE == 8
        on.login("login")
        await turns()
        assert on.inside[8:] == ["login"]
        on.let_go()
        await turns()
        assert on.inside[9:] == ["8", "9"]


async def test_an_urgent_swap_has_the_full_rate() -> None:
    async with stage(rate=10, burst=10) as on:
        on.let_go()
        for number in range(3):
            on.swap(f"early {number}")
        for number in range(5):
            on.swap(f"urgent {number}", is_urgent=True)
        await turns()
        assert on.inside == ["early 0", *(f"urgent {number}" for number in range(5))]


async def test_who_becomes_urgent_may_come_again() -> None:
    async with stage(rate=10, burst=10) as on:
        on.swap("first")
        waiting = on.swap("second")
        await turns()
        assert on.inside == ["first"]
        waiting.cancel()
        on.swap("second, urgent", is_urgent=True)
        await turns()
        assert on.inside == ["first", "second, urgent"]


async def test_a_swap_that_fails_makes_room() -> None:
    async with stage(rate=1000, burst=1000) as on:
        for number in range(7):
            on.swap(str(number))
        await turns()

        async def fail() -> None:
            async with on.limiter.swap():
                on.swap("next")
                await turns()
                assert len(on.inside) == 7
                raise ConnectionError

        with pytest.raises(ConnectionError):
            await fail()
        await turns()
        assert on.inside[7:] == ["next"]


async def test_a_swap_that_gives_up_in_its_moment_leaves_no_trace() -> None:
    async with stage(rate=10, burst=10) as on:
        on.let_go()
        on.swap("first")  # the only token that swaps have
        given_up = on.swap("second")
        await turns()
        (timer,) = on.loop.pending
        on.loop.now = timer.when
        timer.fire()
        given_up.cancel()
        on.swap("third")
        await turns()
        assert on.inside == ["first", "third"]


async def test_a_timer_that_fires_early_is_set_again() -> None:
    async with stage(rate=10, burst=1) as on:
        on.login("taken")
        on.login("first")
        await turns()
        (timer,) = on.loop.pending
        timer.fire()
        await turns()
        assert on.inside == ["taken"]
        await on.loop.advance(0.101)
        assert on.inside == ["taken", "first"]


@pytest.mark.both_loops
async def test_on_a_real_loop_everybody_gets_a_turn() -> None:
    limiter = LoginLimiter(2000.0, 2.0)
    done = []

    async def visit(number: int) -> None:
        async with limiter.swap(is_urgent=True) if number % 2 else limiter.login():
            done.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(visit(number))
    assert sorted(done) == list(range(20))
    assert limiter.waiting == 0


def end(on: Stage, number: int, how: str) -> None:
    """End one of the logins that are under way, if there is any."""
    if not on.present:
        return
    visitor = on.present[number % len(on.present)]
    match how:
        case "success":
            visitor.leave()
        case "no token":
            visitor.fail(TokenError("no AWS credentials"))
        case "unreachable":
            visitor.fail(ConnectionError())
        case cause:
            visitor.refuse(Cause(cause))


def leave_in_its_moment(on: Stage, *, is_told_first: bool) -> None:
    """Have a timer fire, and somebody who waits leave in the same turn of the loop."""
    waiting = [visitor for visitor in on.visitors if visitor.is_waiting]
    if waiting and on.loop.pending:
        timer = min(on.loop.pending, key=lambda timer: timer.when)
        on.loop.now = max(on.loop.now, timer.when)
        if not is_told_first:
            waiting[0].cancel()
        timer.fire()
        waiting[0].cancel()


async def take(step: Any, on: Stage) -> None:
    """Have one thing happen."""
    match step:
        case ("login within", seconds):
            on.login("login", within=seconds)
        case ("cancel", number):
            if on.visitors:
                on.visitors[number % len(on.visitors)].cancel()
        case ("leave in its moment", is_told_first):
            leave_in_its_moment(on, is_told_first=is_told_first)
        case ("logins", count):
            for _ in range(count):
                on.login("login")
        case ("advance", seconds):
            await on.loop.advance(seconds)
        case ("end", number, how):
            end(on, number, how)
        case _:
            on.swap(step, is_urgent=step == "urgent")


CROWDED = [Cause.WAKING_UP, Cause.TOO_MANY_CONNECTIONS, Cause.RATE_EXCEEDED]
endings = st.sampled_from([*CROWDED, "success", "no token", "unreachable", "denied"])
numbers = st.integers(0, 30)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("logins"), st.integers(1, 6)),
        st.sampled_from(["swap", "urgent"]),
        st.tuples(st.just("login within"), st.sampled_from([0.0, 0.05, 0.7, 20.0])),
        st.tuples(st.just("cancel"), numbers),
        st.tuples(st.just("leave in its moment"), st.booleans()),
        st.tuples(st.just("advance"), st.floats(0, 2)),
        st.tuples(st.just("end"), numbers, endings),
        st.tuples(st.just("end"), numbers, endings),  # twice as often
    ),
    min_size=15,
    max_size=60,
)


@given(steps, st.floats(1, 50), st.integers(1, 12), st.floats(0, 1))
def test_whatever_happens_the_budget_holds_and_nobody_is_forgotten(
    steps: list[Any], rate: float, burst: int, jitter: float
) -> None:
    asyncio.run(play(steps, rate=rate, burst=burst, jitter=jitter))


async def play(steps: list[Any], *, rate: float, burst: int, jitter: float) -> None:
    async with stage(rate, burst, random=lambda: jitter) as on:
        for step in steps:
            was_crowded, before = on.limiter.crowded_by, len(on.inside)
            await take(step, on)
            await turns()
            assert_within_budget(on.begun, rate, burst)
            assert len([each for each in on.present if each.name != "login"]) <= 8
            if was_crowded and on.limiter.crowded_by:
                assert len(on.inside) <= before + 1
                assert on.limiter.paused_for == 0.0 or len(on.inside) == before
        on.let_go()
        await on.loop.advance(1000)
        assert_nobody_is_forgotten(on)
        assert_in_order(on)


def assert_within_budget(begun: list[float], rate: float, burst: float) -> None:
    """See that no window of time has more logins than it may."""
    for first, since in enumerate(begun):
        for count, until in enumerate(begun[first:], start=1):
            assert count <= burst + rate * (until - since) + 1e-6


def assert_nobody_is_forgotten(on: Stage) -> None:
    """See that everybody was served, refused by the limiter, or had left."""
    assert on.limiter.waiting == 0
    for visitor in on.visitors:
        is_served = visitor.has_been_inside
        is_refused = isinstance(visitor.error, TooManyConnections)
        assert visitor.has_left
        assert is_served or is_refused or visitor.task.cancelled()
        assert not (is_served and is_refused)


def assert_in_order(on: Stage) -> None:
    """See that nobody was overtaken in its lane."""
    for lane in ("login", "swap", "urgent"):
        came = [each for each in on.visitors if each.name == lane]
        went = [each for each in on.order if each.name == lane]
        assert went == [each for each in came if each.has_been_inside]
