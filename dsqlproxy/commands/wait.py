"""``dsqlproxy wait``: return when the proxy is ready."""

import argparse
import os
import time
from collections.abc import Callable
from typing import Final

from dsqlproxy.commands.admin_client import (
    ANSWER_SECONDS,
    Answer,
    NoAnswer,
    add_admin_arguments,
    ask_readiness,
    find_admin,
)
from dsqlproxy.config.durations import parse_positive_duration
from dsqlproxy.errors import ConfigError, DsqlProxyError

HELP = """\
Wait until the proxy is ready: exit code 0 as soon as it is, 1 when it is not
after --timeout. For scripts that start the proxy in the background, and for
containers that must not start before it.

The proxy is asked on its admin listener. Its address comes from --admin or
--ready-file, else from DSQLPROXY_ADMIN_LISTEN, else from the file named by
--config or DSQLPROXY_CONFIG; else it is 127.0.0.1:9090. A ready
file that does not exist yet is waited for.

Ready means: it listens and is not about to end. The cluster is not dialled.
One thing that clients have met counts as well: until a login has worked on a
listener, one that is refused for want of credentials or rights makes the
proxy not ready for 60 s.
"""

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    add_admin_arguments(parser)
    parser.add_argument(
        "--timeout",
        metavar="DURATION",
        default="30s",
        help="give up after this long (default 30s)",
    )


def run(args: argparse.Namespace) -> int:
    """Ask until the answer is yes."""
    try:
        timeout = parse_positive_duration(args.timeout)
    except ValueError as error:
        raise ConfigError([f"--timeout: {error}"]) from None

    def ask(seconds: float) -> Answer:
        return ask_readiness(find_admin(args, os.environ), timeout=seconds)

    wait_until_ready(ask, timeout=timeout, clock=time.monotonic, sleep=time.sleep)
    return 0


def wait_until_ready(
    ask: Callable[[float], Answer],
    *,
    timeout: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Return when the answer is yes; DsqlProxyError with the last reason otherwise.

    This polls, with growing pauses: another process that has not even bound its
    port has no way to tell us when it will.
    """
    deadline = clock() + timeout
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            answer = ask(max(pause, min(ANSWER_SECONDS, deadline - clock())))
        except NoAnswer as error:
            reason = error.message
        else:
            if answer.ok:
                return
            reason = answer.reason
        remaining = deadline - clock()
        if remaining <= 0:
            raise DsqlProxyError(f"not ready after {timeout:g} s: {reason}")
        sleep(min(pause, remaining))
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
