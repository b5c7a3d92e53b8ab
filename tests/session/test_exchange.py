"""What the proxy asks in private: no answer of it is the client's, and no more is."""

import asyncio

import pytest

from dsqlproxy.errors import SwapError
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import SYNC, NoticeResponse
from dsqlproxy.session import exchange as exchange_module
from dsqlproxy.session.exchange import Exchange, converse, settled
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.replay import Answers, Request
from dsqlproxy.session.settings import capture
from tests.kit.channels import ScriptedPeer, channel_and_peer, until
from tests.kit.frames import client, data_row, error, ready, server
from tests.kit.relayed import Relayed, relayed, turns

pytestmark = pytest.mark.both_loops

QUESTION = Request.of(
    capture(b"private", (name,), is_generic=False) for name in ("datestyle", "timezone")
)
ROW = data_row(b"ISO, MDY", b"admin", b"admin", b"postgres")
ANSWER = server("312") + ROW + server("C33Z")
PING = Request(SYNC, units=1)


async def asks(between: Relayed, request: Request = QUESTION) -> Exchange:
    """Ask the upstream, which hears it; pause before, if that was not done."""
    if between.relay.state is not RelayState.PAUSED:
        between.relay.pause()
    exchange = between.relay.ask(request.data, Answers(request))
    await hears(between.server, request.data)
    return exchange


async def hears(peer: ScriptedPeer, frames: bytes) -> None:
    """See a peer hear this; what comes besides shows in what it hears next."""
    assert await peer.receive(len(frames)) == frames


async def is_answered(exchange: Exchange, within: Relayed) -> None:
    """See that all answers came, and that of them nothing went to the client."""
    await exchange.wait()
    assert exchange.is_answered
    assert not within.relay.is_asked
    within.relay.release()
    await within.ask(client("Q"), server("TDCZ"))
    assert within.relay.at_swap_point


# -- in order --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_answers_in_any_chunks_are_not_the_client_s(size: int) -> None:
    async with relayed() as between:
        exchange = await asks(between)
        answers = ANSWER * 2
        for at in range(0, len(answers), size):
            await between.server.send(answers[at : at + size])
            await asyncio.sleep(0)
        await is_answered(exchange, between)


async def test_the_client_s_words_wait_until_the_answers_came() -> None:
    async with relayed() as between:
        exchange = await asks(between, PING)
        await between.client.send(client("Q"))
        await between.server.send(ready())
        await exchange.wait()
        between.relay.release()
        await hears(between.server, client("Q"))
        await between.answer(server("CZ"))


# SWAP 3.6, ordering 4.
async def test_what_a_server_says_of_itself_goes_to_the_client_in_order() -> None:
    async with relayed() as between:
        exchange = await asks(between)
        await between.server.send(
            server("N") + server("312") + server("S") + ROW + server("C33"),
            server("A") + ready() + server("N") + ANSWER,
        )
        said = server("N") + server("S") + server("A") + server("N")
        await hears(between.client, said)
        await is_answered(exchange, between)


# SWAP 3.6, ordering 18, at the end of a question.
@pytest.mark.parametrize("cut", [3, 20])
async def test_what_follows_the_last_answer_is_the_client_s(cut: int) -> None:
    async with relayed() as between:
        exchange = await asks(between, PING)
        await between.server.send(ready() + server("A") + server("N")[:cut])
        await hears(between.client, server("A"))
        await exchange.wait()
        assert not between.relay.at_swap_point
        await between.server.send(server("N")[cut:])
        await hears(between.client, server("N"))
        assert between.relay.at_swap_point


# Half of it came before the question: the rest was taken for an answer.
@pytest.mark.parametrize("cut", [3, 20])
async def test_a_notice_that_had_begun_before_the_question_is_the_client_s(
    cut: int,
) -> None:
    async with relayed() as between:
        between.relay.pause()
        await between.server.send(server("N")[:cut])
        await until(lambda: not between.relay.at_swap_point)
        exchange = await asks(between, PING)
        await between.server.send(server("N")[cut:] + ready())
        await hears(between.client, server("N"))
        await is_answered(exchange, between)


