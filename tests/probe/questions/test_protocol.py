"""Answers about the protocol that no emulator gives."""

import asyncio

import pytest

from dsqlproxy.errors import ConnectionLost
from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.startup import CancelRequest
from tests.kit.frames import error, ready, server
from tests.kit.scripted import Conversation
from tests.probe.kit import always, answer_of, ask, refusing, scripted_cluster
from tests.upstream.wire import CLEARTEXT, GREETING, Authority


async def test_another_query_is_cancelled_where_there_is_no_sleep(
    authority: Authority,
) -> None:
    cancelled = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        if isinstance(await peer.receive_packet(), CancelRequest):
            cancelled.set()
            return
        await peer.send(CLEARTEXT)
        await peer.receive_frame()
        await peer.send(GREETING)
        assert b"pg_sleep" in (await peer.receive_frame()).body
        await peer.send(error("no function pg_sleep", sqlstate="42883"), ready())
        assert b"generate_series" in (await peer.receive_frame()).body
        await peer.send(server("T"))
        await cancelled.wait()
        await peer.send(error("canceled", sqlstate="57014"), ready())
        await peer.receive_rest()

    async with scripted_cluster(script, authority) as cluster:
        answer = await ask("cancel", cluster)
    assert answer.value == "honoured"
    assert answer.evidence["pg_sleep"] == "ERROR 42883: no function pg_sleep"
    assert answer.evidence["query"] == "count(*) of a billion rows"
    assert answer.evidence["types"] == "T E Z"


async def test_a_query_that_ends_at_once_cannot_be_cancelled(
    authority: Authority,
) -> None:
    for answering in (lambda _: server("TDCZ"), refusing()):
        answer = await answer_of("cancel", answering, authority)
        assert answer.value == "no query ran long enough"


async def test_a_session_may_end_instead_of_its_query(authority: Authority) -> None:
    with pytest.raises(ConnectionLost, match="closed"):
        await answer_of("cancel", always(None), authority)


async def test_flush_may_be_ignored_until_sync(authority: Authority) -> None:
    def answering(one: Frame) -> bytes | None:
        return server("1tTZ") if one.type == FrontendType.SYNC else b""

    answer = await answer_of("flush", answering, authority)
    assert answer.value == "silent until Sync"
    assert answer.evidence["types after Flush"] == ""
    assert answer.evidence["types after Sync"] == "1 t T Z (I)"


async def test_flush_may_end_the_session(authority: Authority) -> None:
    answer = await answer_of("flush", always(None), authority)
    assert answer.value == "connection closed (FIN)"


async def test_a_limit_of_rows_may_be_ignored(authority: Authority) -> None:
    def answering(one: Frame) -> bytes | None:
        return server("12TDDDDDCZ") if one.type == FrontendType.SYNC else b""

    answer = await answer_of("row_limit", answering, authority)
    assert answer.value == "not suspended"
    assert answer.evidence["types"] == "1 2 T D*5 C Z"
    assert (await answer_of("row_limit", refusing(), authority)).value == "ERROR 0A000"


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (error("no", sqlstate="0A000") + ready(), "ERROR 0A000"),
        (None, "connection closed (FIN)"),
        (b"", "silence"),
    ],
)
async def test_a_function_call_may_be_answered_otherwise(
    reply: bytes | None, value: str, authority: Authority
) -> None:
    answer = await answer_of("function_call", always(reply), authority)
    assert answer.value == value


async def test_a_pipeline_may_be_cut(authority: Authority) -> None:
    left = 10

    def answering(one: Frame) -> bytes | None:
        nonlocal left
        if one.type not in {FrontendType.SYNC, FrontendType.QUERY}:
            return b""
        left -= 1
        return server("12DCZ") if left >= 0 else None

    answer = await answer_of("pipelining", answering, authority)
    assert answer.value == "10 and 0 of 100"
    outcome = str(answer.evidence["extended, outcome"])
    assert outcome.startswith("connection ")
