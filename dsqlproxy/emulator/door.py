"""The way in: TLS, direct or by SSLRequest, and the startup packet behind it."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dsqlproxy.channel.channel import Channel
from dsqlproxy.emulator.certs import ALPN_PROTOCOL, server_context
from dsqlproxy.emulator.fatals import (
    DATA_BEFORE_TLS,
    TLS_MISSING,
    LoginAbandoned,
    LoginRefused,
    fatal,
)
from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.startup import (
    DIRECT_TLS_FIRST_BYTE,
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    StartupPacket,
    StartupReader,
)

_YES: Final = b"S"
_NO: Final = b"N"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a client asks for, and the cluster it named in the TLS handshake."""

    packet: StartupMessage | CancelRequest
    server_name: str | None


class FrontDoor:
    """Takes connections through TLS; one for all connections of an emulator."""

    def __init__(self, server_file: Path) -> None:
        self._context = server_context(server_file)
        self._context.sni_callback = self._note_server_name
        # OpenSSL tells the name while a handshake runs, which is always within the
        # task of its session; nothing else leads from the one to the other.
        self._names: dict[asyncio.Task[object] | None, str | None] = {}

    async def receive(self, channel: Channel) -> Arrival:
        """Bring a connection under TLS and read its startup packet.

        Raises `LoginRefused` or `LoginAbandoned`.
        """
        first = await channel.read()
        channel.unread(first)
        if first[:1] == bytes((DIRECT_TLS_FIRST_BYTE,)):
            server_name = await self._secure(channel)
            if channel.alpn != ALPN_PROTOCOL:
                # As PostgreSQL 17: without ALPN, another protocol's client could be
                # led here (the ALPACA attack).
                raise LoginAbandoned("direct TLS without ALPN")
        else:
            server_name = await self._negotiate(channel)
        reader = StartupReader()
        packet = await _read_packet(channel, reader)
        channel.unread(reader.take_rest())
        if isinstance(packet, SSLRequest | GSSENCRequest):
            raise LoginRefused(fatal("0A000", "unsupported frontend protocol"))
        return Arrival(packet, server_name)

    async def _negotiate(self, channel: Channel) -> str | None:
        """Answer requests in plaintext until one of them is for TLS."""
        gss_asked = False
        while True:
            reader = StartupReader()
            packet = await _read_packet(channel, reader)
            if reader.take_rest() and not isinstance(packet, StartupMessage):
                # Plaintext that someone on the way may have put in front of TLS.
                raise LoginRefused(DATA_BEFORE_TLS)
            match packet:
                case SSLRequest():
                    channel.write(_YES)
                    return await self._secure(channel)
                case GSSENCRequest() if not gss_asked:
                    gss_asked = True
                    channel.write(_NO)
                case StartupMessage():
                    raise LoginRefused(TLS_MISSING)
                case _:
                    # A CancelRequest in plaintext names no cluster: nobody to ask.
                    raise LoginAbandoned("no TLS")

    async def _secure(self, channel: Channel) -> str | None:
        task = asyncio.current_task()
        try:
            await channel.start_tls(self._context, server_side=True)
            return self._names.get(task)
        except ssl.SSLError as error:
            raise LoginAbandoned(f"TLS failed: {error.reason}") from None
        finally:
            self._names.pop(task, None)

    def _note_server_name(
        self, _: ssl.SSLObject, server_name: str | None, __: ssl.SSLContext
    ) -> None:
        self._names[asyncio.current_task()] = server_name


async def _read_packet(channel: Channel, reader: StartupReader) -> StartupPacket:
    packet = None
    while packet is None:
        data = await channel.read()
        if not data:
            raise LoginAbandoned("the client left")
        try:
            packet = reader.feed(data)
        except ProtocolError as error:
            raise LoginRefused(fatal(error.sqlstate, error.message)) from None
    return packet
