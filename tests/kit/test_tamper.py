import asyncio
from pathlib import Path

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.errors import UpstreamRejected, UpstreamUnavailable
from dsqlproxy.pgproto.framing import FrameReader
from dsqlproxy.pgproto.messages import ErrorResponse
from tests.kit.frames import query
from tests.kit.tamper_plans import (
    Delay,
    Eof,
    Fatal,
    How,
    Reset,
    Stall,
    after,
    at_byte,
    before,
    on_login,
)
from tests.kit.tampering import (
    ASK,
    SELECT,
    error,
    letters,
    nothing_comes,
    tampering,
)

pytestmark = pytest.mark.both_loops


class TestPassing:
    async def test_without_a_plan_everything_passes_and_is_kept(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            first, second = await proxy.open(), await proxy.open()
            assert letters(await first.ask(ASK)) == "12DCZ"
            assert letters(await second.ask(SELECT)) == "TDCZ"
            assert (tamper.letters(1, ">"), tamper.letters(1, "<")) == ("PBES", "12DCZ")
            assert (tamper.letters(2, ">"), tamper.letters(2, "<")) == ("Q", "TDCZ")
            first_frames = [seen for seen in tamper.seen if seen.connection == 1]
            assert [seen.kind for seen in first_frames][:4] == list("PBES")
            assert tamper.open_numbers == [1, 2]

    async def test_an_upstream_is_as_the_proxy_needs_it(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            reading = await proxy.open()
            (upstream,) = proxy.upstreams
            assert upstream.opened_at == proxy.virtual.clocks.read()
            assert upstream.address.sockaddr == (tamper.host, tamper.port)
            names = {status.name for status in upstream.parameters}
            assert {"TimeZone", "server_version"} <= names
            assert upstream.key is not None
            reading.channel.write(
                query("do $$ begin raise notice 'go'; perform pg_sleep(60); end $$")
            )
            assert letters(await reading.until("N")) == "N"
            await proxy.connector.cancel(upstream.key, address=upstream.address)
            assert error(await reading.until("Z")).sqlstate == "57014"
            assert len(tamper.cancels) == 1
            assert len(tamper.connections) == 1

    async def test_a_server_that_is_not_there_is_no_upstream(
        self, tmp_path: Path
    ) -> None:
        async with tampering(tmp_path / "nothing") as (_, proxy):
            with pytest.raises(UpstreamUnavailable):
                await proxy.open()

    async def test_a_proxy_that_ends_its_side_still_gets_the_answer(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            reading = await proxy.open()
            reading.channel.write(SELECT)
            reading.channel.end_writing()
            assert letters(await reading.until("Z")) == "TDCZ"
            assert await reading.rest() == b""
            reading.channel.close()
            await tamper.until(lambda: not tamper.open_numbers)

    async def test_a_proxy_that_leaves_ends_the_session_of_the_server(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            reading = await proxy.open()
            reading.channel.abort()
            await tamper.until(lambda: not tamper.open_numbers)


class TestEnds:
    async def test_an_end_in_order_comes_after_the_frame_that_is_named(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            plan = tamper.plan(after("<C"), Eof())
            reading = await proxy.open()
            with pytest.raises(EOFError, match=r"^12DC$"):
                await reading.ask(ASK)
            assert plan.fired.is_set()
            assert plan.fired_on == [1]

    async def test_before_a_frame_the_other_side_has_not_got_it(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(before(">Q", 2, containing=b"one"), Eof())
            reading = await proxy.open()
            assert letters(await reading.ask(query("select 'two'"))) == "TDCZ"
            assert letters(await reading.ask(SELECT)) == "TDCZ"
            with pytest.raises(EOFError, match=r"^$"):
                await reading.ask(SELECT)
            assert tamper.letters(1, ">") == "QQQ"

    async def test_what_the_proxy_says_after_the_end_is_kept_apart(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            reading = await proxy.open()
            tamper.kill(1)
            assert await reading.rest() == b""
            reading.channel.write(SELECT)
            reading.channel.close()
            await tamper.until(lambda: tamper.connections[0].late == SELECT)
            assert tamper.frames(1, ">") == []

    async def test_a_reset_is_a_reset(self, postgres: EmbeddedPostgres) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(after(">Q"), Reset())
            reading = await proxy.open()
            with pytest.raises(ConnectionResetError):
                await reading.ask(SELECT)

    async def test_a_fatal_is_said_before_the_end(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(before(">Q"), Fatal("57P05", "idle"))
            reading = await proxy.open()
            reading.channel.write(SELECT)
            (fatal,) = FrameReader().feed(await reading.rest())
            found = ErrorResponse.decode(fatal.body)
            assert (found.severity, found.sqlstate) == ("FATAL", "57P05")
            assert tamper.letters(1, "<") == "E"

    @pytest.mark.parametrize("byte", [0, 1, 4, 5, 7, 13, 14])
    async def test_a_connection_is_cut_after_exactly_so_many_bytes(
        self, postgres: EmbeddedPostgres, byte: int
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(at_byte("<", byte), Eof())
            reading = await proxy.open()
            reading.channel.write(ASK)
            assert len(await reading.rest()) == byte
            tamper.plan(at_byte(">", byte), Eof(), connection=2)
            reading = await proxy.open()
            reading.channel.write(ASK)
            # Parse, Bind and Execute without Sync: PostgreSQL keeps the answers.
            assert await reading.rest() == b""

    async def test_a_connection_or_all_of_them_can_be_killed(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            first, second, third = [await proxy.open() for _ in range(3)]
            tamper.kill(2, How.RESET)
            with pytest.raises(ConnectionResetError):
                await second.rest()
            assert tamper.open_numbers == [1, 3]
            tamper.close_all()
            assert await first.rest() == await third.rest() == b""
            assert not tamper.open_numbers

    async def test_the_session_limit_ends_without_a_word(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with tampering(postgres, session_limit=0.1) as (_, proxy):
            reading = await proxy.open()
            assert letters(await reading.ask(query("begin"))) == "CZ"
            reading.channel.write(query("select pg_sleep(60)"))
            assert await reading.rest() == b""


class TestLogins:
    @pytest.mark.parametrize("fault", [Eof(), Reset()])
    async def test_a_login_may_be_cut(
        self, postgres: EmbeddedPostgres, fault: Eof | Reset
    ) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(on_login(), fault, connection=2)
            await proxy.open()
            with pytest.raises(UpstreamUnavailable):
                await proxy.open()
            await proxy.open()
            assert len(proxy.connector.startups) == 3

    async def test_a_login_may_be_refused(self, postgres: EmbeddedPostgres) -> None:
        async with tampering(postgres) as (tamper, proxy):
            tamper.plan(on_login(), Fatal("53300", "too many"))
            with pytest.raises(UpstreamRejected, match="too many"):
                await proxy.open()
            await proxy.open()

    async def test_a_login_may_be_held(self, postgres: EmbeddedPostgres) -> None:
        async with tampering(postgres) as (tamper, proxy):
            plan = tamper.plan(on_login(), Delay())
            async with asyncio.TaskGroup() as group:
                opening: asyncio.Task[object] = group.create_task(proxy.open())
                await plan.fired.wait()
                await nothing_comes(opening, tamper)
                plan.release()
            proxy.connector.timeout_seconds = 0.05
            tamper.plan(on_login(), Stall())
            with pytest.raises(UpstreamUnavailable):
                await proxy.open()
