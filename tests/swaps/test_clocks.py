"""Clocks that disagree (part G of the catalogue: 81-85; 26 of the orderings).

The clocks of the proxy stand still until a test moves them, each by itself. Timers run
by the loop's clock, which stands for a monotonic one: what it does not notice, a
suspend for instance, is told by the watch, which looks at the clocks once a second.
"""

from dataclasses import replace

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.session.lifetime import SwapWindow
from tests.kit.frames import SYNC, query
from tests.kit.swap_faults import OLD, STEPS, carried_session
from tests.kit.swapping import SWAPPED, Swapping, swapping
from tests.kit.tamper_plans import Delay, How, Stall, before
from tests.kit.virtual_clocks import VirtualClocks
from tests.kit.wire_client import letters, values
from tests.swaps.clocked import clocked_session, notice_idleness, wake

MINUTE, HOUR = 60.0, 3600.0
USUAL = replace(SwapWindow.of(HOUR, jitter=0.5), settle_seconds=0.001)


def queries(proxy: Swapping, number: int) -> int:
    """Count what a client's Queries an upstream got."""
    return proxy.tamper.letters(number, ">").count("Q")


@pytest.mark.parametrize("is_watch_first", [True, False], ids=["watch", "client"])
@pytest.mark.parametrize("clock", ["suspend", "pause"])
async def test_81_after_a_sleep_the_first_statement_goes_to_a_new_upstream(
    postgres: EmbeddedPostgres, clock: str, *, is_watch_first: bool
) -> None:
    # 83 too: the monotonic clock stood still. With `suspend` the boot clock tells of
    # it, with `pause` only the wall clock (a virtual machine that its host stopped).
    # Let `Reading.seconds_since` believe the monotonic clock alone, and the statement
    # is written to an upstream that is two hours old.
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        await client.ask(query("select 1"))
        clocks.pass_time(10 * MINUTE)
        notice_idleness(proxy)
        getattr(clocks, clock)(2 * HOUR)
        if is_watch_first:
            proxy.services.watch.look()
        client.send_now(query("select 'awake'"))
        assert values(await client.until_ready()) == ["awake"]
        assert (queries(proxy, 1), queries(proxy, 2)) == (1, 1)
        assert proxy.count("session recovered") == 1
        await client.leave()


