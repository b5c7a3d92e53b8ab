"""An upstream that is lost in a quiet session, of which the client does not hear."""

import pytest

from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import RelayState
from tests.kit.channels import TlsContexts, channel_and_peer, until
from tests.kit.frames import (
    TERMINATE,
    client,
    error,
    query,
    server,
)
from tests.kit.relayed import FATAL, TOLD, relayed, turns

pytestmark = pytest.mark.both_loops

KIB = 1024
MIB = 1024 * KIB


# -- an upstream that is lost ----------------------------------------------------------


async def test_a_quiet_session_does_not_hear_that_its_upstream_is_gone(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with (
        relayed(perhaps_tls, is_kept=True) as between,
        channel_and_peer(perhaps_tls) as (channel, new),
    ):
        await between.ask(client("Q"), server("CZ"))
        between.server.close()
        await between.lost()
        assert between.keeper.told == ["lost"]
        await between.kept(client("Q"))
        assert between.keeper.told == ["lost", "client waits"]
        between.relay.cut_over(channel, TOLD)
        assert await new.receive(len(client("Q"))) == client("Q")
        assert await between.client.receive(len(TOLD)) == TOLD
        await new.send(server("CZ"))
        assert await between.client.receive(len(server("CZ"))) == server("CZ")


# SWAP 3.6, ordering 8.
async def test_a_reset_is_a_loss_like_another() -> None:
    async with relayed(is_kept=True) as between:
        between.server.reset()
        await between.lost()


# SWAP 3.6, ordering 5.
@pytest.mark.parametrize("cut", [0, 1, 5, 20])
async def test_a_fatal_in_a_quiet_session_is_withheld_however_it_comes(
    cut: int,
) -> None:
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        await between.server.send(FATAL[:cut])
        await turns()
        await between.server.send(FATAL[cut:])
        await between.lost()
        assert between.relay.bytes_out == 0
        between.relay.cut_over(channel, b"")
        await new.send(server("N"))
        assert await between.client.receive(len(server("N"))) == server("N")


async def test_a_fatal_together_with_the_answer_before_it_is_withheld() -> None:
    async with relayed(is_kept=True) as between:
        await between.ask(client("Q"))
        await between.server.send(server("TDCZ") + FATAL)
        answer = await between.client.receive(len(server("TDCZ")))
        assert answer == server("TDCZ")
        await between.lost()
        assert between.relay.bytes_out == len(server("TDCZ"))


async def test_a_fatal_with_half_a_frame_behind_it_is_withheld() -> None:
    async with relayed(is_kept=True) as between:
        await between.server.send(FATAL + server("N")[:10])
        await between.lost()
        assert between.relay.bytes_out == 0


async def test_the_client_gets_the_fatal_when_the_upstream_cannot_be_replaced() -> None:
    async with relayed(is_kept=True) as between:
        await between.server.send(server("N") + FATAL)
        await between.lost()
        await between.kept(client("Q"))
        between.relay.give_up()
        assert (await between.ending()).reason is CloseReason.UPSTREAM_ENDED
        between.relay.client.close()
        assert await between.client.receive_rest() == server("N") + FATAL


async def test_a_fatal_of_an_upstream_that_was_replaced_is_forgotten() -> None:
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        await between.server.send(FATAL)
        await between.lost()
        between.relay.cut_over(channel, b"")
        new.close()
        await between.lost()
        between.relay.give_up()
        assert (await between.ending()).reason is CloseReason.UPSTREAM_LOST
        between.relay.client.close()
        assert await between.client.receive_rest() == b""


async def test_an_upstream_that_is_gone_without_a_word_and_not_replaced() -> None:
    async with relayed(is_kept=True) as between:
        between.server.close()
        await between.lost()
        between.relay.give_up()
        assert (await between.ending()).reason is CloseReason.UPSTREAM_LOST


@pytest.mark.parametrize("said", [b"", FATAL])
async def test_a_keeper_that_cannot_help_lets_the_client_hear(said: bytes) -> None:
    async with relayed(is_kept=True) as between:
        between.keeper.replaces = False
        await between.server.send(said)
        between.server.close()
        reason = CloseReason.UPSTREAM_ENDED if said else CloseReason.UPSTREAM_LOST
        assert (await between.ending()).reason is reason
        between.relay.client.close()
        assert await between.client.receive_rest() == said


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param("Q", "", id="outstanding"),
        pytest.param("Q", "CY", id="in a transaction"),
        pytest.param("Q", "G", id="COPY IN"),
        pytest.param("PBH", "12", id="an open portal"),
        pytest.param("Q", "CZ2", id="not understood"),
    ],
)
@pytest.mark.parametrize("said", [b"", FATAL])
async def test_no_keeper_is_asked_where_something_is_under_way(
    asked: str, answered: str, said: bytes
) -> None:
    async with relayed(is_kept=True) as between:
        await between.ask(client(asked), server(answered))
        await between.server.send(said)
        between.server.close()
        ending = await between.ending()
        assert ending.reason in {CloseReason.UPSTREAM_ENDED, CloseReason.UPSTREAM_LOST}
        assert between.keeper.told == []
        between.relay.client.close()
        assert await between.client.receive_rest() == said


# Ours would be the words of an upstream that had begun to say something.
async def test_an_error_too_large_to_be_held_is_no_fatal_to_be_withheld() -> None:
    large = error("x" * (100 * KIB), severity="FATAL", sqlstate="57P01")
    async with relayed(is_kept=True) as between:
        await between.answer(large[: 70 * KIB])
        await between.answer(large[70 * KIB :])
        between.server.close()
        assert (await between.ending()).reason is CloseReason.UPSTREAM_ENDED
        assert between.keeper.told == []


