"""When what is done, and what comes first; the clocks are in the test's hand."""

import asyncio

import pytest

from dsqlproxy.errors import UpstreamRejected, UpstreamUnavailable
from dsqlproxy.session import (
    keeper as keeper_module,
    snapshot as snapshot_module,
)
from dsqlproxy.session.reasons import CloseReason
from tests.kit.frames import TERMINATE, client, error, server
from tests.kit.keeping import kept_session

pytestmark = pytest.mark.both_loops

MINUTE = 60.0
REFUSED = UpstreamUnavailable("the cluster cannot be reached")


def refused() -> UpstreamRejected:
    message = "unable to accept connection, access denied"
    fields = (("S", "FATAL"), ("C", "08006"), ("M", message))
    return UpstreamRejected(message, fields=fields)


# -- swaps -----------------------------------------------------------------------------


async def test_a_young_upstream_is_left_alone() -> None:
    async with kept_session() as stage:
        stage.clocks.pass_time(47 * MINUTE)
        async with stage.keeping():
            await stage.ask("select 1")
        assert stage.cluster.attempts == 0
        assert stage.keeper.upstream_age == 47 * MINUTE
        assert stage.keeper.seconds_to_swap == MINUTE


async def test_an_idle_session_is_swapped_when_it_is_due() -> None:
    async with kept_session() as stage:
        await stage.ask("set timezone to 'Asia/Tokyo'")
        stage.clocks.pass_time(48 * MINUTE)
        async with stage.keeping():
            await stage.logged("upstream swapped")
            assert stage.keeper.swaps == 1
            assert stage.keeper.upstream_age == 0
            assert stage.server.settings[b"timezone"] == b"Asia/Tokyo"
            await stage.ask("select 2")
            assert stage.server.queries == [b"select 2"]
        assert stage.cluster.servers[0].queries == [b"set timezone to 'Asia/Tokyo'"]
        assert stage.cluster.servers[0].heard.endswith("X")


@pytest.mark.parametrize("clock", ["monotonic", "boot", "wall"])
async def test_the_clock_that_counted_most_says_how_old_an_upstream_is(
    clock: str,
) -> None:
    async with kept_session() as stage:
        await stage.ask("select 1")
        now = getattr(stage.clocks, clock)
        setattr(stage.clocks, clock, now + 49 * MINUTE)
        async with stage.keeping():
            await stage.logged("upstream swapped")


async def test_a_busy_session_is_swapped_when_it_is_insisted() -> None:
    async with kept_session() as stage:
        stage.clocks.pass_time(54 * MINUTE)
        await stage.ask("begin")
        async with stage.keeping():
            await stage.logged("upstream swapped")
            await stage.ask("select 1")


async def test_what_the_client_says_meanwhile_is_answered_once() -> None:
    async with kept_session() as stage:
        await stage.ask("select 1")
        stage.clocks.pass_time(48 * MINUTE)
        old = stage.server
        old.may_answer.clear()
        async with stage.keeping():
            await stage.until(lambda: stage.between.relay.is_asked)
            await stage.say("select 2")
            await stage.until(lambda: stage.between.relay.is_client_waiting)
            old.may_answer.set()
            await stage.answered()
        assert old.queries == [b"select 1"]
        assert stage.server.queries == [b"select 2"]
        assert stage.keeper.swaps == 1


async def test_a_swap_that_cannot_be_is_tried_again() -> None:
    async with kept_session() as stage:
        stage.cluster.refusals += [REFUSED, REFUSED]
        stage.clocks.pass_time(48 * MINUTE)
        async with stage.keeping():
            await stage.logged("upstream swapped")
        assert stage.cluster.attempts == 3
        assert stage.log.count("swap deferred outcome=deferred") == 2
        assert stage.keeper.why_not_replaced == ""


async def test_a_swap_that_the_old_upstream_refuses_is_rolled_back() -> None:
    async with kept_session() as stage:
        old = stage.server
        old.refusal = error("out of memory", sqlstate="53200")
        stage.clocks.pass_time(48 * MINUTE)
        async with stage.keeping():
            await stage.logged("swap deferred outcome=failed")
            await stage.logged("upstream swapped")
        assert "the old upstream refused a question (53200)" in stage.log


async def test_a_question_that_was_interrupted_is_asked_once_more() -> None:
    async with kept_session() as stage:
        stage.server.refusal = error("cancelled", sqlstate="57014")
        stage.clocks.pass_time(48 * MINUTE)
        async with stage.keeping():
            await stage.logged("upstream swapped")
        assert "swap deferred" not in stage.log


async def test_a_session_that_cannot_be_swapped_ends_at_the_limit_with_the_reason() -> (
    None
):
    async with kept_session() as stage:
        stage.clocks.pass_time(59.8 * MINUTE)
        stage.cluster.refusals += [REFUSED] * 1000
        async with stage.keeping():
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.SESSION_LIMIT
        assert stage.keeper.why_not_replaced == str(REFUSED)
        assert stage.server.queries == []


