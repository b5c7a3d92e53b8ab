"""What may come in an unlucky order around a swap (section 3.6 of the specification).

| ordering | where it is tested |
|---|---|
| 1, 2, 9, 10 | `test_clients_meanwhile.py` (66, 67) |
| 5, 6, 7 | `test_losses.py` (75), `test_recoveries.py` |
| 8 | each cut of `test_cuts.py` (74) is an end in order or a reset |
| 12 | `test_faults.py` (71), and here |
| 26 | `test_clocks.py` (85) |
| all others | here |
"""

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.pgproto.messages import NoticeResponse, ParameterStatus
from dsqlproxy.session.relay_state import RelayState
from tests.kit.channels import until
from tests.kit.frames import FLUSH, SYNC, bind, execute, parse, query
from tests.kit.relayed import turns
from tests.kit.scripted import Conversation
from tests.kit.swap_faults import OLD, STEPS, carried_session
from tests.kit.swapping import DEFERRED, SWAPPED, WARM, Swapping, swapping
from tests.kit.tamper_plans import Delay, Error, Fatal, Inject, before, on_login
from tests.kit.wire_client import WireClient, error, letters, values


async def insisted(proxy: Swapping) -> None:
    """Have a swap of the session wait for a quiet moment, which it is not now."""
    proxy.swap_soon()
    relay = proxy.kept().relay
    await until(lambda: relay.state is RelayState.INSISTING)
    assert not relay.at_swap_point
    proxy.calm_down()


async def swapped(proxy: Swapping, times: int = 1) -> None:
    """Wait for the swap."""
    await proxy.until(SWAPPED, times)
    assert not proxy.count(DEFERRED)


