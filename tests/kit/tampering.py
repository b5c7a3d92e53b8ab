"""What stands for the proxy where a `Tamper` itself is tested."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dsqlproxy.channel.channel import Channel
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, FrameReader
from dsqlproxy.pgproto.messages import ErrorResponse
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from tests.kit.frames import SYNC, bind, execute, parse, query
from tests.kit.tamper import PlainConnector, Tamper
from tests.kit.virtual_clocks import VirtualClocks

STARTUP = UpstreamStartup(
    "postgres", (("user", "postgres"), ("database", "postgres"))
)  # fmt: skip
SELECT = query("select 'one'")
ASK = parse("select 'one'") + bind() + execute() + SYNC


class StandIn:
    """What stands for the proxy: a connector, and an upstream read frame by frame."""

    def __init__(self, tamper: Tamper) -> None:
        self.virtual = VirtualClocks()
        self.connector = PlainConnector(tamper, self.virtual.clocks)
        self.upstreams: list[Upstream] = []

    async def open(self) -> "Line":
        upstream = await self.connector.open(STARTUP)
        self.upstreams.append(upstream)
        return Line(upstream.channel)


class Line:
    """A channel, and the frames that came."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._frames = FrameReader(max_bytes=1 << 30)
        self._waiting: list[Frame] = []

    async def ask(self, data: bytes) -> list[Frame]:
        self.channel.write(data)
        return await self.until("Z")

    async def until(self, kind: str) -> list[Frame]:
        received: list[Frame] = []
        while not received or chr(received[-1].type) != kind:
            if not self._waiting:
                data = await self.channel.read()
                if not data:
                    raise EOFError(letters(received))
                self._waiting += self._frames.feed(data)
                continue
            received.append(self._waiting.pop(0))
        return received

    async def rest(self) -> bytes:
        """Give what comes until the end in order."""
        rest = b""
        while data := await self.channel.read():
            rest += data
        return rest


def letters(frames: list[Frame]) -> str:
    return "".join(chr(kind) for kind, _ in frames)


def error(frames: list[Frame]) -> ErrorResponse:
    (body,) = (body for kind, body in frames if kind == BackendType.ERROR_RESPONSE)
    return ErrorResponse.decode(body)


@asynccontextmanager
async def tampering(
    postgres: EmbeddedPostgres | Path, *, session_limit: float | None = None
) -> AsyncIterator[tuple[Tamper, StandIn]]:
    async with (
        asyncio.timeout(10),
        Tamper(postgres, session_limit=session_limit) as tamper,
    ):
        proxy = StandIn(tamper)
        try:
            yield tamper, proxy
        finally:
            for upstream in proxy.upstreams:
                upstream.channel.abort()
                await upstream.channel.wait_closed()


async def nothing_comes(task: "asyncio.Task[object]", tamper: Tamper) -> None:
    """Let the loop turn; what is held back does not come."""
    seen = len(tamper.seen)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not task.done()
    assert len(tamper.seen) == seen


async def read_up_to(channel: Channel, end: bytes) -> None:
    received = b""
    while not received.endswith(end):
        received += await channel.read()


def longer(body: bytes) -> bytes:
    return body.replace(b"\3one", b"\4four")
