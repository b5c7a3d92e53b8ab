"""How a proxy ends: a list of steps, each of which waits for an event, not a tick.

1. not ready any more (health), but still accepting for ``drain_delay``, since the
   containers of a pod are told to end together;
2. stop accepting;
3. sessions end at their next quiet moment, with 57P01; idle ones at once;
4. what is left at ``drain_timeout`` ends where it is, with 57P01 too;
5. tasks, admin listener and token threads end (`app`).

A second signal skips to step 4, and leaves it a moment only.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from dsqlproxy.config import Config
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.sessions import SessionState
from dsqlproxy.session.session import Session

PROGRESS_SECONDS = 5.0
"""How often a drain that goes on says how many sessions are left."""

STOP_SECONDS = 3.0
FORCED_SECONDS = 0.3
"""How long ended sessions may take for their last words; after a second signal."""


@dataclass(slots=True)
class Shutdown:
    """Asks a proxy to end; asked twice, to end at once."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    forced: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    force_reason: str = ""

    def request(self, reason: str) -> None:
        """Ask once, or once more."""
        if self.begun.is_set():
            self.force_reason = self.force_reason or reason
            self.forced.set()
        else:
            self.reason = reason
            self.begun.set()


class Drain:
    """The end of the sessions of one proxy; ``sessions`` are those not ended yet."""

    def __init__(
        self,
        config: Config,
        *,
        sessions: set[Session],
        clock: Callable[[], float],
        log: EventLog,
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._clock = clock
        self._log = log
        self._all_ended = asyncio.Event()

    def note_ended(self) -> None:
        """Learn that a session has ended."""
        if not self._sessions:
            self._all_ended.set()

    async def run(
        self, shutdown: Shutdown, *, stop_accepting: Callable[[], None]
    ) -> None:
        """Take the steps 1 to 4."""
        delay, timeout = self._config.drain_delay, self._config.drain_timeout
        self._log.info(
            "draining",
            reason=shutdown.reason,
            sessions=len(self._sessions),
            deadline=delay + timeout,
        )
        forced, ended = shutdown.forced, self._all_ended
        await _first_of(forced.wait(), seconds=delay)
        stop_accepting()
        for session in tuple(self._sessions):
            session.drain()
        await self._wait_for_busy(forced, deadline=self._clock() + timeout)
        for session in tuple(self._sessions):
            session.stop()
        ended.clear()
        if self._sessions and not forced.is_set():
            await _first_of(forced.wait(), ended.wait(), seconds=STOP_SECONDS)
        if self._sessions and forced.is_set():
            await _first_of(ended.wait(), seconds=FORCED_SECONDS)

    async def _wait_for_busy(self, forced: asyncio.Event, *, deadline: float) -> None:
        """Wait until all sessions have ended, and say at once if that takes time."""
        ended = self._all_ended
        while self._sessions and not forced.is_set():
            left, busy = deadline - self._clock(), self._count_busy()
            if left <= 0:
                if busy:
                    self._log.warning("drain timeout reached", sessions=busy)
                return
            if busy:
                facts = {"sessions": len(self._sessions), "busy": busy}
                hint = "a second signal ends it now"
                self._log.info("draining", **facts, deadline=round(left, 1), hint=hint)
            ended.clear()
            seconds = min(left, PROGRESS_SECONDS)
            await _first_of(forced.wait(), ended.wait(), seconds=seconds)

    def _count_busy(self) -> int:
        """Count the sessions that do not end by themselves in a moment."""
        ending = {SessionState.LOGIN, SessionState.CLOSING}
        return sum(each.info().state not in ending for each in self._sessions)


async def _first_of(*events: Coroutine[None, None, bool], seconds: float) -> None:
    """Wait for the first of some events, but not longer than so many seconds."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(event) for event in events]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
