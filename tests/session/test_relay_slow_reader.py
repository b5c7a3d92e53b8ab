"""A client that does not read, and one that is slow to write."""

import asyncio

import pytest

from dsqlproxy.pgproto.messages import SYNC
from dsqlproxy.session.hold import HOLD_BYTES
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.replay import Answers, Request
from tests.kit.channels import until
from tests.kit.frames import client, data_row, parse, server
from tests.kit.relayed import Relayed, relayed

pytestmark = pytest.mark.both_loops

KIB = 1024
MIB = 1024 * KIB
ANSWER = data_row(bytes(16 * KIB)) + server("CZ")
"""Little enough to come in one piece."""


# -- a Parse that passes only whole ----------------------------------------------------


# It could neither be passed in part nor be waited for: the loop never went on.
@pytest.mark.parametrize("cut", [1200 * KIB, MIB + 6, 3])
async def test_a_parse_that_passes_only_whole_passes_while_insisting(cut: int) -> None:
    said = parse("x" * (1536 * KIB)) + client("BES")
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        between.relay.insist(between.relay.pause)
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(said[:cut]))
            await until(lambda: between.held_bytes == cut)
            group.create_task(between.client.send(said[cut:]))
            assert await between.server.receive(len(said)) == said
        await between.answer(server("12CY"))
        await between.ask(client("K"), server("MZ"))
        assert between.relay.state is RelayState.PAUSED


async def test_a_pipeline_longer_than_a_hold_passes_while_insisting() -> None:
    said = parse("x" * (1536 * KIB)) * 3 + client("BES")
    assert len(said) > HOLD_BYTES
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        between.relay.insist(between.relay.pause)
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(said))
            assert await between.server.receive(len(said)) == said
        await between.answer(server("111" + "2CY"))


# -- a private question, while the client does not read --------------------------------


async def leaves_unread(between: Relayed) -> int:
    """Let the client leave answers unread until nothing more is taken; count bytes."""
    relay = between.relay
    while not relay.client.is_writing_paused:
        await between.ask(client("Q"))
        await between.server.send(ANSWER)
        await until(lambda: relay.at_swap_point)
    return relay.bytes_out


def is_read(between: Relayed) -> bool:
    """Say if the relay reads its upstream."""
    transport = between.relay.upstream._transport
    assert transport is not None
    return transport.is_reading()


# The answer stayed unread, and the upstream was given up for its silence.
async def test_a_private_question_is_answered_while_the_client_does_not_read() -> None:
    async with relayed() as between:
        relay = between.relay
        unread_bytes = await leaves_unread(between)
        assert not is_read(between)
        relay.pause()
        exchange = relay.ask(SYNC, Answers(Request(SYNC, units=1)))
        assert await between.server.receive(len(SYNC)) == SYNC
        await between.server.send(server("Z"))
        await exchange.wait()
        assert exchange.is_answered
        assert relay.client.is_writing_paused
        assert not is_read(between)
        relay.release()
        assert not is_read(between)
        assert len(await between.client.receive(unread_bytes)) == unread_bytes
        await until(lambda: is_read(between))
        await between.ask(client("Q"), server("TDCZ"))


async def test_what_comes_beside_a_private_answer_does_not_leave_the_rest_unread() -> (
    None
):
    async with relayed() as between:
        relay = between.relay
        unread_bytes = await leaves_unread(between)
        relay.pause()
        exchange = relay.ask(SYNC, Answers(Request(SYNC, units=1)))
        await between.server.send(server("NN"))
        await until(lambda: relay.client.is_writing_paused)
        assert is_read(between)
        await between.server.send(server("Z"))
        await exchange.wait()
        relay.release()
        await between.client.receive(unread_bytes)
        assert await between.client.receive(len(server("NN"))) == server("NN")


async def test_a_client_that_stops_reading_meanwhile_does_not_stop_the_answer() -> None:
    async with relayed() as between:
        relay = between.relay
        relay.pause()
        exchange = relay.ask(SYNC, Answers(Request(SYNC, units=1)))
        while not relay.client.is_writing_paused:
            await between.server.send(server("N") * 1000)
        assert is_read(between)
        await between.server.send(server("Z"))
        await exchange.wait()
        assert not is_read(between)
