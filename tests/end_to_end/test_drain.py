"""How a proxy ends: idle sessions at once, busy ones when quiet, all in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import SYNC, ErrorResponse
from tests.end_to_end.ending import ends_shutting_down, stopped
from tests.end_to_end.wire import (
    RawClient,
    first_columns,
    logged,
    query,
    startup,
    until,
    until_active,
)
from tests.kit.stack import RunningProxy, running_proxy

AT_ONCE = 2.0


@asynccontextmanager
async def ending_at_once() -> AsyncIterator[None]:
    async with asyncio.timeout(AT_ONCE):
        yield


async def test_without_sessions_it_ends_at_once(proxy: RunningProxy) -> None:
    async with ending_at_once():
        proxy.shutdown.request("SIGTERM")
        await stopped(proxy)
    await logged(proxy, "draining reason=SIGTERM sessions=0")


async def test_idle_sessions_end_at_once(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with (
        RawClient.session(proxy) as one,
        RawClient.session(proxy) as other,
        ending_at_once(),
    ):
        proxy.shutdown.request("SIGTERM")
        for client in (one, other):
            ends_shutting_down(await client.receive_frame())
            await client.receive_end()
        await stopped(proxy)
    await until(lambda: not emulator.open_sessions)
    assert proxy.log.getvalue().count("reason=shutting_down") == 2


async def test_psycopg_hears_why(proxy: RunningProxy) -> None:
    connection = await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True)
    async with connection:
        proxy.shutdown.request("SIGTERM")
        await stopped(proxy)
        with pytest.raises(psycopg.errors.AdminShutdown, match="dsqlproxy is shutting"):
            await connection.execute("select 1")


async def test_a_prepared_statement_does_not_make_a_session_busy(
    proxy: RunningProxy,
) -> None:
    parse = frame(FrontendType.PARSE, b"name\0select 1\0\0\0")
    async with RawClient.session(proxy) as client, ending_at_once():
        await client.send(parse + SYNC)
        await client.receive_until_ready()
        proxy.shutdown.request("SIGTERM")
        ends_shutting_down(await client.receive_frame())


async def test_a_statement_is_answered_before_its_session_ends(
    proxy: RunningProxy, postgres: EmbeddedPostgres
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(query("select 'answer' from pg_sleep(0.5)"))
        await until_active(postgres, "%answer%")
        proxy.shutdown.request("SIGTERM")
        assert first_columns(await client.receive_until_ready()) == ["answer"]
        ends_shutting_down(await client.receive_frame())
        await client.receive_end()
        await stopped(proxy)


async def test_a_transaction_is_ended_before_its_session(
    proxy: RunningProxy,
) -> None:
    async with RawClient.session(proxy) as client:
        await client.ask("begin")
        proxy.shutdown.request("SIGTERM")
        await logged(proxy, "draining")
        assert await client.ask("select 1") == ["1"]
        await client.ask("commit")
        ends_shutting_down(await client.receive_frame())
        await stopped(proxy)


async def test_half_a_message_is_waited_for(proxy: RunningProxy) -> None:
    said = query("select 'whole' /* " + "x" * 100_000 + " */")
    async with RawClient.session(proxy) as client:
        await client.send(said[:70_000])
        await until(lambda: next(iter(proxy.proxy._sessions)).bytes_in)
        proxy.shutdown.request("SIGTERM")
        await logged(proxy, "draining")
        await client.send(said[70_000:])
        assert first_columns(await client.receive_until_ready()) == ["whole"]
        ends_shutting_down(await client.receive_frame())


async def test_half_a_message_of_which_nothing_was_passed_on_is_not_waited_for(
    proxy: RunningProxy,
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(query("select 'whole'")[:7])
        proxy.shutdown.request("SIGTERM")
        ends_shutting_down(await client.receive_frame())
        await client.receive_end()


@pytest.mark.parametrize(
    "busy", [query("begin"), query("select pg_sleep(60)")], ids=["open", "running"]
)
async def test_at_the_deadline_the_busy_end_too(
    emulator: Emulator, postgres: EmbeddedPostgres, busy: bytes
) -> None:
    async with running_proxy(emulator, drain_timeout="300ms") as proxy:
        async with RawClient.session(proxy) as client:
            await client.send(busy)
            if b"begin" in busy:
                await client.receive_until_ready()
            else:
                await until_active(postgres, "%pg_sleep(60)%")
            async with ending_at_once():
                proxy.shutdown.request("SIGTERM")
                ends_shutting_down(await client.receive_frame())
                await client.receive_end()
                client.close()
                await stopped(proxy)
        assert " ERROR " not in proxy.log.getvalue()


async def test_with_no_time_at_all_it_ends_at_once(emulator: Emulator) -> None:
    emulator.add_fault("slow-login:30s")
    async with running_proxy(emulator, drain_timeout=0) as proxy:
        async with RawClient.connect(proxy) as client, ending_at_once():
            await client.send(startup())
            await until(lambda: emulator.counts.connections)
            proxy.shutdown.request("SIGTERM")
            assert (await client.receive_fatal()).sqlstate == "57P01"
            client.close()
            await stopped(proxy)
        assert " ERROR " not in proxy.log.getvalue()


async def test_a_second_request_forces_the_end(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(proxy) as client, ending_at_once():
        await client.ask("begin")
        proxy.shutdown.request("SIGTERM")
        await logged(proxy, "draining")
        proxy.shutdown.request("SIGINT")
        ends_shutting_down(await client.receive_frame())
        await client.receive_end()
        await stopped(proxy)
    assert proxy.shutdown.force_reason == "SIGINT"
    await until(lambda: not emulator.open_sessions)


async def test_new_connections_are_refused_while_others_run_on(
    proxy: RunningProxy,
) -> None:
    async with RawClient.session(proxy) as client:
        await client.ask("begin")
        proxy.shutdown.request("SIGTERM")
        await logged(proxy, "draining")
        await until(lambda: not proxy.proxy._group)
        with pytest.raises(ConnectionRefusedError):
            await RawClient.dial(proxy.host, proxy.port)


async def test_during_the_delay_it_goes_on_as_before(emulator: Emulator) -> None:
    async with (
        running_proxy(emulator, drain_delay="400ms") as proxy,
        RawClient.session(proxy) as early,
    ):
        proxy.shutdown.request("SIGTERM")
        async with RawClient.session(proxy) as late:
            assert await late.ask("select 1") == ["1"]
            assert await early.ask("select 1") == ["1"]
            ends_shutting_down(await late.receive_frame())
        ends_shutting_down(await early.receive_frame())


async def test_a_second_request_ends_the_delay(emulator: Emulator) -> None:
    async with (
        running_proxy(emulator, drain_delay="60s") as proxy,
        RawClient.session(proxy) as client,
        ending_at_once(),
    ):
        proxy.shutdown.request("SIGTERM")
        assert await client.ask("select 1") == ["1"]
        proxy.shutdown.request("SIGTERM")
        await client.receive_rest()
        await stopped(proxy)


async def test_a_forced_end_waits_for_nobody_but_a_moment(
    emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    # The client reads its last words, but neither closes nor goes on.
    async with running_proxy(emulator) as proxy, RawClient.session(proxy) as client:
        await client.send(query("select pg_sleep(60)"))
        await until_active(postgres, "%pg_sleep(60)%")
        proxy.shutdown.request("SIGTERM")
        await logged(proxy, "draining sessions=1 busy=1")
        async with ending_at_once():
            proxy.shutdown.request("SIGTERM")
            ends_shutting_down(await client.receive_frame())
            await stopped(proxy)
        assert " ERROR " not in proxy.log.getvalue()


# -- those that are not logged in yet --------------------------------------------------


@pytest.mark.parametrize("said", [b"", startup()[:9]], ids=["nothing", "half"])
async def test_who_has_not_asked_for_anything_is_closed(
    proxy: RunningProxy, said: bytes
) -> None:
    async with RawClient.connect(proxy) as client, ending_at_once():
        await client.send(said)
        await until(lambda: proxy.proxy._sessions)
        proxy.shutdown.request("SIGTERM")
        await client.receive_end()
        await stopped(proxy)


async def test_a_login_under_way_is_given_up(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("slow-login:30s")
    async with RawClient.connect(proxy) as client, ending_at_once():
        await client.send(startup())
        await until(lambda: emulator.counts.connections)
        proxy.shutdown.request("SIGTERM")
        assert (await client.receive_fatal()).sqlstate == "57P01"
        client.close()
        await stopped(proxy)
    await logged(proxy, "session closed.*reason=shutting_down")


async def test_a_login_that_is_being_given_up_may_be_given_up_again(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    # The drain, its deadline and a client that leaves may all fall into the moment
    # in which the login is unwound: the second of them raised, since a time limit
    # that has expired cannot be changed, and in a drain that ended the whole proxy.
    emulator.add_fault("slow-login:30s")
    async with RawClient.connect(proxy) as client, ending_at_once():
        await client.send(startup())
        await until(lambda: emulator.counts.connections)
        (session,) = proxy.proxy._sessions
        loop = asyncio.get_running_loop()
        again = loop.create_future()

        def drain_again() -> None:
            session.drain()
            again.set_result(None)

        session.drain()
        loop.call_soon(drain_again)
        await again
        assert (await client.receive_fatal()).sqlstate == "57P01"


async def test_errors_of_statements_pass_while_it_drains(proxy: RunningProxy) -> None:
    async with RawClient.session(proxy) as client:
        await client.ask("begin")
        proxy.shutdown.request("SIGTERM")
        await client.send(query("nonsense"))
        error, _ = await client.receive_until_ready()
        assert ErrorResponse.decode(error.body).sqlstate == "42601"
        await client.ask("rollback")
        ends_shutting_down(await client.receive_frame())
