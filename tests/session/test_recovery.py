"""A lost upstream, replaced or not; the cluster is in the test's hand."""

import pytest

from dsqlproxy.errors import UpstreamRejected, UpstreamUnavailable
from dsqlproxy.session import (
    recovery as recovery_module,
)
from dsqlproxy.session.pins import PinReason, pinned
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.replay import Replica
from dsqlproxy.situations.cluster import with_advice
from tests.kit.frames import client, server
from tests.kit.keeping import kept_session

pytestmark = pytest.mark.both_loops

MINUTE = 60.0
REFUSED = UpstreamUnavailable("the cluster cannot be reached")


def refused() -> UpstreamRejected:
    message = "unable to accept connection, access denied"
    fields = (("S", "FATAL"), ("C", "08006"), ("M", message))
    return UpstreamRejected(message, fields=fields)


# -- recovery --------------------------------------------------------------------------


async def test_a_lost_upstream_is_replaced_at_once() -> None:
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.ask("select 1")
            await stage.server.end()
            await stage.logged("session recovered")
            await stage.ask("select 2")
        assert stage.server.queries == [b"select 2"]
        assert stage.keeper.swaps == 0


# SWAP 3.6, ordering 5.
async def test_a_fatal_is_the_client_s_when_recovery_is_refused() -> None:
    async with kept_session() as stage:
        stage.cluster.refusals.append(refused())
        async with stage.keeping():
            await stage.server.peer.send(server("F"))
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_ENDED
        assert await stage.between.client.receive(len(server("F"))) == server("F")
        assert "recovery failed" in stage.log


@pytest.mark.parametrize(
    ("recovery", "sql"),
    [
        pytest.param("off", "select 1", id="switched off"),
        pytest.param("presumed", "set timezone to 'Asia/Tokyo'", id="dirty"),
        pytest.param("exact", "select set_config('a', 'b', false)", id="maybe dirty"),
    ],
)
async def test_a_session_that_is_not_known_well_enough_ends_with_its_upstream(
    recovery: str, sql: str
) -> None:
    async with kept_session(recovery=recovery) as stage:
        await stage.ask(sql)
        async with stage.keeping():
            await stage.server.end()
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_LOST
        assert stage.cluster.attempts == 0
        assert stage.keeper.why_not_replaced


async def test_a_recovery_goes_on_until_the_cluster_is_there_again() -> None:
    async with kept_session() as stage:
        stage.cluster.refusals += [REFUSED] * 5
        async with stage.keeping():
            await stage.server.end()
            await stage.logged("session recovered")
        assert stage.cluster.attempts == 6
        assert stage.log.count("recovery attempt failed") == 5


async def test_a_client_that_waits_cuts_the_next_delay_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery_module, "BUDGET_SECONDS", 5.0)
    async with kept_session(backoff_seconds=3600.0) as stage:
        stage.cluster.refusals.append(REFUSED)
        async with stage.keeping():
            await stage.server.end()
            await stage.logged("recovery attempt failed")
            await stage.say("select 2")
            await stage.logged("session recovered")
            await stage.answered()
        assert stage.server.queries == [b"select 2"]


async def test_a_client_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_module, "BUDGET_SECONDS", 0.01)
    async with kept_session(backoff_seconds=3600.0) as stage:
        stage.cluster.refusals += [REFUSED] * 1000
        async with stage.keeping():
            await stage.server.end()
            await stage.logged("recovery attempt failed")
            await stage.say("select 2")
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_LOST
        assert stage.keeper.why_not_replaced == str(REFUSED)


async def test_a_client_that_had_spoken_when_the_upstream_was_lost_waits_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery_module, "BUDGET_SECONDS", 0.01)
    async with kept_session(backoff_seconds=3600.0) as stage:
        stage.cluster.refusals += [REFUSED] * 1000
        stage.between.relay.pause()
        await stage.between.kept(client("Q"))
        await stage.server.end()
        await stage.until(lambda: stage.between.relay.is_upstream_lost)
        async with stage.keeping():
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_LOST


async def test_an_upstream_lost_in_the_middle_of_a_swap_is_recovered() -> None:
    async with kept_session() as stage:
        old = stage.server
        old.may_answer.clear()
        stage.clocks.pass_time(48 * MINUTE)
        async with stage.keeping():
            await stage.until(lambda: stage.between.relay.is_asked)
            await old.end()
            await stage.logged("session recovered")
            await stage.ask("select 1")
        assert "swap deferred" not in stage.log
        assert stage.keeper.swaps == 0


# It was restored as it had been before, since nobody asked whether that is known.
@pytest.mark.parametrize("said", [server("F"), server("312X")])
async def test_an_upstream_that_dies_while_it_is_asked_is_not_guessed_at(
    said: bytes,
) -> None:
    async with kept_session() as stage:
        await stage.ask("set timezone to 'Asia/Tokyo'")
        stage.server.may_answer.clear()
        stage.fall_idle()
        async with stage.keeping():
            await stage.until(lambda: stage.between.relay.is_asked)
            await stage.server.peer.send(said)
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_LOST
        assert stage.cluster.attempts == 0
        assert stage.keeper.why_not_replaced == (
            "its settings had changed a moment before"
        )


def unequal(monkeypatch: pytest.MonkeyPatch, *reasons: PinReason) -> None:
    """Let the next upstreams not be made equal, each for its reason."""
    left, real = list(reasons), Replica.verified

    def verified(replica: Replica) -> bytes:
        if left:
            raise pinned(left.pop(0))
        return real(replica)

    monkeypatch.setattr(Replica, "verified", verified)


# It was tried again as long as the client was silent, with a login each time.
async def test_a_session_that_cannot_be_made_equal_twice_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unequal(monkeypatch, *[PinReason.MISMATCH] * 1000)
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.server.end()
            ending = await stage.between.ending()
        assert ending.reason is CloseReason.UPSTREAM_LOST
        assert stage.cluster.attempts == 2
        assert stage.keeper.why_not_replaced == PinReason.MISMATCH.sentence


async def test_one_that_is_unequal_for_another_reason_each_time_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unequal(monkeypatch, PinReason.MISMATCH, PinReason.ROLE, PinReason.MISMATCH)
    async with kept_session() as stage:
        async with stage.keeping():
            await stage.server.end()
            await stage.logged("session recovered")
        assert stage.cluster.attempts == 4


# The HINT is in the fields only: what the proxy says of it stands in its place.
@pytest.mark.parametrize(
    "hint", ["Signature expired: 2 is now earlier than 3", "Signature not yet current"]
)
async def test_a_token_for_another_time_is_signed_again_once_the_clock_is_right(
    hint: str,
) -> None:
    denied = refused()
    fields = (*denied.fields, ("H", hint))
    late = with_advice(UpstreamRejected(denied.message, fields=fields), role="admin")
    async with kept_session() as stage:
        stage.cluster.refusals += [late] * 3
        async with stage.keeping():
            await stage.server.end()
            await stage.logged("session recovered")
        assert stage.cluster.attempts == 4
