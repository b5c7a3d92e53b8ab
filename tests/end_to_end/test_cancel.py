"""CancelRequest: by drivers and by hand, with the right key and with wrong ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import psycopg
import pytest

from dsqlproxy.config import TcpAddress
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.messages import ErrorResponse
from dsqlproxy.pgproto.startup import (
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    CancelRequest,
    GSSENCRequest,
    ProtocolVersion,
    SSLRequest,
)
from tests.end_to_end.test_negotiation import trusting
from tests.end_to_end.wire import (
    Greeting,
    RawClient,
    all_ended,
    logged,
    query,
    startup,
    until_active,
)
from tests.kit.stack import RunningProxy, config_for, running_proxy

SLEEP = query("select pg_sleep(60)")


@asynccontextmanager
async def sleeping(
    proxy: RunningProxy,
    postgres: EmbeddedPostgres,
    version: ProtocolVersion = PROTOCOL_3_0,
) -> AsyncIterator[tuple[RawClient, Greeting]]:
    """A session that runs a long statement."""
    async with RawClient.connect(proxy) as client:
        await client.send(startup(version))
        greeting = await client.receive_greeting()
        await client.send(SLEEP)
        # The cancel must not overtake the statement on its way to PostgreSQL.
        await until_active(postgres)
        yield client, greeting


async def cancelled(client: RawClient) -> bool:
    """Wait for the statement's answer; say whether it was cancelled."""
    frames = await client.receive_until_ready()
    errors = [
        ErrorResponse.decode(body)
        for kind, body in frames
        if kind == BackendType.ERROR_RESPONSE
    ]
    return [error.sqlstate for error in errors] == ["57014"]


async def send_cancel(proxy: RunningProxy, *parts: bytes) -> None:
    """Send a CancelRequest and wait until the connection is closed, unanswered."""
    async with RawClient.connect(proxy) as client:
        await client.send(*parts)
        await client.receive_end()


@pytest.mark.parametrize("version", [PROTOCOL_3_0, PROTOCOL_3_2], ids=["3.0", "3.2"])
async def test_a_statement_is_cancelled_and_the_session_goes_on(
    proxy: RunningProxy,
    postgres: EmbeddedPostgres,
    emulator: Emulator,
    version: ProtocolVersion,
) -> None:
    async with sleeping(proxy, postgres, version) as (
        client,
        greeting,
    ):
        await send_cancel(proxy, greeting.cancel_request.encode())
        assert await cancelled(client)
        assert await client.ask("select 1") == ["1"]
    assert emulator.counts.cancels_forwarded == 1
    line = await logged(proxy, "DEBUG cancel.*outcome=forwarded")
    assert " of=" in line


async def test_a_cancel_may_be_secured_first(
    emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with (
        running_proxy(emulator, client_tls="auto") as proxy,
        sleeping(proxy, postgres) as (client, greeting),
    ):
        async with RawClient.connect(proxy) as other:
            await other.send(SSLRequest().encode())
            assert await other.receive(1) == b"S"
            await other.start_tls(trusting(), server_hostname="localhost")
            await other.send(greeting.cancel_request.encode())
            await other.receive_end()
        assert await cancelled(client)


async def test_a_cancel_may_come_after_encryption_was_declined(
    proxy: RunningProxy, postgres: EmbeddedPostgres
) -> None:
    async with sleeping(proxy, postgres) as (client, greeting):
        async with RawClient.connect(proxy) as other:
            for request in (GSSENCRequest(), SSLRequest()):
                await other.send(request.encode())
                assert await other.receive(1) == b"N"
            await other.send(greeting.cancel_request.encode())
            await other.receive_end()
        assert await cancelled(client)


async def test_a_cancel_may_come_byte_by_byte(
    proxy: RunningProxy, postgres: EmbeddedPostgres
) -> None:
    async with sleeping(proxy, postgres) as (client, greeting):
        async with RawClient.connect(proxy) as other:
            for byte in greeting.cancel_request.encode():
                await other.send(bytes((byte,)))
                await asyncio.sleep(0)
            await other.receive_end()
        assert await cancelled(client)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: bytes(4), id="zeros"),
        pytest.param(lambda key: key[:-1] + bytes((key[-1] ^ 1,)), id="one-bit"),
        pytest.param(lambda key: key + b"\0", id="longer"),
        pytest.param(lambda key: key * 64, id="longest"),
    ],
)
async def test_a_wrong_secret_does_nothing(
    proxy: RunningProxy, postgres: EmbeddedPostgres, emulator: Emulator, change: object
) -> None:
    assert callable(change)
    async with sleeping(proxy, postgres) as (client, greeting):
        assert greeting.key is not None
        wrong = CancelRequest(
            greeting.key.process_id, change(greeting.key.secret_key)
        ).encode()
        await send_cancel(proxy, wrong)
        await logged(proxy, "cancel.*outcome=unknown_key")
        assert emulator.counts.cancels_forwarded == 0
        await send_cancel(proxy, greeting.cancel_request.encode())
        assert await cancelled(client)
    assert emulator.counts.connections == 2  # the session and the one good cancel


