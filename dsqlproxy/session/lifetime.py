"""When an upstream has to be replaced, by its age (no I/O, no clock inside).

A cluster closes a session at the session limit, without a word. With the usual 60
minutes, and in proportion with any other limit:

    0 min   YOUNG    nothing to do
    48-52   WARM     open the next upstream in the background, and swap as soon as
                     the session is quiet anyway; each session at a time of its own
    53.5    INSIST   hold the client at the next end of a request, and swap there
    59               a request that begins a transaction is not sent any more
    59.5    DEAD     the cluster may close at any moment: nothing more is sent

Between INSIST and 60 minutes lie 6.5: a transaction lasts 5 at most (AWS
documentation, quotas), so any session that is at work comes to an end of one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

HOUR: Final = 3600.0
MAX_SETTLE_SECONDS: Final = 0.25
FIRST_DELAY_SECONDS: Final = 1.0
MAX_DELAY_SECONDS: Final = 30.0


class Phase(StrEnum):
    """What the age of an upstream asks for."""

    YOUNG = "young"
    WARM = "warm"
    INSIST = "insist"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapWindow:
    """The instants of one upstream's life, each an age in seconds."""

    warm_seconds: float
    """Begin: open the next upstream, wait for a quiet moment."""
    insist_seconds: float
    """Make a quiet moment: hold the client at the end of a request."""
    last_start_seconds: float
    """From here on no transaction may begin: it might not end in time."""
    dead_seconds: float
    """Take the upstream for closed."""
    settle_seconds: float
    """How long a quiet moment has to last for a swap that nobody insists on: a
    client between two statements of a burst should not meet it."""

    @classmethod
    def of(cls, session_limit: float, *, jitter: float) -> Self:
        """Spread a window over a limit; ``jitter`` is a random number in [0, 1).

        It moves only the beginning, so that sessions that were opened together do
        not all log in again together.
        """
        minute = session_limit / 60.0
        return cls(
            warm_seconds=(48.0 + 4.0 * jitter) * minute,
            insist_seconds=53.5 * minute,
            last_start_seconds=59.0 * minute,
            dead_seconds=59.5 * minute,
            settle_seconds=min(MAX_SETTLE_SECONDS, session_limit / 200.0),
        )

    def phase(self, age_seconds: float) -> Phase:
        """Say what an upstream of this age needs."""
        if age_seconds < self.warm_seconds:
            return Phase.YOUNG
        if age_seconds < self.insist_seconds:
            return Phase.WARM
        if age_seconds < self.dead_seconds:
            return Phase.INSIST
        return Phase.DEAD

    def may_begin(self, age_seconds: float) -> bool:
        """Say whether a transaction may still begin on an upstream of this age."""
        return age_seconds < self.last_start_seconds

    def seconds_to_swap(self, age_seconds: float) -> float:
        """Give the time until the next upstream is opened; 0 once that is due."""
        return max(0.0, self.warm_seconds - age_seconds)


class Backoff:
    """How long to wait before trying again: 1, 2, 4 … 30 s, each up to half less.

    With a session limit under an hour all of it shrinks in proportion, as the window
    does: a limit of 3 s is tried again after a millisecond, and each 25 ms at most.
    ``random`` gives numbers in [0, 1).
    """

    def __init__(self, session_limit: float, *, random: Callable[[], float]) -> None:
        self._scale = min(1.0, session_limit / HOUR)
        self._random = random
        self._delay_seconds = FIRST_DELAY_SECONDS

    def next_delay(self) -> float:
        """Give the seconds to wait now; the next time it will be longer."""
        delay = self._delay_seconds
        self._delay_seconds = min(2.0 * delay, MAX_DELAY_SECONDS)
        return delay * self._scale * (1.0 - self._random() / 2.0)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._delay_seconds = FIRST_DELAY_SECONDS
