"""For how long a keeper waits, and for what: the clocks are in the test's hand."""

import pytest

from dsqlproxy.errors import SwapError
from dsqlproxy.session import exchange, keeper, snapshot
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.lifetime import Backoff
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.swap import Swap
from dsqlproxy.upstream.connector import Upstream
from tests.kit.frames import error
from tests.kit.keeping import Stage, kept_session
from tests.kit.relayed import turns

pytestmark = pytest.mark.both_loops

MINUTE = 60.0
LONG = 3600.0
"""More than the test may take: nobody waits for it to pass."""
SET = "set timezone to 'Asia/Tokyo'"
INTERRUPTED = error("cancelled", sqlstate="57014")


class WrittenBackoff(Backoff):
    """A back-off that writes down what it would have been, and takes another time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(LONG, random=lambda: 0.0)
        self.seconds = seconds
        self.delays: list[float] = []

    def next_delay(self) -> float:
        self.delays.append(super().next_delay())
        return self.seconds


async def asks(stage: Stage) -> None:
    """Wait until the upstream owes an answer to a private question."""
    await stage.until(lambda: stage.between.relay.is_asked)


# -- swaps -----------------------------------------------------------------------------


# The client was held for as long as the next attempt was away.
async def test_a_suspect_is_asked_at_once_when_the_swap_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with kept_session() as stage:
        backoff = stage.keeper._backoff = WrittenBackoff(LONG)

        async def fail(_: Swap, new: Upstream) -> bytes:
            del new
            if stage.cluster.attempts == 1:
                # As if the clocks had jumped within a statement, some time ago.
                stage.keeper._is_suspect = True
            raise SwapError("could not be made equal")

        monkeypatch.setattr(Swap, "_carry_over", fail)
        stage.clocks.pass_time(49 * MINUTE)
        async with stage.keeping():
            await stage.logged("swap deferred")
            await stage.ask("select 1")
            await stage.until(lambda: bool(backoff.delays))
        assert stage.cluster.servers[0].heard == "SQ"
        assert stage.cluster.attempts == 2


# It settled over and over, which in a paused relay it never did.
async def test_a_relay_that_was_left_paused_is_switched_while_warm() -> None:
    async with kept_session() as stage:
        stage.clocks.pass_time(49 * MINUTE)
        stage.between.relay.pause()
        async with stage.keeping():
            await stage.ask("select 1")
        assert stage.keeper.swaps == 1
        assert stage.server.queries == [b"select 1"]


# -- upstreams that die at once --------------------------------------------------------


async def lose(stage: Stage) -> None:
    """Let the upstream die, and see it replaced."""
    before = stage.log.count("session recovered")
    await stage.server.end("reset")
    await stage.until(lambda: stage.log.count("session recovered") > before)


async def test_upstreams_that_die_at_once_are_replaced_less_and_less_often() -> None:
    async with kept_session() as stage:
        backoff = stage.keeper._recovery_backoff = WrittenBackoff(0.0)
        async with stage.keeping():
            for _ in range(6):
                await lose(stage)
            assert backoff.delays == [1.0, 2.0, 4.0, 8.0, 16.0]
            assert stage.cluster.attempts == 6
            stage.clocks.pass_time(MINUTE)
            await lose(stage)  # the first one that lasted
            assert len(backoff.delays) == 5
            await lose(stage)
            assert backoff.delays[5:] == [1.0]


async def test_a_client_that_speaks_gets_another_upstream_before_its_time() -> None:
    async with kept_session(backoff_seconds=LONG) as stage:
        async with stage.keeping():
            await lose(stage)
            await stage.server.end("reset")
            await stage.until(lambda: stage.between.relay.is_upstream_lost)
            await turns()
            assert stage.cluster.attempts == 1
            await stage.ask("select 1")
        assert stage.cluster.attempts == 2
        assert stage.server.queries == [b"select 1"]


# -- snapshots -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drain", "stop"])
async def test_a_session_that_ends_does_not_wait_for_a_snapshot(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "SETTLE_SECONDS", LONG)
    monkeypatch.setattr(snapshot, "SNAPSHOT_SECONDS", LONG)
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask(SET)
            stage.server.may_answer.clear()
            stage.fall_idle()
            await asks(stage)
            getattr(stage.between.relay, how)()
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.SHUTTING_DOWN


async def test_a_keeper_that_is_cancelled_does_not_wait_for_a_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "SETTLE_SECONDS", LONG)
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask(SET)
            stage.server.may_answer.clear()
            stage.fall_idle()
            await asks(stage)
        assert stage.between.relay.state is RelayState.PAUSED


@pytest.mark.parametrize("settle_seconds", [0.0, LONG])
async def test_a_snapshot_that_comes_late_ends_no_session_and_counts(
    settle_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "SETTLE_SECONDS", settle_seconds)
    monkeypatch.setattr(snapshot, "SNAPSHOT_SECONDS", 0.0)
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask(SET)
            stage.server.may_answer.clear()
            stage.fall_idle()
            await asks(stage)
            await turns()
            assert not stage.between.relay.ended.done()
            assert stage.kept.wants_snapshot
            stage.server.may_answer.set()
            await stage.until(lambda: not stage.kept.wants_snapshot)
            await stage.ask("select 1")
        assert stage.cluster.attempts == 0
        assert "no snapshot" not in stage.log


async def test_a_snapshot_that_was_interrupted_is_asked_for_once_more() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            for _ in range(2):  # each time anew
                await stage.ask(SET)
                stage.server.refusal = INTERRUPTED
                stage.fall_idle()
                await stage.until(lambda: not stage.kept.wants_snapshot)
        assert stage.log.count("no snapshot") == 2


async def test_a_snapshot_that_is_always_interrupted_is_not_asked_for_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = 0
    take = snapshot.take_snapshot

    async def count(kept: Kept) -> None:
        nonlocal taken
        taken += 1
        stage.server.refusal = INTERRUPTED
        await take(kept)

    monkeypatch.setattr(keeper, "take_snapshot", count)
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask(SET)
            stage.fall_idle()
            await stage.until(lambda: stage.log.count("no snapshot") == 2)
            await stage.ask("select 1")
        assert taken == 2
        assert stage.kept.wants_snapshot


# -- a client that leaves --------------------------------------------------------------


# Nobody was left to speak, and the session stayed until an upstream came.
async def test_a_client_that_left_during_a_ping_needs_no_other_upstream() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask("select 1")
            stage.server.may_answer.clear()
            stage.keeper.clocks_jumped()
            await asks(stage)
            stage.between.client.end_writing()
            await stage.until(lambda: stage.between.relay.client.has_ended)
            assert not stage.between.relay.ended.done()
            await stage.server.end("reset")
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.CLIENT_CLOSED
        assert stage.cluster.attempts == 0


async def test_a_client_that_left_during_a_ping_leaves_when_it_is_answered() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask("select 1")
            stage.server.may_answer.clear()
            stage.keeper.clocks_jumped()
            await asks(stage)
            stage.between.client.end_writing()
            await stage.until(lambda: stage.between.relay.client.has_ended)
            stage.server.may_answer.set()
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.CLIENT_CLOSED
