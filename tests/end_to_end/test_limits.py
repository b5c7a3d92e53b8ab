"""Messages over the cluster's 10 MiB, and messages that are none."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors

from dsqlproxy.dsql import MAX_MESSAGE_BYTES
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import SYNC, TERMINATE, ErrorResponse
from tests.end_to_end.wire import (
    RawClient,
    all_ended,
    fatal_in,
    first_columns,
    frames_in,
    logged,
    query,
)
from tests.kit.stack import RunningProxy, running_emulator, running_proxy


@pytest_asyncio.fixture
async def emulator(postgres: EmbeddedPostgres) -> AsyncIterator[Emulator]:
    """Do without rules: they would parse these megabytes."""
    async with running_emulator(postgres, has_rules=False) as running:
        yield running


def padded(sql: str, length: int) -> bytes:
    """A Query whose length word says ``length``."""
    text = sql.encode() + b" --"
    return query((text + b"x" * (length - 5 - len(text))).decode())


TOO_LONG = padded("select 1", MAX_MESSAGE_BYTES + 1)


async def receive_refusal(client: RawClient) -> ErrorResponse:
    """Take an ERROR and ReadyForQuery(idle), as of a statement that failed."""
    (kind, body), ready = await client.receive_until_ready()
    assert kind == BackendType.ERROR_RESPONSE
    assert ready == (BackendType.READY_FOR_QUERY, b"I")
    error = ErrorResponse.decode(body)
    assert (error.severity, error.sqlstate) == ("ERROR", "54000")
    return error


async def test_a_query_of_ten_mebibytes_passes(proxy: RunningProxy) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(padded("select 1", MAX_MESSAGE_BYTES))
        assert first_columns(await client.receive_until_ready()) == ["1"]


async def test_one_byte_more_is_an_error_and_the_session_goes_on(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(proxy) as client:
        pid = await client.ask("select pg_backend_pid()")
        await client.send(TOO_LONG)
        error = await receive_refusal(client)
        assert error.message == "message is too large for Aurora DSQL"
        assert error.detail == (
            "The message has 10,485,761 bytes; the limit is 10,485,760 (10 MiB)."
        )
        assert error.hint == "Send the data in smaller statements or batches."
        assert await client.ask("select pg_backend_pid()") == pid
    assert emulator.counts.logins_accepted == 1


async def test_what_follows_in_the_same_breath_is_answered_in_order(
    proxy: RunningProxy,
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(TOO_LONG + query("select 1") + TERMINATE)
        await receive_refusal(client)
        assert first_columns(await client.receive_until_ready()) == ["1"]
        await client.receive_end()


async def test_its_header_may_come_in_two_parts(proxy: RunningProxy) -> None:
    async with RawClient.session(proxy) as client:
        for part in (TOO_LONG[:3], TOO_LONG[3:5], TOO_LONG[5:-1], TOO_LONG[-1:]):
            await client.send(part)
            await asyncio.sleep(0)
        await receive_refusal(client)
        assert await client.ask("select 1") == ["1"]


async def test_two_of_them_are_two_errors(proxy: RunningProxy) -> None:
    async with RawClient.session(proxy) as client:
        for _ in range(2):
            await client.send(TOO_LONG)
            await receive_refusal(client)
        assert await client.ask("select 1") == ["1"]


async def test_psycopg_sees_an_ordinary_error(proxy: RunningProxy) -> None:
    async with await psycopg.AsyncConnection.connect(
        proxy.dsn(), autocommit=True
    ) as connection:
        with pytest.raises(errors.ProgramLimitExceeded, match="too large"):
            await connection.execute("select '" + "x" * MAX_MESSAGE_BYTES + "'")
        cursor = await connection.execute("select 1")
        assert await cursor.fetchone() == (1,)


async def test_psycopg_in_a_transaction_loses_the_session(proxy: RunningProxy) -> None:
    async with await psycopg.AsyncConnection.connect(proxy.dsn()) as connection:
        await connection.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("select '" + "x" * MAX_MESSAGE_BYTES + "'")
        assert connection.broken


PARSE = frame(FrontendType.PARSE, b"\0select 1\0\0\0")


@pytest.mark.parametrize(
    ("before", "said"),
    [
        pytest.param(query("begin"), TOO_LONG, id="in-a-transaction"),
        pytest.param(b"", PARSE + SYNC + TOO_LONG, id="in-a-pipeline"),
        pytest.param(
            b"",
            frame(FrontendType.PARSE, b"\0" + b"x" * MAX_MESSAGE_BYTES),
            id="parse",
        ),
        pytest.param(
            b"", frame(FrontendType.BIND, b"x" * MAX_MESSAGE_BYTES), id="bind"
        ),
        pytest.param(b"", b"Q\x7f\xff\xff\xff", id="two-gb"),
    ],
)
async def test_anywhere_else_it_ends_the_session(
    proxy: RunningProxy, emulator: Emulator, before: bytes, said: bytes
) -> None:
    async with RawClient.session(proxy) as client:
        if before:
            await client.send(before)
            await client.receive_until_ready()
        is_query = said.startswith(b"Q\x7f")
        await client.send(said)
        if is_query:  # refused at once; what is left of it is never sent
            assert (await client.receive_frame()).type == BackendType.ERROR_RESPONSE
            client.reset()
        else:
            frames = frames_in(await client.receive_rest())
            error = fatal_in(frames[-1])
            assert error.sqlstate == "54000"
            assert "10 MiB" in error.detail
            client.close()
            await logged(proxy, "session closed.*reason=message_too_large")
        await all_ended(proxy, emulator)


async def test_too_much_data_within_copy_ends_the_session(
    proxy: RunningProxy, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    await postgres.execute("create table wide (t text)", "grant all on wide to admin")
    try:
        async with RawClient.session(proxy) as client:
            await client.send(query("copy wide from stdin"))
            assert (await client.receive_frame()).type == BackendType.COPY_IN_RESPONSE
            await client.send(
                frame(FrontendType.COPY_DATA, b"x" * MAX_MESSAGE_BYTES + b"\n")
            )
            assert fatal_in(await client.receive_frame()).sqlstate == "54000"
        await all_ended(proxy, emulator)
    finally:
        await postgres.execute("drop table wide")


@pytest.mark.parametrize("end", ["close", "reset", "end_writing"])
async def test_a_client_may_leave_in_the_middle_of_it(
    proxy: RunningProxy, emulator: Emulator, end: str
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(TOO_LONG[:1_000_000])
        getattr(client, end)()
        await all_ended(proxy, emulator)


async def test_the_upstream_may_be_lost_in_the_middle_of_it(
    emulator: Emulator,
) -> None:
    async with running_proxy(emulator, recovery="off") as proxy:
        async with RawClient.session(proxy) as client:
            await client.send(TOO_LONG[:1_000_000])
            await receive_refusal(client)
            emulator.expire_sessions()
            assert fatal_in(await client.receive_frame()).sqlstate == "08006"
        await all_ended(proxy, emulator)


async def test_the_upstream_may_be_replaced_in_the_middle_of_it(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(TOO_LONG[:1_000_000])
        await receive_refusal(client)
        emulator.expire_sessions()
        await logged(proxy, "session recovered")
        await client.send(TOO_LONG[1_000_000:])
        assert await client.ask("select 1") == ["1"]


@pytest.mark.parametrize(
    ("noise", "sqlstate"),
    [
        # PostgreSQL writes "invalid message length" to its own log only, and closes.
        pytest.param(b"Q\xff\xff\xff\xff", "08006", id="negative-length"),
        pytest.param(b"Q\0\0\0\3", "08006", id="short-length"),
        pytest.param(b"?\0\0\0\4", "08P01", id="unknown-type"),
        pytest.param(b"GET / HTTP", "08P01", id="http"),
    ],
)
async def test_what_is_no_message_is_the_clusters_to_refuse(
    proxy: RunningProxy, emulator: Emulator, noise: bytes, sqlstate: str
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(noise)
        frames = frames_in(await client.receive_rest())
        client.close()
        await all_ended(proxy, emulator)
    assert len(frames) == 1
    assert fatal_in(frames[0]).sqlstate == sqlstate