async def test_an_unknown_process_does_nothing(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    await send_cancel(proxy, CancelRequest(12345, b"none").encode())
    assert emulator.counts.connections == 0


async def test_after_the_session_its_key_does_nothing(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        greeting = await client.receive_greeting()
    await all_ended(proxy, emulator)
    await send_cancel(proxy, greeting.cancel_request.encode())
    assert emulator.counts.connections == 1


async def test_keys_of_two_sessions_do_not_cross(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.connect(proxy) as idle:
        await idle.send(startup())
        other = await idle.receive_greeting()
        async with RawClient.session(proxy) as busy:
            await busy.send(query("select 'done' from pg_sleep(0.3)"))
            await send_cancel(proxy, other.cancel_request.encode())
            frames = await busy.receive_until_ready()
            assert [chr(each.type) for each in frames] == ["T", "D", "C", "Z"]
        assert await idle.ask("select 1") == ["1"]
    assert emulator.counts.cancels_forwarded == 1


async def test_a_cancel_may_come_in_over_another_listener(
    emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    config = config_for(emulator)
    first = config.listeners[0]
    second = first.model_copy(update={"name": "second"})
    config = config.model_copy(update={"listeners": (first, second)})
    async with (
        running_proxy(emulator, config=config) as proxy,
        sleeping(proxy, postgres) as (client, greeting),
    ):
        address = proxy.started.listeners[1].address
        assert isinstance(address, TcpAddress)
        assert address != proxy.address
        async with await RawClient.dial(proxy.host, address.port) as other:
            await other.send(greeting.cancel_request.encode())
            await other.receive_end()
        assert await cancelled(client)


async def test_a_cluster_that_takes_no_cancels_does_no_harm(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("no-cancel")
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        greeting = await client.receive_greeting()
        await client.send(query("select 'done' from pg_sleep(0.3)"))
        await send_cancel(proxy, greeting.cancel_request.encode())
        frames = await client.receive_until_ready()
        assert [chr(each.type) for each in frames] == ["T", "D", "C", "Z"]


async def test_a_cluster_without_keys_makes_cancels_do_nothing(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("no-key-data")
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        greeting = await client.receive_greeting()
        await send_cancel(proxy, greeting.cancel_request.encode())
        assert await client.ask("select 1") == ["1"]
    assert emulator.counts.connections == 1


async def test_the_process_id_is_that_of_the_clusters_session(
    proxy: RunningProxy,
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        greeting = await client.receive_greeting()
        assert greeting.key is not None
        pid = await client.ask("select pg_backend_pid()")
    assert pid == [str(greeting.key.process_id)]


@pytest.mark.parametrize("sslmode", ["disable", "require"])
async def test_psycopg_cancels(
    emulator: Emulator, postgres: EmbeddedPostgres, sslmode: str
) -> None:
    async with (
        running_proxy(emulator, client_tls="auto") as proxy,
        await psycopg.AsyncConnection.connect(
            proxy.dsn(sslmode=sslmode), autocommit=True
        ) as connection,
    ):
        async with asyncio.TaskGroup() as group:
            running = group.create_task(_is_cancelled(connection))
            await until_active(postgres)
            await connection.cancel_safe(timeout=5)
        assert running.result()
        cursor = await connection.execute("select 1")
        assert await cursor.fetchone() == (1,)


async def _is_cancelled(
    connection: "psycopg.AsyncConnection[tuple[object, ...]]",
) -> bool:
    try:
        await connection.execute("select pg_sleep(60)")
    except psycopg.errors.QueryCanceled:
        return True
    return False


async def test_asyncpg_cancels_when_its_time_is_over(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    connection = await asyncpg.connect(
        host=proxy.host, port=proxy.port, user="admin", database="postgres"
    )
    with pytest.raises(TimeoutError):
        await connection.fetchval("select pg_sleep(60)", timeout=0.3)
    assert await connection.fetchval("select 1") == 1
    assert emulator.counts.cancels_forwarded == 1
    await connection.close()
