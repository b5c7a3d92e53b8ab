"""Spreads logins that may begin together over a moment.

A login takes some milliseconds of the event loop, most of them for TLS, in which no
byte of another session moves. The cluster takes a thousand at once, and two hundred
held clients are let go together when credentials are back: all sessions would wait
for two hundred handshakes (``docs/performance.md``, "A source of credentials that
hangs"). At a pace, others have their turn between any two.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from dsqlproxy.upstream.bucket import Bucket

LOGINS_A_SECOND: Final = 125.0
"""More than a cluster takes for long (100), and less than half of the loop's time."""

LOGINS_AT_ONCE: Final = 5.0


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


class Pace:
    """So many go on at once, then so many a second, in the order of arrival.

    Each is given its moment as it comes. So a loop that is late lets all go whose
    moment has passed: it makes nobody wait longer, and nobody is ever refused.
    """

    def __init__(
        self,
        rate: float = LOGINS_A_SECOND,
        burst: float = LOGINS_AT_ONCE,
        *,
        running_loop: Callable[[], Loop] = asyncio.get_running_loop,
    ) -> None:
        self._moments = Bucket(rate, burst)
        self._running_loop = running_loop
        self.waiting = 0

    async def wait(self) -> None:
        """Return when this caller's moment has come."""
        loop = self._running_loop()
        now = loop.time()
        seconds = self._moments.seconds_until(1, now)
        self._moments.level -= 1.0  # below 0: moments that are promised
        if seconds:
            await self._wait_until(now + seconds)

    async def _wait_until(self, when: float) -> None:
        moment = asyncio.get_running_loop().create_future()

        def come() -> None:
            if not moment.done():
                moment.set_result(None)

        timer = self._running_loop().call_at(when, come)
        self.waiting += 1
        try:
            await moment
        except asyncio.CancelledError:
            self._moments.level += 1.0
            raise
        finally:
            timer.cancel()
            self.waiting -= 1
