"""Keeps the logins of all listeners within what their cluster takes.

A cluster takes 100 new connections a second, with a burst of 1,000 (AWS
documentation, quotas), from everybody together. So all that opens a connection to
it passes here, in one of three lanes:

- *login*: clients that wait for their session, and recoveries;
- *swap*: connections opened ahead of the session limit. Nobody waits for them, so
  they get a tenth of the rate, and 8 may be under way at once: a thousand sessions
  that were opened together do not push aside the clients that come now;
- *urgent swap*: the session is near its limit, and its client may be held. A tenth
  would not do: of 10,000 sessions it moves 6,900 from 48 to 59.5 minutes. So these
  have the full rate, but still only 8 at once, which at 0.2 s a login is 40 a
  second: 14,000 in the six minutes that they have.

Each lane is served in the order of arrival, and whoever came first of those that
may go. Every lane draws on the same tokens.

What leaves the block of a login tells whether the cluster took it. Where it was too
busy, all lanes pause, and then one login goes ahead of the others (`Crowding`).

Clients' logins also keep to a pace, which is the event loop's and not the cluster's: a
login takes some milliseconds of it, most of them for TLS, in which no byte of another
session moves. The cluster takes a thousand at once, and two hundred held clients are
let go together when credentials are back: all sessions would wait for two hundred
handshakes (``docs/performance.md``, "A source of credentials that hangs").

A client waits only as long as it may: if what is ahead of it in its lane takes longer
at this rate, it is refused as it comes, else when its time is over; for the pace alone
nobody is refused. Nothing here waits by itself: whoever waits is woken by the end of a
login, by its own limit, or by one timer for the next token or the end of a pause.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from dsqlproxy.errors import TokenError, UpstreamRejected
from dsqlproxy.situations.cluster import Cause, cause_of
from dsqlproxy.situations.waiting import no_turn_in_time, too_many_waiting
from dsqlproxy.upstream.bucket import Bucket
from dsqlproxy.upstream.crowding import Attempt, Crowding

DEFAULT_BURST: Final = 1000.0
PACE: Final = 125.0
"""Logins a second that may begin: more than a cluster takes for long (100), and less
than half of the loop's time."""

PACE_BURST: Final = 5.0

SWAPS_AT_ONCE: Final = 8
SWAP_SHARE: Final = 0.1

MOST_WAITING: Final = 10_000
"""Logins in the queue at most: a cluster has no more connections than that (AWS
documentation, quotas)."""

INSTANT_SECONDS: Final = 0.1
"""Who waits no longer than this for a token need not be told."""

MOMENT_SECONDS: Final = 1.0
"""... and no longer than this for the pace alone."""

OnWait = Callable[[Cause | None], None]
"""Told why a caller waits: what the cluster is too busy for, or None for the rate.

It neither raises nor comes back to the limiter.
"""


class Timer(Protocol):
    """A call that was scheduled."""

    def cancel(self) -> None:
        """Call it off."""


class Loop(Protocol):
    """What is asked of an event loop, the clock included."""

    def time(self) -> float:
        """Give the loop's time in seconds."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> Timer:
        """Call back at a time of the loop."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody in a lane."""

    turn: asyncio.Future[Attempt | None]
    """Done when it may go; with None when its time is over."""
    on_wait: OnWait | None = None
    told: tuple[Cause | None, ...] = ()
    """The last reason that it was told."""
    limit: Timer | None = None
    """The end of its time."""

    def tell(self, cause: Cause | None) -> None:
        """Tell why it waits, unless it knows."""
        if self.on_wait is not None and self.told != (cause,):
            self.told = (cause,)
            self.on_wait(cause)


@dataclass(frozen=True, slots=True)
class _Lane:
    """Those who wait for the same things, by ticket, in the order of arrival."""

    buckets: tuple[Bucket, ...]
    is_for_swaps: bool = False
    queue: OrderedDict[int, _Waiter] = field(default_factory=OrderedDict)


