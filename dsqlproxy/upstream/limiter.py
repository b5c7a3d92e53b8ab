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
may go. Every lane draws on the same tokens. Nothing here waits by itself: whoever
waits is woken by a release, or by one timer for the next token.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

DEFAULT_BURST: Final = 1000.0
SWAPS_AT_ONCE: Final = 8
SWAP_SHARE: Final = 0.1

_ONE: Final = 1.0 - 1e-9
"""A token that is whole but for rounding; else a timer might fire for nothing."""


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


class _Bucket:
    """So many tokens at once, then so many per second; who takes one says so."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._filled_at: float | None = None
        self.level = burst

    def seconds_until_one(self, now: float) -> float:
        """Fill up, and say how long it takes until there is a token."""
        passed = 0.0 if self._filled_at is None else max(0.0, now - self._filled_at)
        self.level = min(self._burst, self.level + passed * self._rate)
        self._filled_at = now
        return 0.0 if self.level >= _ONE else (1.0 - self.level) / self._rate


@dataclass(frozen=True, slots=True)
class _Lane:
    """Those who wait for the same things, by ticket, in the order of arrival."""

    buckets: tuple[_Bucket, ...]
    is_for_swaps: bool = False
    queue: OrderedDict[int, asyncio.Future[None]] = field(default_factory=OrderedDict)


class LoginLimiter:
    """One cluster's budget of logins, shared by whoever opens connections to it.

    A login that fails has cost its token all the same: the cluster counts attempts.
    ``running_loop`` is asked for each time, so that it can be made before the loop.
    """

    def __init__(
        self,
        rate: float,
        burst: float = DEFAULT_BURST,
        *,
        running_loop: Callable[[], Loop] = asyncio.get_running_loop,
    ) -> None:
        self._running_loop = running_loop
        self._tokens = _Bucket(rate, burst)
        self._swap_tokens = _Bucket(rate * SWAP_SHARE, max(1.0, burst * SWAP_SHARE))
        self._swaps = 0
        self._tickets = 0
        self._logins = _Lane((self._tokens,))
        self._urgent = _Lane((self._tokens,), is_for_swaps=True)
        self._early = _Lane((self._tokens, self._swap_tokens), is_for_swaps=True)
        self._lanes = (self._logins, self._urgent, self._early)
        self._timer: Timer | None = None

    @property
    def waiting(self) -> int:
        """How many wait for their turn, in all lanes."""
        return sum(len(lane.queue) for lane in self._lanes)

    @asynccontextmanager
    async def login(self) -> AsyncIterator[None]:
        """Wait for the turn of a client's login, or of a recovery."""
        await self._pass(self._logins)
        yield

    @asynccontextmanager
    async def swap(self, *, is_urgent: bool = False) -> AsyncIterator[None]:
        """Wait for the turn of a swap's login, and be one of the 8 in the block.

        Hold it for the login only, not until the session is quiet. Who waits and
        becomes urgent has to come again: cancelled, it leaves without a trace.
        """
        await self._pass(self._urgent if is_urgent else self._early)
        try:
            yield
        finally:
            self._swaps -= 1
            self._serve()

    async def _pass(self, lane: _Lane) -> None:
        """Return when it is this caller's turn, with all that the lane asks taken."""
        self._tickets += 1
        ticket = self._tickets
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.queue[ticket] = turn
        self._serve()
        if turn.done():
            return
        try:
            await turn
        except asyncio.CancelledError:
            lane.queue.pop(ticket, None)
            if not turn.cancelled():
                self._give_back(lane)  # told in the same moment: the next one may go
            self._serve()
            raise

    def _serve(self) -> None:
        """Tell everybody whose turn it is, and set the timer for the next one."""
        self._set_timer(None)
        now = self._running_loop().time()
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
            _, turn = lane.queue.popitem(last=False)
            if not turn.cancelled():
                self._take(lane)
                turn.set_result(None)

    def _seconds_until(self, lane: _Lane, now: float) -> float | None:
        """Say when the first of a lane may go; None: when a swap has ended."""
        if lane.is_for_swaps and self._swaps >= SWAPS_AT_ONCE:
            return None
        return max(bucket.seconds_until_one(now) for bucket in lane.buckets)

    def _take(self, lane: _Lane) -> None:
        self._swaps += lane.is_for_swaps
        for bucket in lane.buckets:
            bucket.level -= 1.0

    def _give_back(self, lane: _Lane) -> None:
        self._swaps -= lane.is_for_swaps
        for bucket in lane.buckets:
            bucket.level += 1.0

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if when is not None:
            self._timer = self._running_loop().call_at(when, self._serve)


def _first_ticket(lane: _Lane) -> int:
    return next(iter(lane.queue))
