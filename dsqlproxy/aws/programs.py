"""The programs that a fetch runs (``credential_process``), so that they can be ended.

botocore waits for them without a time limit, and nothing interrupts a thread that
waits; but when the program ends, so does the wait.
"""

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import Any


class Programs:
    """The programs of one fetch; `start` is called on its thread, `end` on any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: list[subprocess.Popen[bytes]] = []
        self._has_ended = False

    def start(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start one as subprocess.Popen does, which botocore would call.

        It must not wait for what somebody types into the terminal: it gets neither
        standard input nor, in a session of its own, a terminal to open.
        """
        with self._lock:
            if self._has_ended:
                raise TimeoutError
            program = subprocess.Popen(  # noqa: S603 - the user's own configuration
                command, stdin=subprocess.DEVNULL, start_new_session=True, **options
            )
            self._started.append(program)
        return program

    def end(self, number: signal.Signals) -> None:
        """Send a signal to all that run, and let no other start.

        Its children get it too: the wait is for whoever holds the pipe.
        """
        with self._lock:
            self._has_ended = True
            # While nobody has waited for it, its number is nobody else's.
            running = [each for each in self._started if each.returncode is None]
        for program in running:
            # macOS answers EPERM where only the remains of a process are left.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(program.pid, number)
