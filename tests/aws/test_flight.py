import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from dsqlproxy.aws.flight import Flights
from dsqlproxy.aws.workers import NoThreadError

MAX_HANGING = 3


class Stage:
    """Flights of a call that a test may hold, and what came of them."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_open = threading.Event()
        self.has_begun = threading.Semaphore(0)
        self.is_open.set()
        self.outcome: Callable[[], str] = lambda: "result"
        self.ended: list[str | Exception] = []
        self.late: list[str] = []
        self.has_come_late = asyncio.Event()
        self.made: list[Flights[str]] = []

    def flights(self, limit_seconds: float = 30.0) -> Flights[str]:
        self.made.append(
            Flights(
                self._call,
                on_end=self.ended.append,
                on_late=self._late,
                limit_seconds=limit_seconds,
                max_hanging=MAX_HANGING,
            )
        )
        return self.made[-1]

    def close(self) -> None:
        self.is_open.set()
        for flights in self.made:
            flights.close()
            for thread in flights._workers._threads:
                thread.join(5)

    def _call(self) -> str:
        self.calls += 1
        self.has_begun.release()
        assert self.is_open.wait(10)
        return self.outcome()

    def _late(self, result: str) -> None:
        self.late.append(result)
        self.has_come_late.set()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.mark.both_loops
async def test_one_call_serves_all_who_wait(stage: Stage) -> None:
    flights = stage.flights()
    stage.is_open.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            flights.begin()
            assert flights.is_under_way
            group.create_task(flights.wait())
        stage.is_open.set()
    assert (stage.calls, stage.ended) == (1, ["result"])
    assert not flights.is_under_way


async def test_nobody_need_wait(stage: Stage) -> None:
    flights = stage.flights()
    flights.begin()
    await flights.wait()
    flights.begin()
    await flights.wait()
    assert stage.ended == ["result", "result"]
    await flights.wait()  # for nothing


async def test_who_waits_no_more_ends_nothing(stage: Stage) -> None:
    flights = stage.flights()
    stage.is_open.clear()
    flights.begin()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await flights.wait()
    assert flights.is_under_way
    stage.is_open.set()
    await flights.wait()
    assert stage.ended == ["result"]


async def test_an_exception_is_an_end(stage: Stage) -> None:
    error = KeyError("x")

    def fail() -> str:
        raise error

    stage.outcome = fail
    flights = stage.flights()
    flights.begin()
    await flights.wait()
    assert stage.ended == [error]


async def test_an_exit_in_the_call_ends_nothing_else(stage: Stage) -> None:
    def leave() -> str:
        raise SystemExit(3)

    stage.outcome = leave
    flights = stage.flights()
    flights.begin()
    await flights.wait()
    (end,) = stage.ended
    assert isinstance(end, RuntimeError)
    assert str(end) == "SystemExit"


@pytest.mark.both_loops
async def test_a_call_that_hangs_is_given_up_and_holds_up_no_other(
    stage: Stage,
) -> None:
    stage.is_open.clear()
    flights = stage.flights(limit_seconds=0.001)
    flights.begin()
    await flights.wait()
    (end,) = stage.ended
    assert isinstance(end, TimeoutError)
    assert not flights.is_under_way
    flights._limit_seconds = 30.0
    flights.begin()
    stage.is_open.set()
    await flights.wait()
    assert stage.ended[1:] == ["result"]


async def test_what_comes_late_is_told_as_such(stage: Stage) -> None:
    stage.is_open.clear()
    flights = stage.flights(limit_seconds=0.001)
    flights.begin()
    await flights.wait()
    stage.is_open.set()
    await stage.has_come_late.wait()
    assert stage.late == ["result"]
    assert len(stage.ended) == 1


async def test_while_too_many_hang_none_begins(stage: Stage) -> None:
    stage.is_open.clear()
    flights = stage.flights(limit_seconds=0.001)
    for _ in range(MAX_HANGING):
        flights.begin()
        await flights.wait()
        assert stage.has_begun.acquire(timeout=10)  # a thread may begin late
    flights.begin()
    assert not flights.is_under_way
    await flights.wait()
    assert stage.calls == MAX_HANGING
    assert [type(end) for end in stage.ended] == [
        *[TimeoutError] * MAX_HANGING,
        BlockingIOError,
    ]
    stage.is_open.set()
    await stage.has_come_late.wait()
    flights._limit_seconds = 30.0
    flights.begin()
    await flights.wait()
    assert stage.ended[-1] == "result"


async def test_a_call_that_fails_late_makes_room_too(stage: Stage) -> None:
    failed = threading.Event()

    def fail() -> str:
        failed.set()
        raise KeyError("x")

    stage.outcome = fail
    stage.is_open.clear()
    flights = stage.flights(limit_seconds=0.001)
    for _ in range(MAX_HANGING):
        flights.begin()
        await flights.wait()
    stage.is_open.set()
    flights._workers.close()
    for thread in flights._workers._threads:
        thread.join(5)
    await asyncio.sleep(0)  # the ends of the calls are before this in the loop
    assert failed.is_set()
    assert flights._hanging == 0
    assert stage.late == []


async def test_closing_wakes_who_waits_and_forgets_the_rest(stage: Stage) -> None:
    stage.is_open.clear()
    flights = stage.flights()
    flights.begin()
    async with asyncio.TaskGroup() as group:
        group.create_task(flights.wait())
        await asyncio.sleep(0)
        flights.close()
    stage.is_open.set()
    flights.close()
    for thread in flights._workers._threads:
        thread.join(5)
    await asyncio.sleep(0)
    flights.begin()
    assert (stage.calls, stage.ended, stage.late) == (1, [], [])


async def test_a_call_that_finds_no_thread_has_failed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    flights = stage.flights()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        flights.begin()
    assert [type(end) for end in stage.ended] == [NoThreadError]
    assert not flights.is_under_way
    flights.begin()
    await flights.wait()
    assert stage.ended[1:] == ["result"]


def test_a_call_that_ends_after_the_loop_does_no_harm() -> None:
    stage = Stage()
    stage.is_open.clear()

    async def begin() -> None:
        stage.flights().begin()

    asyncio.run(begin())
    stage.close()
    assert stage.ended == []
