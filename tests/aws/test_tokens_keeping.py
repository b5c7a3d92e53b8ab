import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from dsqlproxy.aws.credentials import Credentials, Identity, StaticCredentials
from dsqlproxy.aws.tokens import Token, TokenSource
from dsqlproxy.errors import TokenError
from dsqlproxy.situations.cluster import Cause
from tests.aws.stage import (
    HOUR,
    SECRET,
    TROUBLE,
    Stage,
    kept,
    key_of,
    request,
)
from tests.upstream.wire import CLUSTER, REGION

KEYS = StaticCredentials.of("AKIAIOSFODNN7EXAMPLE", SECRET, None)
SESSION_KEYS = StaticCredentials.of("ASIAIOSFODNN7EXAMPLE", SECRET, "FQoGZXIvYXdzE+/==")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


# -- with keep -------------------------------------------------------------------------


async def test_credentials_are_there_before_the_first_login(stage: Stage) -> None:
    async with kept(stage.source()):
        await stage.until(lambda: len(stage.told.changed) == 1)


async def test_credentials_are_renewed_ahead_of_their_end(stage: Stage) -> None:
    stage.outcome = stage.keys("AKIA1", lifetime=HOUR)
    source = stage.source()
    async with kept(source):
        await stage.until(lambda: len(stage.told.changed) == 1)
        stage.clocks.pass_time(HOUR - 901)
        await stage.until_looked()
        assert stage.calls == 1
        stage.outcome = stage.keys("AKIA2", lifetime=HOUR)
        stage.clocks.pass_time(2)
        await stage.until(lambda: len(stage.told.changed) == 2)
        assert key_of(await source.sign(request())) == "AKIA2"


async def test_while_renewal_fails_logins_go_on(stage: Stage) -> None:
    stage.outcome = stage.keys(lifetime=HOUR)
    source = stage.source()
    async with kept(source):
        await stage.until(lambda: len(stage.told.changed) == 1)
        stage.outcome = TROUBLE
        stage.clocks.pass_time(HOUR - 60)
        await stage.until(lambda: len(stage.told.failed) == 1)
        assert source.failure_for(CLUSTER) is None
        token = await source.sign(request(lifetime_seconds=900))
        assert token.lifetime_seconds == 60
        stage.clocks.pass_time(61)
        assert source.failure_for(CLUSTER) is not None


async def test_tries_that_fail_are_further_and_further_apart(stage: Stage) -> None:
    stage.outcome = TROUBLE
    source = stage.source()
    async with kept(source):
        for failures, delay in enumerate((1, 2, 4), 1):
            await stage.until_failed(source, failures)
            await stage.until_looked()
            assert stage.calls == failures
            assert source.failure_for(CLUSTER) is not None, "known, and not forgotten"
            stage.clocks.pass_time(delay + 0.1)
    assert len(stage.told.failed) == 1


async def test_who_needs_a_token_does_not_wait_for_the_back_off(stage: Stage) -> None:
    stage.outcome = TROUBLE
    source = stage.source()
    async with kept(source):
        for failures in range(1, 6):
            await stage.until_failed(source, failures)
            stage.clocks.pass_time(30)
        await stage.until_failed(source, 6)
        stage.clocks.pass_time(1.1)
        calls = stage.calls
        stage.outcome = stage.keys()
        await source.sign(request())
        assert stage.calls == calls + 1


async def test_a_client_that_waits_has_credentials_looked_for(stage: Stage) -> None:
    stage.outcome = TROUBLE
    source = stage.source(look_seconds=60)
    async with kept(source):
        await stage.until(lambda: len(stage.told.failed) == 1)
        stage.clocks.pass_time(1.1)
        stage.outcome = stage.keys()
        async with asyncio.timeout(5):
            await source.changed_for(CLUSTER)
        assert source.failure_for(CLUSTER) is None
        assert stage.calls == 2


async def test_clients_that_wait_go_on_with_the_next_success(stage: Stage) -> None:
    stage.outcome = TROUBLE
    source = stage.source()
    async with kept(source), asyncio.TaskGroup() as group:
        await stage.until(lambda: len(stage.told.failed) == 1)
        waiting = [group.create_task(source.changed_for(CLUSTER)) for _ in range(50)]
        await stage.until_looked()
        assert not any(task.done() for task in waiting)
        assert stage.calls == 1
        stage.outcome = stage.keys()
        stage.version += 1  # aws sso login
    assert stage.calls == 2


