"""Where in a client's stream our last words may stand: only between two messages."""

import asyncio

import pytest

from tests.kit.channels import TlsContexts
from tests.kit.frames import client, data_row, server
from tests.kit.relayed import Relayed, relayed, turns

pytestmark = pytest.mark.both_loops

WORDS = server("F")


async def close_both(between: Relayed) -> None:
    """Do as the session does at the end: the relay itself closes nothing."""
    between.relay.client.close()
    between.relay.upstream.close()


async def test_last_words_at_a_boundary_are_said_at_once(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with relayed(perhaps_tls) as between:
        await between.ask(client("Q"), server("TD"))
        between.relay.stop()
        between.relay.parting.say(WORDS)
        await between.relay.parting.wait_spoken()
        await between.server.send(server("DDDCZ"))
        await turns()
        await close_both(between)
        assert await between.client.receive_rest() == WORDS


async def test_last_words_follow_the_rest_of_a_message(
    perhaps_tls: TlsContexts | None,
) -> None:
    row = data_row(bytes(range(256)) * 400)
    async with relayed(perhaps_tls) as between:
        await between.ask(client("Q"), server("T") + row[:1_000])
        between.relay.stop()
        between.relay.parting.say(WORDS)
        async with asyncio.TaskGroup() as group:
            speaking = group.create_task(between.relay.parting.wait_spoken())
            await between.server.send(row[1_000:50_000])
            assert await between.client.receive(49_000) == row[1_000:50_000]
            assert not speaking.done()
            await between.server.send(row[50_000:] + server("DCZ"))
        await close_both(between)
        assert await between.client.receive_rest() == row[50_000:] + WORDS


# Between the end of a relay and the words that the session finds for it lies a turn of
# the loop. Bytes of a row that came in it were dropped: the row would have had its
# length, and another's bytes.
async def test_the_rest_of_a_message_is_not_lost_before_the_words_are_known() -> None:
    row = data_row(bytes(range(200)))
    async with relayed() as between:
        await between.ask(client("Q"), server("T") + row[:100])
        between.relay.stop()
        await between.answer(row[100:150])
        between.relay.parting.say(WORDS)
        await between.server.send(row[150:] + server("DCZ"))
        await between.relay.parting.wait_spoken()
        await close_both(between)
        assert await between.client.receive_rest() == row[150:] + WORDS


async def test_words_found_after_the_rest_of_a_message_are_said_at_once() -> None:
    row = data_row(bytes(200))
    async with relayed() as between:
        await between.ask(client("Q"), server("T") + row[:100])
        between.relay.stop()
        await between.server.send(row[100:] + server("DCZ"))
        assert await between.client.receive(len(row) - 100) == row[100:]
        between.relay.parting.say(WORDS)
        await between.relay.parting.wait_spoken()
        await close_both(between)
        assert await between.client.receive_rest() == WORDS


async def test_half_a_header_is_not_the_middle_of_a_message() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("T"))
        await between.server.send(server("D")[:4])
        await turns()
        between.relay.stop()
        between.relay.parting.say(WORDS)
        await between.relay.parting.wait_spoken()
        await close_both(between)
        assert await between.client.receive_rest() == WORDS


async def test_the_rest_of_a_message_goes_to_no_client_before_the_end() -> None:
    async with relayed() as between:
        between.relay.parting.finish_frame(server("D"))
        between.relay.parting.say(WORDS)  # nor words
        await between.answer(server("N"))


async def test_no_last_words_in_a_stream_that_is_not_understood() -> None:
    async with relayed() as between:
        await between.answer(b"!\0\0\0\x04")
        between.relay.stop()
        between.relay.parting.say(WORDS)
        await between.relay.parting.wait_spoken()
        await close_both(between)
        assert await between.client.receive_rest() == b""


async def test_no_last_words_within_a_message_whose_rest_will_not_come() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("D")[:8])
        between.server.close()
        await between.ending()
        between.relay.parting.say(WORDS)
        await between.relay.parting.wait_spoken()
        await close_both(between)
        assert await between.client.receive_rest() == b""
