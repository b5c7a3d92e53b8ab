import asyncio
import ssl

import pytest

from dsqlproxy.channel.channel import Channel
from dsqlproxy.errors import ProtocolError
from dsqlproxy.listen.admission import Admitted, Departed, admit
from dsqlproxy.pgproto.messages import NegotiateProtocolVersion
from dsqlproxy.pgproto.startup import (
    CancelRequest,
    GSSENCRequest,
    ProtocolVersion,
    SSLRequest,
    StartupMessage,
)
from tests.kit.channels import SERVER_NAME, ScriptedPeer, TlsContexts, channel_and_peer
from tests.kit.frames import client

pytestmark = pytest.mark.both_loops

STARTUP = StartupMessage(ProtocolVersion(3, 0), (("user", "admin"),))
CANCEL = CancelRequest(42, b"key!")
SSL, GSS = SSLRequest().encode(), GSSENCRequest().encode()

Answer = Admitted | CancelRequest | Departed


async def asked(peer: ScriptedPeer, request: bytes, answer: bytes) -> None:
    await peer.send(request)
    assert await peer.receive(len(answer)) == answer


def tls_of(tls: TlsContexts, *, offered: bool) -> ssl.SSLContext | None:
    return tls.server if offered else None


@pytest.mark.parametrize("offered", [False, True])
async def test_a_plain_startup_packet(tls: TlsContexts, *, offered: bool) -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(STARTUP.encode())
        admitted = await admit(channel, tls=tls_of(tls, offered=offered))
        assert admitted == Admitted(STARTUP, None)
        assert not channel.is_tls


async def test_a_startup_packet_after_ssl_and_gss_were_declined() -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        admitting = group.create_task(admit(channel, tls=None))
        await asked(peer, SSL, b"N")
        await asked(peer, GSS, b"N")
        await peer.send(STARTUP.encode()[:7])
        await peer.send(STARTUP.encode()[7:])
        assert await admitting == Admitted(STARTUP, None)


@pytest.mark.parametrize("gss_first", [False, True])
async def test_tls_by_request(tls: TlsContexts, *, gss_first: bool) -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        admitting = group.create_task(admit(channel, tls=tls.server))
        if gss_first:
            await asked(peer, GSS, b"N")
        await asked(peer, SSL, b"S")
        await peer.start_tls(tls.client, server_hostname=SERVER_NAME)
        await peer.send(STARTUP.encode())
        assert await admitting == Admitted(STARTUP, None)
        assert channel.is_tls


async def test_direct_tls(tls: TlsContexts) -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        admitting = group.create_task(admit(channel, tls=tls.server))
        await peer.start_tls(tls.client, server_hostname=SERVER_NAME)
        await peer.send(STARTUP.encode())
        assert await admitting == Admitted(STARTUP, None)
        assert channel.alpn == "postgresql"


async def test_direct_tls_without_alpn_is_refused(tls: TlsContexts) -> None:
    tls.client.set_alpn_protocols(["http/1.1"])
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        group.create_task(peer.start_tls(tls.client, server_hostname=SERVER_NAME))
        with pytest.raises(ProtocolError, match="ALPN"):
            await admit(channel, tls=tls.server)


@pytest.mark.parametrize("how", ["at once", "after SSL", "under TLS"])
async def test_a_cancel_request(tls: TlsContexts, how: str) -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        offered = tls.server if how == "under TLS" else None
        admitting = group.create_task(admit(channel, tls=offered))
        if how == "after SSL":
            await asked(peer, SSL, b"N")
        elif how == "under TLS":
            await asked(peer, SSL, b"S")
            await peer.start_tls(tls.client, server_hostname=SERVER_NAME)
        await peer.send(CANCEL.encode())
        assert await admitting == CANCEL


async def test_requests_that_follow_the_startup_packet_are_kept() -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(STARTUP.encode(), client("Q"))
        await admit(channel, tls=None)
        assert await channel.read() == client("Q")


@pytest.mark.parametrize(
    ("version", "key_bytes"), [((3, 0), 4), ((3, 1), 4), ((3, 2), 32), ((3, 9999), 32)]
)
async def test_a_newer_protocol_gets_a_longer_key(
    version: tuple[int, int], key_bytes: int
) -> None:
    startup = StartupMessage(ProtocolVersion(*version), (("user", "admin"),))
    async with channel_and_peer() as (channel, peer):
        await peer.send(startup.encode())
        admitted = await admit(channel, tls=None)
    assert isinstance(admitted, Admitted)
    assert admitted.key_bytes == key_bytes
    expected = NegotiateProtocolVersion(ProtocolVersion(3, 2))
    assert admitted.negotiation == (expected if version == (3, 9999) else None)


