"""How many connections a cluster has, and how fast it takes new ones.

AWS documentation (quotas): 10,000 connections per cluster; 100 new ones per second
with a burst of 1,000.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TokenBucket:
    """So many at once, then so many per second; refuses instead of waiting."""

    def __init__(
        self, *, rate: float, burst: float, clock: Callable[[], float]
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._seen = clock()

    def take(self) -> bool:
        """Take one if there is one."""
        now = self._clock()
        gained = max(0.0, now - self._seen) * self._rate
        self._level = min(self._burst, self._level + gained)
        self._seen = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class Slots:
    """Connections that are open, and how many may be."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Hold a slot for the time of the block; False where none is left."""
        if self.taken >= self._limit:
            yield False
            return
        self.taken += 1
        try:
            yield True
        finally:
            self.taken -= 1
