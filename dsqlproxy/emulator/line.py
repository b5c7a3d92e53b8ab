"""A client's connection to the emulator: a channel that can fail on command."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

from dsqlproxy.channel.channel import Channel
from dsqlproxy.emulator.faults import Faults

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds
_FLUSH_POLL_SECONDS: Final = 0.002
_FLUSH_POLLS: Final = 100


class ClientLine(Channel):
    """Counts the bytes of the session towards the client, and cuts them off.

    The bytes counted are those under TLS: the session's own, from its first.
    """

    def __init__(
        self, faults: Faults, *, on_connected: Callable[[Channel], None] | None = None
    ) -> None:
        super().__init__(on_connected=on_connected)
        self._faults = faults
        self._sent_bytes = 0
        self.is_cut = False
        """Whether nothing more reaches the client: stalled, reset or hung up."""

    def count_from_here(self) -> None:
        """Count the bytes of a new fault from now on."""
        self._sent_bytes = 0

    def write(self, data: bytes) -> None:
        """Send, as far as a fault lets it."""
        if self.is_cut:
            return
        if not self.is_tls:  # also the bytes of the TLS handshake
            super().write(data)
            return
        self._sent_bytes += len(data)
        limit = self._limit()
        if limit is None or self._sent_bytes < limit:
            super().write(data)
            return
        surplus = self._sent_bytes - limit
        super().write(data[: max(0, len(data) - surplus)])
        self.is_cut = True
        if limit == self._faults.reset_after:
            asyncio.get_running_loop().call_soon(self._reset_when_sent, _FLUSH_POLLS)

    async def hang_up(self, seconds: float) -> None:
        """End without a word, not even TLS's close_notify.

        Observed on a cluster: clients report an unexpected EOF of the socket, which
        they would not after close_notify. The client's bytes are read, by whoever is
        attached, until it ends or the time is over: closing a socket with unread
        bytes in it would send a reset instead.
        """
        self.is_cut = True
        self.resume_reading()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write_eof()
        ended = asyncio.Event()
        self.when_ended(ended.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended.wait()
        self.abort()

    def reset(self) -> None:
        """Break the connection: the client gets a TCP RST."""
        self.is_cut = True
        transport = self._transport
        if transport is not None and not transport.is_closing():
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()

    def _limit(self) -> int | None:
        given = (self._faults.reset_after, self._faults.stall_after)
        return min((limit for limit in given if limit is not None), default=None)

    def _reset_when_sent(self, polls: int) -> None:
        # uvloop sends at the end of its turn; a reset at once would take back what
        # the client should still get. A client that does not read is not waited for.
        transport = self._transport
        if polls and transport is not None and transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(
                _FLUSH_POLL_SECONDS, self._reset_when_sent, polls - 1
            )
        else:
            self.reset()
