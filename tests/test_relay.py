"""What passes through a relay, and how fast: the living session."""

import asyncio

import pytest

from dsqlproxy.dsql import MAX_MESSAGE_BYTES
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import ErrorResponse, NoticeResponse
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import RelayState
from tests.kit.channels import TlsContexts, until
from tests.kit.frames import client, copy_data, data_row, parse, query, ready, server
from tests.kit.relayed import relayed, turns

pytestmark = pytest.mark.both_loops

KIB = 1024
MIB = 1024 * KIB
LONG_NOTICE = NoticeResponse.build("NOTICE", "00000", "x" * (100 * KIB)).encode()
"""Passed on as it comes; what has 64 KiB or less is held until it is whole."""


# -- bytes -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 6, 10_000])
async def test_bytes_cross_unaltered_in_any_chunks(
    perhaps_tls: TlsContexts | None, size: int
) -> None:
    asked = client("PBDESHQCSQdcQ")
    answered = server("12tTDDNCSZTCAZ3ZGCZTDCZ")
    async with relayed(perhaps_tls) as between:
        for at in range(0, len(asked), size):
            await between.client.send(asked[at : at + size])
            await asyncio.sleep(0)
        assert await between.server.receive(len(asked)) == asked
        for at in range(0, len(answered), size):
            await between.server.send(answered[at : at + size])
            await asyncio.sleep(0)
        assert await between.client.receive(len(answered)) == answered
        assert between.relay.bytes_in == len(asked)
        assert between.relay.bytes_out == len(answered)
        assert between.relay.at_swap_point
        assert between.relay.not_understood == ""


async def test_large_messages_cross(perhaps_tls: TlsContexts | None) -> None:
    asked = query("x" * (3 * MIB))
    answered = server("T") + data_row(bytes(3 * MIB)) + server("CZ")
    async with relayed(perhaps_tls) as between:
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(asked))
            assert await between.server.receive(len(asked)) == asked
        async with asyncio.TaskGroup() as group:
            group.create_task(between.server.send(answered))
            assert await between.client.receive(len(answered)) == answered
        assert between.relay.at_swap_point


async def test_what_was_received_before_the_start_goes_first() -> None:
    async with relayed(start=False) as between:
        between.relay.upstream.unread(server("N"))
        between.relay.client.unread(client("Q"))
        between.relay.start()
        assert await between.client.receive(len(server("N"))) == server("N")
        assert await between.server.receive(len(client("Q"))) == client("Q")
        assert between.relay.tracker.outstanding == 1


async def test_the_beginning_of_a_header_waits_for_its_rest() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        await between.client.send(client("S")[:4])
        await turns()
        assert between.relay.bytes_in == len(client("Q"))
        await between.client.send(client("S")[4:])
        assert await between.server.receive(5) == client("S")


@pytest.mark.parametrize("cut", [1, 4, 5, 15])
async def test_a_small_message_passes_whole_or_not_at_all(cut: int) -> None:
    said, answered = query("select 'whole'"), server("N")
    async with relayed() as between:
        await between.client.send(said[:cut])
        await between.server.send(answered[:cut])
        await turns()
        assert between.relay.bytes_in == between.relay.bytes_out == 0
        await between.client.send(said[cut:])
        await between.server.send(answered[cut:])
        assert await between.server.receive(len(said)) == said
        assert await between.client.receive(len(answered)) == answered


async def test_an_unknown_message_passes_all_the_same() -> None:
    unknown = frame(ord("!"), b"who knows")
    async with relayed() as between:
        await between.ask(unknown)
        await between.ask(client("Q"), server("CZ"))
        assert "type" in between.relay.not_understood
        assert not between.relay.at_swap_point


async def test_an_unknown_answer_passes_all_the_same() -> None:
    unknown = frame(ord("!"), b"who knows") + b"\0\1\2 and no frame at all"
    async with relayed() as between:
        await between.ask(client("Q"), unknown)
        await between.answer(server("CZ"))
        assert "type" in between.relay.not_understood
        assert not between.relay.at_swap_point


async def test_an_impossibly_long_answer_passes_all_the_same() -> None:
    async with relayed() as between:
        await between.ask(client("Q"), server("T") + b"D\x7f\xff\xff\xff and so on")
        assert "too long" in between.relay.not_understood
        await between.answer(server("C"))


