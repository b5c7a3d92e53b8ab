"""A client that is held: what it says is kept, and goes on once, whole, in order."""

import asyncio

import pytest

from dsqlproxy.session.hold import HOLD_BYTES
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import RelayState
from tests.kit.channels import TlsContexts, until
from tests.kit.frames import (
    TERMINATE,
    client,
    copy_data,
    copy_fail,
    query,
    ready,
    server,
)
from tests.kit.relayed import relayed, turns

pytestmark = pytest.mark.both_loops

KIB = 1024
MIB = 1024 * KIB
LARGE = query("x" * (3 * MIB))
"""Passed on in parts, being over 64 KiB; and more than a hold takes."""


# -- pause and release -----------------------------------------------------------------


async def test_what_is_said_in_a_pause_goes_on_once_and_in_order(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with relayed(perhaps_tls) as between:
        await between.ask(client("Q"), server("CZ"))
        between.relay.pause()
        await between.kept(query("first"))
        await between.kept(query("second"))
        assert between.relay.bytes_in == len(client("Q"))
        waited = between.relay.is_client_waiting
        between.relay.release()
        await between.hears(query("first") + query("second"))
        assert (waited, between.relay.is_client_waiting) == (True, False)
        await between.ask(query("third"), server("CZCZCZ"))
        assert between.relay.at_swap_point


# SWAP 3.6, ordering 2.
@pytest.mark.parametrize("half", [4, 7])
async def test_half_a_frame_that_came_before_a_pause_goes_on_whole_after_it(
    half: int,
) -> None:
    said = query("select 'whole'")
    async with relayed() as between:
        await between.client.send(said[:half])
        await turns()
        assert between.relay.at_swap_point
        between.relay.pause()
        assert between.held_bytes == half
        await between.kept(said[half:])
        between.relay.release()
        await between.hears(said)


async def test_half_a_frame_at_the_end_of_a_pause_waits_for_its_rest() -> None:
    said = query("select 'whole'")
    async with relayed() as between:
        between.relay.pause()
        await between.kept(client("Q") + said[:7])
        between.relay.release()
        await between.hears(client("Q"))
        await between.client.send(said[7:])
        await between.hears(said)


async def test_a_large_frame_may_come_half_in_a_pause() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.kept(LARGE[: 100 * KIB])
        between.relay.release()
        assert await between.server.receive(100 * KIB) == LARGE[: 100 * KIB]
        assert not between.relay.at_swap_point
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(LARGE[100 * KIB :]))
            rest = await between.server.receive(len(LARGE) - 100 * KIB)
        assert rest == LARGE[100 * KIB :]


# CopyData is passed on in parts whatever its size; ignored by a server at rest.
async def test_half_a_copy_data_in_a_pause_goes_on_as_it_came() -> None:
    late = copy_data(b"late data of a failed COPY")
    async with relayed() as between:
        between.relay.pause()
        await between.kept(late[:10])
        between.relay.release()
        await between.hears(late[:10])
        assert not between.relay.at_swap_point
        await between.ask(late[10:])
        assert between.relay.at_swap_point


# A server that skips to the Sync has no answer for what comes before it.
async def test_what_a_server_discards_is_followed_across_a_pause() -> None:
    async with relayed() as between:
        await between.ask(client("P"), server("E"))
        await between.ask(client("PC"))
        await between.ask(client("S"), server("Z"))
        between.relay.pause()
        await between.kept(client("PS"))
        between.relay.release()
        await between.hears(client("PS"))
        await between.answer(server("1Z"))
        assert between.relay.memory.unnamed is not None
        assert between.relay.at_swap_point


async def test_a_release_without_a_hold_does_nothing() -> None:
    async with relayed() as between:
        between.relay.release()
        await between.ask(client("Q"), server("CZ"))
        await between.client.send(TERMINATE)
        await between.ending()
        between.relay.release()
        assert between.relay.state is RelayState.LEAVING


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param("Q", "T", id="outstanding"),
        pytest.param("Q", "CY", id="in a transaction"),
        pytest.param("Q", "EX", id="in a failed transaction"),
        pytest.param("P", "E", id="skipping"),
        pytest.param("Q", "G", id="COPY IN"),
        pytest.param("Q", "H", id="COPY OUT"),
        pytest.param("PBH", "12", id="an open portal"),
        pytest.param("Q", "CZ2", id="not understood"),
    ],
)
async def test_a_pause_where_something_is_under_way_raises_and_changes_nothing(
    asked: str, answered: str
) -> None:
    async with relayed() as between:
        await between.ask(client(asked), server(answered))
        with pytest.raises(AssertionError, match="because something is under way"):
            between.relay.pause()
        assert between.relay.state is RelayState.RUNNING
        await between.ask(client("S"))


# SWAP 3.6, ordering 3.
async def test_no_pause_within_a_frame_that_was_passed_on_in_part() -> None:
    async with relayed() as between:
        await between.client.send(LARGE[: 100 * KIB])
        await between.server.receive(100 * KIB)
        with pytest.raises(AssertionError, match="because something is under way"):
            between.relay.pause()


# SWAP 3.6, ordering 18.
async def test_no_pause_while_a_notice_is_half_there() -> None:
    async with relayed() as between:
        await between.server.send(server("N")[:20])
        await until(lambda: not between.relay.at_swap_point)
        with pytest.raises(AssertionError, match="because something is under way"):
            between.relay.pause()


