import asyncio
import threading
from collections.abc import Iterator

import pytest

from dsqlproxy.aws.file_watch import FileWatch
from dsqlproxy.aws.files import Fingerprint, Stamp


def state(version: int) -> Fingerprint:
    return Fingerprint((("config", Stamp(version, 0, 0)),), ())


class Slow:
    """Files on a mount that answers when a test says so."""

    def __init__(self) -> None:
        self.version = 0
        self.looks = 0
        self.error: Exception | None = None
        self.may_end = threading.Event()
        self.may_end.set()
        self.watch = FileWatch(self._look, seconds=0.01)

    def _look(self) -> Fingerprint:
        self.looks += 1
        found = state(self.version)
        assert self.may_end.wait(10)
        if self.error is not None:
            raise self.error
        return found

    async def has_changed_in_the_end(self) -> bool:
        """Ask until the look that is under way has ended."""
        looking = self.watch._looking
        assert looking is not None
        self.may_end.set()
        await asyncio.wait([looking])
        return await self.watch.has_changed()


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.may_end.set()
    slow.watch.close()


async def test_a_change_is_told_once(slow: Slow) -> None:
    assert not await slow.watch.has_changed()
    slow.version += 1
    assert await slow.watch.has_changed()
    assert not await slow.watch.has_changed()


# A look at a slow mount was thrown away each time, so no change was ever seen.
async def test_a_look_that_is_late_counts_when_it_comes(slow: Slow) -> None:
    await slow.watch.has_changed()
    slow.version += 1
    slow.may_end.clear()
    for _ in range(3):
        assert not await slow.watch.has_changed()
    assert slow.looks == 2, "one at a time"
    assert await slow.has_changed_in_the_end()
    assert slow.looks == 2


async def test_a_look_from_before_a_fetch_tells_nothing(slow: Slow) -> None:
    await slow.watch.has_changed()
    slow.version += 1
    slow.may_end.clear()
    await slow.watch.has_changed()
    slow.watch.note_fetch_begun()
    slow.watch.note_fetch(state(2), state(2), has_found=True)
    assert not await slow.has_changed_in_the_end()
    slow.version += 1
    assert not await slow.watch.has_changed(), "the fetch has seen it"


async def test_what_goes_wrong_is_raised_and_over(slow: Slow) -> None:
    await slow.watch.has_changed()
    slow.error = ValueError("embedded null byte")
    with pytest.raises(ValueError, match="null"):
        await slow.watch.has_changed()
    slow.error, slow.version = None, 1
    assert await slow.watch.has_changed()


async def test_closing_lets_go_who_waits(slow: Slow) -> None:
    slow.may_end.clear()
    slow.watch._seconds = 60
    async with asyncio.TaskGroup() as group:
        asks = group.create_task(slow.watch.has_changed())
        await asyncio.sleep(0)
        slow.watch.close()
    assert not asks.result()
