"""Insisting on a quiet moment: a unit at a time, and never for ever."""

import asyncio

import pytest

from dsqlproxy.session.hold import HOLD_BYTES
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import RelayState
from tests.kit.channels import until
from tests.kit.frames import (
    TERMINATE,
    client,
    copy_data,
    data_row,
    parse,
    query,
    server,
)
from tests.kit.relayed import Relayed, relayed, turns

pytestmark = pytest.mark.both_loops

KIB = 1024
MIB = 1024 * KIB
LARGE = query("x" * (3 * MIB))
"""Passed on in parts, being over 64 KiB; and more than a hold takes."""


# -- insisting -------------------------------------------------------------------------


def insists(between: Relayed) -> asyncio.Event:
    """Insist on a moment, in which the relay is paused; give what tells of it."""
    moment = asyncio.Event()

    def seize() -> None:
        between.relay.pause()
        moment.set()

    between.relay.insist(seize)
    return moment


async def test_a_quiet_session_is_seized_at_once() -> None:
    async with relayed() as between:
        moment = insists(between)
        assert moment.is_set()
        assert between.relay.state is RelayState.PAUSED
        assert not between.relay.is_watched


async def test_a_client_that_pipelines_is_seized_after_the_next_answer() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        moment = insists(between)
        await between.kept(client("QPBES"))
        await between.hears_nothing()
        await between.answer(server("TDC"))
        assert not moment.is_set()
        await between.answer(server("Z"))
        assert moment.is_set()
        assert between.relay.bytes_in == len(client("Q"))
        between.relay.release()
        await between.hears(client("QPBES"))


async def test_a_transaction_goes_on_a_unit_at_a_time_to_its_end() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        moment = insists(between)
        await between.answer(server("CY"))
        await between.client.send(client("PBES") + client("K") + client("Q"))
        await between.hears(client("PBES"))
        await between.answer(server("12C"))
        await between.hears_nothing()
        await between.answer(server("Y"))
        await between.hears(client("K"))
        await between.answer(server("MZ"))
        assert moment.is_set()
        assert between.held_bytes == len(client("Q"))


async def test_a_failed_transaction_goes_on_to_its_end() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("EX"))
        moment = insists(between)
        await between.ask(client("K"), server("CZ"))
        assert moment.is_set()


async def test_half_a_pipeline_is_not_sent_while_insisting() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)
        await between.kept(client("PBE"))
        await between.hears_nothing()
        await between.client.send(client("S"))
        await between.hears(client("PBES"))


async def test_what_was_half_sent_goes_on_while_insisting() -> None:
    async with relayed() as between:
        await between.ask(client("PB"))
        moment = insists(between)
        await between.ask(client("ES"), server("12CZ"))
        assert moment.is_set()


async def test_a_flushed_pipeline_goes_on_to_its_sync() -> None:
    async with relayed() as between:
        await between.ask(client("PBEH"), server("12Ds"))
        moment = insists(between)
        await between.ask(client("EH"), server("C"))
        await between.ask(client("S"), server("Z"))
        assert moment.is_set()


async def test_a_client_in_disgrace_may_sync() -> None:
    async with relayed() as between:
        await between.ask(client("P"), server("E"))
        moment = insists(between)
        await between.ask(client("S"), server("Z"))
        assert moment.is_set()


# Catalogue 39: COPY IN across the moment at which it is insisted.
async def test_a_copy_goes_on_to_its_end() -> None:
    data = copy_data(bytes(10_000)) * 500
    async with relayed() as between:
        await between.ask(client("Q"), server("G"))
        moment = insists(between)
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(data + client("cQ")))
            assert await between.server.receive(len(data)) == data
        await between.hears(client("c"))
        await between.answer(server("CZ"))
        assert moment.is_set()
        between.relay.release()
        await between.hears(client("Q"))


async def test_a_copy_of_one_long_row_goes_on() -> None:
    data = copy_data(bytes(3 * MIB))
    async with relayed() as between:
        await between.ask(client("Q"), server("G"))
        insists(between)
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(data + client("c")))
            assert await between.server.receive(len(data)) == data
        await between.hears(client("c"))


# The tail of a frame was read as if it were a header, and waited for what never came.
@pytest.mark.parametrize("kind", ["query", "parse"])
async def test_a_frame_longer_than_a_hold_goes_on_while_insisting(kind: str) -> None:
    large = LARGE if kind == "query" else parse("x" * (3 * MIB)) + client("BES")
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(large))
            assert await between.server.receive(len(large)) == large
        assert between.relay.tracker.outstanding > 0


@pytest.mark.parametrize("cut", [70 * KIB, 3 * MIB - 1])
async def test_insisting_within_a_large_frame_lets_its_rest_pass(cut: int) -> None:
    async with relayed() as between:
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(LARGE[:cut]))
            await between.server.receive(cut)
        moment = insists(between)
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(LARGE[cut:] + client("Q")))
            assert await between.server.receive(len(LARGE) - cut) == LARGE[cut:]
        await between.hears_nothing()
        await between.answer(server("CZ"))
        assert moment.is_set()
        assert between.held_bytes == len(client("Q"))


