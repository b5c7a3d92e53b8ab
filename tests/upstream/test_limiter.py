"""Who may log in when, by a clock that stands still until it is moved."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.upstream.limiter import SWAPS_AT_ONCE, LoginLimiter

TURNS = 8
"""Turns of the loop in which everybody who was told has gone."""


@dataclass(eq=False)
class FakeTimer:
    when: float
    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class FakeLoop:
    """The time of a loop, moved by hand, and its timers."""

    now: float = 1000.0
    timers: list[FakeTimer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> FakeTimer:
        self.timers.append(FakeTimer(when, callback))
        return self.timers[-1]

    @property
    def pending(self) -> list[FakeTimer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    async def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer, and everybody go who is told."""
        await turns()
        until = self.now + seconds
        while due := [timer for timer in self.pending if timer.when <= until]:
            first = min(due, key=lambda timer: timer.when)
            first.cancel()
            self.now = max(self.now, first.when)
            first.callback()
            await turns()
        self.now = until
        await turns()


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@dataclass
class Visitor:
    """Somebody who came; can be made to leave, waiting or not."""

    task: asyncio.Task[None]

    def cancel(self) -> None:
        self.task.cancel()


@dataclass
class Stage:
    """A limiter, its time, and those who come to it."""

    limiter: LoginLimiter
    loop: FakeLoop
    group: asyncio.TaskGroup
    inside: list[str] = field(default_factory=list)
    """Those whose turn it was, in that order."""
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    visitors: list[Visitor] = field(default_factory=list)

    def login(self, name: str) -> Visitor:
        return self._come(name, self.limiter.login())

    def swap(self, name: str, *, is_urgent: bool = False) -> Visitor:
        return self._come(name, self.limiter.swap(is_urgent=is_urgent))

    def _come(self, name: str, turn: AbstractAsyncContextManager[None]) -> Visitor:
        async def visit() -> None:
            async with turn:
                self.inside.append(name)
                await self.leave.wait()

        self.visitors.append(Visitor(self.group.create_task(visit())))
        return self.visitors[-1]


@asynccontextmanager
async def stage(rate: float, burst: float) -> AsyncIterator[Stage]:
    """Give a stage; in the end everybody is sent home and nothing may be left."""
    loop = FakeLoop()
    limiter = LoginLimiter(rate, burst, running_loop=lambda: loop)
    async with asyncio.TaskGroup() as group:
        on = Stage(limiter, loop, group)
        yield on
        for visitor in on.visitors:
            visitor.cancel()
    assert limiter.waiting == 0
    assert loop.pending == []


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
        timer.cancel()
        timer.callback()  # the first is told ...
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
        timer.cancel()
        first.cancel()
        timer.callback()
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
        on.leave.set()
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
        on.leave.set()
        await turns()
        assert on.inside[9:] == ["8", "9"]


async def test_an_urgent_swap_has_the_full_rate() -> None:
    async with stage(rate=10, burst=10) as on:
        on.leave.set()
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
        on.leave.set()
        on.swap("first")  # the only token that swaps have
        given_up = on.swap("second")
        await turns()
        (timer,) = on.loop.pending
        on.loop.now = timer.when
        timer.cancel()
        timer.callback()
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
        timer.cancel()
        timer.callback()
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


arrivals = st.sampled_from(["login", "swap", "urgent"])
steps = st.lists(
    st.one_of(
        arrivals,
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("advance"), st.floats(0, 2)),
    ),
    max_size=40,
)


@given(steps, st.floats(1, 50), st.integers(1, 12))
def test_whatever_happens_the_budget_holds_and_nobody_is_forgotten(
    steps: list[str | tuple[str, float]], rate: float, burst: int
) -> None:
    asyncio.run(play(steps, rate=rate, burst=burst))


async def play(
    steps: list[str | tuple[str, float]], *, rate: float, burst: int
) -> None:
    async with stage(rate, burst) as on:
        began = on.loop.now
        on.leave.set()
        for step in steps:
            match step:
                case ("cancel", number):
                    if number < len(on.visitors):
                        on.visitors[int(number)].cancel()
                case ("advance", seconds):
                    await on.loop.advance(float(seconds))
                case "login":
                    on.login("login")
                case _:
                    on.swap("swap", is_urgent=step == "urgent")
            await turns()
            budget = burst + rate * (on.loop.now - began)
            assert len(on.inside) <= budget + 1e-6
        await on.loop.advance(1000)
        gave_up = sum(visitor.task.cancelled() for visitor in on.visitors)
        assert len(on.inside) == len(on.visitors) - gave_up
