"""A connection to the cluster under TLS, on which nobody has logged in yet.

TLS begins in one of two ways. A peer that refuses the first, or does not answer it, is
dialled anew for the second.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dsqlproxy.aws.tokens import Token
from dsqlproxy.channel.channel import Channel
from dsqlproxy.clocks import Clocks, Reading
from dsqlproxy.situations import network
from dsqlproxy.situations.network import Phase
from dsqlproxy.upstream.encryption import Way, WayRefused, start_tls
from dsqlproxy.upstream.resolve import Address, dial


@dataclass(slots=True)
class Attempt:
    """One way to the cluster, as far as it has come; a watcher hears of each phase.

    Where a peer refuses one way to begin TLS, CONNECT and SECURE come again.
    """

    on_phase: Callable[["Attempt"], None] | None = None
    phase: Phase = Phase.RESOLVE
    addresses: Sequence[Address] = ()
    """What may be dialled; then the one that answered."""
    refusals: list[str] = field(default_factory=list)
    """How a peer refused to begin TLS, in one way or both."""
    way: Way | None = None
    channel: Channel | None = None
    """Under TLS, from the phase SIGN on."""
    token: Token | None = None
    """What is sent as the password, from the phase LOG_IN on."""

    def enter(self, phase: Phase) -> None:
        """Go on with the next phase."""
        self.phase = phase
        if self.on_phase is not None:
            self.on_phase(self)


class Secured(NamedTuple):
    """A connection under TLS. Who gets it closes ``channel``."""

    channel: Channel
    address: Address
    opened_at: Reading
    """When its TCP connect began."""
    way: Way


async def secure(
    attempt: Attempt,
    ways: Sequence[Way],
    *,
    name: str,
    context: ssl.SSLContext,
    server_name: str,
    clocks: Clocks,
    seconds: float | None = None,
) -> Secured:
    """Dial one of the attempt's addresses and begin TLS, in the first way that works.

    ``name`` is the target's in errors; ``seconds``, for each way, is how long a peer
    may be silent in it. Raises `UpstreamUnavailable`; one that the handshake raises
    leaves no other way to try.
    """
    for way in ways:
        attempt.enter(Phase.CONNECT)
        opened_at = clocks.read()
        connected, address = await dial(attempt.addresses, name=name)
        channel = await channel_of(connected, name=name)
        attempt.addresses = (address,)
        attempt.enter(Phase.SECURE)
        try:
            await _start_tls(channel, way, context, server_name, seconds)
        except WayRefused as refusal:
            channel.abort()
            attempt.refusals.append(refusal.reason)
        except BaseException:
            channel.abort()
            raise
        else:
            attempt.way, attempt.channel = way, channel
            return Secured(channel, address, opened_at, way)
    raise network.no_tls(name, attempt.refusals)


async def _start_tls(
    channel: Channel,
    way: Way,
    context: ssl.SSLContext,
    server_name: str,
    seconds: float | None,
) -> None:
    """Begin TLS; a peer that is silent for too long has refused this way.

    An old server takes a ClientHello for the length of a startup packet and waits for
    the rest of it.
    """
    try:
        async with asyncio.timeout(seconds):
            await start_tls(channel, way, context=context, server_name=server_name)
    except TimeoutError:
        raise WayRefused(way, f"no answer within {seconds:g} s") from None


async def channel_of(connected: socket.socket, *, name: str) -> Channel:
    """Make a channel of a connected socket; it owns the socket from now on."""
    try:
        _, channel = await asyncio.get_running_loop().create_connection(
            Channel, sock=connected
        )
    except BaseException as error:
        connected.close()
        if isinstance(error, OSError):
            # macOS, for one, refuses options of a socket that was reset meanwhile.
            raise network.not_connected(
                name, ["The connection broke at once."]
            ) from None
        raise
    return channel
