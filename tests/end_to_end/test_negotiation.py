"""TLS between client and proxy: off, self-signed, from files; asked for or direct."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
import pytest
import pytest_asyncio
import trustme

from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.startup import GSSENCRequest, SSLRequest
from tests.end_to_end.wire import RawClient, all_ended, logged, query, startup, until
from tests.kit.stack import RunningProxy, running_proxy

SSL = SSLRequest().encode()
SHORT_KEYS = psycopg.pq.version() < 170000


@dataclass(frozen=True, slots=True)
class Secured:
    """A proxy with a certificate from files, and the file that vouches for it."""

    proxy: RunningProxy
    ca_file: Path


@pytest_asyncio.fixture
async def self_signed(emulator: Emulator) -> AsyncIterator[RunningProxy]:
    async with running_proxy(emulator, client_tls="auto") as proxy:
        yield proxy


@pytest_asyncio.fixture
async def from_files(
    emulator: Emulator, certificate_authority: trustme.CA, tmp_path: Path
) -> AsyncIterator[Secured]:
    certificate = certificate_authority.issue_cert("127.0.0.1", "proxy.test")
    names = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}
    certificate.private_key_pem.write_to_path(str(names["key"]))
    for index, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(names["cert"]), append=index > 0)
    certificate_authority.cert_pem.write_to_path(str(names["ca"]))
    client_tls = {"cert_file": str(names["cert"]), "key_file": str(names["key"])}
    async with running_proxy(emulator, client_tls=client_tls) as proxy:
        yield Secured(proxy, names["ca"])


def trusting(*, alpn: bool = True) -> ssl.SSLContext:
    """A client that takes any certificate, as libpq's sslmode=require does."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(["postgresql"])
    return context


