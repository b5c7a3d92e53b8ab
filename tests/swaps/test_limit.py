"""Sessions near their limit (item 5; 36, 37, 39-42 of the catalogue).

The clocks are moved by the test: a window of 1,000 s, of which an upstream is warm from
0 and insisted on from 100, begins no transaction from 500 and is dead from 600.
"""

import asyncio
from dataclasses import replace

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.session.lifetime import SwapWindow
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from dsqlproxy.upstream.limiter import SWAPS_AT_ONCE, LoginLimiter
from tests.kit.channels import until
from tests.kit.frames import (
    COPY_DONE,
    SYNC,
    bind,
    copy_data,
    execute,
    parse,
    query,
)
from tests.kit.swapping import CALM, DEFERRED, STORM, SWAPPED, Swapping, swapping
from tests.kit.tamper_plans import Fatal, on_login
from tests.kit.virtual_clocks import VirtualClocks
from tests.kit.wire_client import WireClient, letters, values
from tests.swaps.clocked import clocked_session, wake

LIMITED = replace(
    STORM, insist_seconds=100.0, last_start_seconds=500.0, dead_seconds=600.0
)
NO_LOGIN = Fatal("53300", "Unable to accept connection, too many open connections.")


def let_time_pass(proxy: Swapping, clocks: VirtualClocks, seconds: float) -> None:
    """Move the clocks, and have the keeper look at them as a timer would."""
    clocks.pass_time(seconds)
    wake(proxy)


def near_the_limit(proxy: Swapping) -> None:
    """Have the session's upstream be one that is to be replaced."""
    proxy.swap_soon(window=LIMITED)


PINS = {
    "listen": (["listen news"], "the session listens to notifications"),
    "prepare": (
        ["prepare s as select 1"],
        "the session has statements made with PREPARE",
    ),
    "temporary": (
        ["create temporary table mine (n int)"],
        "the session has had temporary objects",
    ),
    "advisory_lock": (
        ["select pg_advisory_lock(1)"],
        "the session holds advisory locks",
    ),
    "role": (["set role to pg_monitor"], "the session has changed its role"),
    "cursor": (
        ["begin", "declare c cursor with hold for select 1", "commit"],
        "the session has a cursor that was declared WITH HOLD",
    ),
}


@pytest.mark.parametrize("pin", PINS)
async def test_a_pinned_session_ends_at_the_limit_with_the_reason(
    postgres: EmbeddedPostgres, pin: str
) -> None:
    statements, sentence = PINS[pin]
    async with clocked_session(postgres) as (clocks, proxy, client):
        for statement in statements:
            await client.ask(query(statement))
        near_the_limit(proxy)
        await proxy.until(DEFERRED, 2)
        assert proxy.keeper().pin == pin
        assert await client.value("select 'goes on'") == "goes on"
        let_time_pass(proxy, clocks, 700)
        error = await client.fatal()
        assert error.sqlstate == "57P01"
        assert sentence in error.detail
        assert error.hint == "Reconnect."
        client.close()
        await proxy.until("session closed", reason="session_limit")
        await proxy.tamper.until(lambda: not proxy.tamper.open_numbers)


async def test_a_pinned_session_in_a_transaction_is_left_to_the_cluster(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres) as (clocks, proxy, client):
        await client.ask(query("listen news"))
        await client.ask(query("begin"))
        near_the_limit(proxy)
        await proxy.until(DEFERRED)
        let_time_pass(proxy, clocks, 700)
        for _ in range(3):
            assert await client.value("select 'goes on'") == "goes on"
        proxy.tamper.kill(1)
        error = await client.fatal()
        assert error.sqlstate == "08006"
        assert error.detail.startswith("The open transaction was rolled back.")


async def test_a_pin_that_is_gone_in_time_ends_nothing(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres) as (_clocks, proxy, client):
        await client.ask(query("select pg_advisory_lock(2)"))
        near_the_limit(proxy)
        await proxy.until(DEFERRED, 2)
        await client.ask(query("select pg_advisory_unlock(2)"))
        await proxy.until(SWAPPED)
        assert proxy.keeper().pin == ""
        await client.leave()


@pytest.mark.parametrize("why", ["no login", "a pin"])
@pytest.mark.parametrize("held", ["begin", "select 1"])
async def test_41_no_transaction_begins_on_an_upstream_that_may_not_see_its_end(
    postgres: EmbeddedPostgres, why: str, held: str
) -> None:
    # Take the `insist` out of `Keeper._swap`, and the last BEGIN is answered.
    async with clocked_session(postgres) as (clocks, proxy, client):
        if why == "a pin":
            await client.ask(query("listen news"))
        else:
            proxy.tamper.plan(on_login(), NO_LOGIN, every=True)
        near_the_limit(proxy)
        await proxy.until(DEFERRED, 2)
        # Until then they do, and one that has begun goes on.
        await client.ask(query("begin"))
        let_time_pass(proxy, clocks, 550)
        relay = proxy.kept().relay
        await until(lambda: relay.state is RelayState.INSISTING)
        assert await client.value("select 'goes on'") == "goes on"
        assert letters(await client.ask(query("commit"))) == "CZ"
        client.send_now(query(held))
        await until(lambda: relay.is_client_waiting)
        seen = proxy.count(DEFERRED)
        await proxy.until(DEFERRED, seen + 3)
        assert relay.is_client_waiting
        if why == "no login":
            proxy.tamper.forget_plans()
            assert letters(await client.until_ready())[-2:] == "CZ"
            assert proxy.tamper.letters(1, ">").count("Q") == 3
        else:
            let_time_pass(proxy, clocks, 100)
            assert (await client.fatal()).sqlstate == "57P01"


