"""How a lost upstream is replaced: patience, haste, and what is said in the end."""

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.errors import UpstreamRejected
from dsqlproxy.upstream.crowding import Crowding
from tests.kit.frames import SYNC, TERMINATE, parse, query
from tests.kit.swap_faults import FAULTS, NEW, STEPS, carried_session, plan_fault
from tests.kit.swapping import Swapping, swapping
from tests.kit.tamper_plans import Fatal, How, after, on_login
from tests.kit.wire_client import WireClient, letters, values

WAKING_UP = "unable to accept connection, waking up cluster, please retry later"
DENIED = "unable to accept connection, access denied"


@pytest.fixture
def short_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a client wait for less than half a minute."""
    monkeypatch.setattr("dsqlproxy.session.recovery.BUDGET_SECONDS", 0.3)


def refuse_logins(proxy: Swapping, message: str) -> None:
    """Have the cluster refuse every login."""
    proxy.tamper.plan(on_login(), Fatal("57P03", message), every=True)


async def test_a_silent_client_has_all_the_time_there_is(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsqlproxy.session.recovery.BUDGET_SECONDS", 0.0)
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        was = await client.process_id()
        refuse_logins(proxy, WAKING_UP)
        proxy.tamper.kill(1)
        await proxy.until("recovery attempt failed", 8)
        proxy.tamper.forget_plans()
        await proxy.until("session recovered")
        assert await client.process_id() != was
        await client.leave()


async def test_a_client_that_speaks_waits_for_the_next_upstream(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        refuse_logins(proxy, WAKING_UP)
        proxy.tamper.kill(1)
        await proxy.until("recovery attempt failed")
        client.send_now(query("select 'at last'") + parse("select 'x'") + SYNC)
        await proxy.until("recovery attempt failed", 4)
        proxy.tamper.forget_plans()
        assert values(await client.until_ready()) == ["at last"]
        assert letters(await client.until_ready()) == "1Z"
        await client.leave()


@pytest.mark.usefixtures("short_budget")
async def test_a_client_that_has_waited_long_enough_is_told_why(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        refuse_logins(proxy, WAKING_UP)
        proxy.tamper.kill(1)
        await proxy.until("recovery attempt failed")
        client.send_now(query("select 1"))
        error = await client.fatal()
        assert error.sqlstate == "08006"
        assert error.detail == (
            f"Nothing was running. It could not be replaced: {WAKING_UP}."
        )
        assert error.hint == "Reconnect and repeat the last statement: it was not sent."
        client.close()
        await proxy.until("session closed", reason="upstream_lost")
        assert proxy.count("recovery failed") == 1


@pytest.mark.usefixtures("short_budget")
async def test_a_client_whose_turn_never_came_is_told_that(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        limiter = proxy.services.limiter
        limiter._crowding = Crowding(random=lambda: 0.0, pauses_seconds=(600.0,))
        fields = (("C", "08006"), ("M", WAKING_UP))
        with pytest.raises(UpstreamRejected):
            async with limiter.login():
                raise UpstreamRejected(WAKING_UP, fields=fields)
        proxy.tamper.kill(1)
        await proxy.until("upstream lost")
        client.send_now(query("select 1"))
        error = await client.fatal()
        assert error.sqlstate == "08006"
        assert error.detail.endswith("the cluster takes no logins at the moment.")
        client.close()
        await proxy.until("session closed", reason="upstream_lost")


@pytest.mark.usefixtures("short_budget")
async def test_the_last_words_of_the_upstream_are_told_when_there_is_no_other(
    postgres: EmbeddedPostgres,
) -> None:
    # 5 of the orderings: withheld, and delivered only if recovery fails.
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        refuse_logins(proxy, WAKING_UP)
        words = Fatal("57P01", "the server is going down")
        connection = proxy.tamper.connections[0]
        connection._proxy.send(words.encode())
        await proxy.until("recovery attempt failed")
        client.send_now(query("select 1"))
        error = await client.fatal()
        assert (error.sqlstate, error.message) == ("57P01", words.message)
        client.close()
        await proxy.until("session closed", reason="upstream_ended")


async def test_a_client_whose_access_was_revoked_is_told_at_once(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        refuse_logins(proxy, DENIED)
        proxy.tamper.kill(1)
        error = await client.fatal()
        assert error.sqlstate == "08006"
        assert DENIED in error.detail
        assert proxy.count("recovery attempt failed") == 1


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("last", [b"", TERMINATE], ids=["nothing", "Terminate"])
async def test_a_client_that_leaves_is_not_recovered(
    postgres: EmbeddedPostgres, how: How, last: bytes
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        refuse_logins(proxy, WAKING_UP)
        proxy.tamper.kill(1, how)
        await proxy.until("recovery attempt failed")
        if last:
            client.send_now(last)
        client.close()
        await proxy.until("session closed")


_AT_RECOVERY = [
    pytest.param(step, fault, id=f"{fault} at {step}")
    for step, where in STEPS.items()
    for fault in FAULTS
    if where.connection == NEW
    and step not in {"describe new", "capture new"}  # not asked, or otherwise
    and fault in {"eof", "reset", "fatal", "stall", "garbage", "another answer"}
    and (step, fault) != ("login", "another answer")
]


@pytest.mark.parametrize(("step", "fault"), _AT_RECOVERY)
async def test_a_recovery_that_meets_a_fault_is_tried_again(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, step: str, fault: str
) -> None:
    if fault == "stall":
        monkeypatch.setattr("dsqlproxy.session.exchange.ANSWER_SECONDS", 0.4)
    async with (
        swapping(postgres) as proxy,
        carried_session(proxy, is_clean=True) as session,
    ):
        if fault == "stall":
            proxy.connector.timeout_seconds = 0.4
        where = STEPS[step]
        if step == "parse":  # told once only: there is no other search_path
            where = STEPS["early replay"]
        plan = plan_fault(proxy.tamper, where, fault)
        proxy.tamper.kill(2)
        await plan.fired.wait()
        await proxy.until("session recovered")
        proxy.tamper.forget_plans()
        await session.check()
        await proxy.tamper.until(lambda: len(proxy.tamper.open_numbers) == 1)


async def test_what_the_next_upstream_said_before_it_was_used_is_not_forgotten(
    postgres: EmbeddedPostgres,
) -> None:
    # 14 of the orderings, at the last moment: a FATAL right behind the last private
    # answer. Without the look at `is_upstream_lost` in `Relay.cut_over` the client's
    # message would be written into a connection that is gone, and never answered.
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        assert await proxy.swap()
        readies = proxy.tamper.letters(NEW, "<").count("Z")
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        plan = proxy.tamper.plan(after("<Z", readies), Fatal(), connection=NEW)
        proxy.swap_soon()
        await plan.fired.wait()
        proxy.calm_down()
        await session.check()
        await proxy.tamper.until(lambda: len(proxy.tamper.open_numbers) == 1)
        assert len(proxy.tamper.connections) == NEW + 1
        assert not proxy.count("swap deferred")