async def test_several_questions_one_after_the_other() -> None:
    async with relayed() as between:
        for request in (PING, QUESTION):
            exchange = await asks(between, request)
            await between.server.send(ready() if request is PING else ANSWER * 2)
            await exchange.wait()
        exchange = await asks(between, PING)
        await between.server.send(ready())
        await is_answered(exchange, between)


@pytest.mark.parametrize("sqlstate", ["57014", "40001"])
async def test_a_question_that_was_interrupted_may_be_asked_again(
    sqlstate: str,
) -> None:
    async with relayed() as between:
        exchange = await asks(between)
        refused = server("3") + error("interrupted", sqlstate=sqlstate) + ready()
        await between.server.send(refused + ANSWER)
        with pytest.raises(SwapError, match="interrupted"):
            await exchange.wait()
        assert exchange.is_answered
        exchange = await asks(between)
        await between.server.send(ANSWER * 2)
        await is_answered(exchange, between)


async def test_who_waits_no_longer_has_not_ended_the_exchange() -> None:
    async with relayed() as between:
        exchange = await asks(between, PING)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await exchange.wait()
        await between.server.send(ready())
        await is_answered(exchange, between)


# -- only where it may be --------------------------------------------------------------


async def test_no_question_without_a_pause() -> None:
    async with relayed() as between:
        with pytest.raises(AssertionError, match="needs a paused relay"):
            between.relay.ask(PING.data, Answers(PING))
        await between.ask(client("Q"))


async def test_no_question_without_an_upstream() -> None:
    async with relayed(is_kept=True) as between:
        between.server.close()
        await until(lambda: between.relay.is_upstream_lost)
        with pytest.raises(AssertionError, match="with an upstream"):
            between.relay.ask(PING.data, Answers(PING))


async def test_no_cut_over_while_something_is_asked() -> None:
    async with relayed() as between, channel_and_peer() as (channel, _):
        await asks(between, PING)
        with pytest.raises(AssertionError, match="with nothing asked"):
            between.relay.cut_over(channel, b"")


# -- what no answer can be -------------------------------------------------------------

LARGE = 100 * 1024
NOT_ANSWERS = [
    pytest.param(server("312X") + ANSWER, id="a failed transaction"),
    pytest.param(server("312D") + ready() + ANSWER, id="another answer"),
    pytest.param(server("FN"), id="a fatal error"),
    pytest.param(b"?\0\0\0\x05!" + ANSWER, id="a message of no known type"),
    pytest.param(b"D\0\0\0\1" + ANSWER, id="an impossible length"),
    pytest.param(b"D\x7f\xff\xff\xff" + bytes(LARGE), id="an endless message"),
]


# They went to the client, from the first that was not what it must be.
@pytest.mark.parametrize("said", NOT_ANSWERS)
async def test_nothing_of_an_exchange_that_failed_is_the_client_s(said: bytes) -> None:
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        exchange = await asks(between)
        await between.server.send(said)
        with pytest.raises(SwapError):
            await exchange.wait()
        assert not exchange.is_answered
        await between.server.send(ANSWER + server("D") * 100 + bytes(10))
        await turns()
        assert between.relay.bytes_out == 0
        between.relay.give_up_upstream()
        between.relay.cut_over(channel, b"")
        await new.send(server("A"))
        await hears(between.client, server("A"))


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="without a word"),
        pytest.param(ANSWER[:-3], id="within an answer"),
        pytest.param(b"D" + LARGE.to_bytes(4) + bytes(70_000), id="within a long one"),
        pytest.param(ANSWER, id="half answered"),
        pytest.param(server("F"), id="with a fatal error"),
    ],
)
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_an_upstream_lost_while_it_is_asked_is_replaced(
    said: bytes, end: str
) -> None:
    async with relayed(is_kept=True) as between, channel_and_peer() as (channel, new):
        exchange = await asks(between)
        await between.client.send(client("Q"))
        await between.server.send(said)
        await turns()
        getattr(between.server, end)()
        with pytest.raises(SwapError):
            await exchange.wait()
        await until(lambda: between.relay.is_upstream_lost)
        assert between.keeper.told[-1] == "lost"
        between.relay.cut_over(channel, b"")
        await hears(new, client("Q"))
        await new.send(server("CZ"))
        await hears(between.client, server("CZ"))


