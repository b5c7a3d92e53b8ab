"""From accept to AuthenticationOk: whatever a client may open a connection with."""

import asyncio
import shutil
import ssl
from pathlib import Path

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres, wheel_bin_dir
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.startup import (
    GSSENCRequest,
    ProtocolVersion,
    SSLRequest,
    StartupMessage,
)
from tests.end_to_end.wire import (
    RawClient,
    all_ended,
    frames_in,
    logged,
    query,
    startup,
    until,
)
from tests.kit.stack import RunningProxy, running_emulator, running_proxy

SSL = SSLRequest().encode()
GSS = GSSENCRequest().encode()


@pytest.fixture
def pg_isready() -> str:
    """Give the program, from the PostgreSQL behind the emulator or the system's."""
    beside = (wheel_bin_dir() or Path()) / "pg_isready"
    found = str(beside) if beside.exists() else shutil.which("pg_isready")
    if found is None:
        pytest.skip("pg_isready is not installed")
    return found


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([SSL], id="ssl"),
        pytest.param([GSS], id="gss"),
        pytest.param([SSL, GSS], id="ssl-then-gss"),
        pytest.param([GSS, SSL], id="gss-then-ssl"),
    ],
)
async def test_encryption_is_declined_in_any_order(
    proxy: RunningProxy, requests: list[bytes]
) -> None:
    async with RawClient.connect(proxy) as client:
        for request in requests:
            await client.send(request)
            assert await client.receive(1) == b"N"
        await client.send(startup())
        await client.receive_greeting()
        assert await client.ask("select 1") == ["1"]


