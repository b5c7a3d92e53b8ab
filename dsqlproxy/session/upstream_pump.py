"""From the upstream to the client: the sink of the upstream's channel.

Like the other pump, with two exceptions to passing everything on: a FATAL in a
session that is quiet is not shown to the client while the upstream can be replaced,
and the answers to what the proxy itself asked go to who asked (`divert`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import (
    HEADER_BYTES,
    MAX_BACKEND_FRAME_BYTES,
    FrameParts,
    FrameScanner,
)
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, ERROR_FATAL, error_symbol

if TYPE_CHECKING:
    from dsqlproxy.session.relay import Relay


class UpstreamPump:
    """From the upstream to the client."""

    __slots__ = (
        "_divert", "_fatal_at", "_partial", "_relay", "_write",
        "bytes_passed", "scanner",
    )  # fmt: skip

    def __init__(self, relay: "Relay", *, bytes_passed: int = 0) -> None:
        self._relay = relay
        self._write = relay.client.write
        self.scanner = FrameScanner(
            BACKEND_SYMBOLS,
            max_bytes=MAX_BACKEND_FRAME_BYTES,
            asked={**relay.memory.backend, BackendType.ERROR_RESPONSE: self._error},
        )
        self._partial = FrameParts()
        self._divert: Callable[[bytes], None] | None = None
        self._fatal_at = -1  # where in the bytes just scanned a FATAL begins
        self.bytes_passed = bytes_passed

    def divert(self, taker: Callable[[bytes], None] | None) -> None:
        """Give what comes to somebody else; None: to the client again.

        With it goes the beginning of a frame of which the client has nothing yet.
        """
        self._divert = taker
        if taker is not None and self._partial:
            taker(self._partial.take())

    @property
    def has_partial(self) -> bool:
        """Whether the beginning of a frame waits for its rest."""
        return bool(self._partial)

    def received(self, data: bytes) -> None:
        """Pass the upstream's bytes on."""
        if self._divert is not None:
            self._divert(data)
            return
        if self._partial:
            data = self._partial.join(data)
            if not data:
                return
        scanner = self.scanner
        script = scanner.scan(data)
        if scanner.cut != len(data):
            data = self._keep_back(data)
        relay = self._relay
        if relay.is_watched:
            self._pass_watched(data, script)
            return
        self.bytes_passed += len(data)
        self._write(data)
        effects = relay.tracker.note_received(script)
        if effects:
            relay.memory.note_effects(effects)

    def _pass_watched(self, data: bytes, script: bytes) -> None:
        """Pass bytes on while somebody waits for what they say."""
        relay = self._relay
        fatal_at, self._fatal_at = self._fatal_at, -1
        if fatal_at < 0:
            self._pass(data, script)
        else:
            before, after = script.split(bytes((ERROR_FATAL,)), 1)
            self._pass(data[:fatal_at], before)
            # What comes behind a FATAL means nothing, if that is not passed on.
            partial, self._partial = self._partial, FrameParts()
            if relay.withhold(data[fatal_at:]):
                return
            self._partial = partial
            self._pass(data[fatal_at:], bytes((ERROR_FATAL,)) + after)
        relay.look()

    def _pass(self, data: bytes, script: bytes) -> None:
        self.bytes_passed += len(data)
        self._write(data)
        effects = self._relay.tracker.note_received(script)
        if effects:
            self._relay.memory.note_effects(effects)

    def _error(self, data: bytes, start: int, end: int) -> bytes:
        """Note where a FATAL begins; the scanner asks at every ErrorResponse."""
        symbol = error_symbol(data, start, end)
        # Of one too large to be held until it is whole, a part has gone already.
        if symbol[0] == ERROR_FATAL and self._fatal_at < 0 and start:
            self._fatal_at = start - HEADER_BYTES
            self._relay.is_watched = True
        return symbol

    def _keep_back(self, data: bytes) -> bytes:
        """Keep the beginning of a frame; give the rest."""
        scanner = self.scanner
        if scanner.overlong:
            scanner.lost = "a message of the cluster is too long"
            scanner.overlong = None
            return data
        self._partial.begin(data[scanner.cut :], scanner.missing_bytes)
        return data[: scanner.cut]

    def ended(self) -> None:
        """Note that the cluster closed, with or without having said why."""
        self._partial.clear()  # no rest of it comes any more
        self._relay.upstream_lost(None)

    def lost(self, error: Exception | None) -> None:
        """Note that the connection to the cluster is gone."""
        self._partial.clear()
        self._relay.upstream_lost(error)

    def writing_paused(self) -> None:
        """Leave the client unread while the upstream does not read."""
        self._relay.client.pause_reading()

    def writing_resumed(self) -> None:
        """Go on: the upstream reads again."""
        self._relay.resume_client()
