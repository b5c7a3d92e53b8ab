"""One connection to a cluster, in conversation."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from dsqlproxy.channel.channel import Channel
from dsqlproxy.clocks import Clocks, Reading
from dsqlproxy.errors import ConnectionLost, Peer, ProtocolError
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, FrameReader
from dsqlproxy.pgproto.messages import TERMINATE, BackendKeyData
from dsqlproxy.probe.reply import Ending, Reply, said
from dsqlproxy.probe.requests import query
from dsqlproxy.upstream.resolve import Address

MAX_FRAME_BYTES: Final = 1 << 20
"""No answer to a question comes near this; a row of SHOW ALL has some hundred."""

MAX_FRAMES: Final = 20_000
"""In one reply; the largest expected one, 1000 queries in one go, has 5,000."""

SCHEMA_CHANGED: Final = "40001"

_GOODBYE_SECONDS: Final = 1.0


class Line:
    """Sends requests and collects replies; whoever made it calls `close`."""

    def __init__(
        self, channel: Channel, *, address: Address, opened_at: Reading, clocks: Clocks
    ) -> None:
        self.channel = channel
        self.address = address
        self.opened_at = opened_at
        """When its TCP connect began."""
        self.greeting: tuple[Frame, ...] = ()
        """All that the cluster said until it was ready."""
        self._clocks = clocks
        self._reader = FrameReader(max_bytes=MAX_FRAME_BYTES)

    @property
    def key(self) -> BackendKeyData | None:
        """What a cancel request must carry, if the cluster told it."""
        for one in self.greeting:
            if one.type == BackendType.BACKEND_KEY_DATA:
                return BackendKeyData.decode(one.body)
        return None

    @property
    def age_seconds(self) -> float:
        """How long the cluster may have counted."""
        return self._clocks.read().seconds_since(self.opened_at)

    def send(self, *requests: bytes) -> None:
        """Send, and do not wait for anything."""
        self.channel.write(b"".join(requests))

    async def collect(self, frames: list[Frame]) -> Ending | None:
        """Add the next frame, or tell how the connection ended instead."""
        if len(frames) >= MAX_FRAMES:
            raise ProtocolError("the cluster answers without end")
        one = self._reader.next_frame()
        while one is None:
            try:
                data = await self.channel.read()
            except ConnectionError as error:
                is_reset = isinstance(error.__cause__, ConnectionResetError)
                return Ending.RESET if is_reset else Ending.BROKEN
            if not data:
                tls = self.channel.tls
                return Ending.GOODBYE if tls and tls.is_ended else Ending.CLOSED
            one = self._reader.next_frame(data)
        frames.append(one)
        return None

    async def hear(
        self,
        *,
        seconds: float | None = None,
        units: int | None = 1,
        is_last: Callable[[Frame], bool] | None = None,
    ) -> Reply:
        """Collect frames until so many ReadyForQuery, the end, or time is up.

        ``units`` None: until the end. ``is_last`` tells another frame that the reply
        ends with. What came is the reply, also when it is not whole.
        """
        began = self._clocks.monotonic()
        frames: list[Frame] = []
        ending = None
        is_whole = False
        ready = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not is_whole and ending is None:
                    ending = await self.collect(frames)
                    if ending is None:
                        ready += frames[-1].type == BackendType.READY_FOR_QUERY
                        is_whole = ready == units or bool(
                            is_last and is_last(frames[-1])
                        )
        took = self._clocks.monotonic() - began
        return Reply(tuple(frames), took, ending, is_whole)

    async def ask(self, *requests: bytes, units: int = 1) -> Reply:
        """Send, and give the reply; `ConnectionLost` where it does not come whole.

        Where nothing was done because of a change to the schema elsewhere (OC001 of
        Aurora DSQL), it is asked once more: the second time goes well.
        """
        self.send(*requests)
        reply = await self.hear(units=units)
        if reply.types == "E Z" and reply.sqlstate == SCHEMA_CHANGED:
            self.send(*requests)
            reply = await self.hear(units=units)
        if not reply.is_whole:
            word = f"after {said(reply.error)}" if reply.error else "without a word"
            raise ConnectionLost(
                f"the connection was {reply.ending}, {word}", peer=Peer.UPSTREAM
            )
        return reply

    async def run(self, sql: str) -> Reply:
        """Run a simple query."""
        return await self.ask(query(sql))

    async def close(self) -> None:
        """Say goodbye and close; does not wait long for the other side."""
        self.channel.write(TERMINATE)
        await self.channel.close_within(_GOODBYE_SECONDS)