async def test_an_upstream_that_is_given_up_has_no_answers_any_more() -> None:
    async with relayed(is_kept=True) as between:
        exchange = await asks(between)
        between.relay.give_up_upstream()
        with pytest.raises(SwapError, match="the upstream was lost"):
            await exchange.wait()
        assert not between.relay.is_asked


# -- the end meanwhile -----------------------------------------------------------------


async def test_stop_while_something_is_asked_tells_the_client_nothing_of_it() -> None:
    async with relayed() as between:
        await asks(between)
        await between.server.send(ANSWER[:30])
        await turns()
        between.relay.stop()
        await between.server.send(ANSWER[30:] + ANSWER + server("N"))
        await turns()
        between.relay.parting.say(server("F"))
        between.relay.client.close()
        assert await between.client.receive_rest() == server("F")


async def test_a_client_that_is_lost_while_something_is_asked() -> None:
    async with relayed() as between:
        exchange = await asks(between)
        between.client.reset()
        assert (await between.ending()).reason is CloseReason.CLIENT_LOST
        await between.server.send(ANSWER + server("N") + ANSWER)
        await exchange.wait()
        assert between.relay.state is RelayState.LEAVING


# -- a new upstream, which has no client yet -------------------------------------------


async def test_a_new_upstream_is_asked_directly() -> None:
    async with channel_and_peer() as (channel, peer):
        answers = Answers(QUESTION)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(converse(channel, QUESTION.data, answers))
            await hears(peer, QUESTION.data)
            await peer.send(ANSWER)
            await turns()
            assert not asking.done()
            await peer.send(ANSWER + server("N") + b"S")
        assert answers.is_done
        assert await channel.read() == server("N") + b"S"  # for its relay


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_new_upstream_that_is_lost_is_an_error(end: str) -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:

        async def lose() -> None:
            await peer.receive(len(QUESTION.data))
            await peer.send(ANSWER)
            getattr(peer, end)()

        group.create_task(lose())
        with pytest.raises(SwapError, match="the new upstream was lost"):
            await converse(channel, QUESTION.data, Answers(QUESTION))


async def test_a_new_upstream_that_does_not_answer_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "ANSWER_SECONDS", 0.01)
    async with channel_and_peer() as (channel, peer):
        await peer.send(ANSWER)
        with pytest.raises(SwapError, match="does not answer"):
            await converse(channel, QUESTION.data, Answers(QUESTION))


async def test_a_new_upstream_that_answers_something_else_is_an_error() -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(server("F"))
        with pytest.raises(SwapError, match="57P01"):
            await converse(channel, QUESTION.data, Answers(QUESTION))


# -- an exchange that nobody needs -----------------------------------------------------


async def test_an_exchange_that_nobody_needs_is_waited_for() -> None:
    async with relayed() as between:
        exchange = await asks(between, PING)
        await between.server.send(ready())
        assert await settled(exchange)


async def test_an_exchange_that_ended_badly_says_so() -> None:
    async with relayed() as between:
        exchange = await asks(between)
        await between.server.send(server("F"))
        assert not await settled(exchange)


async def test_an_exchange_without_an_end_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "SETTLE_SECONDS", 0.01)
    async with relayed() as between:
        exchange = await asks(between)
        await between.server.send(ANSWER)
        assert not await settled(exchange)


async def test_a_long_aside_is_passed_on_whole() -> None:
    notice = NoticeResponse.build("NOTICE", "00000", "x" * LARGE).encode()
    async with relayed() as between:
        exchange = await asks(between, PING)
        await between.server.send(notice)
        await hears(between.client, notice)
        await between.server.send(frame(ord("Z"), b"I"))
        await is_answered(exchange, between)
