import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from dsqlproxy.channel.channel import MAILBOX_BYTES, Channel
from tests.kit.channels import (
    SERVER_NAME,
    TlsContexts,
    channel_and_peer,
    channel_over,
    loopback,
    read_all,
    read_exactly,
    secure,
    two_channels,
    until,
)

pytestmark = pytest.mark.both_loops


# -- read and write --------------------------------------------------------------------


async def test_bytes_cross_in_both_directions(perhaps_tls: TlsContexts | None) -> None:
    async with two_channels(perhaps_tls) as (near, far):
        near.write(b"question")
        assert await far.read() == b"question"
        far.write(b"answer")
        assert await near.read() == b"answer"
        assert near.is_tls is (perhaps_tls is not None)


async def test_a_large_amount_crosses_whole(perhaps_tls: TlsContexts | None) -> None:
    data = bytes(range(256)) * 12_000
    async with two_channels(perhaps_tls) as (near, far):
        near.write(data)
        assert await read_exactly(far, len(data)) == data


async def test_nothing_can_be_written(perhaps_tls: TlsContexts | None) -> None:
    async with two_channels(perhaps_tls) as (near, far):
        near.write(b"")
        near.write(b"x")
        assert await far.read() == b"x"


async def test_read_waits_for_bytes() -> None:
    async with two_channels() as (near, far), asyncio.TaskGroup() as group:
        reading = group.create_task(far.read())
        await asyncio.sleep(0)
        assert not reading.done()
        near.write(b"late")
        assert await reading == b"late"


async def test_a_read_that_is_cancelled_loses_nothing() -> None:
    async with two_channels() as (near, far):
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(far.read())
            await asyncio.sleep(0)
            reading.cancel()
        near.write(b"still here")
        assert await far.read() == b"still here"


async def test_unread_bytes_come_first() -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(b"second")
        assert await channel.read() == b"second"
        channel.unread(b"second")
        channel.unread(b"")
        channel.unread(b"first")
        assert channel.has_unread
        assert await channel.read() == b"first"
        assert await channel.read() == b"second"
        assert not channel.has_unread


async def test_a_peer_that_sends_too_fast_feels_it() -> None:
    async with channel_and_peer(buffer_bytes=4_096) as (channel, peer):
        data = bytes(1 << 21)
        sent = await peer.send_what_fits(data)
        assert MAILBOX_BYTES <= sent < len(data)
        assert channel._mailbox_bytes < MAILBOX_BYTES + (256 << 10)
        async with asyncio.TaskGroup() as group:
            group.create_task(peer.send(data[sent:]))
            assert len(await read_exactly(channel, len(data))) == len(data)


async def test_the_end_comes_after_the_bytes(perhaps_tls: TlsContexts | None) -> None:
    async with channel_and_peer(perhaps_tls) as (channel, peer):
        await peer.send(b"last words")
        peer.end_writing()  # ragged under TLS: as clusters and killed clients end
        assert await read_all(channel) == b"last words"
        assert channel.has_ended
        assert await channel.read() == b""


async def test_a_goodbye_of_tls_is_an_end(tls: TlsContexts) -> None:
    async with channel_and_peer(tls) as (channel, peer):
        await peer.send(b"last words")
        await peer.send_raw(peer.say_goodbye())
        assert await read_all(channel) == b"last words"
        channel.write(b"an answer")
        assert await peer.receive(9) == b"an answer"


async def test_after_the_end_the_other_direction_still_works() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.end_writing()
        assert await channel.read() == b""
        assert not channel.is_closing
        channel.write(b"an answer")
        assert await peer.receive(9) == b"an answer"


async def test_a_reset_raises_after_what_came_before_it() -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(b"before")
        assert await channel.read() == b"before"
        peer.reset()
        with pytest.raises(ConnectionResetError):
            await channel.read()
        with pytest.raises(ConnectionResetError):
            await channel.read()


async def test_a_reset_wakes_who_waits(perhaps_tls: TlsContexts | None) -> None:
    async with channel_and_peer(perhaps_tls) as (channel, peer):

        async def read() -> None:
            with pytest.raises(ConnectionResetError):
                await channel.read()

        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read())
            await asyncio.sleep(0)
            assert not reading.done()
            peer.reset()


async def test_our_own_abort_ends_a_read() -> None:
    async with channel_and_peer() as (channel, _), asyncio.TaskGroup() as group:
        reading = group.create_task(channel.read())
        await asyncio.sleep(0)
        channel.abort()
        assert await reading == b""


async def test_broken_ciphertext_ends_with_an_error_and_an_alert(
    tls: TlsContexts,
) -> None:
    async with channel_and_peer(tls) as (channel, peer):
        await peer.send_raw(b"\x17\x03\x03\0\x20" + bytes(32))
        with pytest.raises(ConnectionResetError) as caught:
            await channel.read()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await peer.receive(1)
        assert channel.is_closing


# -- names -----------------------------------------------------------------------------


async def test_the_peer_is_named_by_its_address() -> None:
    near, far = await loopback()
    host, port = near.getpeername()
    channel = await channel_over(near)
    assert channel.peer_name == f"{host}:{port}"
    channel.abort()
    await channel.wait_closed()
    assert channel.peer_name == f"{host}:{port}"
    far.close()


