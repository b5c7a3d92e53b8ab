import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dsqlproxy.aws.credentials import Identity, StaticCredentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.tokens import TokenSource
from dsqlproxy.errors import ShuttingDown, TokenError
from tests.aws.conftest import Enter
from tests.aws.sources import program
from tests.aws.stage import (
    SECRET,
    TROUBLE,
    Stage,
    kept,
    key_of,
    request,
    system_source,
)
from tests.kit.aws_stand_ins import Home, StandIns
from tests.upstream.wire import CLUSTER

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


# A client that had been told to run `aws configure` got, at the end of its wait, a hint
# about the network instead, since another fetch was under way.
async def test_who_cannot_wait_any_longer_is_told_what_the_last_fetch_found(
    stage: Stage,
) -> None:
    stage.outcome = TROUBLE
    source = stage.source()
    with pytest.raises(TokenError, match="AWS could not be reached"):
        await source.ready_for(CLUSTER, within=8)
    stage.is_open.clear()
    stage.clocks.pass_time(2)
    for within in (0.01, 0.0, -1.0):
        with pytest.raises(TokenError, match="AWS could not be reached") as caught:
            await source.ready_for(CLUSTER, within=within)
        assert caught.value.hint == "Do y."


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
    await stage.until(lambda: stage.calls == 4)  # a thread may begin late


# Four of them stopped all fetching for ever: nobody ended what botocore waits for.
async def test_programs_that_hang_are_ended_and_the_next_one_serves(
    enter: Enter, aws: StandIns, home: Home
) -> None:
    enter(**program(aws, home))
    aws.process.run.hang()
    source = system_source(Identity("dev"))
    source._flights._limit_seconds = 0.3
    for _ in range(6):
        with pytest.raises(TokenError, match="did not answer within"):
            await source._find(None, within=10)
        source._keyring._tried_at = None  # the second is over
        await until(lambda: source._flights._hanging == 0)
    assert source._programs == set()
    aws.process.run.release()
    source._flights._limit_seconds = 30.0
    assert (await source.current()).access_key_id == aws.mint.last.access_key_id
    source.close()


async def test_closing_ends_the_programs_that_run(
    enter: Enter, home: Home, tmp_path: Path
) -> None:
    enter()
    began = tmp_path / "began"
    home.profile("dev", credential_process=f"sh -c 'touch {began}; exec sleep 600'")
    source = system_source(Identity("dev"))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(ended_by_closing(source))
        await until(began.exists)
        source.close()
    for thread in source._flights._workers._threads:
        thread.join(10)
        assert not thread.is_alive()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what happens outside of this process."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


async def ended_by_closing(source: TokenSource) -> None:
    with pytest.raises(ShuttingDown):
        await source.current()


async def test_what_comes_late_is_used_if_there_is_nothing_else(stage: Stage) -> None:
    stage.is_open.clear()
    source = stage.source(hanging_seconds=0.001)
    with pytest.raises(TokenError):
        await source.current()
    async with asyncio.TaskGroup() as group:
        group.create_task(source.changed_for(CLUSTER))
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
