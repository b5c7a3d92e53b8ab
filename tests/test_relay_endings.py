"""How a relay ends: by either peer, at any byte, or by us."""

import asyncio

import pytest

from dsqlproxy.pgproto.framing import FrameScanner
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay import RelayEnding
from dsqlproxy.session.relay_state import RelayState
from tests.kit.channels import TlsContexts
from tests.kit.frames import TERMINATE, client, copy_data, data_row, query, server
from tests.kit.relayed import Relayed, relayed, turns

pytestmark = pytest.mark.both_loops

WORDS = server("F")


async def close_both(between: Relayed) -> None:
    """Do as the session does at the end: the relay itself closes nothing."""
    between.relay.client.close()
    between.relay.upstream.close()


# -- Terminate -------------------------------------------------------------------------


async def test_terminate_goes_to_the_upstream_and_ends_the_session(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with relayed(perhaps_tls) as between:
        await between.ask(client("Q"), server("CZ"))
        await between.client.send(TERMINATE)
        ending = await between.ending()
        assert ending == RelayEnding(CloseReason.CLIENT_TERMINATED)
        assert not between.relay.closed.is_set()
        assert await between.server.receive(5) == TERMINATE
        between.server.close()
        await between.relay.closed.wait()
        assert between.relay.state is RelayState.CLOSED
        assert (await between.ending()).reason is CloseReason.CLIENT_TERMINATED


async def test_terminate_is_sent_once() -> None:
    async with relayed() as between:
        await between.client.send(TERMINATE)
        await between.ending()
        between.relay.terminate_upstream()
        between.relay.stop()
        await close_both(between)
        assert await between.server.receive_rest() == TERMINATE


async def test_what_was_asked_before_terminate_is_answered() -> None:
    async with relayed() as between:
        await between.client.send(client("Q") + TERMINATE)
        assert await between.server.receive(len(client("Q"))) == client("Q")
        assert not between.relay.ended.done()
        assert between.relay.state is RelayState.FINISHING
        await between.answer(server("TD"))
        assert not between.relay.ended.done()
        await between.answer(server("CZ"))
        assert (await between.ending()).reason is CloseReason.CLIENT_TERMINATED


async def test_after_terminate_nothing_of_the_client_passes() -> None:
    async with relayed() as between:
        await between.client.send(TERMINATE)
        await between.ending()
        await between.client.send(client("Q"))
        await turns()
        assert between.relay.bytes_in == len(TERMINATE)


async def test_what_the_upstream_says_after_terminate_still_passes() -> None:
    async with relayed() as between:
        await between.client.send(TERMINATE)
        await between.ending()
        await between.answer(server("N"))


# -- the client closes its side --------------------------------------------------------


async def test_a_client_that_closes_its_side_gets_its_answers(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with relayed(perhaps_tls) as between:
        await between.client.send(client("QPBES"))
        between.client.end_writing()
        asked = client("QPBES")
        assert await between.server.receive(len(asked)) == asked
        await between.answer(server("TDCZ"))
        assert not between.relay.ended.done()
        await between.answer(server("12CZ"))
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE


async def test_a_goodbye_in_tls_closes_the_client_s_side(tls: TlsContexts) -> None:
    async with relayed(tls) as between:
        await between.client.send(client("Q"))
        await between.client.send_raw(between.client.say_goodbye())
        assert await between.server.receive(len(client("Q"))) == client("Q")
        await between.answer(server("CZ"))
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE


async def test_a_client_that_closes_at_rest_ends_at_once() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("CY"))
        between.client.end_writing()
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param("Q", "G", id="COPY IN"),
        pytest.param("PBEH", "12D", id="a pipeline without Sync"),
        pytest.param("P", "E", id="skipping"),
        pytest.param("PQ", "Z", id="not understood"),
    ],
)
async def test_a_client_that_closes_where_nothing_is_to_come_ends_at_once(
    asked: str, answered: str
) -> None:
    async with relayed() as between:
        await between.ask(client(asked), server(answered))
        between.client.end_writing()
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        assert await between.server.receive(5) == TERMINATE
        await between.answer(server("N"))


