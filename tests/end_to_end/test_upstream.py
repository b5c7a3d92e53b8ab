"""The proxy's way to a cluster, as the cluster sees it."""

import asyncio
import socket
import ssl
from pathlib import Path

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import (
    TERMINATE,
    BackendKeyData,
    NoticeResponse,
    ParameterStatus,
)
from dsqlproxy.pgproto.startup import (
    PROTOCOL_3_0,
    CancelRequest,
    SSLRequest,
    StartupMessage,
    StartupPacket,
)
from tests.end_to_end.clusters import log_in, proxy_before, proxy_before_server
from tests.end_to_end.wire import (
    RawClient,
    all_ended,
    logged,
    startup,
    until,
)
from tests.kit.scripted import Conversation
from tests.kit.stack import RunningProxy, running_emulator, running_proxy
from tests.upstream.wire import CLEARTEXT, KEY, OK, READY, STATUS, Authority


async def works(proxy: RunningProxy) -> bool:
    async with await psycopg.AsyncConnection.connect(proxy.dsn()) as connection:
        cursor = await connection.execute("select 1")
        return await cursor.fetchone() == (1,)


# -- connecting ------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["auto", "direct", "postgres"])
async def test_tls_begins_in_each_way(emulator: Emulator, way: str) -> None:
    async with running_proxy(emulator, tls_negotiation=way) as proxy:
        assert await works(proxy)
    assert emulator.counts.connections == 1


async def test_a_cluster_without_direct_tls_is_asked_in_the_old_way(
    emulator: Emulator, tmp_path: Path
) -> None:
    authority = Authority.make(tmp_path)
    context = authority.server_context(emulator.cluster)
    began: list[bytes] = []

    async def old(peer: Conversation) -> None:
        first = await peer.receive(8)
        began.append(first[:1])
        if first != SSLRequest().encode():
            return
        await peer.send(b"S")
        await peer.start_tls(context)
        await log_in(peer)
        await peer.receive_rest()

    async with proxy_before_server(
        emulator, old, ca_file=str(authority.ca_file)
    ) as proxy:
        for _ in range(2):
            async with RawClient.session(proxy):
                pass
    # The second login knows better.
    assert began == [b"\x16", b"\0", b"\0"]


async def test_a_name_with_an_address_that_nobody_serves(emulator: Emulator) -> None:
    found = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    if len({family for family, *_ in found}) < 2:
        pytest.skip("localhost has one address here")
    async with running_proxy(
        emulator, connect_address=f"localhost:{emulator.port}"
    ) as proxy:
        assert await works(proxy)  # the emulator listens on 127.0.0.1 alone


async def test_through_a_private_link_the_cluster_is_named_by_an_option(
    emulator: Emulator,
) -> None:
    async with running_proxy(
        emulator,
        server_name="localhost",  # no name of a cluster, as with a VPC endpoint's own
        startup_options=f"-c amzn-cluster-id={emulator.cluster_id}",
    ) as proxy:
        assert await works(proxy)


async def test_sni_is_the_clusters_name_and_alpn_postgresql(
    emulator: Emulator, tmp_path: Path
) -> None:
    seen: list[object] = []

    async def play(peer: Conversation) -> None:
        seen.extend((peer.server_name, peer.alpn))
        await log_in(peer)
        await peer.receive_rest()

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy),
    ):
        pass
    assert seen == [emulator.cluster, "postgresql"]


async def test_a_cluster_that_speaks_tls_1_2_only(
    emulator: Emulator, tmp_path: Path
) -> None:
    authority = Authority.make(tmp_path)
    context = authority.server_context(emulator.cluster)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        await log_in(peer)
        await peer.receive_rest()

    async with (
        proxy_before_server(emulator, script, ca_file=str(authority.ca_file)) as proxy,
        RawClient.session(proxy),
    ):
        pass


# -- logging in ------------------------------------------------------------------------


async def test_each_login_has_a_token_of_its_own(
    emulator: Emulator, tmp_path: Path
) -> None:
    packets: list[StartupPacket] = []
    tokens: list[bytes] = []

    async def play(peer: Conversation) -> None:
        packets.append(await peer.receive_packet())
        await peer.send(CLEARTEXT)
        tokens.append((await peer.receive_frame()).body)
        await peer.send(OK + STATUS + KEY + READY)
        await peer.receive_rest()

    async with proxy_before(
        emulator, Authority.make(tmp_path), play, token_lifetime="5s"
    ) as proxy:
        async with RawClient.session(
            proxy, user="admin", database="x", datestyle="ISO"
        ):
            pass
        async with RawClient.session(proxy, user="reader"):
            pass
    assert packets[0] == StartupMessage(
        PROTOCOL_3_0,
        (("user", "admin"), ("database", "postgres"), ("datestyle", "ISO")),
    )
    admin, reader = tokens
    assert admin.startswith(f"{emulator.cluster}/?Action=DbConnectAdmin&".encode())
    assert reader.startswith(f"{emulator.cluster}/?Action=DbConnect&".encode())
    assert b"X-Amz-Expires=5&" in admin
    assert admin.endswith(b"\0")