# Of half a notice nobody had seen anything, but the session ended with it.
async def test_an_upstream_that_is_gone_within_a_notice_is_replaced() -> None:
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        await between.server.send(server("N")[:20])
        await turns()
        between.server.close()
        await between.lost()
        between.relay.cut_over(channel, b"")
        await new.send(server("A"))
        assert await between.client.receive(len(server("A"))) == server("A")


async def test_an_upstream_lost_while_someone_waits_for_a_moment() -> None:
    async with relayed(is_kept=True) as between:
        calls: list[str] = []
        await between.ask(client("Q"))
        between.relay.insist(lambda: calls.append("quiet"))
        await between.server.send(server("CZ") + FATAL)
        await between.lost()
        await turns()
        assert calls == []


async def test_a_drain_is_not_forgotten_when_the_upstream_is_lost() -> None:
    async with relayed(is_kept=True) as between:
        await between.ask(client("Q"))
        between.relay.drain()
        await between.server.send(server("CZ") + FATAL)
        ending = await between.ending()
        assert ending.reason is CloseReason.SHUTTING_DOWN
        assert await between.client.receive(len(server("CZ"))) == server("CZ")


# -- the client, while there is no upstream --------------------------------------------


async def test_half_a_message_that_came_before_the_loss_goes_on_whole() -> None:
    said = query("select 'whole'")
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        await between.client.send(said[:7])
        await turns()
        between.server.close()
        await between.lost()
        await between.kept(said[7:])
        between.relay.cut_over(channel, b"")
        assert await new.receive(len(said)) == said


async def test_a_client_that_leaves_without_an_upstream_is_let_go() -> None:
    async with relayed(is_kept=True) as between:
        between.server.close()
        await between.lost()
        between.client.end_writing()
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert between.relay.closed.is_set()


async def test_a_client_that_asked_and_closed_gets_its_answer_from_the_next() -> None:
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        between.server.close()
        await between.lost()
        await between.kept(client("Q"))
        between.client.end_writing()
        await until(lambda: between.relay.client.has_ended)
        assert not between.relay.ended.done()
        between.relay.cut_over(channel, b"")
        assert await new.receive(len(client("Q"))) == client("Q")
        await new.send(server("CZ"))
        assert await between.client.receive(len(server("CZ"))) == server("CZ")
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await new.receive(5) == TERMINATE


async def test_a_client_that_terminates_without_an_upstream_is_let_go() -> None:
    async with relayed(is_kept=True) as between:
        between.server.close()
        await between.lost()
        await between.client.send(TERMINATE)
        assert (await between.ending()).reason is CloseReason.CLIENT_TERMINATED
        assert between.relay.closed.is_set()


async def test_a_client_that_had_terminated_when_the_upstream_was_lost_is_let_go() -> (
    None
):
    async with relayed(is_kept=True) as between:
        between.relay.pause()
        await between.kept(TERMINATE)
        between.server.close()
        assert (await between.ending()).reason is CloseReason.CLIENT_TERMINATED


async def test_what_was_asked_before_terminate_is_for_the_next_upstream() -> None:
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        between.server.close()
        await between.lost()
        await between.kept(client("Q") + TERMINATE)
        between.relay.cut_over(channel, b"")
        said = client("Q") + TERMINATE
        assert await new.receive(len(said)) == said
        await new.send(server("CZ"))
        assert await between.client.receive(len(server("CZ"))) == server("CZ")
        assert (await between.ending()).reason is CloseReason.CLIENT_TERMINATED


async def test_a_client_that_is_lost_without_an_upstream_is_an_ending() -> None:
    async with relayed(is_kept=True) as between:
        between.server.close()
        await between.lost()
        between.client.reset()
        assert (await between.ending()).reason is CloseReason.CLIENT_LOST
        assert between.relay.closed.is_set()
        between.relay.give_up()
        assert (await between.ending()).reason is CloseReason.CLIENT_LOST


async def test_stop_without_an_upstream_ends_the_session() -> None:
    async with relayed(is_kept=True) as between:
        between.server.close()
        await between.lost()
        between.relay.drain()
        assert (await between.ending()).reason is CloseReason.SHUTTING_DOWN


# -- an upstream that nobody trusts any more -------------------------------------------


@pytest.mark.parametrize("is_paused", [False, True])
async def test_an_upstream_that_is_given_up_is_not_spoken_to(is_paused: bool) -> None:
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        if is_paused:
            between.relay.pause()
        between.relay.give_up_upstream()
        await between.lost()
        between.relay.give_up_upstream()  # once is enough
        assert between.keeper.told == []
        await between.kept(client("Q"))
        assert await between.server.receive_rest() == b""
        between.relay.cut_over(channel, b"")
        assert await new.receive(len(client("Q"))) == client("Q")


async def test_no_upstream_is_given_up_where_something_is_under_way() -> None:
    async with relayed(is_kept=True) as between:
        await between.ask(client("Q"))
        with pytest.raises(AssertionError, match="because something is under way"):
            between.relay.give_up_upstream()
        assert not between.relay.is_upstream_lost


async def test_an_upstream_is_not_given_up_after_the_end() -> None:
    async with relayed(is_kept=True) as between:
        between.relay.stop()
        between.relay.give_up_upstream()
        assert between.relay.state is RelayState.CLOSED