class LoginLimiter:
    """One cluster's budget of logins, shared by whoever opens connections to it.

    A login that fails has cost its token all the same: the cluster counts attempts.
    ``pace`` is what the loop takes: limiters of one loop share it; None: all there is.
    ``running_loop`` is asked for each time, so that it can be made before the loop.
    """

    def __init__(
        self,
        rate: float,
        burst: float = DEFAULT_BURST,
        *,
        crowding: Crowding | None = None,
        pace: Bucket | None = None,
        running_loop: Callable[[], Loop] = asyncio.get_running_loop,
    ) -> None:
        self._running_loop = running_loop
        self._crowding = crowding or Crowding(random=random.random)
        self._tokens = Bucket(rate, burst)
        self._pace = pace
        self._swap_tokens = Bucket(rate * SWAP_SHARE, max(1.0, burst * SWAP_SHARE))
        self._swaps = 0
        self._tickets = 0
        self._logins = _Lane((self._tokens, pace) if pace else (self._tokens,))
        self._urgent = _Lane((self._tokens,), is_for_swaps=True)
        self._early = _Lane((self._tokens, self._swap_tokens), is_for_swaps=True)
        self._lanes = (self._logins, self._urgent, self._early)
        self._timer: Timer | None = None

    # -- what is to be seen ----------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many wait for their turn, in all lanes."""
        return sum(len(lane.queue) for lane in self._lanes)

    @property
    def paused_for(self) -> float:
        """The seconds that are left of a pause; 0 if there is none."""
        return self._crowding.seconds_left(self._now)

    @property
    def crowded_by(self) -> Cause | None:
        """What the cluster is too busy for, until one login has gone ahead."""
        return self._crowding.cause(self._now)

    @property
    def _now(self) -> float:
        return self._running_loop().time()

    # -- turns -----------------------------------------------------------------------

    @asynccontextmanager
    async def login(
        self, *, within: float | None = None, on_wait: OnWait | None = None
    ) -> AsyncIterator[None]:
        """Wait for the turn of a client's login, or of a recovery.

        `TooManyConnections` if it does not come ``within`` so many seconds, or cannot
        (None: there is time, but still no room for more than 10,000). ``on_wait`` is
        called, once per change, with what it is that takes longer than an instant.
        """
        attempt = await self._pass(self._logins, within=within, on_wait=on_wait)
        with self._noting(attempt):
            yield

    @asynccontextmanager
    async def swap(self, *, is_urgent: bool = False) -> AsyncIterator[None]:
        """Wait for the turn of a swap's login, and be one of the 8 in the block.

        Hold it for the login only, not until the session is quiet. Who waits and
        becomes urgent has to come again: cancelled, it leaves without a trace.
        """
        attempt = await self._pass(self._urgent if is_urgent else self._early)
        try:
            with self._noting(attempt):
                yield
        finally:
            self._swaps -= 1
            self._serve()

    async def _pass(
        self, lane: _Lane, within: float | None = None, on_wait: OnWait | None = None
    ) -> Attempt:
        """Return when it is this caller's turn, with all that the lane asks taken."""
        seconds = self._seconds_in_queue(lane)
        self._refuse_if_in_vain(lane, seconds, within)
        self._tickets += 1
        ticket = self._tickets
        waiter = _Waiter(asyncio.get_running_loop().create_future(), on_wait)
        lane.queue[ticket] = waiter
        self._serve()
        try:
            if not waiter.turn.done() and within is not None:
                self._limit(lane, ticket, within)
            if not waiter.turn.done():
                self._tell(waiter, seconds)
                if (self._seconds_at_pace(lane, ticket) or 0.0) > MOMENT_SECONDS:
                    waiter.tell(None)
            attempt = await waiter.turn
        except BaseException:
            lane.queue.pop(ticket, None)
            self._give_back(lane, waiter)
            raise
        finally:
            if waiter.limit is not None:
                waiter.limit.cancel()
        if attempt is None:
            raise no_turn_in_time(rate=self._tokens.rate, cause=self.crowded_by)
        return attempt

    def _seconds_in_queue(self, lane: _Lane) -> float:
        """Say when the turn of a newcomer would come, by those who came before it.

        0 if there is a token for it as soon as a pause is over: nobody knows what a
        cluster does then, so a pause alone makes nobody's waiting vain.
        """
        now = self._now
        pause = self._crowding.seconds_left(now)
        return self._tokens.seconds_until(len(lane.queue) + 1, now, pause=pause)

    def _refuse_if_in_vain(
        self, lane: _Lane, seconds: float, within: float | None
    ) -> None:
        waiting, rate = len(lane.queue), self._tokens.rate
        if within is not None and seconds > within:
            raise too_many_waiting(waiting, rate=rate, within=within)
        if lane is self._logins and waiting >= MOST_WAITING:
            raise too_many_waiting(waiting, rate=rate)

    def _limit(self, lane: _Lane, ticket: int, seconds: float) -> None:
        """Have somebody who waits give up after so long, which may be now."""
        if seconds > 0.0:
            lane.queue[ticket].limit = self._running_loop().call_at(
                self._now + seconds, lambda: self._give_up(lane, ticket)
            )
        else:
            self._give_up(lane, ticket)

    def _give_up(self, lane: _Lane, ticket: int) -> None:
        """End the waiting of somebody, if it is for more than the pace."""
        self._serve()  # its turn may come in this very moment
        if ticket not in lane.queue:
            return
        seconds = self._seconds_at_pace(lane, ticket)
        if seconds is not None:
            self._limit(lane, ticket, seconds)
            return
        waiter = lane.queue.pop(ticket)
        if not waiter.turn.done():
            waiter.turn.set_result(None)
        self._serve()

    def _seconds_at_pace(self, lane: _Lane, ticket: int) -> float | None:
        """Say how long somebody waits, if it is for the pace alone; else None.

        0 if the moment has come since it was last looked at.
        """
        now, pace = self._now, self._pace
        if pace is None or lane is not self._logins:
            return None
        if self._crowding.seconds_until_next(now) != 0.0:
            return None
        place = list(lane.queue).index(ticket) + 1
        if self._tokens.seconds_until(place, now):
            return None
        return pace.seconds_until(place, now)

    def _tell(self, waiter: _Waiter, seconds: float) -> None:
        """Tell somebody why it waits, if it is for long; ``seconds``: by the rate."""
        cause = self.crowded_by
        if cause is not None or seconds > INSTANT_SECONDS:
            waiter.tell(cause)

    # -- what became of it -----------------------------------------------------------

    @contextmanager
    def _noting(self, attempt: Attempt) -> Iterator[None]:
        """Learn from what leaves the block if the cluster takes logins."""
        try:
            yield
        except BaseException as error:
            self._note(attempt, error)
            raise
        else:
            self._note(attempt, None)

    def _note(self, attempt: Attempt, error: BaseException | None) -> None:
        crowding, now = self._crowding, self._now
        match error:
            case UpstreamRejected() if (cause := cause_of(error)).is_passing:
                has_changed = crowding.refused(attempt, cause, now)
                if has_changed and cause is Cause.RATE_EXCEEDED:
                    self._tokens.drain(now)  # by other programs: the cluster has none
            case asyncio.CancelledError() | GeneratorExit() | TokenError():
                # Its client left, or it had nothing to knock with.
                has_changed = crowding.gone(attempt)
            case _:
                has_changed = crowding.taken(attempt)
        if has_changed:
            self._serve()
            for place, waiter in enumerate(list(self._logins.queue.values()), start=1):
                self._tell(waiter, self._tokens.seconds_until(place, now))

    # -- who is next -----------------------------------------------------------------

    def _serve(self) -> None:
        """Tell everybody whose turn it is, and set the timer for the next one."""
        self._set_timer(None)
        now = self._now
        while lanes := [lane for lane in self._lanes if lane.queue]:
            waits = [self._seconds_until(lane, now) for lane in lanes]
            ready = [
                lane for lane, wait in zip(lanes, waits, strict=True) if wait == 0.0
            ]
            if not ready:
                known = [wait for wait in waits if wait is not None]
                self._set_timer(now + min(known) if known else None)
                return
            lane = min(ready, key=_first_ticket)
            _, waiter = lane.queue.popitem(last=False)
            if not waiter.turn.cancelled():
                waiter.turn.set_result(self._take(lane, now))

    def _seconds_until(self, lane: _Lane, now: float) -> float | None:
        """Say when the first of a lane may go; None: when a login has ended."""
        pause = self._crowding.seconds_until_next(now)
        if pause is None or (lane.is_for_swaps and self._swaps >= SWAPS_AT_ONCE):
            return None
        return max(pause, *(bucket.seconds_until(1, now) for bucket in lane.buckets))

    def _take(self, lane: _Lane, now: float) -> Attempt:
        self._swaps += lane.is_for_swaps
        for bucket in lane.buckets:
            bucket.level -= 1.0
        return self._crowding.begin(now)

    def _give_back(self, lane: _Lane, waiter: _Waiter) -> None:
        """Let the next one go where somebody leaves, told in this moment or not."""
        turn = waiter.turn
        if turn.done() and not turn.cancelled() and (attempt := turn.result()):
            self._swaps -= lane.is_for_swaps
            for bucket in lane.buckets:
                bucket.level += 1.0
            self._crowding.gone(attempt)
        self._serve()

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if when is not None:
            self._timer = self._running_loop().call_at(when, self._serve)


def _first_ticket(lane: _Lane) -> int:
    return next(iter(lane.queue))
