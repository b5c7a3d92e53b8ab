import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from dsqlproxy.aws.cluster_tokens import ClusterTokens
from dsqlproxy.aws.tokens import SigningRequest
from dsqlproxy.errors import ShuttingDown, TokenError
from dsqlproxy.situations.cluster import Cause
from tests.aws.stage import TROUBLE, Stage, kept
from tests.upstream.wire import REGION

ONE, OTHER = "one.example", "other.example"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def at(host: str) -> SigningRequest:
    return SigningRequest(host, REGION, "admin", 60)


async def refuse(tokens: ClusterTokens, host: str) -> None:
    token = await tokens.sign(at(host))
    tokens.note_refused(token, Cause.CREDENTIALS_REFUSED)


# One cluster of two that refused an identity, and a client that tried again and again,
# left the other one usable for a few seconds of each minute.
async def test_what_one_cluster_refuses_signs_for_another(stage: Stage) -> None:
    source = stage.source()
    one, other = source.for_cluster(ONE), source.for_cluster(OTHER)
    async with kept(source):
        for _ in range(10):
            await refuse(one, ONE)
            await stage.until(lambda: one.failure is not None)
            with pytest.raises(TokenError, match="the cluster refuses"):
                await one.sign(at(ONE))
            other.note_accepted(await other.sign(at(OTHER)))
            assert other.failure is None
            assert source.failure is None
            await other.ready(within=0)
            await other.changed()
            stage.clocks.pass_time(31)
            await stage.until_looked()
    assert [error.detail.count(ONE) for error in stage.told.failed] == [1]
    assert len(stage.told.changed) == 1


async def test_others_that_are_found_serve_all_clusters(stage: Stage) -> None:
    stage.outcome = stage.keys("AKIA1")
    source = stage.source()
    one, other = source.for_cluster(ONE), source.for_cluster(OTHER)
    await one.ready(within=5)
    stage.outcome = stage.keys("AKIA2")
    await refuse(one, ONE)
    await one.ready(within=5)
    for tokens, host in ((one, ONE), (other, OTHER)):
        signed_by = (await tokens.sign(at(host))).signed_by
        assert signed_by is not None
        assert signed_by.access_key_id == "AKIA2"
    assert stage.calls == 2


async def test_a_cluster_that_takes_a_token_lets_go_who_waits(stage: Stage) -> None:
    one = stage.source().for_cluster(ONE)
    token = await one.sign(at(ONE))
    one.note_refused(token, Cause.CREDENTIALS_REFUSED)
    async with asyncio.TaskGroup() as group:
        waits = group.create_task(one.changed())
        await stage.until(lambda: stage.ended == 2)
        assert not waits.done()
        one.note_accepted(token)
    assert one.failure is None


async def test_who_waits_for_a_cluster_goes_on_when_it_is_to_be_tried_again(
    stage: Stage,
) -> None:
    source = stage.source()
    one = source.for_cluster(ONE)
    async with kept(source), asyncio.TaskGroup() as group:
        await refuse(one, ONE)
        waits = group.create_task(one.changed())
        await stage.until_looked()
        assert not waits.done()
        stage.outcome = TROUBLE  # which is not what it waits for
        stage.clocks.pass_time(1.1)
    assert one.failure is None


async def test_ready_waits_for_a_fetch_and_tells_how_it_failed(stage: Stage) -> None:
    one = stage.source().for_cluster(ONE)
    await one.ready(within=5)
    await one.ready(within=0)
    assert stage.calls == 1
    stage.outcome = TROUBLE
    failing = stage.source().for_cluster(ONE)
    for _ in range(3):
        with pytest.raises(TokenError, match="could not be reached"):
            await failing.ready(within=5)
    assert stage.calls == 2


async def test_ready_waits_for_as_long_as_it_is_told(stage: Stage) -> None:
    stage.is_open.clear()
    source = stage.source()
    one = source.for_cluster(ONE)
    began_at = time.monotonic()
    with pytest.raises(TokenError, match=r"did not answer within 0\.05 s"):
        await one.ready(within=0.05)
    assert time.monotonic() - began_at < 5
    async with asyncio.TaskGroup() as group:
        ready = group.create_task(one.ready(within=5))
        await asyncio.sleep(0)
        stage.is_open.set()
    assert ready.done()
    assert stage.calls == 1, "it joined the fetch that was under way"
    source.close()
    with pytest.raises(ShuttingDown):
        await one.ready(within=5)
