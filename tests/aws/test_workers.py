import asyncio
import threading

import pytest

from dsqlproxy.aws.workers import NoThreadError, Workers


async def test_result_and_error_come_back() -> None:
    workers = Workers(1, name="test")
    assert await workers.run(threading.current_thread) is not threading.main_thread()

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await workers.run(fail)
    workers.close()


async def test_a_call_that_hangs_holds_up_neither_others_nor_the_end() -> None:
    workers = Workers(2, name="test")
    release = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await workers.run(release.wait)
    assert await workers.run(lambda: "second thread") == "second thread"
    workers.close()
    assert all(thread.daemon for thread in workers._threads)
    release.set()


async def test_a_call_cancelled_before_its_turn_is_never_made() -> None:
    workers = Workers(1, name="test")
    release = threading.Event()
    made: list[str] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(workers.run(release.wait))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await workers.run(lambda: made.append("never"))
        release.set()
    await workers.run(lambda: made.append("after"))
    assert made == ["after"]
    workers.close()


async def test_a_thread_that_the_system_refuses_is_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers(1, name="test")
    made: list[str] = []
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NoThreadError):
            await workers.run(lambda: made.append("never"))
    await workers.run(lambda: made.append("once"))
    assert made == ["once"]
    workers.close()


async def test_closed_workers_refuse_and_their_threads_end() -> None:
    workers = Workers(2, name="test")
    await workers.run(int)
    workers.close()
    workers.close()
    for thread in workers._threads:
        thread.join(5)
        assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        await workers.run(int)
