"""Clients that are held at their login: told why, and served as soon as it can be."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pg8000.dbapi
import psycopg
import psycopg2
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.messages import NoticeResponse
from tests.end_to_end.crowds import by_hand, crowd
from tests.end_to_end.wire import RawClient, all_ended, logged, startup, until
from tests.kit.stack import RunningProxy, running_emulator, running_proxy

WAKING = "dsqlproxy waits for the cluster to wake up"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("waking-up:500ms", WAKING),
        ("rate-exceeded:1", "dsqlproxy waits for the cluster to take logins again"),
        (
            "too-many-connections:1",
            "dsqlproxy waits for the cluster to have a free connection",
        ),
    ],
)
async def test_what_passes_is_waited_for(
    proxy: RunningProxy, emulator: Emulator, fault: str, said: str
) -> None:
    emulator.add_fault(fault)
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        greeting = await client.receive_greeting()
        assert [notice.get("M") for notice in greeting.notices] == [said]
        assert await client.ask("select 1") == ["1"]
    await logged(proxy, f"INFO session held.*{said}")
    assert "login failed" not in proxy.log.getvalue()


@pytest.mark.parametrize(
    ("fault", "sqlstate"),
    [
        ("waking-up:60s", "08006"),
        ("rate-exceeded:100", "53400"),
        ("too-many-connections:100", "53300"),
        ("expired-credentials", "08006"),
    ],
)
async def test_what_does_not_pass_in_time_is_told_in_the_words_of_the_cluster(
    emulator: Emulator, fault: str, sqlstate: str
) -> None:
    emulator.add_fault(fault)
    async with (
        running_proxy(emulator, hold_timeout=0.2) as proxy,
        RawClient.connect(proxy) as client,
    ):
        await client.send(startup())
        await client.receive_frame()
        notice = NoticeResponse.decode((await client.receive_frame()).body)
        assert notice.get("M").startswith("dsqlproxy waits for ")
        error = await client.receive_fatal()
        assert error.sqlstate == sqlstate
        assert "The client was held for" in error.detail
        await logged(proxy, f"WARNING login failed.*code={sqlstate}.*held for")


async def test_a_thousand_clients_do_not_knock_a_thousand_times(
    postgres: EmbeddedPostgres,
) -> None:
    clients = 100
    async with running_emulator(postgres) as emulator:
        emulator.add_fault("waking-up:1s")
        async with running_proxy(emulator) as proxy, asyncio.TaskGroup() as group:

            async def serve() -> None:
                async with RawClient.session(proxy) as client:
                    assert await client.ask("select 1") == ["1"]

            for _ in range(clients):
                group.create_task(serve())
        refused = emulator.counts.logins_refused.total()
        # Those that were under way when the first was refused, then one at a time.
        assert refused < clients / 2
        assert emulator.counts.logins_accepted == clients


async def test_those_that_come_later_wait_for_the_scout(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("waking-up:1s")
    async with asyncio.TaskGroup() as group:

        async def serve() -> None:
            async with RawClient.session(proxy) as client:
                assert await client.ask("select 1") == ["1"]

        group.create_task(serve())
        await logged(proxy, "INFO session held")
        for _ in range(50):
            group.create_task(serve())
    assert emulator.counts.logins_refused.total() <= 5
    assert emulator.counts.logins_accepted == 51


async def test_clients_that_come_together_begin_one_after_another(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsqlproxy.app.PACE", 0.5)
    async with (
        running_proxy(emulator, max_connect_rate=0.5, hold_timeout=0) as proxy,
        crowd(proxy, 6, kinds=(by_hand,)) as clients,
    ):
        await until(lambda: len(clients.served) == 5)
        assert dict(proxy.proxy._connect_queues()) == {"main": 1}
        await clients.all_served()
        assert dict(proxy.proxy._connect_queues()) == {"main": 0}


async def test_a_client_that_leaves_while_it_is_held_leaves_nothing(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("waking-up:60s")
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        await logged(proxy, "INFO session held")
    await all_ended(proxy, emulator)
    emulator.clear_faults()
    async with RawClient.session(proxy) as client:
        assert await client.ask("select 1") == ["1"]


async def test_a_client_that_is_held_is_told_when_the_proxy_ends(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("waking-up:60s")
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        await client.receive_frame()
        await client.receive_frame()
        proxy.shutdown.request("SIGTERM")
        assert (await client.receive_fatal()).sqlstate == "57P01"


async def test_sessions_that_are_open_know_nothing_of_it(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(proxy) as open_one:
        emulator.add_fault("waking-up:60s")
        async with RawClient.connect(proxy) as client:
            await client.send(startup())
            await logged(proxy, "INFO session held")
            assert await open_one.ask("select 1") == ["1"]


def _psycopg2(proxy: RunningProxy) -> list[str]:
    with psycopg2.connect(proxy.dsn()) as connection:
        assert connection.notices == []  # libpq has written it to standard error
        return [WAKING]


def _pg8000(proxy: RunningProxy) -> list[str]:
    connection = pg8000.dbapi.connect(
        user="admin", host=proxy.host, port=proxy.port, database="postgres"
    )
    connection.close()
    return [WAKING]  # which keeps no notice of that time


async def _psycopg3(proxy: RunningProxy) -> list[str]:
    connection = await psycopg.AsyncConnection.connect(proxy.dsn())
    await connection.close()
    return [WAKING]  # likewise


async def _asyncpg(proxy: RunningProxy) -> list[str]:
    connection = await asyncpg.connect(
        host=proxy.host, port=proxy.port, user="admin", database="postgres", ssl=False
    )
    await connection.close()
    return [WAKING]


async def _in_a_thread(
    connect: Callable[[RunningProxy], list[str]], proxy: RunningProxy
) -> list[str]:
    return await asyncio.to_thread(connect, proxy)


@pytest.mark.parametrize(
    "connect",
    [
        _psycopg3,
        _asyncpg,
        pytest.param(lambda proxy: _in_a_thread(_psycopg2, proxy), id="_psycopg2"),
        pytest.param(lambda proxy: _in_a_thread(_pg8000, proxy), id="_pg8000"),
    ],
)
async def test_drivers_take_the_notice_and_the_wait(
    proxy: RunningProxy,
    emulator: Emulator,
    connect: Callable[[RunningProxy], Awaitable[list[str]]],
) -> None:
    emulator.add_fault("waking-up:300ms")
    assert any(WAKING in notice for notice in await connect(proxy))
    await logged(proxy, "INFO session held")
