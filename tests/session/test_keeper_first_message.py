"""Before the first message after a while: is the upstream still what it was?"""

import asyncio

import pytest

from dsqlproxy.errors import UpstreamRejected, UpstreamUnavailable
from dsqlproxy.session import (
    keeper as keeper_module,
    snapshot as snapshot_module,
)
from dsqlproxy.session.relay_state import RelayState
from tests.kit.frames import client, server
from tests.kit.keeping import kept_session

pytestmark = pytest.mark.both_loops

MINUTE = 60.0
REFUSED = UpstreamUnavailable("the cluster cannot be reached")


def refused() -> UpstreamRejected:
    message = "unable to accept connection, access denied"
    fields = (("S", "FATAL"), ("C", "08006"), ("M", message))
    return UpstreamRejected(message, fields=fields)


# -- the first message after a while ---------------------------------------------------


async def test_the_first_message_after_a_second_just_goes_on() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            stage.fall_idle()
            stage.clocks.pass_time(10)
            await stage.ask("select 1")
        assert stage.server.heard == "Q"


@pytest.mark.parametrize(
    "silence",
    [pytest.param("pass_time", id="awake"), pytest.param("suspend", id="asleep")],
)
async def test_after_a_long_silence_the_upstream_is_pinged_first(silence: str) -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            stage.fall_idle()
            getattr(stage.clocks, silence)(301)
            await stage.ask("select 1")
        assert stage.server.heard == "SQ"
        assert len(stage.cluster.servers) == 1


@pytest.mark.parametrize("move", ["suspend", "pause", "set_wall"])
async def test_after_a_jump_of_the_clocks_the_upstream_is_pinged_first(
    move: str,
) -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            stage.fall_idle()
            getattr(stage.clocks, move)(3)
            await stage.ask("select 1")
        assert stage.server.heard == "SQ"


async def test_a_clock_that_was_set_back_is_no_reason_to_doubt() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            stage.fall_idle()
            stage.clocks.set_wall(-3600)
            await stage.ask("select 1")
        assert stage.server.heard == "Q"


async def test_a_ping_that_is_not_answered_means_another_upstream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_module, "PING_SECONDS", 0.01)
    async with kept_session() as stage:
        old = stage.server
        old.may_answer.clear()
        async with stage.keeping():
            stage.fall_idle()
            stage.clocks.pass_time(301)
            await stage.ask("select 1")
        assert old.heard == "S"
        assert stage.server.queries == [b"select 1"]
        assert "upstream lost" in stage.log


async def test_an_upstream_that_is_lost_while_it_is_pinged_is_replaced() -> None:
    async with kept_session() as stage:
        old = stage.server
        old.may_answer.clear()
        async with stage.keeping():
            stage.fall_idle()
            stage.clocks.pass_time(301)
            await stage.say("select 1")
            await stage.until(lambda: old.heard == "S")
            await old.end("reset")
            await stage.answered()
        assert stage.server.queries == [b"select 1"]


# SWAP 4.4: by whatever clock.
@pytest.mark.parametrize("clock", ["monotonic", "boot", "wall"])
async def test_nothing_is_sent_to_an_upstream_that_may_be_closed(clock: str) -> None:
    async with kept_session() as stage:
        old = stage.server
        stage.fall_idle()
        setattr(stage.clocks, clock, getattr(stage.clocks, clock) + 59.6 * MINUTE)
        await stage.say("select 1")
        await stage.until(lambda: stage.between.relay.is_upstream_lost)
        async with stage.keeping():
            await stage.answered()
        assert old.heard == ""
        assert stage.server.queries == [b"select 1"]


# SWAP 3.6, ordering 6: the end and the message came in the same pass of the loop.
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_message_that_comes_with_the_end_of_the_upstream_goes_to_the_next(
    end: str,
) -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.server.stop()
            stage.fall_idle()
            getattr(stage.server.peer, end)()
            stage.between.relay._client_pump.received(client("Q"))
            await stage.answered()
        assert len(stage.cluster.servers) == 2
        assert stage.server.queries == [b"select 1"]


async def test_what_an_upstream_said_before_the_first_message_is_passed_on_first() -> (
    None
):
    async with kept_session() as stage:
        async with stage.keeping():
            await asyncio.sleep(0)
            stage.fall_idle()
            await stage.server.peer.send(server("N"))
            stage.between.relay._client_pump.received(client("Q"))
            assert stage.between.relay.state is RelayState.PAUSED
            said = server("N")
            assert await stage.between.client.receive(len(said)) == said
            await stage.answered()
        assert stage.server.heard == "Q"


async def test_a_socket_that_always_has_something_is_believed_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper_module, "MAX_POLLS", 3)
    async with kept_session() as stage, stage.keeping():
        await asyncio.sleep(0)
        stage.fall_idle()
        stage.between.relay.upstream.pause_reading()
        await stage.server.peer.send(server("N"))
        stage.between.relay._client_pump.received(client("Q"))
        await stage.until(lambda: stage.server.heard == "Q")


async def test_the_first_message_within_a_transaction_is_not_looked_at() -> None:
    async with kept_session() as stage, stage.keeping():
        stage.between.relay.tracker.note_sent(b"Q")
        stage.fall_idle()
        stage.clocks.pass_time(301)
        await stage.between.client.send(client("S"))
        await stage.until(lambda: stage.server.heard == "S")


async def test_an_upstream_is_not_pinged_where_nobody_could_help() -> None:
    async with kept_session(recovery="off") as stage:
        async with stage.keeping():
            stage.fall_idle()
            stage.clocks.suspend(301)
            stage.kept.services.watch.look()
            await stage.ask("select 1")
        assert stage.server.heard == "Q"