# SWAP 3.6, catalogue 38: a client that does not read while it writes is not to wait
# for ever for what a server would have taken.
async def test_a_client_that_only_writes_is_not_held_for_ever() -> None:
    said = query("x" * 1000) * 4_000
    count = 4_000
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)

        async def answer_each() -> None:
            for _ in range(count):
                await between.server.receive(len(query("x" * 1000)))
                await between.server.send(server("CY"))

        async with asyncio.TaskGroup() as group:
            group.create_task(answer_each())
            await between.client.send(said)
        assert between.relay.bytes_in == len(client("Q")) + len(said)
        assert await between.client.receive(len(server("CY")) * count)


async def test_a_hold_that_is_full_is_read_again_when_units_have_gone() -> None:
    large = query("x" * (500 * KIB))
    async with relayed(buffer_bytes=16 * KIB) as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(large * 6))
            for _ in range(6):
                assert await between.server.receive(len(large)) == large
                assert between.held_bytes < HOLD_BYTES + MIB
                await between.answer(server("CY"))


async def test_release_while_insisting_passes_on_what_was_kept() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        moment = insists(between)
        await between.kept(client("QQ"))
        between.relay.release()
        await between.hears(client("QQ"))
        await between.answer(server("CZCZCZ"))
        assert not moment.is_set()
        assert not between.relay.is_watched


async def test_what_cannot_be_followed_passes_while_insisting() -> None:
    noise = b"?\0\0\0\1 no message of any kind"
    more = b"Q\0\0\1\0 nor this, whatever it looks like"
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        moment = insists(between)
        await between.client.send(noise)
        assert await between.server.receive(len(noise)) == noise
        assert between.relay.not_understood
        await between.client.send(more)
        assert await between.server.receive(len(more)) == more
        assert not moment.is_set()


async def test_terminate_while_insisting_ends_the_session() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)
        await between.client.send(TERMINATE + client("Q"))
        assert (await between.ending()).reason is CloseReason.CLIENT_TERMINATED
        assert await between.server.receive(5) == TERMINATE
        await between.hears_nothing()


async def test_a_client_that_closes_while_insisting_gets_all_its_answers() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)
        await between.client.send(client("QK"))
        between.client.end_writing()
        await between.hears(client("Q"))
        await until(lambda: between.relay.client.has_ended)
        await between.answer(server("CY"))
        await between.hears(client("K"))
        await between.answer(server("EX"))
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE


# It waited for the rest of a pipeline of which nobody was left to send it.
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(client("PBE"), id="a pipeline without its Sync"),
        pytest.param(client("Q")[:7], id="half a query"),
        pytest.param(client("PB") + b"S", id="half a Sync"),
    ],
)
async def test_a_client_that_closes_within_a_unit_while_insisting_leaves(
    said: bytes,
) -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)
        await between.kept(said)
        between.client.end_writing()
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE


async def test_a_client_that_closes_within_a_unit_still_gets_its_last_answer() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)
        await between.ask(client("Q"))
        await between.kept(client("PB"))
        between.client.end_writing()
        await until(lambda: between.relay.client.has_ended)
        await between.answer(server("TDCY"))
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED


async def test_a_client_lost_while_insisting_ends_the_session() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        insists(between)
        await between.kept(client("Q"))
        between.client.reset()
        assert (await between.ending()).reason is CloseReason.CLIENT_LOST
        assert await between.server.receive(5) == TERMINATE


# The moment for which someone had waited came when the client had left already.
async def test_nobody_is_called_once_the_client_has_left() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        moment = insists(between)
        between.client.end_writing()
        await until(lambda: between.relay.client.has_ended)
        await between.answer(server("CZ"))
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        await between.answer(server("N"))
        assert between.relay.state is RelayState.LEAVING
        assert not moment.is_set()


async def test_stop_while_insisting_ends_the_session() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        moment = insists(between)
        between.relay.stop()
        assert (await between.ending()).reason is CloseReason.SHUTTING_DOWN
        await between.server.send(server("CZ"))
        await turns()
        assert not moment.is_set()


async def test_a_drain_while_insisting_ends_the_session_at_the_moment() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        moment = insists(between)
        await between.kept(client("Q"))
        between.relay.drain()
        assert not between.relay.ended.done()
        await between.answer(server("CZ"))
        assert (await between.ending()).reason is CloseReason.SHUTTING_DOWN
        assert not moment.is_set()
        assert between.relay.bytes_in == len(client("Q"))


# Who insisted afterwards took the moment for which the drain had waited.
async def test_a_drain_is_not_forgotten_when_someone_insists() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        between.relay.drain()
        moment = insists(between)
        await between.answer(server("CZ"))
        assert (await between.ending()).reason is CloseReason.SHUTTING_DOWN
        assert not moment.is_set()


async def test_a_drain_at_rest_is_over_at_once() -> None:
    async with relayed() as between:
        between.relay.drain()
        assert (await between.ending()).reason is CloseReason.SHUTTING_DOWN


# -- answers ---------------------------------------------------------------------------


async def test_rows_are_passed_on_while_insisting_as_they_come() -> None:
    rows = data_row(bytes(10_000)) * 100
    async with relayed() as between:
        await between.ask(client("Q"))
        moment = insists(between)
        await between.answer(server("T") + rows)
        await between.answer(server("CZ"))
        assert moment.is_set()


async def test_an_overlong_query_while_insisting_ends_the_session() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        insists(between)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(between.client.send(query("x" * (10 * MIB))))
            assert (await between.ending()).reason is CloseReason.MESSAGE_TOO_LARGE
            sending.cancel()
