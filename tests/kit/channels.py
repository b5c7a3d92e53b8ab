"""Channels with something at their other end, over a real loopback connection."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from dsqlproxy.channel.channel import Channel
from tests.kit.scripted import Conversation

SERVER_NAME = "localhost"

SECONDS = 5.0
"""More than anything on loopback takes; what should not wait is given this long."""


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """Two sides that trust each other; the server is `SERVER_NAME`."""

    server: ssl.SSLContext
    client: ssl.SSLContext


class ScriptedPeer(Conversation):
    """The other end of a channel, on a bare socket: it reads only when told to."""

    def end_writing(self) -> None:
        """Send no more, and go on reading: a half-close of TCP."""
        self._socket.shutdown(socket.SHUT_WR)

    def say_goodbye(self) -> bytes:
        """Give TLS's close_notify; after it nothing can be sent."""
        assert self._tls is not None
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._outgoing.read()

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, under no TLS."""
        await self._loop.sock_sendall(self._socket, data)

    async def send_what_fits(self, data: bytes) -> int:
        """Send until the other side takes no more for a while; say how much it took.

        Taking no more cannot be waited for, so this gives up when the kernel's
        buffers stay full over some turns of the loop.
        """
        sent = 0
        idle_turns = 0
        while idle_turns < 50 and sent < len(data):
            try:
                sent += self._socket.send(data[sent : sent + 65_536])
                idle_turns = 0
            except BlockingIOError:
                idle_turns += 1
            await asyncio.sleep(0)
        return sent


async def loopback(*, buffer_bytes: int = 0) -> tuple[socket.socket, socket.socket]:
    """Give the two ends of a TCP connection, with kernel buffers of a given size."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        near = socket.socket()
        if buffer_bytes:
            for one in (listener, near):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for one in (listener, near):
            one.setblocking(False)
        await loop.sock_connect(near, listener.getsockname())
        far, _ = await loop.sock_accept(listener)
    far.setblocking(False)
    return near, far


async def channel_over(connection: socket.socket) -> Channel:
    """Put a channel on a connected socket, which it then owns."""
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(Channel, sock=connection)
    return channel


@contextlib.asynccontextmanager
async def channel_and_peer(
    tls: TlsContexts | None = None, *, buffer_bytes: int = 0
) -> AsyncIterator[tuple[Channel, ScriptedPeer]]:
    """Give a channel and the script's end of it; under TLS the channel is server."""
    near, far = await loopback(buffer_bytes=buffer_bytes)
    channel = await channel_over(near)
    async with ScriptedPeer(far) as peer:
        try:
            if tls is not None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(
                        peer.start_tls(tls.client, server_hostname=SERVER_NAME)
                    )
                    group.create_task(channel.start_tls(tls.server, server_side=True))
            yield channel, peer
        finally:
            channel.abort()
            await channel.wait_closed()


@contextlib.asynccontextmanager
async def two_channels(
    tls: TlsContexts | None = None, *, buffer_bytes: int = 0
) -> AsyncIterator[tuple[Channel, Channel]]:
    """Give both ends of a connection; under TLS the first is the client."""
    near, far = await loopback(buffer_bytes=buffer_bytes)
    first, second = await channel_over(near), await channel_over(far)
    try:
        if tls is not None:
            await secure(first, second, tls)
        yield first, second
    finally:
        for channel in (first, second):
            channel.abort()
            await channel.wait_closed()


async def secure(client: Channel, server: Channel, tls: TlsContexts) -> None:
    """Put both ends of a connection under TLS."""
    async with asyncio.TaskGroup() as group:
        group.create_task(server.start_tls(tls.server, server_side=True))
        group.create_task(client.start_tls(tls.client, server_hostname=SERVER_NAME))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    while not condition():  # noqa: ASYNC110 - turns of the loop, and no time
        await asyncio.sleep(0)


async def read_exactly(channel: Channel, count: int) -> bytes:
    """Read so many bytes, in whatever portions they come."""
    data = b""
    while len(data) < count:
        more = await channel.read()
        assert more, f"the channel ended after {len(data)} of {count} bytes"
        data += more
    return data


async def read_all(channel: Channel) -> bytes:
    """Read until the peer ends."""
    data = b""
    while more := await channel.read():
        data += more
    return data


class Listening:
    """A sink that writes down what it is told, and can be waited for."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""
        self.error: Exception | None = None
        self.ended_event = asyncio.Event()
        self.lost_event = asyncio.Event()
        self.paused_event = asyncio.Event()
        self.resumed_event = asyncio.Event()
        self.received_event = asyncio.Event()

    def received(self, data: bytes) -> None:
        assert data
        if self.events[-1:] != ["received"]:
            self.events.append("received")
        self.data += data
        self.received_event.set()

    def ended(self) -> None:
        self.events.append("ended")
        self.ended_event.set()

    def lost(self, error: Exception | None) -> None:
        self.events.append("lost")
        self.error = error
        self.lost_event.set()

    def writing_paused(self) -> None:
        self.events.append("paused")
        self.paused_event.set()

    def writing_resumed(self) -> None:
        self.events.append("resumed")
        self.resumed_event.set()
