"""Three clocks side by side, and how old a thing is by any of them (no I/O).

A cluster counts the age of a session by its own clock, which goes on while this
machine sleeps. Of the clocks here none can be trusted alone:

- *monotonic* never jumps, but stands still in a suspend (Linux, macOS);
- *boot* counts a suspend as well, but not every platform has it, and a virtual
  machine that is paused by its host may not notice;
- *wall* counts all of that, but can be set, and a step back would make young again.

So an age is the largest of the three differences: where they disagree, to believe a
connection older than it is costs a new one, and younger a statement.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

JUMP_SECONDS = 2.0
"""More than this between the clocks is a sleep or a clock that was set, and not an
event loop that was busy."""


class Reading(NamedTuple):
    """What the three clocks showed at one moment, in seconds."""

    monotonic: float
    boot: float
    wall: float

    def seconds_since(self, earlier: Self) -> float:
        """Give the time since ``earlier`` by the clock that counted most.

        Never negative: where the wall clock was set back, another one counts.
        """
        return max(
            0.0,
            self.monotonic - earlier.monotonic,
            self.boot - earlier.boot,
            self.wall - earlier.wall,
        )

    def jump_since(self, earlier: Self) -> float:
        """Give how much more than the monotonic clock another one counted.

        Near zero as long as this machine was awake and nobody set its clock; else
        about as long as it slept, or as far as the wall clock was set forward.
        """
        return self.seconds_since(earlier) - max(
            0.0, self.monotonic - earlier.monotonic
        )

    def has_jumped_since(self, earlier: Self) -> bool:
        """Say if this machine slept since, or its clock was set forward."""
        return self.jump_since(earlier) > JUMP_SECONDS


class Clocks(NamedTuple):
    """The clocks themselves, each a function that gives seconds."""

    monotonic: Callable[[], float]
    boot: Callable[[], float]
    wall: Callable[[], float]

    def read(self) -> Reading:
        """Look at all three."""
        return Reading(self.monotonic(), self.boot(), self.wall())
