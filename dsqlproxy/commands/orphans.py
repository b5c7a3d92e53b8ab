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

from dsqlproxy.commands.child import reaches_from_terminal
from dsqlproxy.commands.job import FROM_KEYS


def go_on_below(numbers: Iterable[signal.Signals]) -> int | None:
    """Go on in a new process, which gets None; stay for its end, and give its code.

    The signals are passed on to it, but for those of keys that reach it as well; they
    are held here from now on. Call it before there is any thread or event loop.
    """
    # Where the end of a child is ignored, nobody can wait for it.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    expected = {*numbers, signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, expected)
    if below := os.fork():
        return _stay_until_end_of(below, expected)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # the new process has them as ever
    return None


def _stay_until_end_of(below: int, expected: set[signal.Signals]) -> int:
    """Take one signal after the other; give the code of the process below.

    Not by handlers: Python runs them between two calls, and a signal that comes when
    the last handler has run and ``wait`` not begun is seen only after the next one.
    """
    while True:
        number = signal.sigwait(expected)
        if number != signal.SIGCHLD:
            _pass_on(number, below)
        elif (code := _reap(below)) is not None:
            return code


def _pass_on(number: int, below: int) -> None:
    if not (number in FROM_KEYS and reaches_from_terminal()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(below, number)


def _reap(below: int) -> int | None:
    """Reap all that have ended; give the code of the process below if it has.

    Several ends may be told by one signal.
    """
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == below:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if not ended:
            return None