async def test_answers_out_of_turn_pass_all_the_same() -> None:
    async with relayed() as between:
        await between.answer(server("2Z"))
        assert between.relay.not_understood
        await between.ask(client("Q"), server("CZ"))
        assert not between.relay.at_swap_point


# -- pressure --------------------------------------------------------------------------


async def test_a_client_that_does_not_read_holds_the_upstream_back(
    perhaps_tls: TlsContexts | None,
) -> None:
    rows = data_row(bytes(10_000)) * 4_000  # 40 MB
    async with relayed(perhaps_tls, buffer_bytes=16 * KIB) as between:
        await between.ask(client("Q"))
        if perhaps_tls is None:
            sent = await between.server.send_what_fits(rows)
            assert sent < 4 * MIB
            assert _buffered(between.relay.client) < MIB
            rest = rows[sent:] + server("CZ")
        else:
            rest = rows + server("CZ")
        async with asyncio.TaskGroup() as group:
            group.create_task(between.server.send(rest))
            if perhaps_tls is not None:
                await until(lambda: between.relay.client.is_writing_paused)
                await turns(200)
                assert between.relay.bytes_out < 4 * MIB
                assert _buffered(between.relay.client) < MIB
            whole = rows + server("CZ")
            assert await between.client.receive(len(whole)) == whole


async def test_an_upstream_that_does_not_read_holds_the_client_back(
    perhaps_tls: TlsContexts | None,
) -> None:
    data = copy_data(bytes(10_000)) * 2_000
    async with relayed(perhaps_tls, buffer_bytes=16 * KIB) as between:
        await between.ask(client("Q"), server("G"))
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(data + client("c")))
            await until(lambda: between.relay.upstream.is_writing_paused)
            await turns(200)
            assert between.relay.bytes_in < 4 * MIB
            assert _buffered(between.relay.upstream) < MIB
            whole = data + client("c")
            assert await between.server.receive(len(whole)) == whole
        await between.answer(server("CZ"))
        assert between.relay.at_swap_point


async def test_one_direction_goes_on_while_the_other_is_held_back() -> None:
    async with relayed(buffer_bytes=16 * KIB) as between:
        await between.ask(client("Q"))
        await between.server.send_what_fits(data_row(bytes(10_000)) * 1_000)
        assert between.relay.client.is_writing_paused
        await between.ask(client("QQQ"))


def _buffered(channel: object) -> int:
    size = channel._transport.get_write_buffer_size()  # type: ignore[attr-defined]
    assert isinstance(size, int)
    return size


# -- a message over the limit ----------------------------------------------------------

OVERLONG = query("x" * MAX_MESSAGE_BYTES)


async def test_an_overlong_query_is_refused_and_the_session_goes_on(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with relayed(perhaps_tls) as between:
        await between.ask(client("Q"), server("CZ"))
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(OVERLONG, client("Q")))
            refusal = await between.client.receive_frame()
            assert await between.client.receive(6) == ready()
            assert await between.server.receive(len(client("Q"))) == client("Q")
        error = ErrorResponse.decode(refusal.body)
        assert (error.severity, error.sqlstate) == ("ERROR", "54000")
        assert "10,485,760" in error.detail
        assert error.hint
        await between.answer(server("CZ"))
        assert between.relay.at_swap_point
        assert between.relay.bytes_in == 2 * len(client("Q"))


async def test_two_overlong_queries_are_two_errors() -> None:
    async with relayed() as between, asyncio.TaskGroup() as group:
        group.create_task(between.client.send(OVERLONG, OVERLONG, client("S")))
        for _ in range(2):
            assert (await between.client.receive_frame()).type == ord("E")
            assert await between.client.receive(6) == ready()
        assert await between.server.receive(5) == client("S")


# A ReadyForQuery of ours must not come between the two halves of a notice.
async def test_a_notice_while_an_overlong_query_is_thrown_away() -> None:
    async with relayed() as between:
        await between.client.send(OVERLONG[:100_000])
        assert (await between.client.receive_frame()).type == ord("E")
        await between.server.send(LONG_NOTICE[:20])
        await until(lambda: between.relay.bytes_out == 20)
        await between.client.send(OVERLONG[100_000:], client("Q"))
        assert await between.server.receive(len(client("Q"))) == client("Q")
        await between.server.send(LONG_NOTICE[20:])
        assert await between.client.receive(6) == ready()
        assert await between.client.receive(len(LONG_NOTICE)) == LONG_NOTICE


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param("Q", "T", id="outstanding"),
        pytest.param("Q", "CY", id="in a transaction"),
        pytest.param("Q", "EX", id="in a failed transaction"),
        pytest.param("P", "E", id="skipping"),
        pytest.param("Q", "G", id="COPY IN"),
        pytest.param("Q", "CZ2", id="not understood"),
    ],
)
async def test_an_overlong_query_elsewhere_ends_the_session(
    asked: str, answered: str
) -> None:
    async with relayed() as between:
        await between.ask(client(asked), server(answered))
        await between.client.send(OVERLONG[:1_000])
        ending = await between.ending()
        assert ending.reason is CloseReason.MESSAGE_TOO_LARGE
        assert between.relay.state is RelayState.CLOSED
        assert between.relay.bytes_in == len(client(asked))