async def test_3_half_a_large_message_that_was_passed_on_is_not_a_quiet_moment(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        said = query(f"select length('{'x' * 100_000}')")
        await client.send(said[:80_000])
        relay = proxy.kept().relay
        await until(lambda: relay.bytes_in > 65_536)
        await insisted(proxy)
        assert values(await client.ask(said[80_000:])) == ["100000"]
        await swapped(proxy)
        await client.leave()


async def test_4_what_the_old_upstream_says_of_itself_in_the_switch_reaches_the_client(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        where = STEPS["describe old"].moment
        for aside in (Inject.notice("look"), Inject.parameter_status("weather", "wet")):
            proxy.tamper.plan(where, aside, connection=OLD)
        assert await proxy.swap()
        notice = await session.client.receive_frame()
        status = await session.client.receive_frame()
        assert NoticeResponse.decode(notice.body).message == "look"
        assert ParameterStatus.decode(status.body) == ParameterStatus("weather", "wet")
        await session.check()


@pytest.mark.parametrize("step", ["capture old", "capture new"])
async def test_11_a_cancel_in_the_switch_hits_nothing(
    postgres: EmbeddedPostgres, step: str
) -> None:
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        where = STEPS[step]
        plan = proxy.tamper.plan(where.moment, Delay(), connection=where.connection)
        proxy.swap_soon()
        await plan.fired.wait()
        await cancel(session.client, proxy)
        plan.release()
        await swapped(proxy, 2)
        assert not proxy.tamper.cancels
        await session.check()


async def cancel(client: WireClient, proxy: Swapping) -> None:
    """Ask for a cancel, and wait until it has been seen to."""
    async with await Conversation.dial(*proxy.where) as request:
        await request.send(client.cancel_request)
        await request.receive_end()


async def test_12_a_cancel_that_lands_late_hits_no_statement_of_the_client(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        client = session.client
        client.send_now(query("select pg_sleep(20)"))
        relay = proxy.kept().relay
        await until(lambda: relay.tracker.outstanding > 0)
        await insisted(proxy)
        await cancel(client, proxy)
        assert error(await client.until_ready()).sqlstate == "57014"
        await swapped(proxy, 2)
        assert [one.process_id for one in proxy.tamper.cancels] == [
            int(session.process_id)
        ]
        # The same key works for the new upstream.
        client.send_now(query("select pg_sleep(20)"))
        await until(lambda: relay.tracker.outstanding > 0)
        await cancel(client, proxy)
        assert error(await client.until_ready()).sqlstate == "57014"


async def test_13_a_setting_that_was_just_reported_is_known_at_the_switch(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        proxy.swap_soon()
        client.send_now(query("set timezone to 'Asia/Tokyo'"))
        assert letters(await client.until_ready()) == "CSZ"
        await swapped(proxy)
        assert await client.value("show timezone") == "Asia/Tokyo"
        await client.leave()


@pytest.mark.parametrize("words", [True, False], ids=["FATAL", "silence"])
async def test_14_a_new_upstream_that_ends_while_it_waits_is_replaced(
    postgres: EmbeddedPostgres, *, words: bool
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        await client.ask(query("begin"))
        proxy.swap_soon()
        relay = proxy.kept().relay
        await until(lambda: relay.state is RelayState.INSISTING)
        if words:
            proxy.tamper.connections[1]._proxy.send(Fatal().encode())
        proxy.tamper.kill(2)
        await proxy.until(DEFERRED, outcome="deferred")
        await proxy.until("upstream connected", 3)
        assert letters(await client.ask(query("commit"))) == "CZ"
        await proxy.until(SWAPPED)
        await client.ask(SYNC)
        await proxy.tamper.until(lambda: len(proxy.tamper.open_numbers) == 1)


async def test_14_a_patient_swap_sees_that_its_new_upstream_has_ended(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        await client.ask(query("begin"))
        proxy.swap_soon(window=WARM)
        tamper = proxy.tamper
        await tamper.until(lambda: tamper.letters(2, "<").count("Z") == 3)
        await turns()  # now it waits
        proxy.tamper.kill(2)
        await proxy.until(DEFERRED, reason="the new upstream was lost")
        assert letters(await client.ask(query("commit"))) == "CZ"
        await proxy.until(SWAPPED)
        proxy.calm_down()
        await client.ask(SYNC)


async def test_15_while_a_new_upstream_is_slow_the_old_one_serves(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        was = await client.process_id()
        plan = proxy.tamper.plan(on_login(), Delay(), connection=2)
        proxy.swap_soon()
        await plan.fired.wait()
        for _ in range(3):
            assert await client.process_id() == was
        plan.release()
        await swapped(proxy)
        assert await client.process_id() != was
        await client.leave()


async def test_16_a_session_has_one_swap_at_a_time(postgres: EmbeddedPostgres) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        plan = proxy.tamper.plan(on_login(), Delay(), connection=2)
        proxy.swap_soon()
        await plan.fired.wait()
        for _ in range(5):
            proxy.swap_soon()
            await client.ask(SYNC)
        assert len(proxy.tamper.connections) == 2
        proxy.calm_down()
        plan.release()
        await swapped(proxy)
        assert len(proxy.tamper.connections) == 2
        await client.leave()


_ONE = parse("select 1") + bind() + execute()
_NOT_OVER = {
    "17: an error without Sync": [(parse("nonsense") + FLUSH, "E"), (SYNC, "Z")],
    "21: COMMIT AND CHAIN": [
        (query("begin"), "CZ"), (query("commit and chain"), "CZ"),
        (query("commit"), "CZ"),
    ],
    "22: COMMIT among others": [
        (query("begin; commit; begin; select 1"), "CCCTDCZ"), (query("rollback"), "CZ")
    ],
    "23: a portal may be open": [(_ONE + FLUSH, "12DC"), (SYNC, "Z")],
    "a failed transaction": [
        (query("begin"), "CZ"), (query("select 1/0"), "EZ"), (query("rollback"), "CZ")
    ],
}  # fmt: skip


@pytest.mark.parametrize("steps", _NOT_OVER.values(), ids=list(_NOT_OVER))
async def test_what_is_not_over_is_not_a_quiet_moment(
    postgres: EmbeddedPostgres, steps: list[tuple[bytes, str]]
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        for number, (said, answer) in enumerate(steps):
            assert not proxy.swaps
            await client.send(said)
            received = ""
            while received != answer:
                received += chr((await client.receive_frame()).type)
            if not number:
                await insisted(proxy)
        await swapped(proxy)
        assert await client.value("select 1") == "1"
        await client.leave()


async def test_22_an_error_after_a_commit_in_one_query_leaves_what_the_server_says(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        proxy.swap_soon()
        await client.ask(query("begin; commit; select 1/0"))
        await swapped(proxy)
        await client.leave()


async def test_18_part_of_a_notice_behind_the_last_answer_is_waited_for(
    postgres: EmbeddedPostgres,
) -> None:
    notice = NoticeResponse.build("NOTICE", "00000", "in two parts").encode()
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        await client.ask(SYNC)
        relay = proxy.kept().relay
        upstream = proxy.tamper.connections[0]._proxy
        upstream.send(notice[:7])
        await until(lambda: not relay.at_swap_point)
        await insisted(proxy)
        upstream.send(notice[7:])
        received = await client.receive_frame()
        assert NoticeResponse.decode(received.body).message == "in two parts"
        await swapped(proxy)
        await client.leave()


async def test_19_a_sync_that_keeps_alive_is_a_unit_like_any_other(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        for number in range(1, 4):
            proxy.swap_soon()
            assert letters(await client.ask(SYNC * 3, readies=3)) == "ZZZ"
            await proxy.until(SWAPPED, number)
        await client.leave()


async def test_20_an_error_at_sync_ends_the_transaction_as_the_server_says(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        proxy.tamper.plan(before("<Z"), Error("40001"), connection=1)
        client.send_now(parse("select 1") + bind() + execute() + SYNC)
        proxy.swap_soon()
        assert letters(await client.until_ready()) == "12DCEZ"
        await swapped(proxy)
        await client.leave()


async def test_24_an_old_upstream_that_ends_in_a_transaction_is_told(
    postgres: EmbeddedPostgres,
) -> None:
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        await client.ask(query("begin"))
        await insisted(proxy)
        proxy.tamper.kill(1)
        fatal = await client.fatal()
        assert fatal.sqlstate == "08006"
        assert fatal.detail == "The open transaction was rolled back."
        await proxy.tamper.until(lambda: not proxy.tamper.open_numbers)


async def test_25_a_client_that_idles_in_a_transaction_is_left_alone(
    postgres: EmbeddedPostgres,
) -> None:
    # Until the cluster closes, which is ordering 24 then.
    async with swapping(postgres) as proxy, WireClient.session(proxy.where) as client:
        await client.ask(query("begin"))
        await insisted(proxy)
        proxy.services.watch.look()
        proxy.services.watch.look()
        await client.ask(query("select 1"))
        assert not proxy.swaps
        assert letters(await client.ask(query("commit"))) == "CZ"
        await swapped(proxy)
        await client.leave()
