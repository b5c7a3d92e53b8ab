"""The bytes of a session after its login: two pumps, over one upstream or several.

The pumps pass bytes; this is what they share, and what a session asks and tells.
How a session ends, and when its client waits, is decided here, by the moves of
`relay_state.py`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from dsqlproxy.channel.channel import Channel
from dsqlproxy.channel.sink import Discard
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import HEADER_BYTES
from dsqlproxy.pgproto.messages import TERMINATE, ParameterStatus
from dsqlproxy.session.client_pump import ClientPump
from dsqlproxy.session.exchange import Exchange
from dsqlproxy.session.parting import Parting
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_keeper import RelayKeeper
from dsqlproxy.session.relay_state import HOLDING, LIVING, RelayState, move
from dsqlproxy.session.replay import Answers
from dsqlproxy.session.state import SessionMemory
from dsqlproxy.session.tracker import Tracker
from dsqlproxy.session.upstream_pump import UpstreamPump

RETIRE_SECONDS = 2.0
"""How long an upstream that was replaced may take for its last bytes."""


@dataclass(frozen=True, slots=True)
class RelayEnding:
    """How it ended; ``error`` is what the channel said, where it said anything."""

    reason: CloseReason
    error: Exception | None = None


class Relay:
    """The two pumps of one session. Closes neither channel; the session does.

    Only an upstream that it has replaced is closed here (`cut_over`).
    """

    def __init__(
        self, *, client: Channel, upstream: Channel, memory: SessionMemory
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.memory = memory
        self.tracker = Tracker()
        self.state = RelayState.RUNNING
        self.ended: asyncio.Future[RelayEnding] = (
            asyncio.get_running_loop().create_future()
        )
        self.closed = asyncio.Event()
        """Set when nothing passes any more; later than `ended` after LEAVING."""
        self.is_watched = False
        """Whether someone waits for a quiet moment; kept cheap for the pumps."""
        self.is_upstream_lost = False
        """Whether the upstream is gone, and the client does not know it."""
        self.keeper: RelayKeeper | None = None
        self._on_quiet: Callable[[], None] | None = None
        self._exchange: Exchange | None = None
        self._is_draining = False
        self._reason = CloseReason.CLIENT_CLOSED
        self._withheld = b""  # the FATAL of an upstream that is being replaced
        self._client_pump = ClientPump(self)
        self._upstream_pump = UpstreamPump(self)
        self.parting = Parting(client)

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
    def is_client_waiting(self) -> bool:
        """Whether the client said something that was not passed on yet."""
        return self._client_pump.is_holding

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
            and not self._upstream_pump.has_partial
            and not self._client_pump.not_understood
        )

    @property
    def may_pass(self) -> bool:
        """Whether the client's next unit may go on while the relay insists.

        Not while a unit waits for its ReadyForQuery, and not in a quiet session,
        which is what insisting is for. Everything else would never become quiet
        without more from the client: a transaction, a COPY, an open pipeline.
        """
        if not self._client_pump.at_boundary:
            return True
        return not (self.tracker.awaits_ready or self.at_swap_point)

    def when_quiet(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called at the next moment with nothing under way."""
        if self.at_swap_point:
            callback()
        else:
            self._on_quiet = callback
            self.is_watched = True

    def drain(self) -> None:
        """End the session at its next quiet moment, whoever else waits for one."""
        self._is_draining = True
        if self.at_swap_point:
            self.stop()
        else:
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

    # -- another upstream under the session -------------------------------------------

    def guard(self) -> None:
        """Have the keeper asked before the client's next message goes on."""
        self._client_pump.guard()

    def note_first_message(self) -> None:
        """Ask the keeper; for the client's pump."""
        if self.keeper is not None:
            self.keeper.first_message()

    def note_waiting(self) -> None:
        """Tell the keeper that the client waits; for the client's pump."""
        if self.keeper is not None and self.is_upstream_lost:
            self.keeper.client_waits()

    def insist(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called at a quiet moment, and see to it that one comes.

        From now on the client's requests go one at a time.
        """
        if self.state is not RelayState.INSISTING:
            self._move(RelayState.INSISTING)
            self._client_pump.begin_hold()
        self.when_quiet(callback)

    def pause(self) -> None:
        """Keep what the client says; only where nothing is under way."""
        if not self.at_swap_point:
            msg = "a relay cannot pause because something is under way"
            raise AssertionError(msg)
        self._forget_callback()
        self._move(RelayState.PAUSED)
        self._client_pump.begin_hold()

    def release(self) -> None:
        """Go on with the upstream that there is; what was kept goes first."""
        if self.state in HOLDING:
            self._forget_callback()
            self._move(RelayState.RUNNING)
            self._client_pump.end_hold()

    @property
    def is_asked(self) -> bool:
        """Whether the upstream owes answers to a private question."""
        return self._exchange is not None

    def ask(self, request: bytes, answers: Answers) -> Exchange:
        """Ask the upstream of a paused relay something in private."""
        if self.state is not RelayState.PAUSED or self.is_upstream_lost:
            msg = "a private question needs a paused relay with an upstream"
            raise AssertionError(msg)
        exchange = self._exchange = Exchange(
            answers, on_aside=self._pass_aside, on_done=self._end_exchange
        )
        self._upstream_pump.divert(exchange.received)
        self.upstream.resume_reading()  # a client that does not read has paused it
        self.upstream.write(request)
        return exchange

    def _end_exchange(self, rest: bytes) -> None:
        self._exchange = None
        if self.state is RelayState.PAUSED:
            self._upstream_pump.divert(None)
            if self.client.is_writing_paused:
                self.upstream.pause_reading()
            if rest:
                self._upstream_pump.received(rest)

    def _pass_aside(self, frame: bytes) -> None:
        """Pass on what the upstream says of itself, between private answers."""
        if self.state is RelayState.PAUSED:
            self.client.write(frame)
            if frame[0] == BackendType.PARAMETER_STATUS:
                body = frame[HEADER_BYTES:]
                self.memory.note_reported(ParameterStatus.decode(body))

    def cut_over(self, upstream: Channel, changed: bytes) -> None:
        """Replace the upstream of a paused relay: the point of no return.

        Runs within one turn of the event loop: nothing here may wait. ``changed``
        are the ParameterStatus messages that tell the client what is new.
        """
        if self.state is not RelayState.PAUSED or self._exchange is not None:
            msg = "an upstream is replaced only in a paused relay, with nothing asked"
            raise AssertionError(msg)
        old, self.upstream = self.upstream, upstream
        self.tracker = Tracker(has_unnamed=self.memory.unnamed is not None)
        self._upstream_pump = UpstreamPump(self, bytes_passed=self.bytes_out)
        self._client_pump.replace_upstream(upstream)
        self.is_upstream_lost = False
        self._withheld = b""
        self.client.write(changed)
        _retire(old)
        upstream.attach(self._upstream_pump)  # reads on, whoever paused it
        if self.client.is_writing_paused:
            upstream.pause_reading()
        if not self.is_upstream_lost:  # what it had said may be that it ends
            self.release()

    def withhold(self, fatal: bytes) -> bool:
        """Keep a FATAL from the client if the upstream can be replaced; say so."""
        if self.state in LIVING and self.at_swap_point and self._is_replaced():
            self._withheld = fatal
            self._lose_upstream()
            return True
        return False

    def give_up_upstream(self) -> None:
        """Treat the upstream of a quiet session as gone: nobody trusts it any more."""
        if self.state in LIVING and not self.is_upstream_lost:
            if self.state is not RelayState.PAUSED:
                self.pause()
            self._lose_upstream()

    def give_up(self) -> None:
        """End the session: its upstream is gone and cannot be replaced.

        The client gets what the upstream said last, if it said why.
        """
        if self._withheld:
            self.client.write(self._withheld)
            self.close(CloseReason.UPSTREAM_ENDED)
        else:
            self.close(CloseReason.UPSTREAM_LOST)

    def resume_client(self) -> None:
        """Read the client again; for the upstream's pump."""
        if self.state is not RelayState.PAUSED:
            self.client.resume_reading()

    def _is_replaced(self) -> bool:
        return self.keeper is not None and self.keeper.upstream_lost()

    def _lose_upstream(self) -> None:
        self.is_upstream_lost = True
        if self.state is not RelayState.PAUSED:
            self._forget_callback()
            self._move(RelayState.PAUSED)
            self._client_pump.begin_hold()
        self.upstream.attach(Discard())
        self.upstream.abort()
        if self._exchange is not None:
            self._exchange.lost()
            self._exchange = None
        if self._is_draining:
            self.stop()
        self._client_pump.leave_if_asked()

    def _forget_callback(self) -> None:
        self._on_quiet = None
        self.is_watched = self._is_draining

    # -- moves -----------------------------------------------------------------------

    def _move(self, to: RelayState) -> None:
        self.state = move(self.state, to)
        if to not in LIVING:
            self._client_pump.stop()
        if to is RelayState.CLOSED:
            self.parting.begin(self._upstream_pump.scanner, self.upstream)
            self._upstream_pump.divert(self.parting.finish_frame)
            self.closed.set()

    def look(self) -> None:
        """See whether what someone waits for has come."""
        if self.state is RelayState.FINISHING:
            self._finish_when_answered()
        elif self.state not in LIVING:
            return
        elif self._is_draining and self.at_swap_point:
            self.stop()
        elif self._on_quiet is not None and self.at_swap_point:
            callback = self._on_quiet
            self._forget_callback()
            callback()
        elif self.state is RelayState.INSISTING:
            self._client_pump.pass_units()

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
        if not self._client_pump.at_boundary or self.is_upstream_lost:
            self.close(reason, error)
            return
        self.terminate_upstream()
        self._move(RelayState.LEAVING)
        self._end(reason, error)

    def upstream_lost(self, error: Exception | None) -> None:
        """Close, or wait for another: nothing more comes from the upstream."""
        if self.state in LIVING and self.at_swap_point and self._is_replaced():
            self._lose_upstream()
            return
        if self.state in LIVING or self.state is RelayState.FINISHING:
            said_why = self.tracker.upstream_failed
            self._reason = (
                CloseReason.UPSTREAM_ENDED if said_why else CloseReason.UPSTREAM_LOST
            )
        self.parting.give_up()  # no rest of a frame comes any more
        self.close(self._reason, error)

    def close(self, reason: CloseReason, error: Exception | None = None) -> None:
        """Let nothing pass any more; the first reason given counts."""
        if self.state is not RelayState.CLOSED:
            self._move(RelayState.CLOSED)
            self._end(reason, error)

    def _end(self, reason: CloseReason, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(RelayEnding(reason, error))


def _retire(upstream: Channel) -> None:
    """Close an upstream that has been replaced; what it still says means nothing."""
    upstream.attach(Discard())
    upstream.write(TERMINATE)
    upstream.close()
    asyncio.get_running_loop().call_later(RETIRE_SECONDS, upstream.abort)
