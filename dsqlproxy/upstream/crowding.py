"""When a cluster is too busy to take logins: a pause, then a scout. No I/O.

A cluster that wakes up, or has as many connections or logins as it takes, says so to
everybody who knocks; to go on knocking makes it worse. So what one login is told
holds for all of them::

    OPEN      logins begin as they come. One is refused as crowded -> PAUSED
    PAUSED    no login begins. The time is over -> SCOUTING
    SCOUTING  the next login goes alone. Refused as crowded -> PAUSED, for longer;
              gone without an answer -> the next one is the scout;
              anything else: the cluster takes logins -> OPEN
    any       nobody has come for a while -> OPEN, as nothing is known any more

Of logins that began before the last step nothing counts, whatever they are told: five
hundred that are refused in one moment are one step, and a late success of an old one
says less than the refusal that came after it had begun.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dsqlproxy.situations.cluster import Cause

PAUSES_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""The first pause, the second, … and all after the last; each up to half less.

A public kit tries a waking cluster after 1, 2, 4, 8 and 15 s, each client by itself.
Here one login asks for all, so it may begin sooner; and it ends at 8 s so that whoever
comes in a pause is still there when it is over (``hold_timeout`` is 10 s). In 8 s a
cluster regains 800 logins of its burst of 1,000 (AWS documentation, quotas), so that
none of them are lost meanwhile.
"""

MEMORY_SECONDS: Final = 30.0
"""So long after a pause a scout still goes first; an hour later it would be in vain."""

_MOMENT: Final = 1e-6
"""Less is no time: else a timer might fire for nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One login that has begun."""

    step: int
    """How many steps had been taken when it did."""


class Crowding:
    """Whether the cluster takes logins, by what the last ones were told.

    ``now`` is always of the same monotonic clock, and ``random`` gives numbers in
    [0, 1): the jitter, so that several proxies do not come back together.
    """

    def __init__(
        self,
        *,
        random: Callable[[], float],
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        self._random = random
        self._pauses_seconds = pauses_seconds
        self._cause: Cause | None = None
        self._pauses = 0
        """How many there have been since the cluster took a login."""
        self._until = 0.0
        self._scout: Attempt | None = None
        self._step = 0

    def cause(self, now: float) -> Cause | None:
        """Say what the cluster is too busy for; None: it takes logins, or may do."""
        is_old = now > self._until + MEMORY_SECONDS
        return None if is_old and self._scout is None else self._cause

    def seconds_left(self, now: float) -> float:
        """Give what is left of a pause; 0 where there is none."""
        left = self._until - now
        return left if self._cause is not None and left > _MOMENT else 0.0

    def seconds_until_next(self, now: float) -> float | None:
        """Say when the next login may begin; None: when the scout is back."""
        return None if self._scout is not None else self.seconds_left(now)

    def begin(self, now: float) -> Attempt:
        """Note that a login begins; its end has to be told, by one of the next three.

        Each says whether it changes what the others may do.
        """
        if self.seconds_until_next(now) != 0.0:
            raise AssertionError("no login begins now, because the limiter has asked")
        attempt = Attempt(self._step)
        if self.cause(now) is None:
            self._open()
        else:
            self._scout = attempt
        return attempt

    def taken(self, attempt: Attempt) -> bool:
        """Note that the cluster took it, or that something else was wrong with it."""
        if attempt is not self._scout:
            return False
        self._open()
        return True

    def refused(self, attempt: Attempt, cause: Cause, now: float) -> bool:
        """Note that the cluster was too busy for it."""
        if attempt.step != self._step:
            return False
        self._step += 1
        self._scout = None
        self._cause = cause
        longest = len(self._pauses_seconds) - 1
        pause = self._pauses_seconds[min(self._pauses, longest)]
        self._until = now + pause * (1.0 - self._random() / 2.0)
        self._pauses += 1
        return True

    def gone(self, attempt: Attempt) -> bool:
        """Note that it was given up, before the cluster had said anything."""
        if attempt is not self._scout:
            return False
        self._scout = None
        return True

    def _open(self) -> None:
        self._cause = self._scout = None
        self._pauses = 0
