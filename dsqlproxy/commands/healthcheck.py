"""``dsqlproxy healthcheck``: is the proxy ready? For images without curl."""

import argparse
import os

from dsqlproxy.commands.admin_client import (
    add_admin_arguments,
    ask_readiness,
    find_admin,
)
from dsqlproxy.errors import DsqlProxyError

HELP = """\
Ask the running proxy whether it is ready: exit code 0 when it is, 1 when it
is not or does not answer. It says nothing when all is well, and why not on
standard error otherwise, with why the last login on a listener failed, if it
did. Made for the health checks of containers: HEALTHCHECK, Compose, ECS, and
exec probes of Kubernetes.

The proxy is asked on its admin listener. Its address comes from --admin or
--ready-file, else from DSQLPROXY_ADMIN_LISTEN, else from the file named by
--config or DSQLPROXY_CONFIG; else it is 127.0.0.1:9090.

Ready means: it listens and is not about to end. The cluster is not dialled.
One thing that clients have met counts as well: until a login has worked on a
listener, one that is refused for want of credentials or rights makes the
proxy not ready for 60 s.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    add_admin_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask once."""
    answer = ask_readiness(find_admin(args, os.environ))
    if answer.ok:
        return 0
    from dsqlproxy.commands.status import failed_logins  # noqa: PLC0415 - only now

    # While it drains, that alone is why.
    is_listening = answer.body.get("phase") == "listening"
    logins = failed_logins(answer) if is_listening else []
    raise DsqlProxyError("; ".join([f"not ready: {answer.reason}", *logins]))
