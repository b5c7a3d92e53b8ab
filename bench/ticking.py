"""The proxy itself, and on its event loop a clock that notes how late everything is.

    python -m bench.ticking TICKS --config FILE --ready-file PATH

It is ``dsqlproxy`` with all that follows TICKS, on the same loop (uvloop where there
is one); at its end the file TICKS says how late the loop was, at each millisecond. With
nothing after TICKS it is a loop on which nothing else runs: what this machine alone
makes of punctuality.
"""

import asyncio
import signal
import sys
import time
from array import array
from collections.abc import Callable
from itertools import compress
from pathlib import Path

from dsqlproxy import cli
from dsqlproxy.commands import run

INTERVAL_SECONDS = 0.001

LoopMaker = Callable[[], asyncio.AbstractEventLoop]


class Ticker:
    """Notes how late a callback would have run that was due at each millisecond.

    Also at those that passed while the loop was busy: whoever comes then waits, and
    a loop that stalls once for a second is not late once, but for a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = 0.0
        self.due = array("d")
        self.late = array("d")

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tick on a loop, as long as it runs."""
        self.begin()

        def tick() -> None:
            self.note()
            loop.call_later(INTERVAL_SECONDS, tick)

        loop.call_soon(tick)

    def begin(self) -> None:
        """Let the first millisecond be this one."""
        self._due = self._clock()

    def note(self) -> None:
        """Take down every millisecond that has passed."""
        now = self._clock()
        while self._due <= now:
            self.due.append(self._due)
            self.late.append(now - self._due)
            self._due += INTERVAL_SECONDS

    def write(self, file: Path) -> None:
        """Write all of it down."""
        with file.open("wb") as stream:
            self.due.tofile(stream)
            self.late.tofile(stream)


class Ticks:
    """What a ticker has written; its clock is that of all processes."""

    def __init__(self, file: Path) -> None:
        both = array("d", file.read_bytes())
        half = len(both) // 2
        self._due, self._late = both[:half], both[half:]

    def late_between(self, begin: float, end: float) -> list[float]:
        """Give the seconds by which the loop was late, by `time.monotonic`."""
        return list(compress(self._late, (begin <= due < end for due in self._due)))


def main() -> int:
    """Run the proxy, or an idle loop; give the exit code."""
    file, *words = sys.argv[1:]
    ticker = Ticker()
    make = run.loop_factory(None) or asyncio.new_event_loop

    def make_ticking() -> asyncio.AbstractEventLoop:
        loop = make()
        ticker.start(loop)
        return loop

    try:
        if words:
            return _run_proxy(words, make_ticking)
        with asyncio.Runner(loop_factory=make_ticking) as runner:
            runner.run(_wait_for_the_end())
        return 0
    finally:
        ticker.write(Path(file))


def _run_proxy(words: list[str], make: LoopMaker) -> int:
    def always(choice: str | None) -> LoopMaker | None:
        del choice
        return make

    # The one seam: so all of the command is as its users have it.
    run.loop_factory = always
    return cli.main(words)


async def _wait_for_the_end() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


if __name__ == "__main__":
    sys.exit(main())
