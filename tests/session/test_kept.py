"""What a session that is kept alive knows of itself, and the point of no return."""

import pytest

from dsqlproxy.errors import SwapError, UpstreamUnavailable
from dsqlproxy.session.exchange import converse
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.pins import NotCarriedOver, PinReason
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.replay import Answers, Replica, Request
from dsqlproxy.session.snapshot import take_snapshot
from dsqlproxy.upstream.connector import Upstream
from tests.kit.frames import client, command_complete, parse, server
from tests.kit.keeping import Stage, kept_session

SET = "set timezone to 'Asia/Tokyo'"
LISTENING = command_complete("LISTEN") + server("Z")


async def verified(stage: Stage) -> tuple[Upstream, Replica, bytes]:
    """Open another upstream and make it equal to the first."""
    kept = stage.kept
    new = await kept.open_upstream()
    replica = Replica(kept.memory)

    async def tell(request: Request) -> None:
        answers = Answers(request)
        await converse(new.channel, request.data, answers)
        replica.take(answers)

    await tell(replica.baseline(new.parameters))
    await tell(replica.early())
    await tell(replica.restoration())
    return new, replica, replica.verified()


# -- pins ------------------------------------------------------------------------------


async def test_a_session_that_can_be_moved_has_no_pin() -> None:
    async with kept_session() as stage:
        assert (stage.kept.pin, stage.kept.why_pinned) == ("", "")
        stage.kept.refuse_if_pinned()


async def test_a_session_that_is_not_understood_is_pinned() -> None:
    async with kept_session() as stage:
        await stage.server.stop()
        await stage.between.answer(server("Z"))
        assert stage.kept.pin == PinReason.DESYNCED
        assert stage.kept.why_pinned.startswith(PinReason.DESYNCED.sentence + ": ")
        assert not stage.kept.may_recover
        assert stage.kept.why_not_recovered == stage.kept.why_pinned
        with pytest.raises(SwapError, match="could not be followed"):
            stage.kept.refuse_if_pinned()


async def test_what_the_session_remembers_may_be_a_pin() -> None:
    async with kept_session() as stage:
        await stage.server.stop()
        await stage.between.ask(client("Q"), LISTENING)
        assert stage.kept.pin == PinReason.LISTEN
        assert stage.kept.why_pinned == PinReason.LISTEN.sentence
        with pytest.raises(NotCarriedOver):
            stage.kept.refuse_if_pinned()


async def test_what_only_a_server_could_tell_is_tried_again() -> None:
    async with kept_session() as stage:
        stage.kept.found_pin = PinReason.TEMPORARY
        assert stage.kept.pin == PinReason.TEMPORARY
        assert not stage.kept.may_recover
        stage.kept.refuse_if_pinned()  # asking again may show that it is over


# -- whether a lost upstream can be replaced -------------------------------------------


@pytest.mark.parametrize(
    ("recovery", "sql", "may"),
    [
        ("presumed", "select 1", True),
        ("presumed", SET, False),
        ("presumed", "select set_config('a', 'b', false)", False),
        ("exact", "select 1", True),
        ("exact", SET, False),
        ("exact", "select set_config('a', 'b', false)", False),
        ("off", "select 1", False),
    ],
)
async def test_a_session_may_be_recovered_as_far_as_it_is_known(
    recovery: str, sql: str, may: bool
) -> None:
    async with kept_session(recovery=recovery) as stage:
        await stage.ask(sql)
        assert stage.kept.may_recover == may


@pytest.mark.parametrize(
    ("recovery", "wants"), [("presumed", True), ("exact", True), ("off", False)]
)
async def test_settings_are_asked_for_where_that_helps(
    recovery: str, wants: bool
) -> None:
    async with kept_session(recovery=recovery) as stage:
        assert not stage.kept.wants_snapshot
        await stage.ask(SET)
        assert stage.kept.wants_snapshot == wants


