"""docs/errors.md, produced: the first bytes of a client, and the start of the proxy."""

import asyncio
import ssl
import sys
from asyncio.subprocess import DEVNULL, PIPE

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.startup import ProtocolVersion, SSLRequest
from dsqlproxy.session.errors_page import shown
from dsqlproxy.situations.situation import CLUSTER, Situation
from tests.end_to_end.error_rows import Run, produces, psql_of, psql_of_the_system
from tests.end_to_end.wire import RawClient, startup
from tests.kit.scripted import EndOfStream
from tests.kit.stack import RunningProxy, running_proxy

SSL = SSLRequest().encode()


# -- the proxy says why ----------------------------------------------------------------


@produces("startup-packet-too-long")
async def test_options_that_are_too_long(
    row: Situation, emulator: Emulator, proxy: RunningProxy, postgres: EmbeddedPostgres
) -> None:
    run = Run(row, proxy, emulator, {r"packet: \d+": "packet: 20107"})
    options = f"-c search_path={'x' * 20_000}"
    await run.by_psql(psql_of(postgres), PGOPTIONS=options)


NOT_FOR_PSQL = {
    "startup-packet-malformed": [b"\0\0\0\x0e\0\3\0\0user\0\0"],
    "unknown-protocol": [startup(ProtocolVersion(2, 0))],
    "second-ssl-request": [SSL, SSL],
    "data-before-encryption": [SSL + startup()],
}


@produces(*NOT_FOR_PSQL)
async def test_what_no_psql_says(
    row: Situation, emulator: Emulator, proxy: RunningProxy
) -> None:
    *before, last = NOT_FOR_PSQL[row.key]
    async with RawClient.connect(proxy) as client:
        for packet in before:
            await client.send(packet)
            assert await client.receive(1) == b"N"
        await client.send(last)
        error = await client.receive_fatal()
    await Run(row, proxy, emulator).has_sent(error)
    assert emulator.counts.connections == 0


@produces("direct-tls-without-alpn")
async def test_direct_tls_without_alpn(row: Situation, emulator: Emulator) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with running_proxy(emulator, client_tls="auto") as proxy:
        async with RawClient.connect(proxy) as client:
            await client.start_tls(context, server_hostname="localhost")
            error = await client.receive_fatal()
        await Run(row, proxy, emulator).has_sent(error)


# -- it closes without a word ----------------------------------------------------------

NOT_POSTGRESQL = {
    "direct-tls-not-offered": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "http": b"GET / HTTP/1.1\r\nHost: localhost:5432\r\n\r\n",
}


@produces(*NOT_POSTGRESQL)
async def test_another_protocol(
    row: Situation, emulator: Emulator, proxy: RunningProxy
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(NOT_POSTGRESQL[row.key])
        await client.receive_end()
    line = await Run(row, proxy, emulator).is_logged()
    assert " hint=" in line
    assert shown(row) == ""


@produces("tls-not-offered")
async def test_a_client_that_wants_tls(
    row: Situation, emulator: Emulator, proxy: RunningProxy
) -> None:
    run = Run(row, proxy, emulator)
    await run.by_psql(psql_of_the_system(), PGSSLMODE="require")


@produces("tls-with-client-failed")
async def test_a_client_that_does_not_trust_the_certificate(
    row: Situation, emulator: Emulator
) -> None:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    async with running_proxy(emulator, client_tls="auto") as proxy:
        async with RawClient.connect(proxy) as client:
            with pytest.raises((ssl.SSLCertVerificationError, EndOfStream)):
                await client.start_tls(context, server_hostname="localhost")
        line = await Run(row, proxy, emulator).is_logged()
    assert " hint=" in line


@produces("login-timeout")
async def test_a_client_that_says_nothing(row: Situation, emulator: Emulator) -> None:
    async with running_proxy(emulator, login_timeout="100ms") as proxy:
        async with RawClient.connect(proxy) as client:
            await client.receive_end()
        line = await Run(row, proxy, emulator).is_logged()
    assert "login_timeout" in line
    assert " DEBUG " in line
    assert emulator.counts.connections == 0


# -- the proxy does not start ----------------------------------------------------------


@produces("not-an-endpoint", "wrong-region")
async def test_a_cluster_that_cannot_be_one(row: Situation) -> None:
    words = {
        "not-an-endpoint": ("mydb.us-east-1.rds.amazonaws.com",),
        "wrong-region": (CLUSTER, "--region", "eu-west-1"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dsqlproxy", "--cluster", *words[row.key]),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    printed, errors = await process.communicate()
    assert (process.returncode, printed, errors.decode()) == (2, b"", shown(row))
