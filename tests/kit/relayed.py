"""A relay with a scripted client on one side and a scripted cluster on the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from dsqlproxy.session.relay import Relay, RelayEnding
from tests.kit.channels import ScriptedPeer, TlsContexts, channel_and_peer

_SECONDS = 10.0
"""More than any conversation with a relay takes."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """A relay that runs, and the two peers that talk through it."""

    relay: Relay
    client: ScriptedPeer
    server: ScriptedPeer

    async def ask(self, frames: bytes, answer: bytes = b"") -> None:
        """Let bytes cross to the server, and its answer back."""
        await self.client.send(frames)
        assert await self.server.receive(len(frames)) == frames
        if answer:
            await self.answer(answer)

    async def answer(self, frames: bytes) -> None:
        """Let bytes of the server cross to the client."""
        await self.server.send(frames)
        assert await self.client.receive(len(frames)) == frames

    async def ending(self) -> RelayEnding:
        """Wait for the end."""
        return await self.relay.ended


async def turns(count: int = 20) -> None:
    """Let the loop do what it has to do; for what must not happen."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def relayed(
    tls: TlsContexts | None = None, *, buffer_bytes: int = 0, start: bool = True
) -> AsyncIterator[Relayed]:
    """Run a relay; under TLS both of its channels are."""
    async with (
        asyncio.timeout(_SECONDS),
        channel_and_peer(tls, buffer_bytes=buffer_bytes) as (client, client_peer),
        channel_and_peer(tls, buffer_bytes=buffer_bytes) as (upstream, server_peer),
    ):
        relay = Relay(client=client, upstream=upstream)
        if start:
            relay.start()
        yield Relayed(relay, client_peer, server_peer)
        relay.ended.cancel()
