from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.pgproto.startup import (
    GSSENCRequest,
    SSLRequest,
)
from tests.emulator.kit import Client, started, until

SSL_MANDATORY = (
    "unable to accept connection, SSL is mandatory. AWS Authentication is required."
)


class TestTheWayIn:
    async def test_plaintext_is_refused(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres) as emulator, Client.dial(emulator) as client:
            await client.start()
            refusal = await client.refusal()
            assert (refusal.sqlstate, refusal.message) == ("08P01", SSL_MANDATORY)
            assert emulator.counts.logins_refused == {"08P01": 1}

    async def test_gss_encryption_is_declined_once(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.dial(emulator) as client:
            await client.wire.send(GSSENCRequest().encode())
            assert await client.wire.receive(1) == b"N"
            await client.wire.send(GSSENCRequest().encode())
            await client.wire.receive_end()

    async def test_data_in_front_of_tls_is_refused(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.dial(emulator) as client:
            await client.wire.send(SSLRequest().encode(), b"select 1")
            assert "unencrypted data" in (await client.refusal()).message

    async def test_direct_tls_without_alpn_is_closed(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres) as emulator,
            Client.secured(emulator, alpn=False) as client,
        ):
            await client.wire.receive_end()

    async def test_ssl_request_needs_no_alpn(self, postgres: EmbeddedPostgres) -> None:
        async with (
            started(postgres) as emulator,
            Client.secured(emulator, direct=False, alpn=False) as client,
        ):
            await client.log_in()

    async def test_a_second_ssl_request_is_refused(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            await client.wire.send(SSLRequest().encode())
            assert (await client.refusal()).sqlstate == "0A000"

    async def test_a_client_that_is_no_client_is_refused(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.dial(emulator) as client:
            await client.wire.send(b"GET / HTTP/1.1\r\n\r\n")
            assert (await client.refusal()).sqlstate == "08P01"

    async def test_noise_instead_of_a_handshake_ends(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.dial(emulator) as client:
            await client.wire.send(b"\x16 this is no ClientHello")
            assert len(await client.wire.receive_rest()) < 20  # a TLS alert at most

    async def test_a_probe_that_says_nothing_ends_with_the_login_timeout(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres, login_timeout=0.01) as emulator,
            Client.dial(emulator) as client,
        ):
            await client.wire.receive_end()
            assert emulator.counts.connections == 1

    async def test_a_probe_that_leaves_is_no_trouble(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator:
            async with Client.dial(emulator):
                pass
            async with Client.secured(emulator):
                pass
            async with Client.secured(emulator) as client:
                await client.start()
            await until(lambda: emulator.counts.connections == 3)
            assert emulator.counts.logins_refused == {}