async def test_an_open_transaction_is_not_ended_at_the_limit() -> None:
    async with kept_session() as stage:
        await stage.server.stop()
        await stage.between.ask(client("Q"), server("CY"))
        stage.clocks.pass_time(59.8 * MINUTE)
        stage.cluster.refusals += [REFUSED] * 1000
        async with stage.keeping():
            await stage.logged("swap deferred")
            await stage.between.ask(client("Q"), server("CY"))
            await stage.between.ask(client("K"), server("MZ"))
            assert (await stage.between.ending()).reason is CloseReason.SESSION_LIMIT


async def test_a_client_that_waits_for_the_next_attempt_is_not_let_go_too_late() -> (
    None
):
    async with kept_session() as stage:
        old = stage.server
        old.refusal = error("cancelled", sqlstate="53200")
        stage.clocks.pass_time(59.2 * MINUTE)
        async with stage.keeping():
            await stage.logged("swap deferred")
            await stage.say("begin")
            await stage.until(lambda: stage.between.relay.is_client_waiting)
            assert old.queries == []
            await stage.until(lambda: stage.keeper.swaps == 1)
            await stage.answered()
        assert stage.server.queries == [b"begin"]


# -- the watch -------------------------------------------------------------------------


async def test_after_a_suspend_an_idle_session_is_pinged_without_a_message() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            stage.fall_idle()
            stage.clocks.suspend(600)
            stage.kept.services.watch.look()
            await stage.until(lambda: stage.server.heard == "S")
            await stage.ask("select 1")
        assert stage.server.heard == "SQ"


# Catalogue 81: asleep at ten minutes, awake two hours later.
async def test_after_a_night_an_upstream_is_not_even_asked() -> None:
    async with kept_session() as stage:
        old = stage.server
        async with stage.keeping():
            stage.fall_idle()
            stage.clocks.pass_time(10 * MINUTE)
            stage.clocks.suspend(120 * MINUTE)
            stage.kept.services.watch.look()
            await stage.logged("session recovered")
            await stage.ask("select 1")
        assert old.heard == ""
        assert stage.server.queries == [b"select 1"]


async def test_settings_that_changed_are_asked_for_once_the_session_is_idle() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask("set timezone to 'Asia/Tokyo'")
            stage.fall_idle()
            await stage.until(lambda: not stage.kept.wants_snapshot)
            old = stage.server
            await old.end()
            await stage.logged("session recovered")
        assert stage.server.settings[b"timezone"] == b"Asia/Tokyo"


async def test_a_snapshot_that_is_refused_leaves_the_session_as_it_is() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask("set timezone to 'Asia/Tokyo'")
            stage.server.refusal = error("out of memory", sqlstate="53200")
            stage.fall_idle()
            await stage.logged("no snapshot")
            await stage.ask("select 1")
        assert stage.kept.wants_snapshot


async def test_a_snapshot_without_an_answer_ends_it_if_the_client_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_module, "SNAPSHOT_SECONDS", 0.01)
    monkeypatch.setattr("dsqlproxy.session.exchange.SETTLE_SECONDS", 0.01)
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask("set timezone to 'Asia/Tokyo'")
            stage.server.may_answer.clear()
            stage.fall_idle()
            await stage.until(lambda: stage.between.relay.is_asked)
            await stage.say("select 1")
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_LOST


# -- its end ---------------------------------------------------------------------------


async def test_a_keeper_that_fails_does_not_hold_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(keeper_module, "ping", fail)
    async with kept_session() as stage:
        async with stage.keeping():
            stage.fall_idle()
            stage.clocks.pass_time(301)
            await stage.ask("select 1")
            assert "session failed" in stage.log
            stage.fall_idle()
            stage.clocks.pass_time(301)
            await stage.ask("select 2")  # nobody would have released it
            await stage.server.end()
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_LOST


async def test_a_keeper_that_fails_without_an_upstream_ends_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(keeper_module, "Recovery", fail)
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.server.end()
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_LOST


async def test_a_keeper_ends_with_its_session() -> None:
    async with kept_session() as stage, asyncio.TaskGroup() as group:
        stage.clocks.pass_time(48 * MINUTE)
        stage.cluster.refusals += [REFUSED] * 10_000
        group.create_task(stage.keeper.run())
        await stage.logged("swap deferred")
        await stage.between.client.send(TERMINATE)
        await stage.between.ending()


async def test_pins_are_counted_while_they_hold() -> None:
    async with kept_session() as stage:
        stage.kept.found_pin = "temporary"
        stage.fall_idle()
        assert stage.log.count("session pinned pin=temporary") == 1
        assert 'pinned{reason="temporary"} 1.0' in stage.metrics
        stage.keeper.close()
        assert 'pinned{reason="temporary"} 0.0' in stage.metrics
