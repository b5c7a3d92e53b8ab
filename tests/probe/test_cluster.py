"""Ways to a scripted cluster, and where a token must not go."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from dsqlproxy.errors import ConnectionLost, ProtocolError, UpstreamUnavailable
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.startup import (
    PROTOCOL_3_0,
    CancelRequest,
    SSLRequest,
    StartupMessage,
)
from dsqlproxy.probe.cluster import NO_SUCH_CLUSTER
from dsqlproxy.upstream.connector import UpstreamStartup
from dsqlproxy.upstream.encryption import Way
from dsqlproxy.upstream.resolve import Address
from tests.kit.scripted import Conversation, scripted_server
from tests.probe.kit import (
    STARTUP,
    TOKEN,
    always,
    cluster_at,
    plays,
    scripted_cluster,
)
from tests.upstream.wire import (
    CLEARTEXT,
    CLUSTER,
    GREETING,
    Authority,
    authentication,
    refusal,
)

OTHER = f"{NO_SUCH_CLUSTER}.dsql.us-east-1.on.aws"


def test_the_other_name_has_the_form_of_an_id() -> None:
    assert len(NO_SUCH_CLUSTER) == 26
    assert NO_SUCH_CLUSTER.isalnum()


async def test_no_token_goes_to_another_name(authority: Authority) -> None:
    names = []

    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context("*.dsql.us-east-1.on.aws"))
        names.append(peer.server_name)
        assert await peer.receive_packet() == StartupMessage(
            PROTOCOL_3_0, STARTUP.parameters
        )
        await peer.send(CLEARTEXT)
        await peer.receive_end()

    async with scripted_cluster(script, authority) as cluster:
        attempt = await cluster.knock(server_name=cluster.other_server_name())
    assert names == [OTHER]
    assert attempt.verdict == attempt.said == "asks for a password"


async def test_another_name_is_verified_as_any(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        with pytest.raises(Exception, match=r"(?i)alert|handshake"):
            await peer.start_tls(authority.server_context(CLUSTER))

    async with scripted_cluster(script, authority) as cluster:
        with pytest.raises(UpstreamUnavailable, match="could not be verified"):
            await cluster.knock(server_name=cluster.other_server_name())


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (refusal("sni", sqlstate="08P01"), "FATAL 08P01"),
        (b"", "connection closed (FIN)"),
        (b"noise", "not a login"),
        (GREETING, "lets in without a password"),
    ],
)
async def test_a_knock_is_answered_in_many_ways(
    answer: bytes, verdict: str, authority: Authority
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context("*.dsql.us-east-1.on.aws"))
        await peer.receive_packet()
        await peer.send(answer)

    async with scripted_cluster(script, authority) as cluster:
        attempt = await cluster.knock(server_name=OTHER)
    assert attempt.verdict == verdict


@pytest.mark.parametrize("code", [5, 10, 99])
async def test_no_token_answers_another_request(
    code: int, authority: Authority
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        await peer.receive_packet()
        await peer.send(authentication(code, b"salt"))
        await peer.receive_end()

    async with (
        scripted_cluster(script, authority) as cluster,
        cluster.attempt(token=TOKEN) as attempt,
    ):
        assert attempt.line is None
        assert isinstance(attempt.failure, ProtocolError)
        assert not attempt.asked_for_password


async def test_a_login_is_that_of_an_ordinary_session(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        assert await peer.receive_packet() == StartupMessage(
            PROTOCOL_3_0, STARTUP.parameters
        )
        await peer.send(CLEARTEXT)
        assert (await peer.receive_frame()).body == TOKEN.encode() + b"\0"
        await peer.send(GREETING)
        await peer.receive_rest()

    async with (
        scripted_cluster(script, authority) as cluster,
        cluster.session() as line,
    ):
        assert line.key == BackendKeyData(42, b"key!")


async def test_a_session_that_is_not_given_raises_why(authority: Authority) -> None:
    async def ends(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())

    async with scripted_cluster(ends, authority) as cluster:
        with pytest.raises(ConnectionLost, match="during login"):
            async with cluster.session():
                pytest.fail("there is no session")


async def test_what_is_asked_for_is_added_to_the_startup(authority: Authority) -> None:
    startup = UpstreamStartup("admin", (("user", "admin"), ("options", "-c a=b")))
    script = plays(authority.server_context(), always(None))
    async with scripted_cluster(script, authority, startup=startup) as cluster:
        asked = cluster.startup(
            role="other", options="-c c=d", parameters=(("x", "y"),)
        )
    assert asked.parameters == (
        ("user", "other"),
        ("options", "-c a=b -c c=d"),
        ("x", "y"),
    )


async def test_a_claimed_lifetime_leaves_all_else_as_it_was(
    authority: Authority,
) -> None:
    script = plays(authority.server_context(), always(None))
    async with scripted_cluster(script, authority) as cluster:
        token = await cluster.token(claimed_seconds=604_801)
    assert token == TOKEN.replace("X-Amz-Expires=60", "X-Amz-Expires=604801")


async def test_a_cancel_goes_where_the_session_is(authority: Authority) -> None:
    packets: list[object] = []

    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        packets.append(await peer.receive_packet())

    async with scripted_server(script) as server:
        cluster = cluster_at(server, authority, connect_address=None)
        address = Address(socket.AF_INET, (server.host, server.port))
        said = await cluster.cancel(BackendKeyData(1, b"key!"), address)
    assert packets == [CancelRequest(1, b"key!")]
    assert said == "closed (FIN)"


async def test_the_way_that_worked_is_remembered(authority: Authority) -> None:
    """And a deaf first way leaves time for the second."""

    async def refuses_direct(peer: Conversation) -> None:
        await peer.receive(1)

    async def by_request(peer: Conversation) -> None:
        assert await peer.receive_packet() == SSLRequest()
        await peer.send(b"S")
        await peer.start_tls(authority.server_context())
        await peer.receive_rest()

    async def is_deaf(peer: Conversation) -> None:
        await peer.receive_rest()

    for first in (refuses_direct, is_deaf):
        async with scripted_server(first, by_request) as server:
            cluster = cluster_at(
                server, authority, negotiation="auto", timeout_seconds=0.6
            )
            for _ in range(2):
                async with cluster.secured() as line:
                    assert line.channel.is_tls
            assert server.connections == 3


async def test_a_way_may_be_prescribed(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        assert await peer.receive_packet() == SSLRequest()
        await peer.send(b"N")

    async with scripted_server(script) as server:
        cluster = cluster_at(server, authority, negotiation="postgres")
        for way in (None, Way.REQUEST):
            with pytest.raises(UpstreamUnavailable, match="could not begin TLS"):
                async with cluster.secured(way=way):
                    pytest.fail("there is no TLS")
        assert server.connections == 2


async def test_every_address_is_masked(authority: Authority) -> None:
    script = plays(authority.server_context(), always(None))
    async with scripted_cluster(script, authority) as cluster:
        async with cluster.secured() as line:
            host = str(line.address.sockaddr[0])
        assert cluster._masking.of_text(f"at {host}") == "at <address>"


@pytest.mark.parametrize("error", [OSError("refused"), RuntimeError("closed")])
async def test_a_socket_that_makes_no_channel_is_closed(
    error: Exception, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []

    async def fails(_factory: object, *, sock: socket.socket) -> Sequence[object]:
        made.append(sock)
        raise error

    async def script(peer: Conversation) -> None:
        await peer.receive_rest()

    async with scripted_cluster(script, authority) as cluster:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", fails)
        expected = UpstreamUnavailable if isinstance(error, OSError) else RuntimeError
        with pytest.raises(expected):
            async with cluster.secured():
                pytest.fail("there is no channel")
        monkeypatch.undo()
    assert [one.fileno() for one in made] == [-1]
