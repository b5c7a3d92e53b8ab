"""A peer that plays a script: what a real server or client will not do on command.

A script is a coroutine that drives one connection, step by step::

    async def refuses_tls(peer: Conversation) -> None:
        await peer.receive(8)
        await peer.send(b"N")
        await peer.receive_end()

    async with scripted_server(refuses_tls) as server:
        await something_that_connects_to(server.host, server.port)

Leaving the block waits for the scripts to end, so a script's last assertion counts;
write scripts that end when the other side goes. A script that fails ends the test.
`Conversation.dial` is the same for the client's side.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Self

from dsqlproxy.pgproto.framing import HEADER_BYTES, Frame
from dsqlproxy.pgproto.startup import StartupPacket, decode_startup_packet


class EndOfStream(Exception):
    """The other side ended before it sent what the script wanted."""


class Conversation:
    """One connection on a bare socket, plain at first, TLS from `start_tls` on."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.server_name: str | None = None
        """The name that a TLS client asked for (SNI)."""

    @classmethod
    async def dial(cls, host: str, port: int) -> Self:
        """Connect, as a client."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        family, _, _, _, address = found[0]
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, address)
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def alpn(self) -> str | None:
        """The application protocol chosen in the TLS handshake."""
        return self._tls.selected_alpn_protocol() if self._tls else None

    async def receive(self, count: int) -> bytes:
        """Give exactly so many bytes; `EndOfStream` if fewer come."""
        while len(self._received) < count:
            if not await self._receive_some():
                raise EndOfStream(bytes(self._received))
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    async def receive_packet(self) -> StartupPacket:
        """Give a startup packet."""
        length = int.from_bytes(await self.receive(4))
        return decode_startup_packet(await self.receive(length - 4))

    async def receive_frame(self) -> Frame:
        """Give a frame."""
        header = await self.receive(HEADER_BYTES)
        length = int.from_bytes(header[1:]) - 4
        return Frame(header[0], await self.receive(length))

    async def receive_rest(self) -> bytes:
        """Give all until the other side ends, in whatever way."""
        with contextlib.suppress(ConnectionError):
            while await self._receive_some():
                pass
        data = bytes(self._received)
        self._received.clear()
        return data

    async def receive_end(self) -> None:
        """Wait for the other side to end, which must not send anything before."""
        assert await self.receive_rest() == b""

    async def send(self, *parts: bytes) -> None:
        """Send bytes, encrypted under TLS."""
        data = b"".join(parts)
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        await self._loop.sock_sendall(self._socket, data)

    async def start_tls(
        self, context: ssl.SSLContext, *, server_hostname: str | None = None
    ) -> None:
        """Put the connection under TLS; without a host name, as the server.

        What has been received counts, so this is direct TLS if called first.
        """
        if server_hostname is None:
            context.sni_callback = self._note_server_name
        self._incoming.write(self._received)
        self._received.clear()
        tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        is_done = False
        while not is_done:
            try:
                tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            finally:
                await self._loop.sock_sendall(self._socket, self._outgoing.read())
            if not is_done:
                data = await self._loop.sock_recv(self._socket, 65_536)
                if not data:
                    raise EndOfStream(b"in the TLS handshake")
                self._incoming.write(data)
        self._tls = tls

    def close(self) -> None:
        """End the connection in order (without a TLS goodbye, as clusters do)."""
        self._socket.close()

    def reset(self) -> None:
        """End the connection by RST."""
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    def _note_server_name(
        self, _tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext
    ) -> None:
        self.server_name = name

    async def _receive_some(self) -> bool:
        """Receive once; False at the end."""
        while True:
            if self._tls is not None and self._decrypt():
                return True
            data = await self._loop.sock_recv(self._socket, 65_536)
            if not data:
                return False
            if self._tls is None:
                self._received += data
                return True
            self._incoming.write(data)

    def _decrypt(self) -> bool:
        """Decrypt what came; False if that is nothing yet."""
        assert self._tls is not None
        try:
            data = self._tls.read(65_536)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            return False  # a goodbye is followed by the end of the stream
        self._received += data
        return bool(data)


Script = Callable[[Conversation], Awaitable[None]]


@dataclass(slots=True)
class ScriptedServer:
    """Where the scripts are played, and how many connections came."""

    host: str
    port: int
    connections: int = 0


@contextlib.asynccontextmanager
async def scripted_server(
    *scripts: Script, host: str = "127.0.0.1"
) -> AsyncIterator[ScriptedServer]:
    """Play one script per connection, in order; the last one for all that follow."""
    with listen_but_never_accept(host) as listener:
        server = ScriptedServer(*listener.getsockname()[:2])

        async def accept() -> None:
            loop = asyncio.get_running_loop()
            while True:
                connection, _ = await loop.sock_accept(listener)
                script = scripts[min(server.connections, len(scripts) - 1)]
                server.connections += 1
                group.create_task(play(script, connection))

        async def play(script: Script, connection: socket.socket) -> None:
            async with Conversation(connection) as peer:
                await script(peer)

        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(accept())
            try:
                yield server
            finally:
                accepting.cancel()


@contextlib.contextmanager
def listen_but_never_accept(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Give a deaf port: connections are made by the kernel and never served."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        listener.listen()
        listener.setblocking(False)
        yield listener