async def test_a_bare_connection_is_a_probe() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.end_writing()
        assert await admit(channel, tls=None) == Departed("probe")


async def test_a_bare_connection_that_is_reset_is_a_probe() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.reset()
        assert await admit(channel, tls=None) == Departed("probe")


@pytest.mark.parametrize("sent", [GSS, STARTUP.encode()[:-1], b"\0"])
async def test_a_client_that_leaves_before_its_startup_packet(sent: bytes) -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(sent)
        peer.end_writing()
        departed = await admit(channel, tls=None)
    assert departed == Departed("the client left before its startup packet")


# psql with sslmode=require leaves without a word, and the log said nothing either.
async def test_a_client_that_leaves_for_want_of_tls_gets_a_hint_in_the_log() -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        admitting = group.create_task(admit(channel, tls=None))
        await asked(peer, SSL, b"N")
        peer.end_writing()
        departed = await admitting
    assert isinstance(departed, Departed)
    assert "wants TLS" in departed.reason
    assert "client_tls: auto" in departed.hint


async def test_a_client_that_went_on_without_tls_did_not_leave_for_it() -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        admitting = group.create_task(admit(channel, tls=None))
        await asked(peer, SSL, b"N")
        await peer.send(STARTUP.encode()[:-1])
        peer.end_writing()
        expected = Departed("the client left before its startup packet")
        assert await admitting == expected


async def test_a_web_browser_is_told_nothing() -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(b"POST / HTTP/1.1\r\n\r\n")
        departed = await admit(channel, tls=None)
        assert isinstance(departed, Departed)
        assert "HTTP" in departed.reason
        channel.close()
        assert await peer.receive_rest() == b""


async def test_direct_tls_where_it_is_not_offered_is_hinted_at() -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(b"\x16\x03\x01")
        departed = await admit(channel, tls=None)
    assert isinstance(departed, Departed)
    assert "client_tls: auto" in departed.hint


async def refused(channel: Channel, tls: TlsContexts) -> Departed:
    departed = await admit(channel, tls=tls.server)
    assert isinstance(departed, Departed)
    return departed


async def test_a_client_that_does_not_trust_the_certificate(tls: TlsContexts) -> None:
    tls.client.maximum_version = ssl.TLSVersion.TLSv1_2  # the server waits for the end
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        admitting = group.create_task(refused(channel, tls))
        await asked(peer, SSL, b"S")
        with pytest.raises(ssl.SSLCertVerificationError):
            await peer.start_tls(tls.client, server_hostname="elsewhere")
        departed = await admitting
        assert "TLS with the client failed" in departed.reason
        assert "ALERT" in departed.reason
        assert "trust" in departed.hint


async def test_a_client_that_leaves_when_it_has_seen_the_certificate(
    tls: TlsContexts,
) -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        admitting = group.create_task(refused(channel, tls))
        await asked(peer, SSL, b"S")
        peer.end_writing()
        departed = await admitting
        assert departed.reason == "the client left during the TLS handshake"


async def test_a_client_whose_tls_breaks_later_has_left(tls: TlsContexts) -> None:
    async with channel_and_peer() as (channel, peer), asyncio.TaskGroup() as group:
        admitting = group.create_task(refused(channel, tls))
        await asked(peer, SSL, b"S")
        await peer.start_tls(tls.client, server_hostname=SERVER_NAME)
        await peer.send_raw(b"\x17\x03\x03\0\x20" + bytes(32))
        departed = await admitting
        assert departed.reason == "the client left before its startup packet"


async def test_data_ahead_of_tls_is_refused(tls: TlsContexts) -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(SSL, STARTUP.encode())
        with pytest.raises(ProtocolError, match="unencrypted data"):
            await admit(channel, tls=tls.server)


async def test_data_injected_in_a_packet_of_its_own_never_counts(
    tls: TlsContexts,
) -> None:
    # It came in one read with nothing else, so it is taken for the handshake.
    async with channel_and_peer() as (channel, peer):
        channel.unread(STARTUP.encode())
        channel.unread(SSL)
        departed = await refused(channel, tls)
        assert "TLS with the client failed" in departed.reason
        assert await peer.receive(1) == b"S"
