"""Children that do not outlive this process, where the platform offers that."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Give a ``preexec_fn`` that has the kernel end a child with us; Linux only.

    The signal belongs to the thread that starts the child: its end would count as
    ours. prctl is loaded here, before the fork.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    pr_set_pdeathsig = 1
    parent = os.getpid()

    def ask_for_signal() -> None:
        prctl(pr_set_pdeathsig, int(number))
        if os.getppid() != parent:
            os._exit(1)  # we died before it could be asked for

    return ask_for_signal
