"""How a client may end a session, in order or not, and what is left: nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
import pytest_asyncio

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import SYNC, TERMINATE
from dsqlproxy.session import requests, session
from tests.end_to_end.wire import (
    RawClient,
    all_ended,
    frames_in,
    logged,
    query,
    startup,
    until,
    until_active,
)
from tests.kit.stack import RunningProxy, running_emulator, running_proxy

AT_ONCE = 2.0
"""Less than any time limit of the proxy's for a peer that does not answer."""

PARSE = frame(FrontendType.PARSE, b"\0select 7\0\0\0")
BIND = frame(FrontendType.BIND, b"\0\0\0\0\0\0\0\0")
EXECUTE = frame(FrontendType.EXECUTE, b"\0\0\0\0\0")
FLUSH = frame(FrontendType.FLUSH)
LARGE = query("select repeat('x', 1000) from generate_series(1, 100000)")


def kinds(frames: list[Frame]) -> str:
    return "".join(chr(kind) for kind, _ in frames)


async def both_end_at_once(proxy: RunningProxy, emulator: Emulator) -> None:
    async with asyncio.timeout(AT_ONCE):
        await all_ended(proxy, emulator)


# -- the end of the client's stream ----------------------------------------------------


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param(query("select 7"), "TDCZ", id="a-query"),
        pytest.param(query("select 7 from pg_sleep(0.3)"), "TDCZ", id="a-slow-query"),
        pytest.param(3 * query("select 7"), "TDCZTDCZTDCZ", id="three-queries"),
        pytest.param(query("begin"), "CZ", id="an-open-transaction"),
        pytest.param(query("nonsense"), "EZ", id="an-error"),
        pytest.param(PARSE + BIND + EXECUTE + SYNC, "12DCZ", id="extended"),
        pytest.param(PARSE + BIND + EXECUTE + FLUSH, "12DC", id="without-sync"),
    ],
)
async def test_what_was_asked_is_answered_before_the_end(
    proxy: RunningProxy, emulator: Emulator, said: bytes, answered: str
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(said)
        client.end_writing()
        assert kinds(frames_in(await client.receive_rest())) == answered
        await both_end_at_once(proxy, emulator)
    await logged(proxy, "session closed.*reason=client_closed")


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        pytest.param(
            frame(FrontendType.PARSE, b"\0select 7 from pg_sleep(0.5)\0\0\0")
            + (BIND + EXECUTE + FLUSH),
            "12DC",
            id="without-sync",
        ),
        pytest.param(
            20 * query("select 7 from pg_sleep(0.03)"),
            20 * "TDCZ",
            id="more-than-is-followed",
        ),
    ],
)
async def test_answers_slower_than_any_limit_reach_a_half_closed_client(
    proxy: RunningProxy,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    said: bytes,
    answered: str,
) -> None:
    # Answers were cut off five seconds after the client's end where the tracker had
    # no ReadyForQuery to wait for: no Sync sent, or too many requests to follow.
    monkeypatch.setattr(session, "LEAVE_SECONDS", 0.1)
    monkeypatch.setattr(requests, "MAX_OUTSTANDING", 5)
    async with RawClient.session(proxy) as client:
        await client.send(said)
        client.end_writing()
        assert kinds(frames_in(await client.receive_rest())) == answered
        await both_end_at_once(proxy, emulator)


async def test_a_large_answer_is_whole_before_the_end(
    postgres: EmbeddedPostgres,
) -> None:
    async with (
        running_emulator(postgres, has_rules=False) as emulator,
        running_proxy(emulator) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(LARGE)
        client.end_writing()
        frames = await client.receive_until_ready()
        assert len(frames) == 100_000 + 3
        await client.receive_end()


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        pytest.param(query("select 7")[:3], "", id="in-a-header"),
        pytest.param(query("select 7")[:-1], "", id="in-a-body"),
        pytest.param(
            query("select 7 from pg_sleep(0.2)") + query("select 8")[:-1],
            "TDCZ",
            id="after-a-query",
        ),
    ],
)
async def test_an_end_within_a_message_is_not_waited_upon(
    proxy: RunningProxy, emulator: Emulator, said: bytes, answered: str
) -> None:
    # No Terminate can follow half a message, so the cluster never closed, and the
    # session stayed for as long as it is given to do that.
    async with RawClient.session(proxy) as client:
        await client.send(said)
        client.end_writing()
        async with asyncio.timeout(AT_ONCE):
            assert kinds(frames_in(await client.receive_rest())) == answered
        await both_end_at_once(proxy, emulator)


@pytest_asyncio.fixture
async def _table(postgres: EmbeddedPostgres) -> AsyncIterator[None]:
    await postgres.execute(
        "create table endings (id int)", "grant all on endings to admin"
    )
    yield
    await postgres.execute("drop table endings")


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize("end", ["end_writing", "terminate", "close", "reset"])
async def test_an_end_within_copy_in_is_one_of_the_session(
    proxy: RunningProxy, emulator: Emulator, end: str
) -> None:
    # PostgreSQL takes a Terminate within COPY for a mistake and goes on.
    async with RawClient.session(proxy) as client:
        await client.send(query("copy endings from stdin"))
        assert (await client.receive_frame()).type == BackendType.COPY_IN_RESPONSE
        await client.send(frame(FrontendType.COPY_DATA, b"1\n"))
        if end == "terminate":
            await client.send(TERMINATE)
        else:
            getattr(client, end)()
        await both_end_at_once(proxy, emulator)
    async with RawClient.session(proxy) as client:
        assert await client.ask("select count(*) from endings") == ["0"]


