"""Three clocks that stand still until a test moves them, each by itself (H6).

What happens to a machine is what happens to its clocks::

    clocks = VirtualClocks()
    opened_at = clocks.clocks.read()
    clocks.pass_time(600)       # ten minutes awake
    clocks.suspend(7200)        # two hours asleep: the monotonic clock stands still
    clocks.set_wall(-3600)      # somebody sets the clock back
    assert clocks.clocks.read().seconds_since(opened_at) == 7800
"""

from dataclasses import dataclass

from dsqlproxy.clocks import Clocks


@dataclass
class VirtualClocks:
    """What each clock shows; set a field to move that clock alone."""

    monotonic: float = 1_000.0
    boot: float = 2_000.0
    wall: float = 1_700_000_000.0

    @property
    def clocks(self) -> Clocks:
        """The clocks, for whoever takes `Clocks`."""
        return Clocks(
            monotonic=lambda: self.monotonic,
            boot=lambda: self.boot,
            wall=lambda: self.wall,
        )

    def pass_time(self, seconds: float) -> None:
        """Let time pass on a machine that is awake."""
        self.monotonic += seconds
        self.suspend(seconds)

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep (Linux, macOS: the monotonic clock stands still)."""
        self.boot += seconds
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Let the host stop a virtual machine, which notices by its wall clock only."""
        self.wall += seconds

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back for a negative number."""
        self.wall += seconds
