"""Lets TLS handshakes take turns, however many may be made at once.

A step of a handshake costs up to a millisecond, in which nothing else moves. Two
hundred logins that begin together are answered together as well, and all other
sessions would wait until the last of them is through (measured:
``docs/performance.md``, "A source of credentials that hangs"). One step in each turn
of the loop takes as long in all, and other bytes pass between any two.
"""

import asyncio
from collections import deque


class Turnstile:
    """Lets one through in each turn of the running event loop, in order of arrival.

    Who comes alone does not wait. It keeps the loop busy only while somebody waits.
    """

    def __init__(self) -> None:
        self._queue: deque[asyncio.Future[None]] = deque()
        self._is_taken = False
        """Whether somebody went through in this turn."""

    async def pass_through(self) -> None:
        """Return when nobody else goes through in this turn."""
        if self._is_taken:
            waiting = asyncio.get_running_loop().create_future()
            self._queue.append(waiting)
            await waiting
        else:
            self._take()

    def _take(self) -> None:
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._is_taken = False
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.done():  # else it was cancelled
                waiting.set_result(None)
                self._take()
                return
