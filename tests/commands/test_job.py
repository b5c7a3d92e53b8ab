import asyncio
import os
import signal

import pytest

from dsqlproxy.commands import job as module
from dsqlproxy.commands.child import Child
from dsqlproxy.commands.job import DRAIN_SECONDS, FORCE_SECONDS, Job, signals_to
from dsqlproxy.drain import Shutdown
from tests.kit.virtual_clocks import VirtualClocks

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


class StubbornChild(Child):
    """A command that notes what it is told, and ends when the test says so."""

    def __init__(self) -> None:
        self.told: list[signal.Signals] = []
        self.is_killed = False
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def send(self, number: signal.Signals) -> None:
        self.told.append(number)

    def kill(self) -> None:
        self.is_killed = True
        self.code.set_result(128 + signal.SIGKILL)

    async def wait(self) -> int:
        return await self.code


class Stage:
    """A job with its command, and what it does to the proxy."""

    def __init__(self) -> None:
        self.clocks = VirtualClocks()
        self.shutdown = Shutdown()
        self.job = Job(self.shutdown, clock=self.clocks.clocks.monotonic)
        self.child = StubbornChild()


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_a_signal_before_the_command_ends_the_proxy(stage: Stage) -> None:
    stage.job.note_signal(INT)
    stage.job.note_signal(TERM)
    assert (stage.shutdown.reason, stage.shutdown.force_reason) == ("SIGINT", "SIGTERM")
    assert stage.job.signal_before is INT
    assert not stage.job.has_begun


async def test_a_signal_is_for_the_command_as_often_as_it_comes(stage: Stage) -> None:
    stage.job.begin(stage.child)
    assert stage.job.has_begun
    told = [HUP, signal.SIGUSR1, TERM, HUP, HUP]
    for number in told:
        stage.job.note_signal(number)
        stage.clocks.pass_time(3600)
    assert stage.child.told == told
    assert not stage.shutdown.begun.is_set()


@pytest.mark.parametrize("number", [INT, signal.SIGQUIT])
@pytest.mark.parametrize("reaches", [True, False])
async def test_a_key_reaches_the_command_once(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    reaches: bool,
) -> None:
    monkeypatch.setattr(module, "reaches_from_terminal", lambda: reaches)
    stage.job.begin(stage.child)
    for _ in range(5):
        stage.job.note_signal(number)
    assert stage.child.told == [] if reaches else [number] * 5
    assert not stage.shutdown.begun.is_set()


async def test_a_second_request_to_end_kills_and_the_same_again_does_not(
    stage: Stage,
) -> None:
    stage.job.begin(stage.child)
    stage.job.note_signal(TERM)
    stage.clocks.pass_time(FORCE_SECONDS * 0.9)
    stage.job.note_signal(TERM)
    assert stage.child.told == [TERM, TERM]
    stage.clocks.pass_time(FORCE_SECONDS * 0.2)
    stage.job.note_signal(TERM)
    assert stage.child.is_killed
    await stage.job.run(stage.child)
    assert stage.job.code == 128 + TERM


async def test_a_command_that_ended_before_it_was_killed_keeps_its_code(
    stage: Stage,
) -> None:
    stage.job.begin(stage.child)
    stage.child.is_killed = True
    stage.child.code.set_result(5)
    await stage.job.run(stage.child)
    assert stage.job.code == 5


async def test_the_end_of_the_command_is_that_of_the_proxy(stage: Stage) -> None:
    stage.job.begin(stage.child)
    stage.child.code.set_result(3)
    asked = asyncio.get_running_loop().time()
    await stage.job.run(stage.child)
    assert stage.shutdown.begun.is_set()
    assert not stage.shutdown.forced.is_set()
    async with asyncio.timeout(DRAIN_SECONDS * 5):
        await stage.shutdown.forced.wait()
    assert asyncio.get_running_loop().time() - asked >= DRAIN_SECONDS * 0.9


async def test_a_signal_after_the_end_hurries_the_proxy(stage: Stage) -> None:
    stage.job.begin(stage.child)
    stage.child.code.set_result(3)
    await stage.job.run(stage.child)
    stage.job.note_signal(TERM)
    assert stage.shutdown.force_reason == "SIGTERM"
    assert (stage.child.told, stage.job.code) == ([], 3)


@pytest.mark.both_loops
async def test_signals_are_received_while_the_block_runs() -> None:
    received: list[signal.Signals] = []
    came = asyncio.Event()

    def receive(number: signal.Signals) -> None:
        received.append(number)
        came.set()

    with signals_to(receive):
        for number in (HUP, INT, signal.SIGQUIT, TERM, signal.SIGUSR1, signal.SIGUSR2):
            came.clear()
            os.kill(os.getpid(), number)
            await came.wait()
            assert received[-1] is number
    assert signal.getsignal(TERM) == signal.SIG_DFL


async def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with signals_to(lambda _: pytest.fail("it was ignored")):
            assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGUSR2)
            await asyncio.sleep(0)
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR2, before)