async def test_an_ipv6_peer_has_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        near = socket.create_connection(listener.getsockname()[:2])
        far, _ = listener.accept()
    channel = await channel_over(near)
    assert channel.peer_name == f"[::1]:{far.getsockname()[1]}"
    channel.abort()
    await channel.wait_closed()
    far.close()


async def test_a_peer_on_a_unix_socket_is_called_unix(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    accepted: list[Channel] = []
    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(
        lambda: Channel(on_connected=accepted.append), path
    )
    _, channel = await loop.create_unix_connection(Channel, path)
    channel.write(b"x")
    channel.close()
    await channel.wait_closed()
    await until(lambda: bool(accepted))
    (one,) = accepted
    assert await one.read() == b"x"
    assert channel.peer_name == one.peer_name == "unix"
    one.abort()
    await one.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_channel_without_connection() -> None:
    channel = Channel()
    assert channel.is_closing
    assert channel.peer_name == "unix"
    assert (channel.is_tls, channel.tls, channel.alpn) == (False, None, None)
    for do_nothing in (
        channel.close,
        channel.abort,
        channel.end_writing,
        channel.pause_reading,
        channel.resume_reading,
    ):
        do_nothing()
    channel.write(b"nobody hears")
    await channel.drain()
    await channel.wait_closed()


async def test_on_connected_is_told_of_the_channel() -> None:
    near, far = await loopback()
    told: list[Channel] = []
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(
        lambda: Channel(on_connected=told.append), sock=near
    )
    assert told == [channel]
    channel.abort()
    await channel.wait_closed()
    far.close()


# -- TLS -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_start_tls_on_both_sides(tls: TlsContexts, version: str) -> None:
    tls.server.maximum_version = ssl.TLSVersion[version]
    async with two_channels(tls) as (near, far):
        assert near.tls
        assert far.tls
        assert near.tls.version == far.tls.version == version.replace("_", ".")
        assert near.alpn == far.alpn == "postgresql"
        near.write(b"x")
        assert await far.read() == b"x"


async def test_what_was_received_before_start_tls_counts(tls: TlsContexts) -> None:
    # Direct TLS: the first bytes have been read to see what they are.
    async with channel_and_peer() as (server, peer), asyncio.TaskGroup() as group:
        group.create_task(peer.start_tls(tls.client, server_hostname=SERVER_NAME))
        hello = await server.read()
        assert hello[0] == 0x16
        server.unread(hello[5:])
        server.unread(hello[:5])
        await server.start_tls(tls.server, server_side=True)
        server.write(b"welcome")
        assert await peer.receive(7) == b"welcome"


async def test_what_follows_the_handshake_in_the_same_bytes_is_kept(
    tls: TlsContexts,
) -> None:
    async with two_channels() as (near, far):

        async def talk_at_once() -> None:
            await near.start_tls(tls.client, server_hostname=SERVER_NAME)
            near.write(b"no ")
            near.write(b"waiting")
            near.end_writing()

        async with asyncio.TaskGroup() as group:
            group.create_task(talk_at_once())
            await far.start_tls(tls.server, server_side=True)
            assert await read_all(far) == b"no waiting"


async def test_bytes_injected_before_the_handshake_break_it(tls: TlsContexts) -> None:
    async with channel_and_peer() as (server, peer):
        await peer.send(b"Q\0\0\0\x0dselect 1\0")
        with pytest.raises(ssl.SSLError):
            await server.start_tls(tls.server, server_side=True)


async def test_a_failed_verification_sends_an_alert(tls: TlsContexts) -> None:
    async with two_channels() as (near, far):

        async def verify() -> None:
            with pytest.raises(ssl.SSLCertVerificationError):
                await near.start_tls(tls.client, server_hostname="elsewhere")

        async def serve_and_read() -> None:
            await far.start_tls(tls.server, server_side=True)
            await far.read()  # in TLS 1.3 the server may be done before it knows

        async def serve() -> None:
            with pytest.raises((ssl.SSLError, ConnectionError)) as caught:
                await serve_and_read()
            errors = (caught.value, caught.value.__cause__)
            assert any("ALERT" in str(error).upper() for error in errors)

        async with asyncio.TaskGroup() as group:
            group.create_task(verify())
            group.create_task(serve())


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_peer_that_leaves_in_the_handshake(tls: TlsContexts, how: str) -> None:
    async with channel_and_peer() as (server, peer):
        await peer.send(b"\x16\x03\x01\x02\0\x01")
        if how == "end":
            peer.end_writing()
        else:
            await asyncio.sleep(0)
            peer.reset()
        with pytest.raises(ConnectionError):
            await server.start_tls(tls.server, server_side=True)


async def test_a_second_connection_is_secured_like_the_first(tls: TlsContexts) -> None:
    # TLS tickets of the first must not get in the way of the second.
    for _ in range(2):
        async with two_channels() as (near, far):
            await secure(near, far, tls)
            near.write(b"x")
            assert await far.read() == b"x"
