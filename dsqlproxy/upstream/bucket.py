"""A token bucket: so many at once, then so many a second. No I/O."""

from typing import Final

_ROUNDING: Final = 1e-9
"""A token that lacks no more is whole; else a timer might fire for nothing."""


class Bucket:
    """How many tokens there are; ``now`` is always of the same monotonic clock.

    Who takes some or gives some back says so by ``level``, after a look at the time.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self._burst = burst
        self._filled_at: float | None = None
        self.level = burst

    def seconds_until(self, tokens: int, now: float, *, pause: float = 0.0) -> float:
        """Fill up, and say how long it takes until there are so many tokens.

        With a ``pause`` first, in which nobody takes any: 0 where there are enough of
        them after it, so that only the pause is to be waited for.
        """
        passed = 0.0 if self._filled_at is None else max(0.0, now - self._filled_at)
        self.level = min(self._burst, self.level + passed * self.rate)
        self._filled_at = now
        missing = tokens - min(self._burst, self.level + pause * self.rate)
        return 0.0 if missing <= _ROUNDING else pause + missing / self.rate

    def drain(self, now: float) -> None:
        """Take all there is: somebody else has taken it."""
        self.seconds_until(0, now)
        self.level = min(0.0, self.level)
