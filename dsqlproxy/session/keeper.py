"""Keeps a session alive over one upstream after another: when, and in what order.

One task for each session. It sleeps until the age of the upstream asks for a swap
(`lifetime.py`), and is woken when the upstream is lost, when a clock has jumped, or
when the snapshot of the settings is stale. How a swap is done is in `swap.py`, how
a lost upstream is replaced in `recovery.py`; here is decided which, and when.

    upstream lost in a quiet session ──> recovery
    clocks jumped, session quiet ──────> ping; no answer: recovery
    settings changed, session idle ────> snapshot
    WARM, INSIST ──────────────────────> swap; if it was put off, again after a while
    DEAD, and put off before ──────────> end at a quiet moment, with the reason
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from dsqlproxy.clocks import Reading
from dsqlproxy.errors import DsqlProxyError, SwapError
from dsqlproxy.ops.metrics import SwapOutcome
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.lifetime import Phase
from dsqlproxy.session.pins import FOUND_BY_ASKING, NotCarriedOver, PinReason
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.recovery import Recovery
from dsqlproxy.session.relay_state import HOLDING, LIVING, RelayState
from dsqlproxy.session.snapshot import ping, take_snapshot
from dsqlproxy.session.swap import Swap

SILENT_SECONDS = 300.0
"""After this an upstream is asked whether it is there: what lies between (a network
load balancer: 350 s) may have forgotten the connection."""

YOUNG_PART = 48
"""An upstream that is lost within this part of its time (a minute of 48) was hardly
there: the next one is not opened at once."""

MAX_POLLS = 1000
"""How often a socket that says it has something is looked at before it is believed."""


class Keeper:
    """The keeper of one session; `run` goes on until its end."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._relay = kept.relay
        self._wake = asyncio.Event()
        self._work: asyncio.Timeout | None = None
        self._recovery: Recovery | None = None
        self._is_suspect = False
        self._is_snapshot_due = False
        self._has_asked_again = False
        self._has_incoming = False
        self._seen_at = kept.services.clocks.read()
        self._seen_bytes = -1
        self._backoff = kept.services.new_backoff()
        self._recovery_backoff = kept.services.new_backoff()
        self._has_recovered = False
        self._known_pin = ""
        self._last_reason: PinReason | None = None
        self._has_failed = False
        self.window = kept.services.new_window()
        self.swaps = 0
        self.why_not_replaced = ""
        """Why the session could not get another upstream, in words for its client."""

    # -- what others see -----------------------------------------------------------

    @property
    def upstream_age(self) -> float:
        """How old the upstream is, in seconds, by the clock that counted most."""
        return self._kept.upstream_age

    @property
    def is_at_limit(self) -> bool:
        """Whether the upstream is so old that the cluster closes it."""
        return self.window.phase(self.upstream_age) is Phase.DEAD

    @property
    def seconds_to_swap(self) -> float:
        """How long until the next upstream is opened; 0 once that is due."""
        return self.window.seconds_to_swap(self.upstream_age)

    @property
    def pin(self) -> str:
        """Why the session cannot be swapped; empty while it can."""
        return self._kept.pin

    # -- what the relay and the watch tell -------------------------------------------

    def upstream_lost(self) -> bool:
        """Learn that the upstream of a quiet session is gone; say if it is replaced."""
        if self._has_failed or not self._kept.may_recover:
            self.why_not_replaced = self._kept.why_not_recovered
            return False
        self._kept.report.lost_in_silence()
        self._interrupt()
        return True

    def first_message(self) -> None:
        """Look at the upstream before the client's first message after a while.

        What is written to an upstream that is gone has an outcome that nobody knows;
        what is not written yet can go to another one.
        """
        kept, relay = self._kept, self._relay
        kept.services.watch.add(self)
        now = kept.services.clocks.read()
        is_doubtful = (
            self._is_suspect
            or now.has_jumped_since(self._seen_at)
            or now.seconds_since(self._seen_at) > SILENT_SECONDS
        )
        self._seen_at = now
        if self._has_failed or not (self._is_at_rest and kept.may_recover):
            return
        if self._phase_at(now) is Phase.DEAD:
            kept.report.lost_in_silence()
            relay.give_up_upstream()
            self._interrupt()
        elif is_doubtful:
            relay.pause()
            self._is_suspect = True
            self._interrupt()
        elif relay.upstream.has_incoming():
            relay.pause()
            self._has_incoming = True
            self._interrupt()

    def client_waits(self) -> None:
        """Learn that the client said something while there is no upstream."""
        if self._recovery is not None:
            self._recovery.client_waits()

    def statement_refused(self, error: DsqlProxyError) -> None:
        """Learn that a statement was answered with an error of ours."""
        self._kept.report.statement_refused(error)

    def look(self) -> bool:
        """Look whether the session is idle; if so, its next message is looked at."""
        self._note_pin()
        passed = self._relay.bytes_in + self._relay.bytes_out
        if passed != self._seen_bytes:
            self._seen_bytes = passed
            return False
        self._seen_at = self._kept.services.clocks.read()
        self._relay.guard()
        if self._kept.wants_snapshot:
            self._is_snapshot_due = True
            self._wake.set()
        return True

    def close(self) -> None:
        """Learn that the session has ended."""
        if self._known_pin:
            self._kept.report.pinned("", "", instead_of=self._known_pin)

    def clocks_jumped(self) -> None:
        """Learn that this machine slept, or that its clock was set."""
        self._is_suspect = True
        self._relay.guard()  # a client that was busy before may speak at any moment
        if self._relay.state is RelayState.PAUSED:
            self._wake.set()  # what is under way ends by itself
        else:
            self._interrupt()

    # -- its life ------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the session alive until its end."""
        try:
            while self._relay.state in LIVING:
                await self._take_step()
        except Exception as error:  # noqa: BLE001 - the session must not be left held
            self._has_failed = True
            self._kept.report.failed(error)
            if self._relay.is_upstream_lost:
                self._relay.give_up()
            elif self._relay.state in HOLDING:
                self._relay.release()

    async def _take_step(self) -> None:
        relay = self._relay
        if relay.is_upstream_lost:
            await self._recover()
        elif self._has_incoming:
            await self._let_it_come()
        elif self._is_suspect and relay.at_swap_point:
            await self._ping()
        elif self._is_snapshot_due and self._is_at_rest:
            await self._take_snapshot()
        else:
            await self._do_what_is_due()

    async def _do_what_is_due(self) -> None:
        """Do what the age of the upstream asks for."""
        age = self.upstream_age
        phase = self.window.phase(age)
        if phase is Phase.YOUNG:
            self._relay.release()  # a clock that was set back made it young again
            await self._sleep(self.window.warm_seconds - age)
        elif phase is Phase.DEAD and self.why_not_replaced:
            self._relay.when_quiet(self._end_at_limit)
            await self._sleep(None)
        else:
            await self._swap()

    def _end_at_limit(self) -> None:
        self._relay.close(CloseReason.SESSION_LIMIT)

    async def _swap(self) -> None:
        """Try to replace the upstream; if it cannot be now, wait a while."""
        self._note_pin()
        swap = Swap(self._kept, self.window)
        try:
            async with self._interruptible():
                await swap.run()
        except TimeoutError:
            return  # something else comes first
        except DsqlProxyError as error:
            self._note_deferred(swap, error)
        else:
            self._note_swapped(swap)
            return
        finally:
            await swap.clean_up(may_begin=self._may_begin, is_suspect=self._is_suspect)
        if not self._may_begin and self._relay.state is RelayState.RUNNING:
            self._relay.insist(self._relay.pause)
        if self._is_suspect and self._relay.at_swap_point:
            return  # ask first whether it is there: the client may be held for that
        await self._sleep(min(self._backoff.next_delay(), self._seconds_left()))

    def _note_swapped(self, swap: Swap) -> None:
        self.swaps += 1
        self._begin_anew()
        self._kept.report.swapped(age=swap.age_seconds, pause=swap.pause_seconds)

    def _note_deferred(self, swap: Swap, error: DsqlProxyError) -> None:
        if self._relay.state not in LIVING:
            return  # the session ends, which is no fault of the swap
        self.why_not_replaced = str(error)
        if isinstance(error, NotCarriedOver) and error.reason in FOUND_BY_ASKING:
            # A table that is being changed makes one mismatch; two in a row are more.
            is_first = error.reason is not self._last_reason
            is_passing = is_first and error.reason is PinReason.MISMATCH
            self._kept.found_pin = "" if is_passing else error.reason
            self._last_reason = error.reason
        self._note_pin()  # it may be the last attempt
        outcome = SwapOutcome.FAILED if swap.has_begun else SwapOutcome.DEFERRED
        self._kept.report.not_swapped(
            outcome, str(error), age=self.upstream_age, pause=swap.pause_seconds
        )

    async def _recover(self) -> None:
        """Replace an upstream that is lost, or end the session."""
        kept = self._kept
        if not kept.may_recover:  # it was lost while it was asked
            self.why_not_replaced = kept.why_not_recovered
            self._relay.give_up()
            return
        was_brief = self.upstream_age < self.window.warm_seconds / YOUNG_PART
        waits_first = was_brief and self._has_recovered
        if not waits_first:
            self._recovery_backoff.reset()
        recovery = self._recovery = Recovery(
            kept, backoff=self._recovery_backoff, waits_first=waits_first
        )
        try:
            failure = await recovery.run()
        finally:
            self._recovery = None
        if failure is None:
            self._is_suspect = False
            self._has_recovered = True
            self._begin_anew()
        else:
            self.why_not_replaced = str(failure)
            self._relay.give_up()

    def _begin_anew(self) -> None:
        """Forget what concerned the last upstream."""
        self.window = self._kept.services.new_window()
        self._backoff.reset()
        self._seen_at = self._kept.services.clocks.read()  # it has just answered
        self.why_not_replaced = ""
        self._last_reason = None

    async def _let_it_come(self) -> None:
        """Let the loop deliver what the upstream sent before the client's message.

        It may be nothing that matters (TLS session tickets), or the end.
        """
        self._has_incoming = False
        relay = self._relay
        polls = MAX_POLLS
        while polls and not relay.is_upstream_lost and relay.upstream.has_incoming():
            polls -= 1
            await asyncio.sleep(0)
        self._let_go()

    async def _ping(self) -> None:
        """Ask a suspect whether it is there; if not, it counts as lost."""
        self._is_suspect = False
        kept = self._kept
        self._seen_at = kept.services.clocks.read()
        if kept.may_recover:  # else nobody could help, and to ask might disturb
            is_dead = self._phase_at(self._seen_at) is Phase.DEAD
            if is_dead or not await ping(kept):
                kept.report.lost_in_silence()
                self._relay.give_up_upstream()
        self._let_go()

    async def _take_snapshot(self) -> None:
        """Ask for the settings while they are fresh, for a recovery to come."""
        self._is_snapshot_due = False
        has_asked_again, self._has_asked_again = self._has_asked_again, False
        try:
            await take_snapshot(self._kept)
        except NotCarriedOver as error:
            self._has_asked_again = error.may_retry and not has_asked_again
            self._is_snapshot_due = self._has_asked_again
            self._kept.report.no_snapshot(error)
        except SwapError as error:
            self._kept.report.no_snapshot(error)
        self._let_go()

    # -- inside --------------------------------------------------------------------

    @property
    def _is_at_rest(self) -> bool:
        """Whether nothing is under way, of the client's or of ours."""
        return self._relay.state is RelayState.RUNNING and self._relay.at_swap_point

    @property
    def _may_begin(self) -> bool:
        """Whether a transaction may begin on the upstream that there is."""
        return self.window.may_begin(self.upstream_age)

    def _let_go(self) -> None:
        """Go on with the upstream that there is, if it is not too old."""
        if self._may_begin and not self._relay.is_upstream_lost:
            self._relay.release()

    def _note_pin(self) -> None:
        """Log once why the session cannot be moved."""
        if self._relay.not_understood:
            self._kept.memory.note_desynced()  # nobody tells it what came of anything
        pin, known = self._kept.pin, self._known_pin
        if pin != known:
            self._known_pin = pin
            self._kept.report.pinned(pin, self._kept.why_pinned, instead_of=known)

    def _phase_at(self, now: Reading) -> Phase:
        return self.window.phase(now.seconds_since(self._kept.upstream.opened_at))

    def _seconds_left(self) -> float:
        """How long until the next instant of the window; a little after the last."""
        window, age = self.window, self.upstream_age
        next_at = window.last_start_seconds if self._may_begin else window.dead_seconds
        return max(next_at - age, window.settle_seconds)

    def _interrupt(self) -> None:
        """Stop what is being done: something else comes first."""
        self._wake.set()
        if self._work is not None and not self._work.expired():
            self._work.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def _interruptible(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(None) as self._work:
                yield
        finally:
            self._work = None

    async def _sleep(self, seconds: float | None) -> None:
        """Wait until it is time, or something happened."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