async def test_who_has_credentials_need_not_wait_for_others(stage: Stage) -> None:
    source = stage.source()
    await source.current()
    await source.changed_for(CLUSTER)


async def test_a_file_that_changes_is_taken_up(stage: Stage) -> None:
    stage.outcome = stage.keys("AKIA1")
    source = stage.source()
    async with kept(source):
        await stage.until(lambda: len(stage.told.changed) == 1)
        await stage.until_looked()
        stage.outcome = stage.keys("AKIA2")
        stage.version += 1
        await stage.until(lambda: len(stage.told.changed) == 2)
        assert key_of(await source.sign(request())) == "AKIA2"
        await stage.until_looked(5)
        assert stage.calls == 2


async def test_half_a_file_throws_nothing_away(stage: Stage) -> None:
    stage.outcome = stage.keys("AKIA1")
    source = stage.source()
    async with kept(source):
        await stage.until(lambda: len(stage.told.changed) == 1)
        stage.outcome = TokenError("the AWS credentials are incomplete")
        stage.version += 1
        await stage.until(lambda: len(stage.told.failed) == 1)
        assert key_of(await source.sign(request())) == "AKIA1"
        stage.outcome = stage.keys("AKIA2")
        stage.version += 1
        await stage.until(lambda: len(stage.told.changed) == 2)
        assert key_of(await source.sign(request())) == "AKIA2"


@pytest.mark.parametrize("has_found", [True, False])
async def test_what_botocore_writes_begins_no_chain_of_fetches(
    stage: Stage, has_found: bool
) -> None:
    stage.writes_cache = True
    if not has_found:
        stage.outcome = TROUBLE
    async with kept(stage.source()):
        await stage.until(lambda: stage.calls >= 1)
        await stage.until_looked(20)
        assert stage.calls <= (1 if has_found else 2)


@pytest.mark.parametrize("has_found", [True, False])
async def test_a_program_that_writes_the_files_is_not_run_once_a_second(
    stage: Stage, has_found: bool
) -> None:
    stage.writes_file = True
    if not has_found:
        stage.outcome = TROUBLE
    async with kept(stage.source()):
        await stage.until(lambda: stage.calls >= 1)
        await stage.until_looked(20)
        assert stage.calls == 2


# `keep` is a task of the proxy: what it raised ended all sessions.
async def test_a_look_that_fails_ends_nothing_and_is_told_once(stage: Stage) -> None:
    stage.look_error = ValueError("embedded null byte")
    stage.outcome = stage.keys("AKIA1", lifetime=HOUR)
    source = stage.source()
    async with kept(source):
        await stage.until(lambda: len(stage.told.changed) == 1)
        await stage.until_looked(5)
        assert [type(error) for error in stage.told.watch] == [ValueError]
        stage.outcome = stage.keys("AKIA2", lifetime=HOUR)
        stage.clocks.pass_time(HOUR - 60)
        await stage.until(lambda: len(stage.told.changed) == 2)
        stage.look_error = None
        await stage.until_looked(2)
        stage.outcome = stage.keys("AKIA3", lifetime=HOUR)
        stage.version += 1
        await stage.until(lambda: len(stage.told.changed) == 3)
        stage.look_error = KeyError("x")
        await stage.until(lambda: len(stage.told.watch) == 2)


async def test_a_machine_without_threads_to_spare_is_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    source = stage.source()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        async with kept(source):
            await stage.until(lambda: bool(stage.told.watch and stage.told.failed))
            with pytest.raises(TokenError, match="NoThreadError"):
                await source.sign(request())
    async with kept(source):
        stage.clocks.pass_time(31)
        await stage.until(lambda: len(stage.told.changed) == 1)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(TokenError, match="NoThreadError"):
            await source.sign(request())
    await source.sign(request())


async def test_a_machine_that_wakes_tries_at_once(stage: Stage) -> None:
    stage.outcome = TROUBLE
    source = stage.source()
    async with kept(source):
        for failures in range(1, 6):
            await stage.until_failed(source, failures)
            stage.clocks.pass_time(30)
        await stage.until_failed(source, 6)
        await stage.until_looked()
        stage.clocks.suspend(7200)
        await stage.until(lambda: stage.calls == 7)


