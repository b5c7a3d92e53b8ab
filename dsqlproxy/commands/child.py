"""A command that is run to its end as if this process were not there.

It stays in our process group and has our terminal: Ctrl-C and Ctrl-Z reach it, a
job that is stopped and continued is the whole of us, and nothing it asks of its
terminal is answered differently. It inherits every descriptor that we did, such as
the pipe of a shell's `<(...)`, and none of ours: Python and libuv open what they open
so that it ends at exec (PEP 446).

`subprocess` and a thread instead of the event loop's own: uvloop gives a new process
the default action of every signal (libuv does, in the child), and who was started
by nohup, or in the background by a shell, has a reason to ignore some.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.parentage import die_with_parent

EXIT_CANNOT_RUN: Final = 126
EXIT_NOT_FOUND: Final = 127
"""As the shells, env and nohup have it."""


class CannotRun(DsqlProxyError):
    """The command could not be started; ``exit_code`` says it as a shell would."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Child:
    """A running command. Its end is noticed in `wait`, which is called once."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.is_killed = False

    @classmethod
    def start(cls, words: Sequence[str], *, environ: Mapping[str, str]) -> "Child":
        """Start a command; call it from the main thread (see `die_with_parent`)."""
        try:
            process = subprocess.Popen(  # noqa: S603 - what the user asks for
                words,
                env=environ,
                close_fds=False,  # see above
                # SIGKILL, since an interactive shell ignores the gentler ones.
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - prctl and no more
            )
        except OSError as error:
            raise _cannot_run(words[0], error) from None
        return cls(process)

    def send(self, number: signal.Signals) -> None:
        """Pass a signal on; one that comes too late is nobody's."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self.is_killed = True
        self._process.kill()

    async def wait(self) -> int:
        """Wait for its end; give the code that a shell would give for it."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()

        def settle(code: int) -> None:
            if not ended.cancelled():
                ended.set_result(code)

        def wait_for_end() -> None:
            code = self._process.wait()
            with contextlib.suppress(RuntimeError):  # the loop was closed before
                loop.call_soon_threadsafe(settle, code)

        threading.Thread(target=wait_for_end, name="child", daemon=True).start()
        code = await ended
        return code if code >= 0 else 128 - code


def reaches_from_terminal() -> bool:
    """Tell whether the keys of a terminal are signals for our process group.

    They are then signals for the command, too, since it is in the same group.
    """
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:  # there is none
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it was closed
        return False
    finally:
        os.close(terminal)


def leave_standard_input() -> None:
    """Give up our own standard input, which a started command has.

    A credential process of the AWS configuration would otherwise read what is meant
    for the command, and a pipe into it would stay open when the command has ended.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if nothing != 0:
        os.close(nothing)


def _cannot_run(word: str, error: OSError) -> CannotRun:
    if not isinstance(error, FileNotFoundError):
        reason = error.strerror or type(error).__name__
        return CannotRun(f"cannot run {word}: {reason}", exit_code=EXIT_CANNOT_RUN)
    if "/" not in word:
        reason = "there is no such command in PATH"
    elif os.path.lexists(word):
        reason = "its interpreter, or what it links to, does not exist"
    else:
        reason = "there is no such file"
    return CannotRun(f"cannot run {word}: {reason}", exit_code=EXIT_NOT_FOUND)
