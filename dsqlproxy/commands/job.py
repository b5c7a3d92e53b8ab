"""A command beside a proxy: who gets which signal, and when which of them ends.

The proxy listens before the command begins, and ends when the command has ended. A
signal that asks us to end asks the command: the proxy is for it, and stays until then.

Who signals the whole process group, as `timeout` does, reaches the command twice, once
through us: nothing tells us that it knows. A group of its own would spare it that, but
whoever kills our group would leave it running, and its terminal would be another's.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from dsqlproxy.commands.child import Child, reaches_from_terminal

if TYPE_CHECKING:
    from dsqlproxy.drain import Shutdown

DRAIN_SECONDS: Final = 1.0
"""What is left of the command's connections when it has ended gets so long."""

FORCE_SECONDS: Final = 0.5
"""A second SIGTERM that comes sooner is the same again: `timeout` sends one to the
process and one to its group."""

FROM_KEYS: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
"""Those that a terminal sends to the whole process group, the command included."""

_PASSED_ON: Final = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


class Job:
    """The command, begun when the proxy listens; its end is the proxy's.

    A signal before it has begun, or after it has ended, is one for the proxy.
    """

    def __init__(self, shutdown: "Shutdown", *, clock: Callable[[], float]) -> None:
        self._shutdown = shutdown
        self._clock = clock
        self._child: Child | None = None
        self._asked_to_end: float | None = None
        self.signal_before: signal.Signals | None = None
        self.code: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is a command whose end has to be waited for."""
        return self._child is not None

    def begin(self, child: Child) -> None:
        """Know the command from now on; `run` waits for it."""
        self._child = child

    async def run(self, child: Child) -> None:
        """Wait for the command to end; let the proxy end then, and soon."""
        self.code = await child.wait()
        if child.is_killed and self.code == 128 + signal.SIGKILL:
            self.code = 128 + signal.SIGTERM
        end = partial(self._shutdown.request, "the command has ended")
        end()
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, end)

    def note_signal(self, number: signal.Signals) -> None:
        """Pass a signal on to the command, unless it has it from the terminal."""
        child = self._child
        if child is None or self.code is not None:
            self.signal_before = self.signal_before or number
            self._shutdown.request(number.name)
        elif number in FROM_KEYS and reaches_from_terminal():
            pass
        elif number is signal.SIGTERM and self._is_asked_again():
            child.kill()
        else:
            child.send(number)

    def _is_asked_again(self) -> bool:
        now = self._clock()
        if self._asked_to_end is None:
            self._asked_to_end = now
        return now - self._asked_to_end >= FORCE_SECONDS


def signals_passed_on() -> Sequence[signal.Signals]:
    """Give the signals that are for the command; what is ignored stays ignored."""
    return [
        number for number in _PASSED_ON if signal.getsignal(number) != signal.SIG_IGN
    ]


@contextlib.contextmanager
def signals_to(receive: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Hand those signals over, on the running loop."""
    loop = asyncio.get_running_loop()
    numbers = signals_passed_on()
    for number in numbers:
        loop.add_signal_handler(number, receive, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
