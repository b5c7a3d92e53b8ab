import asyncio
import contextlib

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.frames import SYNC, parse
from tests.kit.tamper_plans import (
    Cut,
    Delay,
    Error,
    How,
    Inject,
    Moment,
    Replace,
    Stall,
    Swallow,
    after,
    before,
)
from tests.kit.tampering import (
    ASK,
    SELECT,
    error,
    letters,
    longer,
    nothing_comes,
    read_up_to,
    tampering,
)

pytestmark = pytest.mark.both_loops


class TestAnswers:
    async def test_an_error_takes_the_place_of_the_answer_to_what_was_asked(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(before(">P", containing=b"settings"), Error("57014", "no"))
            reading = await proxy.open()
            private = parse("select 'settings'", name="p") + SYNC
            reading.channel.write(ASK + private + ASK)
            assert letters(await reading.until("Z")) == "12DCZ"
            second = await reading.until("Z")
            assert letters(second) == "EZ"
            assert error(second).sqlstate == "57014"
            assert letters(await reading.until("Z")) == "12DCZ"

    async def test_an_error_may_take_the_place_of_what_is_left_of_an_answer(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(before("<D"), Error())
            reading = await proxy.open()
            assert letters(await reading.ask(ASK)) == "12EZ"
            tamper.plan(after("<1"), Error())
            assert letters(await reading.ask(ASK)) == "1EZ"
            tamper.plan(before("<Z"), Error())
            assert letters(await reading.ask(ASK)) == "12DCEZ"
            tamper.plan(after(">S"), Error())
            assert letters(await reading.ask(ASK)) == "12DCZ"
            assert letters(await reading.ask(SYNC)) == "EZ"

    @pytest.mark.parametrize("moment", [before("<D"), after("<D"), before(">E")])
    async def test_a_value_is_replaced(
        self, postgres: EmbeddedPostgres, moment: Moment
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(moment, Replace(longer))
            reading = await proxy.open()
            received = await reading.ask(ASK)
            assert received[2].body == b"\0\1\0\0\0\4four"
            assert (await reading.ask(ASK))[2].body == b"\0\1\0\0\0\3one"

    async def test_what_no_server_said_is_put_in(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(before("<2"), Inject.notice())
            tamper.plan(after("<C"), Inject.parameter_status("TimeZone", "X"))
            reading = await proxy.open()
            assert letters(await reading.ask(ASK)) == "1N2DCSZ"
            tamper.plan(after("<Z"), Inject.garbage())
            reading.channel.write(ASK)
            await read_up_to(reading.channel, b"\xff" * 20)

    async def test_a_frame_can_be_swallowed(self, postgres: EmbeddedPostgres) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(before("<D"), Swallow())
            tamper.plan(before(">B"), Swallow(), connection=2)
            first, second = await proxy.open(), await proxy.open()
            assert letters(await first.ask(ASK)) == "12CZ"
            assert letters(await second.ask(ASK)) == "1EZ"

    async def test_every_frame_may_be_meant(self, postgres: EmbeddedPostgres) -> None:
        async with tampering(postgres) as (tamper, proxy):
            plan = tamper.plan(before("<Z"), Inject.notice(), every=True)
            first, second = await proxy.open(), await proxy.open()
            assert letters(await first.ask(SELECT)) == "TDCNZ"
            assert letters(await first.ask(SELECT)) == "TDCNZ"
            assert letters(await second.ask(SELECT)) == "TDCNZ"
            assert plan.fired_on == [1, 1, 2]
            tamper.forget_plans()
            assert letters(await second.ask(SELECT)) == "TDCZ"


class TestHoldingBack:
    async def test_a_stall_holds_both_directions_until_it_is_released(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            plan = tamper.plan(after("<1"), Stall())
            reading = await proxy.open()
            async with asyncio.TaskGroup() as group:
                asking: asyncio.Task[object] = group.create_task(reading.ask(ASK))
                await plan.fired.wait()
                reading.channel.write(SELECT)
                await nothing_comes(asking, tamper)
                assert tamper.letters(1, "<") == "1"
                plan.release()
            assert letters(await reading.until("Z")) == "TDCZ"

    async def test_a_delay_holds_one_direction(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            plan = tamper.plan(before("<2"), Delay())
            reading = await proxy.open()
            async with asyncio.TaskGroup() as group:
                asking: asyncio.Task[object] = group.create_task(reading.ask(ASK))
                await plan.fired.wait()
                reading.channel.write(SELECT)
                await tamper.until(lambda: tamper.letters(1, ">") == "PBESQ")
                await nothing_comes(asking, tamper)
                plan.release()
            assert letters(await reading.until("Z")) == "TDCZ"

    async def test_half_a_frame_and_then_silence(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            plan = tamper.plan(before("<D"), Cut())
            reading = await proxy.open()
            reading.channel.write(ASK)
            assert letters(await reading.until("2")) == "12"
            await plan.fired.wait()
            async with asyncio.TaskGroup() as group:
                rest: asyncio.Task[object] = group.create_task(reading.until("Z"))
                await nothing_comes(rest, tamper)
                plan.release()

    @pytest.mark.parametrize("how", How)
    async def test_half_a_frame_and_then_the_end(
        self, postgres: EmbeddedPostgres, how: How
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(before(">Q"), Cut(then=how))
            reading = await proxy.open()
            reading.channel.write(SELECT)
            with contextlib.suppress(ConnectionResetError):
                assert await reading.rest() == b""
                assert how is How.EOF
            await tamper.until(lambda: not tamper.open_numbers)
