"""What process 1 of a container owes it: an end for those whose parents have ended.

The kernel makes them children of process 1, and they stay in the table of processes
until it asks for their ends. Whoever waits for one command cannot ask for the end of
any child: the end of a credential process is for botocore. So the work is done in a
second process, and the first does nothing else.
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from types import FrameType

from dsqlproxy.commands.child import reaches_from_terminal
from dsqlproxy.commands.job import FROM_KEYS


def go_on_below(numbers: Iterable[signal.Signals]) -> int | None:
    """Go on in a new process, which gets None; stay for its end, and give its code.

    The signals are passed on to it, but for those of keys that reach it as well. Call
    it before there is any thread or event loop.
    """
    # Held until there is someone to pass them on to. The new process has them as ever.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    below = os.fork()
    if below:
        _pass_on(numbers, below)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return _reap_until_end_of(below) if below else None


def _pass_on(numbers: Iterable[signal.Signals], below: int) -> None:
    def pass_on(number: int, _: FrameType | None) -> None:
        if not (number in FROM_KEYS and reaches_from_terminal()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(below, number)

    for number in numbers:
        signal.signal(number, pass_on)


def _reap_until_end_of(below: int) -> int:
    while True:
        ended, status = os.wait()
        if ended == below:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
