"""From the client to the upstream: the sink of the client's channel.

A pump scans frame headers as the bytes pass, passes everything on in the same call
and tells the tracker. Nothing is awaited and nothing is copied. Where one peer does
not read, the other's socket is left unread, so that memory stays flat whatever a
client asks for.
"""

from typing import TYPE_CHECKING, Final

from dsqlproxy.channel.channel import Channel
from dsqlproxy.dsql import MAX_MESSAGE_BYTES
from dsqlproxy.pgproto.codes import FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import FrameParts, FrameScanner
from dsqlproxy.pgproto.messages import ReadyForQuery
from dsqlproxy.pgproto.script import FRONTEND_SYMBOLS
from dsqlproxy.session.hold import Hold
from dsqlproxy.session.last_words import last_words
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import HOLDING, LIVING, RelayState
from dsqlproxy.situations.sessions import statement_too_large

if TYPE_CHECKING:
    from dsqlproxy.session.relay import Relay


_TERMINATE: Final = int(FrontendType.TERMINATE)
_READY: Final = ReadyForQuery(TransactionStatus.IDLE).encode()


class ClientPump:
    """From the client to the upstream."""

    __slots__ = (
        "_hold", "_is_guarded", "_is_passing", "_is_special", "_partial",
        "_relay", "_scanner", "_swallow", "_write", "bytes_passed",
    )  # fmt: skip

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self._write = relay.upstream.write
        self._scanner = FrameScanner(
            FRONTEND_SYMBOLS, max_bytes=MAX_MESSAGE_BYTES, asked=relay.memory.frontend
        )
        self._is_special = False  # whether the next bytes need a closer look
        self._partial = FrameParts()
        self._swallow = 0  # bytes of an overlong Query still to be thrown away
        self._is_guarded = False  # whether the next bytes are the first for long
        self._is_passing = False
        self._hold = Hold()
        self.bytes_passed = 0

    @property
    def at_boundary(self) -> bool:
        """Whether the upstream has whole frames only."""
        return self._scanner.at_boundary

    @property
    def not_understood(self) -> str:
        """Why the stream cannot be followed; empty while it can."""
        return self._scanner.lost

    @property
    def is_holding(self) -> bool:
        """Whether the client said something that waits to go on."""
        return bool(self._hold)

    # -- what passes -----------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Pass the client's bytes on."""
        if self._is_special:
            data = self._look_closer(data)
            if not data:
                return
        scanner = self._scanner
        script = scanner.scan(data)
        if scanner.cut == len(data):
            rest = b""
        else:
            data, rest = data[: scanner.cut], data[scanner.cut :]
        self.bytes_passed += len(data)
        self._write(data)
        relay = self._relay
        dropped = relay.tracker.note_sent(script)
        if dropped:
            relay.memory.note_dropped(dropped)
        if _TERMINATE in script and relay.state in LIVING:
            relay.finish(CloseReason.CLIENT_TERMINATED)
        elif rest:
            self._keep_back(rest)
        elif relay.is_watched:
            relay.look()  # the end of a frame without an answer

    def _look_closer(self, data: bytes) -> bytes:
        """Say what of the bytes is to be passed on, with what was kept back."""
        relay = self._relay
        if relay.state not in LIVING:
            return b""  # after Terminate nothing counts
        if self._swallow:
            swallowed = min(self._swallow, len(data))
            self._swallow -= swallowed
            data = data[swallowed:]
        if self._is_guarded:
            self._is_guarded = False
            relay.note_first_message()  # may pause
        if relay.state in HOLDING:
            return self._keep(data)
        if self._partial:
            data = self._partial.join(data)
        self._is_special = bool(self._swallow or self._partial)
        return data

    def _keep_back(self, rest: bytes) -> None:
        """Keep the beginning of a frame, or refuse what is too long."""
        self._is_special = True
        if self._scanner.overlong:
            self._refuse(rest, *self._scanner.overlong)
        elif self._relay.state in HOLDING:
            self._hold.put_back(rest)
        else:
            self._partial.begin(rest, self._scanner.missing_bytes)

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
            error = statement_too_large(length)
            relay.to_client(last_words(error, severity="ERROR").encode() + _READY)
            if relay.keeper is not None:
                relay.keeper.statement_refused(error)
            self._swallow = 1 + length
            self._is_special = True
            self.received(rest)
        else:
            relay.close(CloseReason.MESSAGE_TOO_LARGE)

    # -- what waits ------------------------------------------------------------------

    def guard(self) -> None:
        """Have the relay asked before the client's next message goes on."""
        self._is_guarded = self._is_special = True

    def begin_hold(self) -> None:
        """Keep what comes from now on, and the beginning of a frame that waits."""
        self._is_special = True
        if self._partial:
            self._hold.add(self._partial.take())

    def end_hold(self) -> None:
        """Pass on what was kept."""
        held = self._hold.take_all()
        self._resume_client()
        if held:
            self.received(held)
        self._finish_if_ended()

    def pass_units(self) -> None:
        """Pass kept units on, as far as they may go."""
        relay = self._relay
        if self._is_passing:
            return  # this is the answer to a unit that is being passed
        self._is_passing = True
        while self._hold and relay.state is RelayState.INSISTING and relay.may_pass:
            unit = self._take_unit()
            if not unit:
                break
            self._is_special = False
            self.received(unit)
            self._is_special = True
        self._is_passing = False
        self._resume_client()
        self._finish_if_ended()

    def _take_unit(self) -> bytes:
        """Take what may go on next; nothing while that is not whole."""
        if self._scanner.lost:
            return self._hold.take_all()
        if self._scanner.rest_bytes:  # of a large frame that has begun to pass
            return self._hold.take(self._scanner.rest_bytes)
        unit = self._hold.take_unit()
        if not unit and self._relay.client.has_ended:
            self._hold.take_all()  # nobody is left to send the end of it
        return unit

    def replace_upstream(self, upstream: Channel) -> None:
        """Write to another upstream from now on."""
        self._write = upstream.write

    def leave_if_asked(self) -> None:
        """End a session that has no upstream when the client says Terminate."""
        relay = self._relay
        if not (relay.is_upstream_lost and relay.state in LIVING):
            return
        if self._hold.is_leaving:
            relay.finish(CloseReason.CLIENT_TERMINATED)
        elif relay.client.has_ended and not self._hold:
            relay.finish(CloseReason.CLIENT_CLOSED)

    def stop(self) -> None:
        """Pass nothing on any more."""
        self._is_special = True

    def _keep(self, data: bytes) -> bytes:
        """Keep what came; give what may go on of it."""
        relay = self._relay
        self._hold.add(data)
        if self._hold.is_full:
            relay.client.pause_reading()
        relay.note_waiting()
        self.leave_if_asked()
        if relay.state is RelayState.INSISTING and not self._is_passing:
            self.pass_units()
        return b""

    def _resume_client(self) -> None:
        relay = self._relay
        if not (self._hold.is_full or relay.upstream.is_writing_paused):
            relay.client.resume_reading()

    def _finish_if_ended(self) -> None:
        relay = self._relay
        is_waiting = self._hold or relay.state is RelayState.PAUSED
        if relay.client.has_ended and relay.state in LIVING and not is_waiting:
            relay.finish(CloseReason.CLIENT_CLOSED)

    # -- what the channel tells ------------------------------------------------------

    def ended(self) -> None:
        """Let the client's last requests be answered."""
        relay = self._relay
        if relay.state is RelayState.PAUSED and relay.is_upstream_lost:
            if not self._hold:
                relay.finish(CloseReason.CLIENT_CLOSED)
        elif relay.state is RelayState.INSISTING:
            self.pass_units()
        else:
            self._finish_if_ended()

    def lost(self, error: Exception | None) -> None:
        """End: nobody is there to be answered."""
        self._relay.client_lost(error)

    def writing_paused(self) -> None:
        """Leave the upstream unread while the client does not read."""
        if not self._relay.is_asked:  # what comes now is not for the client
            self._relay.upstream.pause_reading()

    def writing_resumed(self) -> None:
        """Go on: the client reads again."""
        self._relay.upstream.resume_reading()