async def asked_in_tls(dsn: str) -> bool:
    """Run a query; say whether the client was under TLS."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute("select 'through'")
        assert await cursor.fetchall() == [("through",)]
        return bool(connection.pgconn.ssl_in_use)


@pytest.mark.parametrize("sslmode", ["require", "prefer"])
async def test_libpq_gets_tls_by_request(
    self_signed: RunningProxy, sslmode: str
) -> None:
    assert await asked_in_tls(self_signed.dsn(sslmode=sslmode))


@pytest.mark.skipif(SHORT_KEYS, reason="libpq 17 brought sslnegotiation")
async def test_libpq_gets_tls_directly(self_signed: RunningProxy) -> None:
    dsn = self_signed.dsn(sslmode="require", sslnegotiation="direct")
    assert await asked_in_tls(dsn)


async def test_tls_is_an_offer_and_not_a_duty(self_signed: RunningProxy) -> None:
    assert not await asked_in_tls(self_signed.dsn(sslmode="disable"))


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
async def test_a_certificate_from_files_is_verified_in_full(
    from_files: Secured, negotiation: str
) -> None:
    if SHORT_KEYS:
        pytest.skip("libpq 17 brought sslnegotiation")
    dsn = from_files.proxy.dsn(
        sslmode="verify-full",
        sslrootcert=from_files.ca_file,
        sslnegotiation=negotiation,
    )
    assert await asked_in_tls(dsn)


async def test_a_certificate_for_another_name_is_not_taken(
    from_files: Secured,
) -> None:
    dsn = from_files.proxy.dsn(
        host="localhost", sslmode="verify-full", sslrootcert=from_files.ca_file
    )
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        await psycopg.AsyncConnection.connect(dsn)


async def test_who_does_not_trust_the_certificate_is_told_of_in_the_log(
    self_signed: RunningProxy, from_files: Secured
) -> None:
    dsn = self_signed.dsn(sslmode="verify-ca", sslrootcert=from_files.ca_file)
    with pytest.raises(psycopg.OperationalError, match="verify failed"):
        await psycopg.AsyncConnection.connect(dsn)
    line = await logged(self_signed, "TLS with the client failed")
    assert "must trust the listener's certificate" in line


async def test_without_tls_who_insists_on_it_is_refused_by_its_own_library(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        await psycopg.AsyncConnection.connect(proxy.dsn(sslmode="require"))
    assert not await asked_in_tls(proxy.dsn(sslmode="prefer"))
    await all_ended(proxy, emulator)


@pytest.mark.skipif(SHORT_KEYS, reason="libpq 17 brought sslnegotiation")
async def test_without_tls_direct_tls_ends_at_once(proxy: RunningProxy) -> None:
    dsn = proxy.dsn(sslmode="require", sslnegotiation="direct")
    async with asyncio.timeout(5):
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(dsn)


async def test_asyncpg_gets_tls(self_signed: RunningProxy) -> None:
    connection = await asyncpg.connect(
        host=self_signed.host,
        port=self_signed.port,
        user="admin",
        database="postgres",
        ssl=trusting(),
    )
    assert await connection.fetchval("select 1") == 1
    await connection.close()


async def test_gss_may_be_asked_before_tls(self_signed: RunningProxy) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.send(GSSENCRequest().encode())
        assert await client.receive(1) == b"N"
        await client.send(SSL)
        assert await client.receive(1) == b"S"
        await client.start_tls(trusting(), server_hostname="localhost")
        await client.send(startup())
        await client.receive_greeting()


async def test_by_request_tls_needs_no_alpn(self_signed: RunningProxy) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.send(SSL)
        assert await client.receive(1) == b"S"
        await client.start_tls(trusting(alpn=False), server_hostname="localhost")
        await client.send(startup())
        await client.receive_greeting()


async def test_direct_tls_without_alpn_is_a_protocol_violation(
    self_signed: RunningProxy,
) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.start_tls(trusting(alpn=False), server_hostname="localhost")
        assert (await client.receive_fatal()).sqlstate == "08P01"


@pytest.mark.parametrize("again", [SSL, GSSENCRequest().encode()], ids=["ssl", "gss"])
async def test_under_tls_no_further_encryption_is_asked_for(
    self_signed: RunningProxy, again: bytes
) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.start_tls(trusting(), server_hostname="localhost")
        await client.send(again)
        assert (await client.receive_fatal()).sqlstate == "08P01"


async def test_who_was_declined_tls_for_gss_cannot_begin_it_directly(
    self_signed: RunningProxy,
) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.send(GSSENCRequest().encode())
        assert await client.receive(1) == b"N"
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        await client.receive_end()


async def test_noise_in_place_of_tls_ends_the_connection(
    self_signed: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.send(SSL)
        assert await client.receive(1) == b"S"
        await client.send(b"this is not a ClientHello")
        rest = await client.receive_rest()
    assert rest[:1] in {b"", b"\x15"}, rest  # at most a TLS alert
    await all_ended(self_signed, emulator)
    assert emulator.counts.connections == 0


async def test_who_leaves_in_the_handshake_leaves_nothing(
    self_signed: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        await until(lambda: self_signed.proxy._sessions)
        client.reset()
    await all_ended(self_signed, emulator)
    assert " WARNING " not in self_signed.log.getvalue()


async def test_noise_in_the_middle_of_tls_ends_the_session_on_both_sides(
    self_signed: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.start_tls(trusting(), server_hostname="localhost")
        await client.send(startup())
        await client.receive_greeting()
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client._socket, b"\x17\x03\x03\x00\x20" + 32 * b"!")
        await all_ended(self_signed, emulator)
    await logged(self_signed, "session closed.*reason=client_lost")


async def test_a_client_under_tls_may_end_its_side_first(
    self_signed: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.connect(self_signed) as client:
        await client.start_tls(trusting(), server_hostname="localhost")
        await client.send(startup())
        await client.receive_greeting()
        await client.send(query("select 1 from pg_sleep(0.2)"))
        client.end_writing()
        frames = await client.receive_until_ready()
        assert [chr(each.type) for each in frames] == ["T", "D", "C", "Z"]
        await client.receive_end()
    await all_ended(self_signed, emulator)


async def test_large_messages_pass_both_ways_under_tls(
    self_signed: RunningProxy,
) -> None:
    text = "0123456789abcdef" * 250_000  # 4 MB
    async with await psycopg.AsyncConnection.connect(
        self_signed.dsn(sslmode="require")
    ) as connection:
        cursor = await connection.execute("select %s::text", [text])
        assert await cursor.fetchone() == (text,)
