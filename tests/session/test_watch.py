"""Who is looked at, how often, and what a jump of the clocks does."""

import asyncio

import pytest

from dsqlproxy.clocks import JUMP_SECONDS
from dsqlproxy.session import watch as watch_module
from dsqlproxy.session.watch import Watch
from tests.kit.virtual_clocks import VirtualClocks


class Session:
    """A session that is idle or not, as it is told."""

    def __init__(self, *, is_idle: bool = False) -> None:
        self.is_idle = is_idle
        self.looks = 0
        self.jumps = 0
        self.looked = asyncio.Event()

    def look(self) -> bool:
        self.looks += 1
        self.looked.set()
        return self.is_idle

    def clocks_jumped(self) -> None:
        self.jumps += 1


def watching(*sessions: Session) -> tuple[Watch, VirtualClocks]:
    clocks = VirtualClocks()
    watch = Watch(clocks.clocks)
    for session in sessions:
        watch.add(session)
    return watch, clocks


def test_a_busy_session_is_looked_at_each_time() -> None:
    session = Session()
    watch, _ = watching(session)
    for count in (1, 2, 3):
        watch.look()
        assert session.looks == count


def test_an_idle_session_costs_nothing_until_it_speaks_again() -> None:
    session = Session(is_idle=True)
    watch, _ = watching(session)
    for _ in range(3):
        watch.look()
    assert session.looks == 1
    watch.add(session)
    watch.look()
    assert session.looks == 2


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_session_that_has_ended_is_forgotten(is_idle: bool) -> None:
    session = Session(is_idle=is_idle)
    watch, clocks = watching(session)
    watch.look()
    watch.discard(session)
    watch.discard(session)  # it need not be there
    clocks.suspend(3600)
    watch.look()
    assert (session.looks, session.jumps) == (1, 0)


@pytest.mark.parametrize("move", ["suspend", "pause", "set_wall"])
def test_all_sessions_hear_of_a_jump_once(move: str) -> None:
    busy, idle = Session(), Session(is_idle=True)
    watch, clocks = watching(busy, idle)
    watch.look()
    getattr(clocks, move)(JUMP_SECONDS + 1)
    watch.look()
    assert (busy.jumps, idle.jumps) == (1, 1)
    clocks.pass_time(1)
    watch.look()
    assert (busy.jumps, idle.jumps) == (1, 1)


@pytest.mark.parametrize(
    ("move", "seconds"),
    [
        pytest.param("pass_time", 3600, id="a loop that was busy for an hour"),
        pytest.param("suspend", JUMP_SECONDS, id="a nap"),
        pytest.param("set_wall", -3600, id="a clock that is set back"),
    ],
)
def test_no_jump(move: str, seconds: float) -> None:
    session = Session()
    watch, clocks = watching(session)
    getattr(clocks, move)(seconds)
    watch.look()
    assert session.jumps == 0


# Two seconds are within what NTP and a busy loop may do, every second.
def test_small_differences_do_not_add_up() -> None:
    session = Session()
    watch, clocks = watching(session)
    for _ in range(10):
        clocks.pass_time(1)
        clocks.set_wall(1)
        watch.look()
    assert session.jumps == 0


async def test_it_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "TICK_SECONDS", 0.001)
    session = Session()
    watch, _ = watching(session)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        for _ in range(3):
            await session.looked.wait()
            session.looked.clear()
        task.cancel()
