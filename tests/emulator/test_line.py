"""What the faults do to a connection, seen from the client."""

import asyncio

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.messages import ErrorResponse
from tests.emulator.kit import (
    Client,
    received_before_reset,
    sign,
    started,
    until,
)


class TestReset:
    @pytest.mark.parametrize("count", [0, 1, 9, 10, 400])
    async def test_exactly_so_many_bytes_come_before_the_reset(
        self, postgres: EmbeddedPostgres, count: int
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            emulator.reset_after(bytes=count)
            await client.send_query("select repeat('x', 1000)")
            assert len(await received_before_reset(client)) == count

    async def test_it_reaches_the_login_too(self, postgres: EmbeddedPostgres) -> None:
        async with (
            started(postgres, faults=("reset-after:5",)) as emulator,
            Client.secured(emulator) as client,
        ):
            await client.start()
            assert len(await received_before_reset(client)) == 5


class TestStall:
    @pytest.mark.parametrize("count", [1, 7, 100])
    async def test_exactly_so_many_bytes_come_and_then_nothing(
        self, postgres: EmbeddedPostgres, count: int
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            emulator.stall_after(bytes=count)
            await client.send_query("select repeat('x', 1000)")
            assert len(await client.wire.receive(count)) == count
            emulator.clear_faults()  # what is stalled stays stalled
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.wire.receive(1)
            assert emulator.open_sessions == 1
        # pytest would hang here if a stalled session did not notice its end.

    async def test_a_client_that_leaves_ends_a_stalled_session(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator:
            async with Client.session(emulator) as client:
                emulator.stall_after(bytes=0)
                await client.send_query("select 1")
            await until(lambda: emulator.open_sessions == 0)

    async def test_the_smaller_of_two_limits_counts(
        self, postgres: EmbeddedPostgres
    ) -> None:
        faults = ("stall-after:100", "reset-after:3")
        async with (
            started(postgres, faults=faults) as emulator,
            Client.secured(emulator) as client,
        ):
            await client.start()
            assert len(await received_before_reset(client)) == 3


class TestEnds:
    async def libpq_says(self, emulator: Emulator) -> str:
        connection = await psycopg.AsyncConnection.connect(
            f"host={emulator.cluster} hostaddr={emulator.host} port={emulator.port} "
            f"user=admin dbname=postgres password='{sign(emulator)}' "
            f"sslmode=verify-full sslrootcert={emulator.ca_file}"
        )
        async with connection:
            emulator.expire_sessions()
            with pytest.raises(psycopg.OperationalError) as raised:
                await connection.execute("select 1")
        return str(raised.value)

    async def test_the_session_limit_is_an_eof_without_a_tls_goodbye(
        self, postgres: EmbeddedPostgres
    ) -> None:
        # After close_notify libpq would say "closed unexpectedly", without an error.
        async with started(postgres) as emulator:
            assert "unexpected eof" in await self.libpq_says(emulator)

    async def test_close_after_counts_from_the_login_or_from_the_word(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as old:
            emulator.close_after(seconds=0.01)
            await old.wire.receive_end()
            async with Client.session(emulator) as new:
                await new.wire.receive_end()

    async def test_expire_sessions_spares_the_next_one(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator:
            async with Client.session(emulator) as old:
                assert emulator.expire_sessions() == 1
                await old.wire.receive_end()
            async with Client.session(emulator) as new:
                assert await new.query("select 1") == ["1"]

    async def test_a_fatal_at_idle_comes_at_once(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            assert emulator.end_sessions("57P01") == 1
            refusal = await client.refusal()
            assert refusal.sqlstate == "57P01"
            assert (
                refusal.message == "terminating connection due to administrator command"
            )

    async def test_a_fatal_never_cuts_a_frame(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            await client.send_query(
                "select repeat('x', 3000) from generate_series(1, 2000)"
            )
            await client.wire.receive(10)
            emulator.end_sessions("XX999")
            rest = await client.wire.receive_rest()
            fatal = ErrorResponse.build(
                "FATAL", "XX999", "terminating connection with XX999 on command"
            ).encode()
            assert rest.endswith(fatal)

    async def test_the_word_fatal_ends_sessions_and_refuses_new_ones(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator:
            async with Client.session(emulator) as client:
                emulator.add_fault("fatal:XX001")
                assert (await client.refusal()).sqlstate == "XX001"
            async with Client.secured(emulator) as client:
                await client.start()
                assert (await client.refusal()).sqlstate == "XX001"


class TestLogins:
    @pytest.mark.parametrize(
        ("word", "sqlstate", "text"),
        [
            ("waking-up:60", "08006", "waking up cluster, please retry later"),
            ("rate-exceeded:1", "53400", "rate exceeded."),
            ("too-many-connections:1", "53300", "too many open connections."),
            ("expired-credentials", "08006", "access denied"),
            ("access-denied", "08006", "access denied"),
            ("skew:100", "08006", "access denied"),
            ("skew:-1000", "08006", "access denied"),
        ],
    )
    async def test_a_login_is_refused_in_the_cluster_s_words(
        self, postgres: EmbeddedPostgres, word: str, sqlstate: str, text: str
    ) -> None:
        async with (
            started(postgres, faults=(word,)) as emulator,
            Client.secured(emulator) as client,
        ):
            await client.start()
            refusal = await client.refusal()
            assert refusal.sqlstate == sqlstate
            assert refusal.message.endswith(text)
            assert ("access denied" in text) == bool(refusal.hint)

    async def test_a_counted_refusal_spares_the_login_after_it(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres, faults=("rate-exceeded:1",)) as emulator:
            async with Client.secured(emulator) as client:
                await client.start()
                assert (await client.refusal()).sqlstate == "53400"
            async with Client.session(emulator) as client:
                assert await client.query("select 1") == ["1"]

    async def test_the_hint_of_access_denied_names_who_and_what(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres, faults=("access-denied",)) as emulator,
            Client.secured(emulator) as client,
        ):
            await client.start()
            hint = (await client.refusal()).hint
            assert hint.startswith(
                f"User: {emulator.principal_arn} is not authorized to perform: "
                "dsql:DbConnectAdmin on resource: arn:aws:dsql:us-east-1:"
            )

    async def test_a_slow_login_is_slow(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres, faults=("slow-login:60ms",)) as emulator:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            async with Client.session(emulator):
                assert loop.time() - begun >= 0.06

    async def test_no_key_data_is_sent_on_command(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres, faults=("no-key-data",)) as emulator,
            Client.session(emulator) as client,
        ):
            assert client.key is None
            assert await client.query("select 1") == ["1"]

    async def test_cancel_requests_are_ignored_on_command(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres, faults=("no-cancel",)) as emulator,
            Client.session(emulator) as session,
        ):
            async with Client.secured(emulator) as client:
                await client.wire.send(session.cancel_request().encode())
                await client.wire.receive_end()
            assert emulator.counts.cancels_forwarded == 0
            assert await session.query("select 1") == ["1"]


async def test_a_bad_word_changes_nothing(postgres: EmbeddedPostgres) -> None:
    async with started(postgres) as emulator:
        with pytest.raises(ValueError, match="accepted"):
            emulator.add_fault("nonsense")
        assert emulator.status()["faults"] == []
    with pytest.raises(ValueError, match="accepted"):
        await started(postgres, faults=("nonsense",)).__aenter__()