async def test_what_a_cluster_says_at_login_reaches_the_client(
    emulator: Emulator, tmp_path: Path
) -> None:
    notice = NoticeResponse.build("NOTICE", "00000", "maintenance on Sunday").encode()
    settings = b"".join(
        ParameterStatus(name, value).encode()
        for name, value in (
            ("odd.one", "x\tý"),
            ("empty", ""),
            ("server_version", "99"),
        )
    )

    async def play(peer: Conversation) -> None:
        await log_in(peer, notice + OK + settings + KEY + READY)
        await peer.receive_rest()

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.connect(proxy) as client,
    ):
        await client.send(startup())
        greeting = await client.receive_greeting()
    assert greeting.settings == {
        "odd.one": "x\tý",
        "empty": "",
        "server_version": "99",
    }
    assert [each.message for each in greeting.notices] == ["maintenance on Sunday"]
    assert greeting.key is not None
    assert greeting.key.process_id == 42
    assert greeting.key.secret_key != b"key!"


async def test_what_comes_right_after_the_login_is_not_lost(
    emulator: Emulator, tmp_path: Path
) -> None:
    later = ParameterStatus("TimeZone", "UTC").encode()

    async def play(peer: Conversation) -> None:
        await log_in(peer, OK + STATUS + KEY + READY + later + later[:3])
        await peer.send(later[3:])
        await peer.receive_rest()

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        for _ in range(2):
            assert frame(*await client.receive_frame()) == later


async def test_a_token_that_expires_does_not_end_its_session(
    postgres: EmbeddedPostgres,
) -> None:
    async with (
        running_emulator(postgres) as emulator,
        running_proxy(emulator, token_lifetime="1s") as proxy,
        RawClient.session(proxy) as client,
    ):
        emulator.add_fault("skew:3600")
        assert await client.ask("select 1") == ["1"]


# -- what it is sent -------------------------------------------------------------------


async def test_frames_pass_as_they_are_in_both_directions(
    emulator: Emulator, tmp_path: Path
) -> None:
    """Each type of the protocol, whatever it may mean at that moment."""
    forth = [
        Frame(kind, bytes((kind,)) * 3)
        for kind in FrontendType
        if kind not in {FrontendType.TERMINATE, FrontendType.QUERY}
    ]
    back = [
        Frame(kind, b"I" if kind == BackendType.READY_FOR_QUERY else b"x\0" * 9 + b"\0")
        for kind in BackendType
    ]
    received: list[Frame] = []

    async def play(peer: Conversation) -> None:
        await log_in(peer)
        received.extend([await peer.receive_frame() for _ in forth])
        await peer.send(*(frame(*each) for each in back))
        await peer.receive_rest()

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(*(frame(*each) for each in forth))
        assert [await client.receive_frame() for _ in back] == back
        assert received == forth
        assert " ERROR " not in proxy.log.getvalue()


@pytest.mark.parametrize("end", ["terminate", "end_writing", "reset"])
async def test_an_upstream_hears_terminate_once_however_its_client_ends(
    emulator: Emulator, tmp_path: Path, end: str
) -> None:
    heard: list[bytes] = []

    async def play(peer: Conversation) -> None:
        await log_in(peer)
        heard.append(await peer.receive(5))
        peer.close()

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        if end == "terminate":
            await client.send(TERMINATE)
        else:
            getattr(client, end)()
        await until(lambda: not proxy.proxy._sessions)
    assert heard == [TERMINATE]


async def test_a_cancel_goes_to_the_same_cluster_under_tls_with_sni(
    emulator: Emulator, tmp_path: Path
) -> None:
    asked: list[object] = []

    async def play(peer: Conversation) -> None:
        packet = await peer.receive_packet()
        if isinstance(packet, CancelRequest):
            asked.extend((peer.server_name, packet))
            return
        await peer.send(CLEARTEXT)
        await peer.receive_frame()
        key = BackendKeyData(4711, b"0123456789").encode()
        await peer.send(OK + key + READY)
        await peer.receive_rest()

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.connect(proxy) as client,
    ):
        await client.send(startup())
        greeting = await client.receive_greeting()
        async with RawClient.connect(proxy) as canceller:
            await canceller.send(greeting.cancel_request.encode())
            await canceller.receive_end()
    assert asked == [emulator.cluster, CancelRequest(4711, b"0123456789")]


async def test_a_cancel_that_cannot_be_delivered_is_logged(
    emulator: Emulator, tmp_path: Path
) -> None:
    authority = Authority.make(tmp_path)
    context = authority.server_context(emulator.cluster)
    has_session = False

    async def script(peer: Conversation) -> None:
        nonlocal has_session
        if has_session:
            peer.reset()
            return
        has_session = True
        await peer.start_tls(context)
        await log_in(peer)
        await peer.receive_rest()

    async with (
        proxy_before_server(emulator, script, ca_file=str(authority.ca_file)) as proxy,
        RawClient.connect(proxy) as client,
        RawClient.connect(proxy) as canceller,
    ):
        await client.send(startup())
        greeting = await client.receive_greeting()
        await canceller.send(greeting.cancel_request.encode())
        await canceller.receive_end()
        line = await logged(proxy, "WARNING cancel ")
        assert "outcome=failed" in line


async def test_many_sessions_come_and_go_together(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async def one(number: int) -> None:
        async with RawClient.session(proxy) as client:
            assert await client.ask(f"select {number}") == [str(number)]

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(one(number))
    await all_ended(proxy, emulator)
    assert emulator.counts.logins_accepted == 50