async def test_an_overlong_query_behind_another_ends_the_session() -> None:
    async with relayed() as between:
        await between.client.send(client("Q") + OVERLONG[:100])
        assert (await between.ending()).reason is CloseReason.MESSAGE_TOO_LARGE
        assert await between.server.receive(len(client("Q"))) == client("Q")


async def test_another_overlong_message_ends_the_session() -> None:
    async with relayed() as between:
        await between.client.send(parse("x" * MAX_MESSAGE_BYTES)[:100])
        assert (await between.ending()).reason is CloseReason.MESSAGE_TOO_LARGE


# The answer to it would have been put into the middle of the notice.
async def test_an_overlong_query_while_a_notice_is_half_sent_ends_the_session() -> None:
    async with relayed() as between:
        await between.answer(LONG_NOTICE[:20])
        await between.client.send(OVERLONG[:100])
        assert (await between.ending()).reason is CloseReason.MESSAGE_TOO_LARGE


# Two ends in one chunk: the second raised within the event loop's callback.
async def test_an_overlong_message_behind_terminate_is_one_ending() -> None:
    async with relayed() as between:
        await between.client.send(client("X") + OVERLONG[:100])
        await between.ending()
        assert await between.server.receive(5) == client("X")
        between.server.close()
        await between.relay.closed.wait()


# -- quiet -----------------------------------------------------------------------------


class Calls:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def test_when_quiet_is_now_where_nothing_is_under_way() -> None:
    async with relayed() as between:
        calls = Calls()
        between.relay.when_quiet(calls)
        assert calls.count == 1
        assert not between.relay.is_watched


async def test_when_quiet_waits_for_the_last_answer() -> None:
    async with relayed() as between:
        calls = Calls()
        await between.ask(client("QQ"))
        between.relay.when_quiet(calls)
        await between.answer(server("CZ"))
        await between.answer(server("CY"))
        assert calls.count == 0
        await between.ask(client("K"), server("MZ"))
        assert calls.count == 1
        await between.ask(client("Q"), server("CZ"))
        assert calls.count == 1
        assert not between.relay.is_watched


async def test_when_quiet_waits_for_the_end_of_a_notice() -> None:
    async with relayed() as between:
        calls = Calls()
        await between.answer(LONG_NOTICE[:20])
        assert not between.relay.at_swap_point
        between.relay.when_quiet(calls)
        await between.answer(LONG_NOTICE[20:])
        assert calls.count == 1


async def test_when_quiet_waits_for_the_end_of_a_notice_that_is_held() -> None:
    async with relayed() as between:
        calls = Calls()
        await between.server.send(server("N")[:20])
        await until(lambda: not between.relay.at_swap_point)
        assert between.relay.bytes_out == 0
        between.relay.when_quiet(calls)
        await between.server.send(server("N")[20:])
        assert await between.client.receive(len(server("N"))) == server("N")
        assert calls.count == 1


# No answer comes that would give an occasion to look: late CopyData are ignored.
async def test_when_quiet_waits_for_the_end_of_a_frame_that_nobody_answers() -> None:
    async with relayed() as between:
        calls = Calls()
        late = copy_data(b"late data of a failed COPY")
        await between.ask(late[:10])
        assert not between.relay.at_swap_point
        between.relay.when_quiet(calls)
        assert calls.count == 0
        await between.ask(late[10:])
        assert calls.count == 1


async def test_a_stopped_session_calls_nobody() -> None:
    async with relayed() as between:
        calls = Calls()
        await between.ask(client("Q"))
        between.relay.when_quiet(calls)
        between.relay.stop()
        await between.server.send(server("CZ"))
        await turns()
        assert calls.count == 0
