"""A stage for the limiter: a loop whose time stands still, and those who come to it.

::

    async with stage(rate=10, burst=3) as on:
        first, second = on.login("first"), on.login("second", within=10)
        await turns()
        first.refuse(Cause.WAKING_UP)
        await on.loop.advance(0.5)
        assert on.inside == ["first", "second"]
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from dsqlproxy.errors import DsqlProxyError, UpstreamRejected
from dsqlproxy.situations.cluster import Cause, cause_of
from dsqlproxy.upstream.bucket import Bucket
from dsqlproxy.upstream.crowding import Crowding
from dsqlproxy.upstream.limiter import LoginLimiter

TURNS = 8
"""Turns of the loop in which everybody who was told has gone."""

SAID = {
    Cause.WAKING_UP: "unable to accept connection, waking up cluster, please retry"
    " later",
    Cause.TOO_MANY_CONNECTIONS: "Unable to accept connection, too many open"
    " connections.",
    Cause.RATE_EXCEEDED: "Unable to accept connection, rate exceeded.",
    Cause.DENIED: "unable to accept connection, access denied",
}


def refusal(cause: Cause) -> UpstreamRejected:
    """Give what the cluster says."""
    error = UpstreamRejected(SAID[cause], fields=(("M", SAID[cause]),))
    assert cause_of(error) is cause
    return error


@dataclass(eq=False)
class FakeTimer:
    when: float
    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def fire(self) -> None:
        self.cancel()
        self.callback()


@dataclass
class FakeLoop:
    """The time of a loop, moved by hand, and its timers."""

    now: float = 1000.0
    timers: list[FakeTimer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> FakeTimer:
        self.timers = [*self.pending, FakeTimer(when, callback)]
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
            self.now = max(self.now, first.when)
            first.fire()
            await turns()
        self.now = until
        await turns()


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@dataclass(eq=False)
class Visitor:
    """Somebody who came; can be made to leave, waiting or not."""

    name: str
    ending: asyncio.Future[None]
    told: list[Cause | None] = field(default_factory=list)
    """Why it had to wait, as the limiter said."""
    error: BaseException | None = None
    """What it left with."""
    has_been_inside: bool = False
    task: asyncio.Task[None] = field(init=False)

    @property
    def is_inside(self) -> bool:
        return self.has_been_inside and not self.ending.done() and not self.has_left

    @property
    def is_waiting(self) -> bool:
        return not self.has_been_inside and not self.has_left

    @property
    def has_left(self) -> bool:
        return self.task.done()

    def leave(self) -> None:
        """Go, with a login that succeeded."""
        if not self.ending.done():
            self.ending.set_result(None)

    def fail(self, error: Exception) -> None:
        """Go, with one that did not."""
        if not self.ending.done():
            self.ending.set_exception(error)

    def refuse(self, cause: Cause) -> None:
        """Go, refused by the cluster."""
        self.fail(refusal(cause))

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
    order: list["Visitor"] = field(default_factory=list)
    """The same, themselves."""
    begun: list[float] = field(default_factory=list)
    """When it was."""
    visitors: list[Visitor] = field(default_factory=list)
    nobody_stays: bool = False
    """Whether logins succeed as soon as they begin."""

    def login(self, name: str, *, within: float | None = None) -> Visitor:
        visitor = self._visitor(name)
        turn = self.limiter.login(within=within, on_wait=visitor.told.append)
        return self._come(visitor, turn)

    def swap(self, name: str, *, is_urgent: bool = False) -> Visitor:
        return self._come(self._visitor(name), self.limiter.swap(is_urgent=is_urgent))

    def logins(self, count: int, name: str = "", **settings: float) -> list[Visitor]:
        return [
            self.login(f"{name}{number}", within=settings.get("within"))
            for number in range(count)
        ]

    def let_go(self) -> None:
        """Have all logins succeed, those to come as well."""
        self.nobody_stays = True
        for visitor in self.visitors:
            visitor.leave()

    @property
    def present(self) -> list[Visitor]:
        """Those whose login is under way."""
        return [visitor for visitor in self.visitors if visitor.is_inside]

    def _visitor(self, name: str) -> Visitor:
        return Visitor(name, asyncio.get_running_loop().create_future())

    def _come(
        self, visitor: Visitor, turn: AbstractAsyncContextManager[None]
    ) -> Visitor:
        async def visit() -> None:
            try:
                async with turn:
                    self.inside.append(visitor.name)
                    self.order.append(visitor)
                    self.begun.append(self.loop.now)
                    visitor.has_been_inside = True
                    if not self.nobody_stays:
                        await visitor.ending
            except (DsqlProxyError, ConnectionError) as error:
                visitor.error = error

        visitor.task = self.group.create_task(visit())
        self.visitors.append(visitor)
        return visitor


@asynccontextmanager
async def stage(
    rate: float,
    burst: float,
    *,
    pace: tuple[float, float] | None = None,
    random: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[Stage]:
    """Give a stage; in the end everybody is sent home and nothing may be left.

    ``pace``: so many a second, so many at once. Without another ``random`` pauses are
    as long as they can be.
    """
    loop = FakeLoop()
    limiter = LoginLimiter(
        rate,
        burst,
        crowding=Crowding(random=random),
        pace=Bucket(*pace) if pace else None,
        running_loop=lambda: loop,
    )
    async with asyncio.TaskGroup() as group:
        on = Stage(limiter, loop, group)
        yield on
        for visitor in on.visitors:
            visitor.cancel()
    assert limiter.waiting == 0
    assert limiter._swaps == 0
    assert limiter._crowding._scout is None
    assert loop.pending == []
