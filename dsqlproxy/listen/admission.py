"""The shell around `ClientHandshake`: from an accepted connection to its request."""

import ssl
from dataclasses import dataclass

from dsqlproxy.channel.channel import Channel
from dsqlproxy.listen.handshake import (
    Cancel,
    ClientHandshake,
    Leave,
    NeedTls,
    Ready,
    Reply,
)
from dsqlproxy.pgproto.messages import NegotiateProtocolVersion
from dsqlproxy.pgproto.startup import PROTOCOL_3_2, CancelRequest, StartupMessage
from dsqlproxy.situations import startup as situations


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the client asked for; ``negotiation`` is sent before anything else."""

    startup: StartupMessage
    negotiation: NegotiateProtocolVersion | None

    @property
    def key_bytes(self) -> int:
        """How long its cancel key is: PostgreSQL 18 gives 32 bytes from 3.2 on."""
        return 32 if self.startup.version >= PROTOCOL_3_2 else 4


@dataclass(frozen=True, slots=True)
class Departed:
    """No startup packet came; ``reason`` is for the log."""

    reason: str
    hint: str = ""


async def admit(
    channel: Channel, *, tls: ssl.SSLContext | None
) -> Admitted | CancelRequest | Departed:
    """Talk with a client until it has said what it wants.

    ``tls`` is None where the listener does not offer TLS. The channel stays the
    caller's to close. Raises `ProtocolError` for what breaks the protocol; a client
    that leaves, or whose TLS fails, is `Departed`.
    """
    handshake = ClientHandshake(offers_tls=tls is not None)
    while data := await _read(channel):
        for step in handshake.receive(data):
            match step:
                case Reply(answer):
                    channel.write(answer)
                case NeedTls(received):
                    if failure := await _begin_tls(channel, received, tls):
                        return failure
                    handshake.tls_started(alpn=channel.alpn)
                case Cancel(request):
                    return request
                case Leave(reason, hint):
                    return Departed(reason, hint)
                case Ready(startup, negotiation):
                    channel.unread(handshake.take_rest())
                    return Admitted(startup, negotiation)
    return _departed(handshake)


def _departed(handshake: ClientHandshake) -> Departed:
    """Say why a client has left, as far as can be known."""
    if handshake.declined_tls:
        return Departed(*situations.tls_wanted())
    if handshake.has_begun:
        return Departed("the client left before its startup packet")
    return Departed("probe")


async def _read(channel: Channel) -> bytes:
    """Read; a reset is an end like any other before the session."""
    try:
        return await channel.read()
    except ConnectionError:
        return b""


async def _begin_tls(
    channel: Channel, received: bytes, tls: ssl.SSLContext | None
) -> Departed | None:
    if tls is None:
        raise AssertionError("no TLS context because the handshake did not ask for one")
    channel.unread(received)
    try:
        await channel.start_tls(tls, server_side=True)
    except ssl.SSLError as error:
        return Departed(*situations.tls_failed(error.reason or "unknown reason"))
    except ConnectionError:
        return Departed("the client left during the TLS handshake")
    return None