# asyncpg's `prepare` sends no Sync and idles like this.
async def test_a_pipeline_of_parse_and_describe_alone_may_be_paused() -> None:
    async with relayed() as between:
        await between.ask(client("PDH"), server("1tn"))
        between.relay.pause()
        assert between.relay.state is RelayState.PAUSED


async def test_a_pause_in_a_pause_raises_and_changes_nothing() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.kept(client("Q"))
        with pytest.raises(AssertionError, match="because that is not a move"):
            between.relay.pause()
        between.relay.release()
        await between.hears(client("Q"))


async def test_no_insisting_in_a_pause() -> None:
    async with relayed() as between:
        between.relay.pause()
        with pytest.raises(AssertionError, match="because that is not a move"):
            between.relay.insist(lambda: None)
        assert between.relay.state is RelayState.PAUSED


async def test_more_than_a_hold_takes_is_left_unread() -> None:
    said = query("x" * 1000) * 8_000
    async with relayed(buffer_bytes=16 * KIB) as between:
        between.relay.pause()
        sent = await between.client.send_what_fits(said)
        assert sent < len(said)
        assert HOLD_BYTES <= between.held_bytes < HOLD_BYTES + MIB
        between.relay.release()
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(said[sent:]))
            assert await between.server.receive(len(said)) == said


async def test_an_upstream_that_does_not_read_is_still_waited_for_after_a_pause() -> (
    None
):
    said = copy_fail("x" * 10_000) * 1_000  # ignored by a server at rest
    async with (
        relayed(buffer_bytes=16 * KIB) as between,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(between.client.send(said))
        await until(lambda: between.relay.upstream.is_writing_paused)
        between.relay.pause()
        between.relay.release()
        await turns(200)
        assert between.relay.bytes_in < 4 * MIB
        assert await between.server.receive(len(said)) == said


async def test_the_server_s_asides_still_pass_in_a_pause() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.answer(server("NSA"))


# -- the end in a pause ----------------------------------------------------------------


# SWAP 3.6, ordering 9.
async def test_terminate_in_a_pause_ends_the_session_after_it() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.kept(client("Q") + TERMINATE)
        await turns()
        assert not between.relay.ended.done()
        between.relay.release()
        await between.hears(client("Q") + TERMINATE)
        assert between.relay.state is RelayState.FINISHING
        await between.answer(server("CZ"))
        assert (await between.ending()).reason is CloseReason.CLIENT_TERMINATED


# SWAP 3.6, ordering 10.
async def test_what_a_client_said_before_it_closed_in_a_pause_is_still_answered() -> (
    None
):
    async with relayed() as between:
        between.relay.pause()
        await between.kept(client("QPBES"))
        between.client.end_writing()
        await until(lambda: between.relay.client.has_ended)
        await turns()
        assert not between.relay.ended.done()
        between.relay.release()
        await between.hears(client("QPBES"))
        await between.answer(server("CZ12CZ"))
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE


async def test_a_client_that_closed_in_a_pause_leaves_after_it() -> None:
    async with relayed() as between:
        between.relay.pause()
        between.client.end_writing()
        await until(lambda: between.relay.client.has_ended)
        assert not between.relay.ended.done()
        between.relay.release()
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE


async def test_a_client_that_closed_in_a_pause_within_a_frame_leaves_after_it() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.kept(client("Q")[:7])
        between.client.end_writing()
        await until(lambda: between.relay.client.has_ended)
        between.relay.release()
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE


async def test_a_client_that_is_lost_in_a_pause_is_not_spoken_for() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.kept(client("Q"))
        between.client.reset()
        assert (await between.ending()).reason is CloseReason.CLIENT_LOST
        between.relay.release()
        await turns()
        assert await between.server.receive(5) == TERMINATE
        assert between.relay.bytes_in == 0


async def test_stop_in_a_pause_ends_the_session_and_sends_nothing() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.kept(client("Q"))
        between.relay.stop()
        assert (await between.ending()).reason is CloseReason.SHUTTING_DOWN
        between.relay.release()
        between.relay.terminate_upstream()
        assert await between.server.receive(5) == TERMINATE
        assert between.relay.bytes_in == 0


async def test_a_pause_is_a_quiet_moment_for_a_drain() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.kept(client("Q"))
        between.relay.drain()
        assert (await between.ending()).reason is CloseReason.SHUTTING_DOWN


async def test_an_upstream_lost_in_a_pause_without_a_keeper_ends_the_session() -> None:
    async with relayed() as between:
        between.relay.pause()
        between.server.close()
        assert (await between.ending()).reason is CloseReason.UPSTREAM_LOST


# -- an overlong message and a pause ---------------------------------------------------

OVERLONG = query("x" * (10 * MIB))


async def test_a_pause_while_an_overlong_query_is_thrown_away() -> None:
    async with relayed() as between:
        await between.client.send(OVERLONG[: 100 * KIB])
        assert (await between.client.receive_frame()).type == ord("E")
        assert await between.client.receive(6) == ready()
        between.relay.pause()
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(OVERLONG[100 * KIB :], client("Q")))
            await until(lambda: between.held_bytes == len(client("Q")))
        between.relay.release()
        await between.hears(client("Q"))


async def test_an_overlong_query_that_was_held_is_refused_after_the_pause() -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.kept(OVERLONG[: 100 * KIB])
        between.relay.release()
        assert (await between.client.receive_frame()).type == ord("E")
        assert await between.client.receive(6) == ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(OVERLONG[100 * KIB :], client("Q")))
            assert await between.server.receive(len(client("Q"))) == client("Q")