# -- Terminate -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        pytest.param(TERMINATE, "", id="idle"),
        pytest.param(query("begin") + TERMINATE, "CZ", id="in-a-transaction"),
        pytest.param(query("select 7") + TERMINATE, "TDCZ", id="right-after-a-query"),
        pytest.param(TERMINATE + query("select 7"), "", id="a-query-after-it"),
        pytest.param(TERMINATE + b"\xff\xff\xff\xff\xff", "", id="noise-after-it"),
        pytest.param(TERMINATE + b"Q\x01\0\0\0", "", id="too-long-a-query-after-it"),
    ],
)
async def test_terminate_ends_the_session_after_what_came_before(
    proxy: RunningProxy, emulator: Emulator, said: bytes, answered: str
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(said)
        assert kinds(frames_in(await client.receive_rest())) == answered
        await both_end_at_once(proxy, emulator)
    await logged(proxy, "session closed.*reason=client_terminated")
    assert "session failed" not in proxy.log.getvalue()


@pytest.mark.usefixtures("_table")
async def test_work_that_is_not_committed_is_rolled_back(
    proxy: RunningProxy,
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(query("begin"), query("insert into endings values (1)"))
        await client.send(TERMINATE)
        await client.receive_rest()
    async with RawClient.session(proxy) as client:
        assert await client.ask("select count(*) from endings") == ["0"]


# -- breaking off ----------------------------------------------------------------------

SAID = startup() + query("select 1") + PARSE + BIND + EXECUTE + SYNC + query("select 2")


@pytest.mark.parametrize("leave", [RawClient.reset, RawClient.close])
@pytest.mark.parametrize("cut", [1, 4, 8, len(startup()) - 1, len(startup())])
async def test_a_client_gone_before_its_session_leaves_nothing(
    proxy: RunningProxy,
    emulator: Emulator,
    cut: int,
    leave: Callable[[RawClient], None],
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(SAID[:cut])
        leave(client)
        await both_end_at_once(proxy, emulator)
    assert " WARNING " not in proxy.log.getvalue()
    assert " ERROR " not in proxy.log.getvalue()


@pytest.mark.parametrize("leave", [RawClient.reset, RawClient.close])
async def test_a_client_gone_at_any_byte_leaves_nothing(
    proxy: RunningProxy, emulator: Emulator, leave: Callable[[RawClient], None]
) -> None:
    first = len(startup())
    async with asyncio.TaskGroup() as group:
        for cut in range(first, len(SAID) + 1, 3):
            group.create_task(_leave_at(proxy, cut, leave))
    await both_end_at_once(proxy, emulator)
    for word in (" WARNING ", " ERROR "):
        assert word not in proxy.log.getvalue()


async def _leave_at(
    proxy: RunningProxy, cut: int, leave: Callable[[RawClient], None]
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(SAID[: len(startup())])
        await client.receive_greeting()
        await client.send(SAID[len(startup()) : cut])
        leave(client)


async def test_a_client_gone_in_a_large_result_leaves_nothing(
    postgres: EmbeddedPostgres,
) -> None:
    async with (
        running_emulator(postgres, has_rules=False) as emulator,
        running_proxy(emulator) as proxy,
    ):
        async with RawClient.session(proxy) as client:
            await client.send(LARGE)
            await client.receive(100_000)
            client.reset()
        async with asyncio.timeout(8):  # the rest of the result may be read first
            await all_ended(proxy, emulator)
        await logged(proxy, "session closed.*reason=client_lost")


async def test_a_client_gone_while_a_statement_runs_does_not_hold_the_proxy_back(
    proxy: RunningProxy,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "LEAVE_SECONDS", 0.2)
    async with RawClient.session(proxy) as client:
        await client.send(query("select 'left alone' from pg_sleep(60)"))
        await until_active(postgres, "%left alone%")
        client.reset()
    try:
        async with asyncio.timeout(AT_ONCE):
            await until(lambda: not proxy.proxy._sessions)
        await logged(proxy, "session closed.*reason=client_lost")
    finally:
        await postgres.execute(  # it runs to its end, as it would without a proxy
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query like '%left alone%' and pid <> pg_backend_pid()"
        )


async def test_psycopg_closes_without_a_trace(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    for _ in range(20):
        async with await psycopg.AsyncConnection.connect(proxy.dsn()) as connection:
            await connection.execute("select 1")
    await both_end_at_once(proxy, emulator)
    # A thread writes the log: its last line may be still to come.
    ended = "reason=client_terminated"
    await until(lambda: proxy.log.getvalue().count(ended) == 20)
