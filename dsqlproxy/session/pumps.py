"""The two directions of a relay: each pump is the sink of one channel.

A pump scans frame headers as the bytes pass, passes everything on in the same call
and tells the tracker. Nothing is awaited and nothing is copied. Where one peer does
not read, the other's socket is left unread, so that memory stays flat whatever a
client asks for.
"""

from typing import TYPE_CHECKING, Final

from dsqlproxy.dsql import MAX_MESSAGE_BYTES
from dsqlproxy.pgproto.codes import FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import MAX_BACKEND_FRAME_BYTES, FrameScanner
from dsqlproxy.pgproto.messages import ReadyForQuery
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS
from dsqlproxy.session.last_words import too_large
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import RelayState

if TYPE_CHECKING:
    from dsqlproxy.session.relay import Relay


_TERMINATE: Final = int(FrontendType.TERMINATE)
_READY: Final = ReadyForQuery(TransactionStatus.IDLE).encode()


class ClientPump:
    """From the client to the upstream."""

    __slots__ = (
        "_held", "_is_special", "_relay", "_scanner", "_swallow", "_write",
        "bytes_passed",
    )  # fmt: skip

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self._write = relay.upstream.write
        self._scanner = FrameScanner(FRONTEND_SYMBOLS, max_bytes=MAX_MESSAGE_BYTES)
        self._held = b""  # the beginning of a header, at most 4 bytes
        self._swallow = 0  # bytes of an overlong Query still to be thrown away
        self._is_special = False  # whether the next bytes need a closer look
        self.bytes_passed = 0

    @property
    def at_boundary(self) -> bool:
        """Whether the upstream has whole frames only."""
        return self._scanner.at_boundary

    @property
    def not_understood(self) -> str:
        """Why the stream cannot be followed; empty while it can."""
        return self._scanner.lost

    def stop(self) -> None:
        """Pass nothing on any more."""
        self._is_special = True

    def received(self, data: bytes) -> None:
        """Pass the client's bytes on."""
        if self._is_special:
            data = self._look_closer(data)
        scanner = self._scanner
        script = scanner.scan(data)
        if scanner.cut == len(data):
            rest = b""
        else:
            data, rest = data[: scanner.cut], data[scanner.cut :]
        self.bytes_passed += len(data)
        self._write(data)
        relay = self._relay
        relay.tracker.note_sent(script)
        if _TERMINATE in script and relay.state is RelayState.RUNNING:
            relay.finish(CloseReason.CLIENT_TERMINATED)
        elif rest:
            self._keep_back(rest)
        elif relay.is_watched:
            relay.look()  # the end of a frame without an answer

    def _look_closer(self, data: bytes) -> bytes:
        """Say what of the bytes is to be passed on, with what was kept back."""
        if self._relay.state is not RelayState.RUNNING:
            return b""  # after Terminate nothing counts
        if self._swallow:
            swallowed = min(self._swallow, len(data))
            self._swallow -= swallowed
            data = data[swallowed:]
        data = self._held + data
        self._held = b""
        self._is_special = bool(self._swallow)
        return data

    def _keep_back(self, rest: bytes) -> None:
        """Keep the beginning of a header, or refuse what is too long."""
        self._is_special = True
        if self._scanner.overlong:
            self._refuse(rest, *self._scanner.overlong)
        else:
            self._held = rest

    def _refuse(self, rest: bytes, kind: int, length: int) -> None:
        """Stop a message that the cluster would answer by hanging up.

        Observed on a cluster: a message over 10 MiB closes the socket without a
        word. A simple Query with nothing else under way can be answered here; of
        anything else the transaction's state would be a guess.
        """
        relay = self._relay
        self._scanner.overlong = None
        if kind == FrontendType.QUERY and relay.at_swap_point:
            # ReadyForQuery at once: when the rest has come, the upstream may be in the
            # middle of a notice. The client sees it after it has sent its message.
            relay.to_client(too_large(length).encode() + _READY)
            self._swallow = 1 + length
            self._is_special = True
            self.received(rest)
        else:
            relay.close(CloseReason.MESSAGE_TOO_LARGE)

    def ended(self) -> None:
        """Let the client's last requests be answered."""
        if self._relay.state is RelayState.RUNNING:
            self._relay.finish(CloseReason.CLIENT_CLOSED)

    def lost(self, error: Exception | None) -> None:
        """End: nobody is there to be answered."""
        self._relay.client_lost(error)

    def writing_paused(self) -> None:
        """Leave the upstream unread while the client does not read."""
        self._relay.upstream.pause_reading()

    def writing_resumed(self) -> None:
        """Go on: the client reads again."""
        self._relay.upstream.resume_reading()


class UpstreamPump:
    """From the upstream to the client."""

    __slots__ = (
        "_held", "_is_stopped", "_relay", "_write", "bytes_passed", "scanner",
    )  # fmt: skip

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self._write = relay.client.write
        self.scanner = FrameScanner(BACKEND_SYMBOLS, max_bytes=MAX_BACKEND_FRAME_BYTES)
        self._held = b""
        self._is_stopped = False
        self.bytes_passed = 0

    def stop(self) -> None:
        """Pass nothing on any more, but the rest of a frame before last words."""
        self._is_stopped = True

    def received(self, data: bytes) -> None:
        """Pass the upstream's bytes on."""
        relay = self._relay
        if self._is_stopped:
            relay.finish_frame(data)
            return
        if self._held:
            data = self._held + data
            self._held = b""
        scanner = self.scanner
        script = scanner.scan(data)
        if scanner.cut != len(data):
            data = self._keep_back(data)
        self.bytes_passed += len(data)
        self._write(data)
        relay.tracker.note_received(script)
        if relay.is_watched:
            relay.look()

    def _keep_back(self, data: bytes) -> bytes:
        """Keep the beginning of a header; give the rest."""
        scanner = self.scanner
        if scanner.overlong:
            scanner.lost = "a message of the cluster is too long"
            scanner.overlong = None
            return data
        self._held = data[scanner.cut :]
        return data[: scanner.cut]

    def ended(self) -> None:
        """Note that the cluster closed, with or without having said why."""
        self._relay.upstream_lost(None)

    def lost(self, error: Exception | None) -> None:
        """Note that the connection to the cluster is gone."""
        self._relay.upstream_lost(error)

    def writing_paused(self) -> None:
        """Leave the client unread while the upstream does not read."""
        self._relay.client.pause_reading()

    def writing_resumed(self) -> None:
        """Go on: the upstream reads again."""
        self._relay.client.resume_reading()
