"""A relay with a scripted client on one side and a scripted cluster on the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.pgproto.messages import ParameterStatus
from dsqlproxy.session.relay import Relay, RelayEnding
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.state import SessionMemory
from dsqlproxy.session.statements import Budget
from tests.kit.channels import ScriptedPeer, TlsContexts, channel_and_peer, until
from tests.kit.frames import server

FATAL = server("F")
"""The last word of an upstream."""
TOLD = ParameterStatus("server_version", "16.16").encode()
"""What a client is told of a new upstream."""

_SECONDS = 10.0
"""More than any conversation with a relay takes."""


@dataclass
class ScriptedKeeper:
    """A keeper that writes down what its relay tells it."""

    replaces: bool = True
    """What it says when the upstream is lost."""
    on_first_message: Callable[[], None] = lambda: None
    told: list[str] = field(default_factory=list)

    def upstream_lost(self) -> bool:
        self.told.append("lost")
        return self.replaces

    def first_message(self) -> None:
        self.told.append("first message")
        self.on_first_message()

    def client_waits(self) -> None:
        self.told.append("client waits")

    def statement_refused(self, error: DsqlProxyError) -> None:
        self.told.append(f"refused: {error.sqlstate}")


@dataclass(frozen=True, slots=True)
class Relayed:
    """A relay that runs, and the two peers that talk through it."""

    relay: Relay
    client: ScriptedPeer
    server: ScriptedPeer
    keeper: ScriptedKeeper

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

    # -- a client that is held -------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """How much of what the client said is kept."""
        return len(self.relay._client_pump._hold)

    async def kept(self, frames: bytes) -> None:
        """Let the client say something that is kept."""
        before = self.held_bytes
        await self.client.send(frames)
        await until(lambda: self.held_bytes >= before + len(frames))

    async def hears(self, frames: bytes) -> None:
        """See the server hear exactly this, and nothing more."""
        assert await self.server.receive(len(frames)) == frames
        await self.hears_nothing()

    async def hears_nothing(self) -> None:
        """See the server hear nothing more."""
        passed = self.relay.bytes_in
        await turns()
        assert self.relay.bytes_in == passed

    async def lost(self) -> None:
        """Wait until the upstream is lost, of which the client has not heard."""
        await until(lambda: self.relay.is_upstream_lost)
        assert self.relay.state is RelayState.PAUSED
        assert not self.relay.ended.done()


async def turns(count: int = 20) -> None:
    """Let the loop do what it has to do; for what must not happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def new_memory(reported: Iterable[ParameterStatus] = ()) -> SessionMemory:
    """Give the memory of a session that has said nothing yet."""
    return SessionMemory((), reported, budget=Budget(), private_name="private")


@contextlib.asynccontextmanager
async def relayed(
    tls: TlsContexts | None = None,
    *,
    buffer_bytes: int = 0,
    start: bool = True,
    is_kept: bool = False,
    reported: Iterable[ParameterStatus] = (),
) -> AsyncIterator[Relayed]:
    """Run a relay; under TLS both of its channels are.

    ``is_kept`` says whether it has a keeper, which tells that a lost upstream is
    going to be replaced, and leaves that to the test; ``reported`` is what its first
    upstream greeted with.
    """
    async with (
        asyncio.timeout(_SECONDS),
        channel_and_peer(tls, buffer_bytes=buffer_bytes) as (client, client_peer),
        channel_and_peer(tls, buffer_bytes=buffer_bytes) as (upstream, server_peer),
    ):
        relay = Relay(client=client, upstream=upstream, memory=new_memory(reported))
        keeper = ScriptedKeeper()
        if is_kept:
            relay.keeper = keeper
        if start:
            relay.start()
        yield Relayed(relay, client_peer, server_peer, keeper)
        relay.ended.cancel()
