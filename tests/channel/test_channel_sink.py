"""A channel that feeds a sink, and what else it tells without being asked."""

import asyncio
import ssl

import pytest

from dsqlproxy.channel.sink import Discard
from tests.kit.channels import (
    SECONDS,
    Listening,
    TlsContexts,
    channel_and_peer,
    read_all,
)

pytestmark = pytest.mark.both_loops


# -- pressure --------------------------------------------------------------------------


async def test_drain_waits_for_a_peer_that_does_not_read(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with channel_and_peer(perhaps_tls, buffer_bytes=4_096) as (channel, peer):
        await channel.drain()
        data = bytes(1 << 20)
        channel.write(data)
        assert channel.is_writing_paused
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(channel.drain())
            await asyncio.sleep(0)
            assert not draining.done()
            assert await peer.receive(len(data)) == data
        assert not channel.is_writing_paused


async def test_drain_ends_when_the_peer_is_gone() -> None:
    async with channel_and_peer(buffer_bytes=4_096) as (channel, peer):
        channel.write(bytes(1 << 20))
        async with asyncio.TaskGroup() as group:
            group.create_task(channel.drain())
            await asyncio.sleep(0)
            peer.reset()


async def test_a_paused_channel_leaves_bytes_unread() -> None:
    async with channel_and_peer() as (channel, peer):
        sink = Listening()
        channel.attach(sink)
        channel.pause_reading()
        channel.pause_reading()
        await peer.send(b"unheard")
        for _ in range(20):
            await asyncio.sleep(0)
        assert sink.events == []
        channel.resume_reading()
        channel.resume_reading()
        async with asyncio.timeout(SECONDS):
            await sink.received_event.wait()
        assert sink.data == b"unheard"


# -- attach ----------------------------------------------------------------------------


async def test_an_attached_sink_gets_what_was_not_read(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with channel_and_peer(perhaps_tls) as (channel, peer):
        await peer.send(b"one")
        await channel.read()
        channel.unread(b"two")
        channel.unread(b"one ")
        sink = Listening()
        channel.attach(sink)
        assert sink.data == b"one two"
        await peer.send(b" three")
        peer.end_writing()
        async with asyncio.timeout(SECONDS):
            await sink.ended_event.wait()
        assert sink.data == b"one two three"
        assert sink.events == ["received", "ended"]


async def test_an_attached_sink_learns_of_an_end_already_seen() -> None:
    async with channel_and_peer() as (channel, peer):
        await peer.send(b"all")
        peer.end_writing()
        channel.unread(await read_all(channel))
        sink = Listening()
        channel.attach(sink)
        assert sink.events == ["received", "ended"]


async def test_an_attached_sink_learns_of_a_loss_already_seen() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.reset()
        with pytest.raises(ConnectionError):
            await channel.read()
        sink = Listening()
        channel.attach(sink)
        assert sink.events == ["lost"]
        assert isinstance(sink.error, ConnectionError)


# Were it not told, nobody would hold back what flows towards a client that read its
# greeting late: the loop tells of a full buffer once.
async def test_an_attached_sink_learns_of_a_peer_that_already_does_not_read() -> None:
    async with channel_and_peer(buffer_bytes=4_096) as (channel, peer):
        channel.write(bytes(1 << 20))
        sink = Listening()
        channel.attach(sink)
        assert sink.events == ["paused"]
        assert len(await peer.receive(1 << 20)) == 1 << 20
        async with asyncio.timeout(SECONDS):
            await sink.resumed_event.wait()
        assert sink.events == ["paused", "resumed"]


async def test_a_sink_is_asked_to_pause_and_to_go_on(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with channel_and_peer(perhaps_tls, buffer_bytes=4_096) as (channel, peer):
        sink = Listening()
        channel.attach(sink)
        channel.write(bytes(1 << 20))
        assert sink.events == ["paused"]
        await peer.receive(1 << 20)
        async with asyncio.timeout(SECONDS):
            await sink.resumed_event.wait()
        peer.end_writing()
        async with asyncio.timeout(SECONDS):
            await sink.ended_event.wait()
        channel.abort()
        await sink.lost_event.wait()
        assert sink.events == ["paused", "resumed", "ended", "lost"]
        assert sink.error is None


async def test_a_sink_learns_of_a_reset() -> None:
    async with channel_and_peer() as (channel, peer):
        sink = Listening()
        channel.attach(sink)
        peer.reset()
        async with asyncio.timeout(SECONDS):
            await sink.lost_event.wait()
        assert isinstance(sink.error, ConnectionError)
        assert channel.is_lost


async def test_broken_ciphertext_of_a_peer_that_does_not_read(tls: TlsContexts) -> None:
    async with channel_and_peer(tls, buffer_bytes=4_096) as (channel, peer):
        sink = Listening()
        channel.attach(sink)
        channel.write(bytes(1 << 20))
        await peer.send_raw(b"\x17\x03\x03\0\x20" + bytes(32))
        async with asyncio.timeout(SECONDS):
            await sink.lost_event.wait()
        assert isinstance(sink.error, ssl.SSLError)


# -- when_ended ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_callback_when_the_peer_ended(how: str) -> None:
    async with channel_and_peer() as (channel, peer):
        told = asyncio.Event()
        channel.when_ended(told.set)
        await peer.send(b"bytes are no end")
        assert await channel.read()
        assert not told.is_set()
        if how == "end":
            peer.end_writing()
        else:
            peer.reset()
        async with asyncio.timeout(SECONDS):
            await told.wait()


async def test_a_callback_is_told_at_once_of_what_was() -> None:
    async with channel_and_peer() as (channel, peer):
        peer.end_writing()
        await channel.read()
        told: list[str] = []
        channel.when_ended(lambda: told.append("ended"))
        assert told == ["ended"]
        channel.abort()
        await channel.wait_closed()
        assert told == ["ended"]  # and once only


async def test_a_callback_taken_back_is_not_told() -> None:
    async with channel_and_peer() as (channel, peer):
        told: list[str] = []
        channel.when_ended(lambda: told.append("ended"))
        channel.when_ended(None)
        peer.end_writing()
        assert await channel.read() == b""
        assert not told


async def test_a_peer_that_goes_on_sending_makes_no_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dsqlproxy.channel.sink.PAUSE_SECONDS", 0.0)
    discard, ended = Discard(), asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(discard.wait_for_pause(ended))
        for _ in range(100):
            discard.received(b"more")
            await asyncio.sleep(0)
        assert not waiting.done()


async def test_the_end_of_the_peer_is_a_pause() -> None:
    discard, ended = Discard(), asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(discard.wait_for_pause(ended))
        await asyncio.sleep(0)
        ended.set()
        await waiting