async def test_no_terminate_within_a_message() -> None:
    begun = query("insert into t values ('" + "x" * 100_000)[:-1]
    async with relayed() as between:
        await between.client.send(begun)
        between.client.end_writing()
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        between.relay.upstream.close()
        assert await between.server.receive_rest() == begun


async def test_a_small_message_without_its_end_is_never_sent() -> None:
    async with relayed() as between:
        await between.client.send(query("insert into t values (1)")[:-1])
        between.client.end_writing()
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED
        between.relay.upstream.close()
        assert await between.server.receive_rest() == TERMINATE


async def test_the_beginning_of_a_header_is_no_message() -> None:
    async with relayed() as between:
        await between.client.send(client("Q")[:4])
        between.client.end_writing()
        await between.ending()
        assert await between.server.receive(5) == TERMINATE


async def test_answers_are_awaited_though_the_last_message_is_cut_off() -> None:
    async with relayed() as between:
        await between.client.send(client("Q") + copy_data(b"cut off")[:8])
        between.client.end_writing()
        await between.server.receive(len(client("Q")) + 8)
        await between.answer(server("TD"))
        assert not between.relay.ended.done()
        await between.answer(server("CZ"))
        assert (await between.ending()).reason is CloseReason.CLIENT_CLOSED


async def test_an_upstream_lost_while_the_last_answers_are_awaited() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        between.client.end_writing()
        await turns()
        assert between.relay.state is RelayState.FINISHING
        between.server.close()
        assert (await between.ending()).reason is CloseReason.UPSTREAM_LOST


async def test_a_client_lost_while_its_last_answers_are_awaited() -> None:
    async with relayed() as between:
        await between.ask(client("Q") + TERMINATE[:0])
        await between.client.send(TERMINATE)
        await turns()
        assert between.relay.state is RelayState.FINISHING
        between.client.reset()
        ending = await between.ending()
        assert ending.reason is CloseReason.CLIENT_LOST


# -- resets ----------------------------------------------------------------------------


def passed(symbols_of_client: bool, data: bytes) -> tuple[int, bool]:
    """Say how much of a stream's beginning passes, and whether it ends with a frame."""
    symbols = FRONTEND_SYMBOLS if symbols_of_client else BACKEND_SYMBOLS
    scanner = FrameScanner(symbols, max_bytes=1 << 20)
    scanner.scan(data)
    return scanner.cut, scanner.at_boundary


async def test_a_client_may_reset_at_any_byte() -> None:
    asked = client("PBQ")
    for offset in range(len(asked)):
        async with relayed() as between:
            await between.client.send(asked[:offset])
            count, at_boundary = passed(True, asked[:offset])
            assert await between.server.receive(count) == asked[:count]
            between.client.reset()
            ending = await between.ending()
            assert ending.reason is CloseReason.CLIENT_LOST
            assert isinstance(ending.error, ConnectionError)
            between.relay.upstream.close()
            # Terminate, unless it would be part of a message.
            rest = await between.server.receive_rest()
            assert rest == (TERMINATE if at_boundary else b"")


async def test_an_upstream_may_reset_at_any_byte() -> None:
    answer = server("TNDC")
    for offset in range(len(answer)):
        async with relayed() as between:
            await between.ask(client("Q"))
            await between.server.send(answer[:offset])
            count, at_boundary = passed(False, answer[:offset])
            assert await between.client.receive(count) == answer[:count]
            between.server.reset()
            ending = await between.ending()
            assert ending.reason is CloseReason.UPSTREAM_LOST
            assert isinstance(ending.error, ConnectionError)
            between.relay.parting.say(WORDS)
            await between.relay.parting.wait_spoken()
            between.relay.client.close()
            # Last words, unless they would be part of a message.
            rest = await between.client.receive_rest()
            assert rest == (WORDS if at_boundary else b"")