async def test_41_a_clock_that_is_set_back_lets_a_held_session_go_on(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres) as (clocks, proxy, client):
        await client.ask(query("listen news"))
        proxy.swap_soon(window=replace(LIMITED, warm_seconds=50.0))
        clocks.set_wall(550)
        wake(proxy)
        relay = proxy.kept().relay
        await until(lambda: relay.state is RelayState.PAUSED)
        clocks.set_wall(-550)
        client.send_now(query("select 'goes on'"))
        assert values(await client.until_ready()) == ["goes on"]
        await client.leave()


async def test_36_a_client_that_pipelines_for_ever_is_moved_within_a_unit(
    postgres: EmbeddedPostgres,
) -> None:
    # Such a session is never quiet by itself: without the hold of `Relay.insist` no
    # moment comes.
    unit = parse("select pg_backend_pid(), pg_sleep(0.004)") + bind() + execute() + SYNC
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        await client.send(unit * 8)
        served = values(await client.until_ready())
        proxy.swap_soon()
        while not proxy.swaps:  # never less than seven ahead
            await client.send(unit)
            served += values(await client.until_ready())
        await client.send(unit)
        for _ in range(8):
            served += values(await client.until_ready())
        first, second = dict.fromkeys(served)  # the one, and then the other
        assert served == sorted(served, key=[first, second].index)
        await client.leave()


async def test_37_transactions_back_to_back_are_moved_between_two(
    postgres: EmbeddedPostgres,
) -> None:
    await postgres.execute("drop table if exists many", "create table many (n int)")
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        insert = query("insert into many select 1 from pg_sleep(0.002)")
        unit = query("begin") + insert + query("commit")
        await client.send(unit * 3)
        done = 0
        for wanted in (1, 2):
            proxy.swap_soon()
            while proxy.swaps < wanted:  # never less than three ahead
                await client.send(unit)
                done += 1
                for _ in range(3):
                    assert letters(await client.until_ready()) == "CZ"
        for _ in range(9):
            assert letters(await client.until_ready()) == "CZ"
        assert await client.value("select count(*) from many") == str(done + 3)
        await client.leave()


async def test_39_a_copy_in_that_crosses_the_insisting_instant_is_whole(
    postgres: EmbeddedPostgres,
) -> None:
    await postgres.execute("drop table if exists big", "create table big (v text)")
    chunk = copy_data(b"x" * 1023 + b"\n") * 64
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        await client.send(query("copy big from stdin"))
        assert letters(await client.until("G")) == "G"
        for number in range(80):  # 5 MiB
            await client.send(chunk)
            if number == 40:
                proxy.swap_soon()
        await client.send(COPY_DONE)
        assert letters(await client.until_ready()) == "CZ"
        await proxy.until(SWAPPED)
        assert await client.value("select count(*) from big") == "5120"
        await client.leave()


async def test_40_a_long_query_that_crosses_all_instants_is_answered(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres) as (clocks, proxy, client):
        (session,) = proxy.sessions
        relay = proxy.kept(session).relay
        async with WireClient.session(proxy.where) as other:
            await other.ask(query("select pg_advisory_lock(40)"))
            client.send_now(query("select pg_advisory_xact_lock(40)"))
            await until(lambda: relay.tracker.outstanding > 0)
            proxy.swap_soon(session, window=LIMITED)
            await proxy.until("upstream connected", 3)
            clocks.pass_time(700)
            proxy.keeper(session)._wake.set()
            await other.ask(query("select pg_advisory_unlock(40)"))
            assert letters(await client.until_ready()) == "TDCZ"
            await proxy.until(SWAPPED)
            await other.leave()
        await client.leave()


async def test_42_sessions_that_are_due_at_once_take_turns(
    postgres: EmbeddedPostgres,
) -> None:
    count, rate = 200, 4_000.0
    async with swapping(postgres) as proxy:
        limiter = LoginLimiter(rate, burst=100.0)
        proxy.proxy._services["main"] = replace(
            proxy.services, limiter=limiter, new_window=lambda: CALM
        )
        under_way, most = 0, 0
        begun: list[float] = []
        opening = proxy.connector.open
        loop = asyncio.get_running_loop()

        async def noted(startup: UpstreamStartup) -> Upstream:
            nonlocal under_way, most
            begun.append(loop.time())
            under_way += 1
            most = max(most, under_way)
            try:
                return await opening(startup)
            finally:
                under_way -= 1

        async with asyncio.TaskGroup() as group:
            everybody_is_there = asyncio.Event()
            left = asyncio.Event()

            async def client() -> None:
                async with WireClient.session(proxy.where) as one:
                    if len(proxy.sessions) == count:
                        everybody_is_there.set()
                    await left.wait()
                    assert await one.value("select 1") == "1"
                    await one.leave()

            for _ in range(count):
                group.create_task(client())
            await everybody_is_there.wait()
            proxy.connector.open = noted  # type: ignore[method-assign]
            warm = replace(STORM, insist_seconds=1e9)
            for session in proxy.sessions:
                proxy.swap_soon(session, window=warm)
            await proxy.until(SWAPPED, count)
            left.set()
        assert most == SWAPS_AT_ONCE
        assert len(begun) == count
        # A tenth of the rate, after a burst of a tenth of 100.
        assert begun[-1] - begun[0] >= (count - 10 - 1) / (rate / 10)


async def test_42_sessions_that_were_opened_together_are_not_due_together() -> None:
    due = [SwapWindow.of(3600, jitter=n / 200).warm_seconds for n in range(200)]
    assert (min(due), max(due) >= 51.9 * 60) == (48 * 60, True)
    assert len(set(due)) == 200
