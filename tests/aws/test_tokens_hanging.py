import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from dsqlproxy.aws.credentials import StaticCredentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.errors import TokenError
from tests.aws.stage import (
    SECRET,
    Stage,
    kept,
    key_of,
    request,
)

KEYS = StaticCredentials.of("AKIAIOSFODNN7EXAMPLE", SECRET, None)
SESSION_KEYS = StaticCredentials.of("ASIAIOSFODNN7EXAMPLE", SECRET, "FQoGZXIvYXdzE+/==")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


async def test_nothing_blocks_the_event_loop(stage: Stage) -> None:
    before = set(threading.enumerate())
    await stage.source().sign(request())
    new = {thread.name: thread for thread in set(threading.enumerate()) - before}
    assert set(new) == {"credentials-0", "token-0"}
    assert all(thread.daemon for thread in new.values())


async def test_a_fetch_that_hangs_holds_up_no_signing(stage: Stage) -> None:
    source = stage.source()
    await source.sign(request())
    stage.is_open.clear()
    async with kept(source):
        stage.version += 1
        await stage.until(lambda: stage.calls == 2)
        for _ in range(100):
            await source.sign(request())
        stage.is_open.set()


async def test_who_waits_for_a_source_that_hangs_is_told_so(stage: Stage) -> None:
    stage.is_open.clear()
    source = stage.source(wait_seconds=0.01)
    for find in (source.current, lambda: source.sign(request())):
        with pytest.raises(TokenError, match="did not answer within 0") as caught:
            await find()
        assert "AWS profile 'dev'" in caught.value.detail
    assert stage.calls == 1


async def test_signing_that_hangs_is_told_as_well(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object, **__: object) -> Secret:
        stage.is_open.wait(10)
        raise KeyError

    source = stage.source(wait_seconds=0.01)
    await source.current()
    stage.is_open.clear()
    monkeypatch.setattr("dsqlproxy.aws.signer.Signer.sign", hang)
    with pytest.raises(TokenError, match="did not answer within"):
        await source.sign(request())


async def test_a_source_that_hangs_for_good_is_asked_again_but_not_for_ever(
    stage: Stage,
) -> None:
    stage.is_open.clear()
    source = stage.source(hanging_seconds=0.001)
    for _ in range(4):
        with pytest.raises(TokenError, match="did not answer within 0"):
            await source.current()
        stage.clocks.pass_time(2)
    with pytest.raises(TokenError, match="hangs") as caught:
        await source.current()
    assert "asked 4 times" in caught.value.detail
    assert stage.calls == 4


async def test_what_comes_late_is_used_if_there_is_nothing_else(stage: Stage) -> None:
    stage.is_open.clear()
    source = stage.source(hanging_seconds=0.001)
    with pytest.raises(TokenError):
        await source.current()
    async with asyncio.TaskGroup() as group:
        group.create_task(source.changed())
        await asyncio.sleep(0)
        stage.is_open.set()
    assert source.failure is None
    assert (await source.current()).access_key_id == "AKIAIOSFODNN7EXAMPLE"
    assert stage.calls == 1


async def test_what_comes_late_replaces_nothing(stage: Stage) -> None:
    stage.is_open.clear()
    source = stage.source(hanging_seconds=0.001)
    with pytest.raises(TokenError):
        await source.current()
    hangs, stage.is_open = stage.is_open, threading.Event()
    stage.is_open.set()
    source._flights._limit_seconds = 30.0
    stage.clocks.pass_time(2)
    held = stage.outcome = stage.keys("AKIA2")
    assert await source.current() == held
    hangs.set()
    await stage.until(lambda: stage.ended == 2)
    assert await source.current() == held
    assert len(stage.told.changed) == 1


@pytest.mark.both_loops
async def test_a_hundred_logins_make_one_fetch(stage: Stage) -> None:
    stage.is_open.clear()
    source = stage.source()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(source.sign(request())) for _ in range(100)]
        await stage.until(lambda: stage.calls == 1)
        stage.is_open.set()
    assert {key_of(task.result()) for task in tasks} == {"AKIAIOSFODNN7EXAMPLE"}
    assert stage.calls == 1


async def test_a_login_that_is_cancelled_ends_no_fetch(stage: Stage) -> None:
    stage.is_open.clear()
    source = stage.source()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.sign(request()))
        await stage.until(lambda: stage.calls == 1)
        task.cancel()
    stage.is_open.set()
    await source.sign(request())
    assert stage.calls == 1
