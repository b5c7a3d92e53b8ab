"""Another thread asks the loop, and is never stuck with it."""

import asyncio
import threading

import pytest

from dsqlproxy.ops.bridge import LoopBridge, LoopStuckError


async def ask_in_thread(bridge: LoopBridge) -> int:
    return await asyncio.to_thread(bridge.call, threading.get_ident)


async def test_the_function_runs_on_the_thread_of_the_loop() -> None:
    bridge = LoopBridge(asyncio.get_running_loop())
    assert await ask_in_thread(bridge) == threading.get_ident()


async def test_what_the_function_raises_reaches_the_caller() -> None:
    bridge = LoopBridge(asyncio.get_running_loop())

    def fail() -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        await asyncio.to_thread(bridge.call, fail)


async def test_a_loop_that_does_not_come_round_is_stuck() -> None:
    bridge = LoopBridge(asyncio.get_running_loop(), answer_seconds=0.01)
    calls: list[str] = []
    asked = threading.Event()
    answers: list[str] = []

    def ask() -> None:
        try:
            bridge.call(lambda: calls.append("too late"))
        except LoopStuckError as error:
            answers.append(str(error))
        asked.set()

    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait()  # on the loop's own thread: this is the loop being stuck
    thread.join()
    await asyncio.sleep(0)
    assert answers == ["the event loop did not answer within 0.01 s"]
    assert calls == []


async def test_closing_on_the_loop_releases_who_waits() -> None:
    bridge = LoopBridge(asyncio.get_running_loop(), answer_seconds=20)
    waiting = threading.Event()

    class Watched(set):  # type: ignore[type-arg]
        def add(self, item: object) -> None:
            super().add(item)
            waiting.set()

    bridge._waiting = Watched()
    released = threading.Event()

    def ask() -> None:
        with pytest.raises(LoopStuckError, match="ending"):
            bridge.call(lambda: None)
        released.set()

    thread = threading.Thread(target=ask)
    thread.start()
    waiting.wait()
    bridge.close()
    assert released.wait(5)
    thread.join()


async def test_a_closed_bridge_refuses() -> None:
    bridge = LoopBridge(asyncio.get_running_loop())
    bridge.close()
    with pytest.raises(LoopStuckError, match="ending"):
        await ask_in_thread(bridge)


def test_a_loop_that_has_ended_is_stuck() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(LoopStuckError, match="ending"):
        LoopBridge(loop).call(lambda: None)
