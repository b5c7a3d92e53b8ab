"""The bytes of a session after its login: two pumps, and how they come to an end.

The pumps pass bytes; this is what they share, and what a session asks and tells.
How a session ends is decided here, by the moves of `relay_state.py`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from dsqlproxy.channel.channel import Channel
from dsqlproxy.pgproto.messages import TERMINATE
from dsqlproxy.session.pumps import ClientPump, UpstreamPump
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import RelayState, move
from dsqlproxy.session.tracker import Tracker


@dataclass(frozen=True, slots=True)
class RelayEnding:
    """How it ended; ``error`` is what the channel said, where it said anything."""

    reason: CloseReason
    error: Exception | None = None


class Relay:
    """The two pumps of one session. Closes neither channel; the session does."""

    def __init__(self, *, client: Channel, upstream: Channel) -> None:
        self.client = client
        self.upstream = upstream
        self.tracker = Tracker()
        self.state = RelayState.RUNNING
        self.ended: asyncio.Future[RelayEnding] = (
            asyncio.get_running_loop().create_future()
        )
        self.closed = asyncio.Event()
        """Set when nothing passes any more; later than `ended` after LEAVING."""
        self.is_watched = False
        """Whether someone waits for a quiet moment; kept cheap for the pumps."""
        self._on_quiet: Callable[[], None] | None = None
        self._reason = CloseReason.CLIENT_CLOSED
        self._last_words = b""
        self._spoken = asyncio.Event()
        self._client_pump = ClientPump(self)
        self._upstream_pump = UpstreamPump(self)

    def start(self) -> None:
        """Begin: what was received and not read yet goes first."""
        self.upstream.attach(self._upstream_pump)
        self.client.attach(self._client_pump)

    # -- what the session asks -------------------------------------------------------

    @property
    def bytes_in(self) -> int:
        """Bytes that came from the client."""
        return self._client_pump.bytes_passed

    @property
    def bytes_out(self) -> int:
        """Bytes that went to the client."""
        return self._upstream_pump.bytes_passed

    @property
    def not_understood(self) -> str:
        """Why the session cannot be followed any more; empty while it can."""
        return (
            self._client_pump.not_understood
            or self._upstream_pump.scanner.lost
            or self.tracker.desynced  # where the others are the cause, last
        )

    @property
    def client_fault(self) -> str:
        """What the client sent that is not the protocol; empty if nothing."""
        return self._client_pump.not_understood

    @property
    def at_swap_point(self) -> bool:
        """Whether nothing is under way: by the tracker, and in both streams."""
        return (
            self.tracker.is_quiet
            and self._client_pump.at_boundary
            and self._upstream_pump.scanner.at_boundary
            and not self._client_pump.not_understood
        )

    def when_quiet(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called at the next moment with nothing under way."""
        if self.at_swap_point:
            callback()
        else:
            self._on_quiet = callback
            self.is_watched = True

    def stop(self) -> None:
        """End the session from our side."""
        self.close(CloseReason.SHUTTING_DOWN)

    def terminate_upstream(self) -> None:
        """Send Terminate, unless it would be read as part of an unfinished frame."""
        if self._client_pump.at_boundary and not self.tracker.client_terminated:
            self.upstream.write(TERMINATE)

    def to_client(self, data: bytes) -> None:
        """Send a message of ours; only where the client's stream is at a boundary."""
        self.client.write(data)

    def say_last(self, words: bytes) -> None:
        """Send last words, in a relay that is closed.

        Where the client is in the middle of a frame they follow its rest, once the
        upstream has sent it; see `wait_spoken`. A stream that is not understood,
        or whose upstream is gone within a frame, gets none.
        """
        scanner = self._upstream_pump.scanner
        if scanner.lost:
            return
        if scanner.at_boundary:
            self.client.write(words)
        elif not self.upstream.is_closing and not self.upstream.has_ended:
            self._last_words = words

    def finish_frame(self, data: bytes) -> None:
        """After the end: pass on the rest of a frame, and the last words after it.

        The rest may come before the words are known: it must not be missing then.
        """
        scanner = self._upstream_pump.scanner
        part = data[: scanner.rest_bytes]
        scanner.scan(part)
        self.client.write(part)
        if self._last_words and scanner.at_boundary:
            self.client.write(self._last_words)
            self._last_words = b""
            self._spoken.set()

    async def wait_spoken(self) -> None:
        """Wait until the last words are on their way."""
        if self._last_words:
            await self._spoken.wait()

    # -- moves -----------------------------------------------------------------------

    def _move(self, to: RelayState) -> None:
        self.state = move(self.state, to)
        self._client_pump.stop()
        if to is RelayState.CLOSED:
            self._upstream_pump.stop()
            self.closed.set()

    def look(self) -> None:
        """See whether what someone waits for has come."""
        if self.state is RelayState.FINISHING:
            self._finish_when_answered()
        elif self._on_quiet is not None and self.at_swap_point:
            callback, self._on_quiet = self._on_quiet, None
            self.is_watched = False
            callback()

    def finish(self, reason: CloseReason) -> None:
        """Let what the client asked be answered, then leave."""
        self._move(RelayState.FINISHING)
        self._reason = reason
        self.is_watched = True
        self._finish_when_answered()

    def _finish_when_answered(self) -> None:
        if not self.tracker.awaits_ready:
            self._leave(self._reason)

    def client_lost(self, error: Exception | None) -> None:
        """Leave: the client is gone, nobody is there to be answered."""
        if self.state not in {RelayState.LEAVING, RelayState.CLOSED}:
            self.upstream.resume_reading()
            self._leave(CloseReason.CLIENT_LOST, error)

    def _leave(self, reason: CloseReason, error: Exception | None = None) -> None:
        """End with Terminate; within a message, where none can be sent, at once."""
        if not self._client_pump.at_boundary:
            self.close(reason, error)
            return
        self.terminate_upstream()
        self._move(RelayState.LEAVING)
        self._end(reason, error)

    def upstream_lost(self, error: Exception | None) -> None:
        """Close: nothing more comes from the upstream."""
        if self.state in {RelayState.RUNNING, RelayState.FINISHING}:
            said_why = self.tracker.upstream_failed
            self._reason = (
                CloseReason.UPSTREAM_ENDED if said_why else CloseReason.UPSTREAM_LOST
            )
        self._spoken.set()  # no rest of a frame comes any more
        self.close(self._reason, error)

    def close(self, reason: CloseReason, error: Exception | None = None) -> None:
        """Let nothing pass any more; the first reason given counts."""
        if self.state is not RelayState.CLOSED:
            self._move(RelayState.CLOSED)
            self._end(reason, error)

    def _end(self, reason: CloseReason, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(RelayEnding(reason, error))