async def test_a_look_that_hangs_keeps_nothing_from_being_renewed(
    stage: Stage,
) -> None:
    stage.may_look.clear()
    source = stage.source()
    async with kept(source):
        await stage.until(lambda: len(stage.told.changed) == 1)
        stage.outcome = stage.keys("AKIA2", lifetime=HOUR)
        source.note_refused_by(CLUSTER, await source.sign(request()), Cause.DENIED)
        await stage.until(lambda: len(stage.told.changed) == 2)
        stage.outcome = stage.keys("AKIA3", lifetime=HOUR)
        stage.clocks.pass_time(HOUR - 60)
        await stage.until(lambda: len(stage.told.changed) == 3)
    assert source._watch._workers._jobs.empty()
    stage.may_look.set()


async def test_given_credentials_have_nothing_to_do_with_files(stage: Stage) -> None:
    source = stage.source(identity=Identity(given=KEYS))
    async with kept(source):
        await stage.until(lambda: len(stage.told.changed) == 1)
        await source.sign(request())
    assert stage.looks == 0


# -- what the cluster refuses ----------------------------------------------------------


@pytest.mark.both_loops
async def test_refused_credentials_are_replaced_at_once(stage: Stage) -> None:
    stage.outcome = stage.keys("AKIA1")
    source = stage.source()
    tokens = [await source.sign(request()) for _ in range(20)]
    stage.outcome = stage.keys("AKIA2")
    async with asyncio.TaskGroup() as group:
        for token in tokens:
            source.note_refused_by(CLUSTER, token, Cause.CREDENTIALS_REFUSED)
            assert source.failure_for(CLUSTER) is not None
            group.create_task(source.changed_for(CLUSTER))
    assert key_of(await source.sign(request())) == "AKIA2"
    assert stage.calls == 2
    source.note_refused_by(CLUSTER, tokens[0], Cause.CREDENTIALS_REFUSED)
    assert source.failure_for(CLUSTER) is None, "others sign already"
    assert stage.calls == 2


async def test_refused_credentials_that_are_found_again_sign_nothing(
    stage: Stage,
) -> None:
    source = stage.source()
    token = await source.sign(request())
    source.note_refused_by(CLUSTER, token, Cause.CREDENTIALS_REFUSED)
    with pytest.raises(TokenError, match="the cluster refuses") as caught:
        await source.sign(request())
    assert "AKIA…MPLE" in caught.value.detail
    assert [error.message for error in stage.told.failed] == [
        "the cluster refuses the AWS credentials"
    ]
    stage.clocks.pass_time(31)
    await source.sign(request())


@pytest.mark.parametrize(
    "cause", [Cause.SIGNATURE_EXPIRED, Cause.NOT_AUTHORIZED, Cause.DENIED]
)
async def test_other_refusals_ask_for_a_fetch_now_and_then(
    stage: Stage, cause: Cause
) -> None:
    source = stage.source()
    token = await source.sign(request())
    for _ in range(20):
        source.note_refused_by(CLUSTER, token, cause)
        await source.sign(request())
    await stage.until(lambda: stage.calls == 2)
    stage.clocks.pass_time(10)
    source.note_refused_by(CLUSTER, token, cause)
    await stage.until(lambda: stage.calls == 3)


async def test_a_token_of_unknown_origin_is_nobodys_fault(stage: Stage) -> None:
    source = stage.source()
    await source.current()
    token = Token("x", role="admin", lifetime_seconds=60)
    source.note_refused_by(CLUSTER, token, Cause.CREDENTIALS_REFUSED)
    assert source.failure_for(CLUSTER) is None


# -- what is told ----------------------------------------------------------------------


async def test_changes_are_told_with_what_is_left(stage: Stage) -> None:
    first = stage.outcome = stage.keys("AKIA1")
    source = stage.source()
    await source.current()
    assert stage.told.changed == [(first, None)]
    second = stage.keys("AKIA2", lifetime=HOUR)
    stage.outcome = second
    token = await source.sign(request())
    source.note_refused_by(CLUSTER, token, Cause.CREDENTIALS_REFUSED)
    await source.sign(request())
    assert stage.told.changed[1:] == [(second, HOUR)]


async def test_nobody_need_be_told(stage: Stage) -> None:
    source = TokenSource(
        Identity("dev"),
        region=REGION,
        clocks=stage.clocks.clocks,
        fetch=lambda _identity, _region, _programs: outcomes.pop(),
        look_at_files=stage._look,
    )
    outcomes: list[Credentials] = [stage.keys()]
    await source.current()
    source.close()
