"""Faults at each step of a swap (part E of the catalogue: 65, 68-73).

65 is a matrix: ten steps, ten faults, 88 cells that make sense. Whatever happens, the
client gets the answers to what it asked and nothing else, the session goes on, and the
next attempt succeeds. What clients do meanwhile is in `test_clients_meanwhile.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.ops.metrics import SwapOutcome
from dsqlproxy.session.relay_state import RelayState
from tests.kit.frames import query
from tests.kit.swap_faults import (
    BEFORE_THE_SWITCH,
    BROKEN,
    FAULTS,
    NEW,
    OLD,
    STEPS,
    Carried,
    carried_session,
    plan_fault,
)
from tests.kit.swapping import DEFERRED, STORM, Swapping, swapping
from tests.kit.tamper_plans import Error, Fatal, Moment, before, on_login
from tests.kit.wire_client import WireClient, letters
from tests.swaps.clocked import clocked_session

_STALLS = ("stall", "part of a frame, then silence")
_NO_VALUE = ("a wrong value", "too few values")
_NOT_AT_LOGIN = ("error", "another answer")

CELLS = [
    pytest.param(step, fault, id=f"65: {fault} at {step}")
    for step, where in STEPS.items()
    for fault in FAULTS
    if (where.value_kind or fault not in _NO_VALUE)
    and (step != "login" or fault not in _NOT_AT_LOGIN)
]
NO_MATTER = {
    ("baseline", "error"),  # a question of PostgreSQL's own, which DSQL refuses too
    ("baseline", "a wrong value"),  # it is set, for nothing
    ("set", "error"),  # SET had been accepted
}
"""Where the swap succeeds all the same."""
LATER = {("early replay", "error")}
"""Where the swap fails at a later step: the server has done what it said it had not."""


@contextmanager
def short_waits(fault: str) -> Iterator[None]:
    """Have what stalls noticed soon."""
    with pytest.MonkeyPatch.context() as patch:
        if fault in _STALLS:
            patch.setattr("dsqlproxy.session.swap.SWITCH_SECONDS", 0.4)
            patch.setattr("dsqlproxy.session.exchange.SETTLE_SECONDS", 0.1)
            patch.setattr("dsqlproxy.session.exchange.ANSWER_SECONDS", 0.4)
        yield


async def check_nothing_leaks(proxy: Swapping) -> None:
    """See that there is one upstream, and that everything passes."""
    await proxy.tamper.until(lambda: len(proxy.tamper.open_numbers) == 1)
    assert proxy.kept().relay.state is RelayState.RUNNING
    assert not proxy.kept().relay.is_upstream_lost
    assert proxy.services.limiter.waiting == 0


async def check_later(session: Carried) -> None:
    """See that the next attempt succeeds, and that nothing is lost then either."""
    before_it = await session.served_by()
    assert await session.proxy.swap(), session.proxy.events.all[-1]
    assert await session.served_by() != before_it
    await session.check()
    await check_nothing_leaks(session.proxy)


async def fail_once(proxy: Swapping, fault: str) -> None:
    """Have one attempt come to nothing."""
    patience, proxy.connector.timeout_seconds = proxy.connector.timeout_seconds, 0.4
    with short_waits(fault):
        assert not await proxy.swap()
    proxy.connector.timeout_seconds = patience


@pytest.mark.parametrize(("step", "fault"), CELLS)
async def test_a_fault_is_not_noticed_and_the_next_attempt_succeeds(
    postgres: EmbeddedPostgres, step: str, fault: str
) -> None:
    is_at_old = STEPS[step].connection == OLD
    async with (
        swapping(postgres) as proxy,
        carried_session(proxy, is_clean=is_at_old) as session,
    ):
        plan = plan_fault(proxy.tamper, STEPS[step], fault)
        if is_at_old and fault in BROKEN:
            with short_waits(fault):
                proxy.swap_soon()
                await plan.fired.wait()
                await proxy.until("session recovered")
            assert not await session.is_still_there()
        elif (step, fault) in NO_MATTER:
            assert await proxy.swap(), proxy.events.all[-1]
        else:
            await fail_once(proxy, fault)
            (event,) = proxy.events.named(DEFERRED)
            is_early = step in BEFORE_THE_SWITCH and (step, fault) not in LATER
            outcome = SwapOutcome.DEFERRED if is_early else SwapOutcome.FAILED
            assert event.fields["outcome"] is outcome
            assert event.fields["reason"]
            assert await session.is_still_there()
        proxy.tamper.forget_plans()  # what stalled goes on, too late
        await session.check()
        await check_nothing_leaks(proxy)
        await check_later(session)


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("step", ["capture old", "describe old"])
async def test_an_old_upstream_that_is_lost_when_settings_had_changed_is_told(
    postgres: EmbeddedPostgres, step: str, fault: str
) -> None:
    # Row "died during CAPTURE(old)" of the table of losses: nobody knows the settings
    # any more, so the session must not go on under those of the last snapshot.
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        plan = plan_fault(proxy.tamper, STEPS[step], fault)
        with short_waits(fault):
            proxy.swap_soon()
            await plan.fired.wait()
            error = await session.client.fatal()
        session.has_ended = True
        assert error.sqlstate == "08006"
        assert error.detail == (
            "Nothing was running. It could not be replaced: its settings had"
            " changed a moment before."
        )
        proxy.tamper.forget_plans()
        await proxy.until("session closed", reason="upstream_lost")
        await proxy.tamper.until(lambda: not proxy.tamper.open_numbers)


_LOGIN_REFUSALS = {
    "68: token expired": Fatal("08006", "unable to accept connection, access denied"),
    "69: too many": Fatal(
        "53300", "Unable to accept connection, too many open connections."
    ),
    "69: rate exceeded": Fatal("53400", "Unable to accept connection, rate exceeded."),
    "69: waking up": Fatal(
        "57P03",
        "unable to accept connection, waking up cluster, please retry later",
    ),
}


@pytest.mark.parametrize(
    "refusal",
    [pytest.param(refusal, id=name) for name, refusal in _LOGIN_REFUSALS.items()],
)
async def test_a_login_that_is_refused_for_a_while_is_tried_again(
    postgres: EmbeddedPostgres, refusal: Fatal
) -> None:
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        plan = proxy.tamper.plan(on_login(), refusal, every=True)
        proxy.swap_soon()
        await proxy.until(DEFERRED, 3, outcome=SwapOutcome.DEFERRED)
        (first, *_) = proxy.events.named(DEFERRED)
        assert refusal.message.rstrip(".") in str(first.fields["reason"])
        assert await session.is_still_there()
        await session.check()
        proxy.tamper.forget_plans()
        assert plan.fired.is_set()
        await proxy.until("upstream swapped", 2)
        assert not await session.is_still_there()
        await session.check()
        await check_nothing_leaks(proxy)


async def test_70_access_that_was_revoked_ends_a_session_when_it_is_quiet_at_the_limit(
    postgres: EmbeddedPostgres,
) -> None:
    async with clocked_session(postgres) as (clocks, proxy, client):
        said = "unable to accept connection, access denied"
        proxy.tamper.plan(on_login(), Fatal("08006", said), every=True)
        assert letters(await client.ask(query("begin"))) == "CZ"
        keeper = proxy.keeper()
        keeper.window = replace(STORM, last_start_seconds=500.0, dead_seconds=600.0)
        keeper._wake.set()
        await proxy.until(DEFERRED, 2)
        clocks.pass_time(1_000)  # beyond all instants of the window
        keeper._wake.set()
        # In a transaction it is left to the cluster. Remove `when_quiet` from
        # `Keeper._do_what_is_due` and the COMMIT is never answered.
        assert await client.value("select 'in a transaction'")
        await client.send(query("commit"))
        assert letters(await client.until_ready()) == "CZ"
        error = await client.fatal()
        assert error.sqlstate == "57P01"
        assert said in error.detail
        assert error.hint
        await proxy.until("session closed", reason="session_limit")


_CAPTURE = STEPS["capture old"].moment


def _nth_capture(count: int) -> Moment:
    return before(">P", count, containing=_CAPTURE.containing)


@pytest.mark.parametrize("sqlstate", ["57014", "40001"])
async def test_71_a_capture_that_is_interrupted_once_is_asked_again(
    postgres: EmbeddedPostgres, sqlstate: str
) -> None:
    # A cancel that came late, a schema that somebody changed.
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        plan = proxy.tamper.plan(_nth_capture(1), Error(sqlstate), connection=OLD)
        assert await proxy.swap()
        assert plan.fired.is_set()
        await session.check()
        await check_nothing_leaks(proxy)


@pytest.mark.parametrize("sqlstate", ["57014", "40001"])
async def test_71_a_capture_that_is_interrupted_twice_puts_the_swap_off(
    postgres: EmbeddedPostgres, sqlstate: str
) -> None:
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        for count in (1, 2):
            proxy.tamper.plan(_nth_capture(count), Error(sqlstate), connection=OLD)
        assert not await proxy.swap()
        (event,) = proxy.events.named(DEFERRED, outcome=SwapOutcome.FAILED)
        assert sqlstate in str(event.fields["reason"])
        assert proxy.keeper().pin == ""
        assert await session.is_still_there()
        await session.check()
        await check_later(session)


async def test_72_where_set_config_is_refused_set_makes_the_settings_equal(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        set_config = before(">P", containing=b"pg_catalog.set_config")
        refusal = Error("0A000", "set_config is not supported")
        plan = proxy.tamper.plan(set_config, refusal, every=True)
        assert await proxy.swap(), proxy.events.all[-1]
        assert plan.fired_on == [NEW, NEW]
        await session.check()
        await check_nothing_leaks(proxy)


async def test_73_a_default_that_drifted_is_not_felt(
    postgres: EmbeddedPostgres,
) -> None:
    drifted = {
        "timezone": "Asia/Tokyo",
        "search_path": "elsewhere",
        "datestyle": "SQL, DMY",
        "extra_float_digits": "-3",
        "application_name": "drifted",
    }
    await postgres.execute("drop role if exists drifter", "create role drifter login")
    async with (
        swapping(postgres) as proxy,
        WireClient.session(proxy.where, user="drifter") as client,
    ):
        names = list(drifted)
        before_it = [await client.value(f"show {name}") for name in names]
        await postgres.execute(
            *(f"alter role drifter set {name} to '{v}'" for name, v in drifted.items())
        )
        assert await proxy.swap()
        # Each answer is the first thing to come: nothing was told that had not changed.
        assert [await client.value(f"show {name}") for name in names] == before_it
        assert await client.value("reset timezone; show timezone") == "Asia/Tokyo"
        await client.leave()
