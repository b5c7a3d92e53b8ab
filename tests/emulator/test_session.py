import asyncio
from dataclasses import replace

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.pgproto.startup import (
    CancelRequest,
)
from tests.emulator.kit import Client, started, until


class TestLimits:
    async def test_the_session_limit_is_an_end_without_a_word(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres, session_limit=0.05) as emulator,
            Client.session(emulator) as client,
        ):
            await client.wire.receive_end()
            await until(lambda: emulator.open_sessions == 0)

    async def test_the_session_limit_cuts_a_transaction_and_a_statement(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres, session_limit=0.2) as emulator,
            Client.session(emulator) as client,
        ):
            await client.query("begin")
            await client.send_query("select pg_sleep(60)")
            await client.wire.receive_end()

    async def test_the_session_limit_counts_from_the_connection(
        self, postgres: EmbeddedPostgres
    ) -> None:
        faults = ("slow-login:600ms",)
        async with (
            started(postgres, session_limit=0.6, faults=faults) as emulator,
            Client.session(emulator) as client,
            asyncio.timeout(0.5),  # from the login on it would be 0.6
        ):
            await client.wire.receive_end()

    async def test_one_connection_too_many_is_refused(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres, max_connections=1) as emulator:
            async with Client.session(emulator), Client.secured(emulator) as client:
                await client.start()
                refusal = await client.refusal()
                assert (refusal.sqlstate, refusal.message) == (
                    "53300",
                    "Unable to accept connection, too many open connections.",
                )
            await until(lambda: emulator.open_sessions == 0)

    async def test_a_rate_above_the_limit_is_refused(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres, connect_rate=0.001, connect_burst=1.0) as emulator:
            async with Client.session(emulator):
                pass
            async with Client.secured(emulator) as client:
                await client.start()
                refusal = await client.refusal()
                assert (refusal.sqlstate, refusal.message) == (
                    "53400",
                    "Unable to accept connection, rate exceeded.",
                )

    async def test_a_message_above_10_mib_ends_the_session_without_a_word(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            await client.wire.send(b"Q" + (10 * 1024 * 1024 + 1).to_bytes(4))
            await client.wire.receive_end()

    async def test_a_message_of_10_mib_passes(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            comment = "-" * (10 * 1024 * 1024 - 4 - 1 - len("select 1"))
            assert await client.query(f"select 1{comment}") == ["1"]


class TestCancel:
    async def cancel(
        self, session: Client, *, request: CancelRequest | None = None
    ) -> None:
        async with Client.secured(session.emulator) as client:
            await client.wire.send((request or session.cancel_request()).encode())
            await client.wire.receive_end()

    async def test_the_exact_key_cancels(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as session:
            await session.send_query("select pg_sleep(60)")
            await self.cancel(session)
            frames = await session.receive_until_ready()
            assert b"57014" in frames[-1].body
            assert emulator.counts.cancels_forwarded == 1

    async def test_another_key_does_nothing(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as session:
            good = session.cancel_request()
            wrong = replace(good, secret_key=bytes(4))
            await self.cancel(session, request=wrong)
            await self.cancel(session, request=replace(good, process_id=1))
            await self.cancel(session, request=replace(good, secret_key=bytes(32)))
            assert emulator.counts.cancels_forwarded == 0

    async def test_without_sni_nothing_is_cancelled(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as session:
            async with Client.secured(emulator, server_name="127.0.0.1") as client:
                await client.wire.send(session.cancel_request().encode())
                await client.wire.receive_end()
            async with Client.dial(emulator) as client:  # in plaintext
                await client.wire.send(session.cancel_request().encode())
                await client.wire.receive_end()
            assert emulator.counts.cancels_forwarded == 0