async def test_it_says_why_a_lost_upstream_is_not_replaced() -> None:
    async with kept_session(recovery="off") as stage:
        assert stage.kept.why_not_recovered == "recovery is switched off"
    async with kept_session() as stage:
        await stage.ask(SET)
        assert stage.kept.why_not_recovered.startswith("its settings had changed")


CALL = client("BDES")
BY_STATEMENT = parse("select set_config($1, $2, false)") + CALL


async def call(stage: Stage, said: bytes) -> None:
    """Let the client run a prepared statement that may change any setting."""
    await stage.between.client.send(said)
    await stage.answered()


# What it sets is not in its text, so that nothing more is seen when it runs again.
async def test_a_prepared_set_config_that_may_have_run_makes_settings_stale() -> None:
    async with kept_session() as stage:
        kept = stage.kept
        await call(stage, BY_STATEMENT)
        assert (kept.is_stale, kept.may_recover, kept.wants_snapshot) == (
            True, False, True,
        )  # fmt: skip
        kept.relay.pause()
        await take_snapshot(kept)
        kept.relay.release()
        assert kept.memory.might_be_dirty
        assert kept.known_at_bytes == kept.relay.bytes_in
        assert (kept.is_stale, kept.may_recover, kept.wants_snapshot) == (
            False, True, False,
        )  # fmt: skip
        await call(stage, CALL)
        assert not kept.memory.is_dirty
        assert (kept.is_stale, kept.may_recover, kept.wants_snapshot) == (
            True, False, True,
        )  # fmt: skip


async def test_without_such_a_statement_what_is_said_makes_nothing_stale() -> None:
    async with kept_session() as stage:
        kept = stage.kept
        await call(stage, BY_STATEMENT)
        kept.relay.pause()
        await take_snapshot(kept)
        kept.relay.release()
        await stage.ask("select 1")  # takes the unnamed statement away
        assert kept.known_at_bytes < kept.relay.bytes_in
        assert not kept.is_stale


async def test_after_a_cut_over_settings_are_known_until_something_is_said() -> None:
    async with kept_session() as stage:
        kept = stage.kept
        await call(stage, BY_STATEMENT)
        kept.relay.pause()
        new, replica, changed = await verified(stage)
        kept.adopt(new, replica, changed)
        assert kept.memory.might_be_dirty
        assert not kept.is_stale
        await call(stage, CALL)
        assert kept.is_stale


# -- another upstream ------------------------------------------------------------------


async def test_an_upstream_that_cannot_be_opened_is_counted() -> None:
    async with kept_session() as stage:
        stage.cluster.refusals.append(UpstreamUnavailable("not there"))
        with pytest.raises(UpstreamUnavailable):
            await stage.kept.open_upstream()
        series = 'upstream_connects_total{listener="main",outcome="unavailable"} 1.0'
        assert series in stage.metrics


async def test_from_the_point_of_no_return_on_all_is_the_new_upstream_s() -> None:
    async with kept_session() as stage:
        kept: Kept = stage.kept
        await stage.ask("select 1")
        kept.relay.pause()
        kept.found_pin = PinReason.MISMATCH
        await stage.between.kept(client("Q"))
        new, replica, changed = await verified(stage)
        kept.adopt(new, replica, changed)
        assert kept.upstream is new
        assert kept.relay.upstream is new.channel
        assert kept.found_pin == ""
        await stage.answered()
        assert stage.server.queries == [b"select 1"]


async def test_a_session_that_is_ending_adopts_nobody() -> None:
    async with kept_session() as stage:
        kept, old = stage.kept, stage.kept.upstream
        kept.relay.pause()
        new, replica, changed = await verified(stage)
        kept.relay.stop()
        with pytest.raises(SwapError, match="the session is ending"):
            kept.adopt(new, replica, changed)
        assert kept.upstream is old
        assert kept.relay.state is RelayState.CLOSED