async def test_81_a_dead_connection_of_before_the_sleep_harms_nobody(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        notice_idleness(proxy)
        proxy.tamper.plan(before(">"), Stall(), connection=1)
        clocks.suspend(2 * HOUR)
        client.send_now(query("select 'awake'"))
        assert values(await client.until_ready()) == ["awake"]
        assert not proxy.tamper.letters(1, ">")
        proxy.tamper.forget_plans()


async def test_81_a_short_sleep_costs_a_question_and_nothing_else(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        was = await client.process_id()
        notice_idleness(proxy)
        clocks.suspend(10 * MINUTE)
        proxy.services.watch.look()
        assert await client.process_id() == was
        assert proxy.tamper.letters(1, ">") == "QSQ"
        await client.leave()


async def test_82_a_wall_clock_that_is_set_back_makes_nothing_younger(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        was = await client.process_id()
        clocks.set_wall(-HOUR)
        clocks.pass_time(47 * MINUTE)
        proxy.services.watch.look()
        assert await client.process_id() == was
        assert proxy.keeper().upstream_age == 47 * MINUTE
        clocks.pass_time(4 * MINUTE)
        wake(proxy)
        await proxy.until(SWAPPED)
        assert await client.process_id() != was
        await client.leave()


async def test_82_a_wall_clock_that_is_set_forward_costs_a_new_upstream(
    postgres: EmbeddedPostgres,
) -> None:
    # Whether the machine slept or somebody set its clock, nobody can tell.
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        was = await client.process_id()
        clocks.set_wall(+HOUR)
        proxy.services.watch.look()
        await proxy.until("session recovered")
        assert await client.process_id() != was
        clocks.set_wall(-HOUR)
        proxy.services.watch.look()
        assert await client.ask(SYNC)
        assert proxy.keeper().upstream_age < MINUTE
        assert proxy.count("session recovered") == 1
        await client.leave()


async def test_82_a_transaction_survives_a_clock_that_is_set(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        await client.ask(query("begin"))
        notice_idleness(proxy)
        clocks.set_wall(10 * MINUTE)
        proxy.services.watch.look()
        assert await client.value("select 'still here'") == "still here"
        assert letters(await client.ask(query("commit"))) == "CZ"
        # Now it is quiet, and asked before the next message.
        notice_idleness(proxy)
        assert await client.value("select 1") == "1"
        assert proxy.tamper.letters(1, ">") == "QQQSQ"
        await client.leave()


@pytest.mark.parametrize("how", How)
async def test_84_a_cluster_that_closes_early_is_replaced_in_silence(
    postgres: EmbeddedPostgres, how: How
) -> None:
    # 30 s before the hour: the session had not been moved, since it was in a
    # transaction until now.
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        was = await client.process_id()
        clocks.pass_time(47 * MINUTE)
        proxy.tamper.kill(1, how)
        await proxy.until("session recovered")
        assert await client.process_id() != was
        assert proxy.keeper().upstream_age == 0.0
        await client.leave()


async def test_84_a_cluster_that_closes_late_is_not_waited_for(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        was = await client.process_id()
        clocks.pass_time(61 * MINUTE)
        wake(proxy)
        await proxy.until(SWAPPED)
        assert await client.process_id() != was
        await client.leave()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sleep", [3 * MINUTE, 2 * HOUR], ids=["short", "long"])
@pytest.mark.parametrize("is_dead", [True, False], ids=["dead", "alive"])
async def test_85_a_suspend_in_the_middle_of_a_switch(
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    sleep: float,
    *,
    is_dead: bool,
) -> None:
    # 26 of the orderings. The connection of the step does not answer any more, or
    # answers as if nothing had happened. What the client said meanwhile is answered
    # once, and never written to an upstream that is beyond its limit.
    clocks = VirtualClocks()
    async with (
        swapping(postgres, clocks=clocks.clocks) as proxy,
        carried_session(proxy, is_clean=True) as session,
    ):
        for name in ("swap.SWITCH_SECONDS", "snapshot.PING_SECONDS"):
            monkeypatch.setattr(f"dsqlproxy.session.{name}", 0.3)
        monkeypatch.setattr("dsqlproxy.session.exchange.SETTLE_SECONDS", 0.1)
        monkeypatch.setattr("dsqlproxy.session.exchange.ANSWER_SECONDS", 0.3)
        where = STEPS[step]
        if step in {"set", "parse"}:  # all has been told in early replay
            where = STEPS["describe new"]
        fault = Stall() if is_dead else Delay()
        plan = proxy.tamper.plan(where.moment, fault, connection=where.connection)
        proxy.connector.timeout_seconds = 0.3
        proxy.window = USUAL
        clocks.pass_time(51 * MINUTE)
        proxy.swap_soon(window=replace(USUAL, insist_seconds=0.0))
        await plan.fired.wait()
        clocks.suspend(sleep)
        said = len(proxy.tamper.seen)
        session.client.send_now(query("select 'once'"))
        proxy.services.watch.look()
        if not is_dead:
            plan.release()
        assert values(await session.client.until_ready()) == ["once"]
        proxy.tamper.forget_plans()
        asked = [
            seen
            for seen in proxy.tamper.seen[said:]
            if seen.kind == "Q" and b"once" in seen.body
        ]
        assert len(asked) == 1
        if sleep > HOUR:
            assert asked[0].connection != OLD


@pytest.mark.parametrize("step", ["describe new", "capture new"])
async def test_85_after_a_suspend_neither_upstream_is_believed(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    # Both are dead, and only the new one is noticed so far. Let `Swap.clean_up` release
    # a suspect session, and the statement is written to the old one.
    clocks = VirtualClocks()
    async with (
        swapping(postgres, clocks=clocks.clocks) as proxy,
        carried_session(proxy, is_clean=True) as session,
    ):
        monkeypatch.setattr("dsqlproxy.session.swap.SWITCH_SECONDS", 0.3)
        monkeypatch.setattr("dsqlproxy.session.snapshot.PING_SECONDS", 0.1)
        where = STEPS[step]
        plan = proxy.tamper.plan(where.moment, Stall(), connection=where.connection)
        proxy.swap_soon()
        await plan.fired.wait()
        proxy.calm_down()
        proxy.tamper.plan(before(">"), Stall(), connection=OLD)
        clocks.suspend(3 * MINUTE)
        session.client.send_now(query("select 'once'"))
        proxy.services.watch.look()
        assert values(await session.client.until_ready()) == ["once"]
        proxy.tamper.forget_plans()


async def test_84_an_upstream_beyond_its_limit_is_not_written_to(
    postgres: EmbeddedPostgres,
) -> None:
    # Nobody doubts the clocks, and the session was at work a moment ago; but the
    # cluster may close at any moment. The look at DEAD in `Keeper.first_message`.
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        clocks.pass_time(59.4 * MINUTE)
        proxy.services.watch.look()
        await client.ask(SYNC)
        notice_idleness(proxy)
        clocks.pass_time(12)
        client.send_now(query("select 'said'"))
        assert values(await client.until_ready()) == ["said"]
        assert (queries(proxy, 1), queries(proxy, 2)) == (0, 1)
        await client.leave()


async def test_83_timers_that_stood_still_are_woken_by_the_watch(
    postgres: EmbeddedPostgres,
) -> None:
    # The keeper sleeps by a clock that did not count the night.
    async with clocked_session(postgres, window=USUAL) as (clocks, proxy, client):
        was = await client.process_id()
        clocks.suspend(51 * MINUTE)
        proxy.services.watch.look()
        await proxy.until(SWAPPED)
        assert await client.process_id() != was
        await client.leave()
