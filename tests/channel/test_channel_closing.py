"""The ways in which a channel is closed by its holder."""

import asyncio

import pytest

from tests.kit.channels import (
    SECONDS,
    Listening,
    TlsContexts,
    channel_and_peer,
    read_all,
    two_channels,
)
from tests.kit.scripted import EndOfStream

pytestmark = pytest.mark.both_loops


# -- closing ---------------------------------------------------------------------------


async def test_close_sends_what_is_buffered_and_then_ends(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with channel_and_peer(perhaps_tls, buffer_bytes=4_096) as (channel, peer):
        data = bytes(1 << 20)
        channel.write(data)
        channel.close()
        channel.close()
        channel.write(b"too late")
        assert channel.is_closing
        assert await peer.receive_rest() == data
        await channel.wait_closed()
        await channel.wait_closed()


async def test_close_says_goodbye_in_tls(tls: TlsContexts) -> None:
    async with two_channels(tls) as (near, far):
        near.close()
        assert await far.read() == b""
        assert far._tls is not None
        assert far._tls.is_ended


async def test_abort_ends_at_once_and_drops_what_is_buffered() -> None:
    async with channel_and_peer(buffer_bytes=4_096) as (channel, peer):
        channel.write(bytes(1 << 20))
        channel.abort()
        channel.abort()
        await channel.wait_closed()
        assert len(await peer.receive_rest()) < 1 << 20


async def test_close_within_returns_when_the_peer_took_all(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with channel_and_peer(perhaps_tls) as (channel, peer):
        channel.write(b"bye")
        async with asyncio.timeout(SECONDS):
            await channel.close_within(SECONDS * 10)
        assert await peer.receive_rest() == b"bye"


async def test_close_within_does_not_wait_longer_for_a_peer_that_does_not_read(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with channel_and_peer(perhaps_tls, buffer_bytes=4_096) as (channel, _peer):
        channel.write(bytes(1 << 20))
        async with asyncio.timeout(SECONDS):
            await channel.close_within(0.02)
        assert channel.is_lost


async def test_close_within_that_is_cancelled_aborts() -> None:
    async with channel_and_peer(buffer_bytes=4_096) as (channel, _peer):
        channel.write(bytes(1 << 20))
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(channel.close_within(60))
            await asyncio.sleep(0)
            closing.cancel()
        await channel.wait_closed()
        assert channel.is_lost


async def test_end_writing_keeps_reading(perhaps_tls: TlsContexts | None) -> None:
    async with two_channels(perhaps_tls) as (near, far):
        near.write(b"question")
        near.end_writing()
        near.end_writing()
        near.write(b"too late")
        assert await read_all(far) == b"question"
        far.write(b"answer")
        assert await near.read() == b"answer"
        near.close()  # nothing is said twice: a write after the end would raise
        await near.wait_closed()


# A socket that is closed with unread bytes in it sends a reset, which can overtake
# the last words; so the peer's bytes are read on, whatever they are.
async def test_linger_lets_last_words_through_to_a_peer_that_is_sending(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with channel_and_peer(perhaps_tls) as (channel, peer):
        channel.write(b"last words")
        async with asyncio.TaskGroup() as group:
            lingering = group.create_task(channel.linger(SECONDS))
            for _ in range(20):
                await peer.send(bytes(50_000))
            assert await peer.receive_rest() == b"last words"
            assert not lingering.done()
            peer.end_writing()
        assert channel.is_lost


async def test_linger_drops_what_was_not_read() -> None:
    async with channel_and_peer() as (channel, peer):
        sink = Listening()
        channel.unread(b"not read")
        await peer.send(b"nor this")
        peer.end_writing()
        await channel.linger(SECONDS)
        channel.attach(sink)
        assert sink.events == ["lost"]


async def test_linger_gives_up_on_a_peer_that_stays() -> None:
    async with channel_and_peer() as (channel, peer):
        channel.write(b"last words")
        async with asyncio.timeout(SECONDS):
            await channel.linger(0.01)
        assert channel.is_lost
        assert await peer.receive_rest() == b"last words"


async def test_linger_gives_up_on_a_peer_that_does_not_read() -> None:
    async with channel_and_peer(buffer_bytes=4_096) as (channel, _peer):
        channel.write(bytes(1 << 20))
        async with asyncio.timeout(SECONDS):
            await channel.linger(0.01)
        assert channel.is_lost


async def test_linger_after_a_loss_is_over_at_once() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.reset()
        with pytest.raises(ConnectionError):
            await channel.read()
        async with asyncio.timeout(SECONDS):
            await channel.linger(SECONDS * 10)


async def test_who_discards_hears_nothing_more() -> None:
    async with channel_and_peer(buffer_bytes=4_096) as (channel, peer):
        sink = Listening()
        channel.attach(sink)
        channel.write(bytes(1 << 20))
        assert sink.events == ["paused"]
        async with asyncio.TaskGroup() as group:
            lingering = group.create_task(channel.linger(SECONDS))
            await asyncio.sleep(0)  # until it lingers
            await peer.send(b"unheard")
            with pytest.raises(EndOfStream):
                await peer.receive(1 << 21)
            peer.end_writing()
            await lingering
        assert sink.events == ["paused"]