async def test_a_client_lost_while_the_upstream_is_held_back() -> None:
    async with relayed(buffer_bytes=16 * 1024) as between:
        await between.ask(client("Q"))
        await between.server.send_what_fits(data_row(bytes(10_000)) * 1_000)
        assert between.relay.client.is_writing_paused
        between.client.reset()
        assert (await between.ending()).reason is CloseReason.CLIENT_LOST
        # The upstream must not hang in a write that nobody reads.
        async with asyncio.TaskGroup() as group:
            group.create_task(between.server.send(bytes(4 << 20)))
        assert await between.server.receive(5) == TERMINATE


async def test_broken_tls_of_the_client_is_a_loss(tls: TlsContexts) -> None:
    async with relayed(tls) as between:
        await between.client.send_raw(b"\x17\x03\x03\0\x20" + bytes(32))
        assert (await between.ending()).reason is CloseReason.CLIENT_LOST
        assert await between.server.receive(5) == TERMINATE


async def test_broken_tls_of_the_upstream_is_a_loss(tls: TlsContexts) -> None:
    async with relayed(tls) as between:
        await between.server.send_raw(b"\x17\x03\x03\0\x20" + bytes(32))
        assert (await between.ending()).reason is CloseReason.UPSTREAM_LOST


# -- the upstream ends -----------------------------------------------------------------


async def test_an_upstream_that_closes_without_a_word(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with relayed(perhaps_tls) as between:
        await between.ask(client("Q"), server("CZ"))
        between.server.close()
        ending = await between.ending()
        assert ending == RelayEnding(CloseReason.UPSTREAM_LOST)
        assert between.relay.state is RelayState.CLOSED
        assert between.relay.closed.is_set()


@pytest.mark.parametrize("asked", ["", "Q"])
async def test_an_upstream_that_says_why_it_ends(
    perhaps_tls: TlsContexts | None, asked: str
) -> None:
    async with relayed(perhaps_tls) as between:
        await between.ask(client(asked))
        await between.server.send(server("F"))
        between.server.close()
        assert (await between.ending()).reason is CloseReason.UPSTREAM_ENDED
        await close_both(between)
        assert await between.client.receive_rest() == server("F")


async def test_an_error_is_no_reason_to_end() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("E"))
        between.server.close()
        assert (await between.ending()).reason is CloseReason.UPSTREAM_LOST


# -- by us -----------------------------------------------------------------------------


async def test_stop_ends_the_session_whatever_is_running() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        between.relay.stop()
        assert await between.ending() == RelayEnding(CloseReason.SHUTTING_DOWN)
        assert between.relay.state is RelayState.CLOSED
        await between.client.send(client("Q"))
        await turns()
        assert between.relay.bytes_in == len(client("Q"))
        between.relay.terminate_upstream()
        assert await between.server.receive(5) == TERMINATE


async def test_the_first_reason_counts() -> None:
    async with relayed() as between:
        between.relay.stop()
        between.relay.close(CloseReason.MESSAGE_TOO_LARGE)
        between.relay.upstream_lost(None)
        between.relay.client_lost(None)
        assert (await between.ending()).reason is CloseReason.SHUTTING_DOWN


async def test_stop_while_leaving_closes() -> None:
    async with relayed() as between:
        await between.client.send(TERMINATE)
        await between.ending()
        between.relay.stop()
        assert between.relay.closed.is_set()
        assert (await between.ending()).reason is CloseReason.CLIENT_TERMINATED


async def test_channels_that_were_gone_before_the_start() -> None:
    async with relayed(start=False) as between:
        between.client.reset()
        between.server.reset()
        await turns(50)
        between.relay.start()
        await between.ending()
        await between.relay.closed.wait()