@pytest.mark.parametrize("request_twice", [SSL, GSS], ids=["ssl", "gss"])
async def test_asking_twice_for_encryption_is_refused(
    proxy: RunningProxy, request_twice: bytes
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(request_twice)
        assert await client.receive(1) == b"N"
        await client.send(request_twice)
        assert (await client.receive_fatal()).sqlstate == "08P01"


@pytest.mark.parametrize("request_first", [SSL, GSS], ids=["ssl", "gss"])
@pytest.mark.parametrize("client_tls", ["off", "auto"])
async def test_data_together_with_a_request_for_encryption_is_refused(
    emulator: Emulator, client_tls: str, request_first: bytes
) -> None:
    async with (
        running_proxy(emulator, client_tls=client_tls) as proxy,
        RawClient.connect(proxy) as client,
    ):
        await client.send(request_first + startup())
        error = await client.receive_fatal()
    assert error.sqlstate == "08P01"
    assert "received unencrypted data after" in error.message
    assert emulator.counts.connections == 0


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"\0\0\0\x07\0\3\0", id="length-below-8"),
        pytest.param((10_001).to_bytes(4) + b"\0\3\0\0", id="too-long"),
        pytest.param(b"\xff\xff\xff\xff\0\3\0\0", id="far-too-long"),
        pytest.param(b"\0\0\0\x08\0\2\0\0", id="protocol-2.0"),
        pytest.param(b"\0\0\0\x09\0\4\0\0\0", id="protocol-4.0"),
        pytest.param(b"\0\0\0\x08\0\3\0\0", id="no-terminator"),
        pytest.param(b"\0\0\0\x0e\0\3\0\0user\0\0", id="half-a-parameter"),
        pytest.param(b"\0\0\0\x10\0\3\0\0user\0x\0y", id="terminator-missing"),
        pytest.param(b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\1", id="cancel-without-key"),
    ],
)
async def test_a_malformed_startup_packet_is_a_protocol_violation(
    proxy: RunningProxy, emulator: Emulator, packet: bytes
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(packet)
        assert (await client.receive_fatal()).sqlstate == "08P01"
    await all_ended(proxy, emulator)
    assert emulator.counts.connections == 0
    await logged(proxy, "WARNING.*session refused.*08P01")


async def test_a_startup_packet_of_ten_thousand_bytes_is_taken(
    postgres: EmbeddedPostgres,
) -> None:
    rest = 10_000 - len(startup(application_name="x")) + 1
    async with (  # without rules: those add parameters of their own
        running_emulator(postgres, has_rules=False) as emulator,
        running_proxy(emulator) as proxy,
        RawClient.connect(proxy) as client,
    ):
        await client.send(startup(application_name="x" * rest))
        greeting = await client.receive_greeting()
        assert greeting.settings["application_name"] == "x" * 63


@pytest.mark.parametrize(
    ("version", "options", "answer"),
    [
        pytest.param((3, 0), [], None, id="3.0"),
        pytest.param((3, 2), [], None, id="3.2"),
        pytest.param((3, 9999), [], ((3, 2), []), id="newer"),
        pytest.param((3, 0), ["_pq_.x"], ((3, 0), ["_pq_.x"]), id="option"),
        pytest.param(
            (3, 9999), ["_pq_.b", "_pq_.a"], ((3, 2), ["_pq_.b", "_pq_.a"]), id="both"
        ),
    ],
)
async def test_what_is_newer_than_the_proxy_is_negotiated(
    proxy: RunningProxy,
    version: tuple[int, int],
    options: list[str],
    answer: tuple[tuple[int, int], list[str]] | None,
) -> None:
    async with RawClient.connect(proxy) as client:
        parameters = dict.fromkeys(options, "1")
        await client.send(startup(ProtocolVersion(*version), **parameters))
        if answer is not None:
            (major, minor), names = answer
            body = major.to_bytes(2) + minor.to_bytes(2) + len(names).to_bytes(4)
            body += b"".join(name.encode() + b"\0" for name in names)
            received = await client.receive_frame()
            assert received == (BackendType.NEGOTIATE_PROTOCOL_VERSION, body)
        greeting = await client.receive_greeting()
        assert greeting.key is not None
        assert len(greeting.key.secret_key) == (32 if version[1] >= 2 else 4)
        assert not greeting.notices
        assert await client.ask("select 1") == ["1"]


async def test_libpq_may_ask_for_the_latest_protocol(proxy: RunningProxy) -> None:
    if psycopg.pq.version() < 180000:
        pytest.skip("this libpq speaks 3.0 only")
    dsn = proxy.dsn(min_protocol_version="3.2", max_protocol_version="latest")
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute("select 1")
        assert await cursor.fetchall() == [(1,)]


async def test_every_setting_that_the_cluster_reports_is_relayed(
    proxy: RunningProxy,
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(startup(application_name="me", TimeZone="Asia/Tokyo"))
        settings = (await client.receive_greeting()).settings
    # PostgreSQL 16 reports these (manual, "Asynchronous Operations").
    assert settings == {
        "application_name": "me",
        "client_encoding": "UTF8",
        "DateStyle": "ISO, MDY",
        "default_transaction_read_only": "off",
        "in_hot_standby": "off",
        "integer_datetimes": "on",
        "IntervalStyle": "postgres",
        "is_superuser": "off",
        "scram_iterations": "4096",
        "server_encoding": "UTF8",
        "server_version": "16.15",
        "session_authorization": "admin",
        "standard_conforming_strings": "on",
        "TimeZone": "Asia/Tokyo",
    }


async def test_a_session_that_comes_byte_by_byte_is_the_same(
    proxy: RunningProxy,
) -> None:
    said = SSL, startup(application_name="slow"), query("select 'a' || 'b'")
    async with RawClient.connect(proxy) as client:
        for part in said[:2]:
            for index in range(len(part)):
                await client.send(part[index : index + 1])
                await asyncio.sleep(0)
            if part is SSL:
                assert await client.receive(1) == b"N"
        await client.receive_greeting()
        for index in range(len(said[2])):
            await client.send(said[2][index : index + 1])
            await asyncio.sleep(0)
        frames = await client.receive_until_ready()
    assert [chr(each.type) for each in frames] == ["T", "D", "C", "Z"]


async def test_a_query_that_comes_with_the_startup_packet_is_answered(
    proxy: RunningProxy,
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(startup() + query("select 7"))
        await client.receive_greeting()
        frames = await client.receive_until_ready()
    assert [chr(each.type) for each in frames] == ["T", "D", "C", "Z"]


async def test_a_client_that_says_all_at_once_and_ends_is_answered(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    # The end of its stream came before the login upstream, which was then given up
    # as for a client that is gone. A PostgreSQL server answers what it was sent.
    async with RawClient.connect(proxy) as client:
        await client.send(startup() + query("select 7"))
        client.end_writing()
        await client.receive_greeting()
        frames = await client.receive_until_ready()
        assert [chr(each.type) for each in frames] == ["T", "D", "C", "Z"]
        await client.receive_end()
    await all_ended(proxy, emulator)


async def test_a_bare_probe_costs_no_login_and_no_line_above_debug(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    before = proxy.log.getvalue()
    async with RawClient.connect(proxy) as client:
        client.end_writing()
        await client.receive_end()
    async with RawClient.connect(proxy) as client:
        await until(lambda: proxy.proxy._sessions)
        client.reset()
    await until(lambda: not proxy.proxy._sessions)
    await until(lambda: proxy.log.getvalue().count("client left") == 2)
    for line in proxy.log.getvalue().removeprefix(before).splitlines():
        # The log is written by a thread: of the start something may still come.
        of_start = (" INFO listening ", " INFO credentials changed ")
        assert " DEBUG " in line or any(each in line for each in of_start), line
    assert emulator.counts.connections == 0


async def test_half_a_startup_packet_costs_no_login(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(startup()[:-3])
        client.end_writing()
        await client.receive_end()
    await all_ended(proxy, emulator)
    assert emulator.counts.connections == 0


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(startup()[:5], id="half-a-packet"),
        pytest.param(SSL, id="ssl-request"),
    ],
)
@pytest.mark.parametrize("client_tls", ["off", "auto"])
async def test_who_does_not_finish_in_time_is_closed_without_a_word(
    emulator: Emulator, said: bytes, client_tls: str
) -> None:
    async with running_proxy(
        emulator, login_timeout="200ms", client_tls=client_tls
    ) as proxy:
        async with RawClient.connect(proxy) as client:
            await client.send(said)
            rest = await client.receive_rest()
        assert rest == ({"off": b"N", "auto": b"S"}[client_tls] if said == SSL else b"")
        line = await logged(proxy, "client left")
        assert " DEBUG " in line
        assert "login_timeout" in line
    assert emulator.counts.connections == 0


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:5432\r\n\r\n", id="get"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + 9_000 * b"x",
            id="post",
        ),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="direct-tls"),
    ],
)
async def test_what_is_not_postgresql_is_closed_at_once(
    proxy: RunningProxy, emulator: Emulator, said: bytes
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(said)
        await client.receive_end()
    line = await logged(proxy, "client left")
    assert " INFO " in line
    assert "hint=" in line
    await all_ended(proxy, emulator)
    assert emulator.counts.connections == 0


async def test_direct_tls_ends_for_openssl_where_it_is_off(
    proxy: RunningProxy,
) -> None:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with asyncio.timeout(5):
            await asyncio.open_connection(proxy.host, proxy.port, ssl=context)
    line = await logged(proxy, "client left")
    assert "client_tls: auto" in line


async def test_noise_is_a_protocol_violation(proxy: RunningProxy) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(b"\r\n\r\nHELP\r\n")
        assert (await client.receive_fatal()).sqlstate == "08P01"


async def test_a_user_in_no_encoding_at_all_breaks_nothing(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    packet = StartupMessage(
        ProtocolVersion(3, 0), (("user", "\udcff\udcfe"), ("database", "postgres"))
    )
    async with RawClient.connect(proxy) as client:
        await client.send(packet.encode())
        await client.receive_fatal()
    assert "session failed" not in proxy.log.getvalue()
    await logged(proxy, "login failed")
    await all_ended(proxy, emulator)


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_client_that_leaves_after_authentication_ok_costs_no_session(
    proxy: RunningProxy, emulator: Emulator, end: str
) -> None:
    emulator.add_fault("slow-login:5s")
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        assert await client.receive(9) == frame(ord("R"), b"\0\0\0\0")
        await until(lambda: emulator.counts.connections)
        {"close": client.close, "reset": client.reset}[end]()
        await until(lambda: not proxy.proxy._sessions)
    assert emulator.counts.logins_accepted == 0
    line = await logged(proxy, "session closed")
    assert "reason=client_closed" in line
    assert " WARNING " not in proxy.log.getvalue()


async def test_pg_isready_says_accepting_and_leaves_nothing(
    proxy: RunningProxy, emulator: Emulator, pg_isready: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(pg_isready, "-h", proxy.host, "-p", str(proxy.port), "-U", "admin"),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert b"accepting connections" in said
    await all_ended(proxy, emulator)
    assert " WARNING " not in proxy.log.getvalue()


async def test_frames_after_a_refusal_are_not_answered(proxy: RunningProxy) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(startup(user=""), query("select 1"))
        frames = frames_in(await client.receive_rest())
    assert [chr(each.type) for each in frames] == ["E"]
