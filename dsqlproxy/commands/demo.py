"""``dsqlproxy demo``: an emulated cluster and the proxy before it, in one process."""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dsqlproxy.commands import options
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.commands.emulator import packages_missing
from dsqlproxy.commands.run import (
    exit_code,
    forward_signals,
    loop_factory,
    ready_file,
    this_program,
)
from dsqlproxy.errors import ConfigError

if TYPE_CHECKING:
    from dsqlproxy.app import Started
    from dsqlproxy.config import Config
    from dsqlproxy.emulator.postgres import EmbeddedPostgres
    from dsqlproxy.emulator.server import Emulator
    from dsqlproxy.ops.log import EventLog

HELP = """\
Try the proxy without AWS: start an emulated Aurora DSQL cluster and the proxy in
front of it, and print the lines to paste.

The emulated cluster asks for IAM tokens and TLS as a real one does, refuses what
Aurora DSQL refuses, and closes each session at --session-limit. Behind it runs a
PostgreSQL 16 that lives in a temporary directory. Ctrl-C or closing the terminal
ends everything and leaves nothing behind; the data is gone then, too.

To watch the proxy move a living session from one connection to the next, shorten
the limit and leave psql open:

  dsqlproxy demo --session-limit 30s

It needs the extra emulator: pip install '.[emulator]' in the checkout.
"""

DEMO_LISTEN = "127.0.0.1:5432"
CLUSTER_LIMIT_SECONDS = 3600.0
"""Of a real cluster. With less there is something to watch, and it is logged."""

DRAIN_TIMEOUT = "1s"
"""Who ends a demonstration does not wait for a statement; the proxy's default would."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        default=DEMO_LISTEN,
        help=f"where clients connect (default: {DEMO_LISTEN}; port 0: any free one)",
    )
    parser.add_argument(
        "--session-limit",
        metavar="TIME",
        default="60m",
        help="when the emulated cluster closes a session, 1s to 24h (default: 60m)",
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        choices=("debug", "info", "warning", "error"),
        help="debug, info, warning or error (default: warning; info with a session"
        " limit under 60m)",
    )
    options.add_process_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    from dsqlproxy.config.addresses import parse_listen  # noqa: PLC0415 - heavy
    from dsqlproxy.config.values import parse_session_limit  # noqa: PLC0415
    from dsqlproxy.ops.log import configure_logging  # noqa: PLC0415

    flag = "--session-limit"
    try:
        session_limit = parse_session_limit(args.session_limit)
        flag = "--listen"
        parse_listen(args.listen)  # before the second that PostgreSQL takes to start
    except ValueError as error:
        raise ConfigError([f"{flag}: {error}"]) from None
    default_level = "info" if session_limit < CLUSTER_LIMIT_SECONDS else "warning"
    with (
        configure_logging(
            level=args.log_level or default_level, stream=sys.stderr
        ) as log,
        asyncio.Runner(loop_factory=loop_factory(args.event_loop)) as runner,
    ):
        return runner.run(_demonstrate(args, log, session_limit=session_limit))


async def _demonstrate(
    args: argparse.Namespace, log: "EventLog", *, session_limit: float
) -> int:
    try:
        from dsqlproxy.emulator.postgres import EmbeddedPostgres  # noqa: PLC0415
        from dsqlproxy.emulator.server import Emulator, EmulatorConfig  # noqa: PLC0415
    except ImportError as error:
        raise packages_missing(error) from None
    from dsqlproxy.app import Proxy  # noqa: PLC0415
    from dsqlproxy.aws.credentials import StaticCredentials  # noqa: PLC0415
    from dsqlproxy.drain import Shutdown  # noqa: PLC0415

    shutdown = Shutdown()
    with forward_signals(shutdown), ready_file(args.ready_file) as write:
        async with (
            EmbeddedPostgres.start() as postgres,
            Emulator(
                EmulatorConfig(session_limit=session_limit), backend=postgres.address
            ) as emulator,
        ):
            proxy = Proxy(
                _config_for(emulator, args.listen, args.session_limit),
                log=log,
                clocks=system_clocks(),
                credentials=StaticCredentials.of(
                    emulator.credentials.access_key_id,
                    emulator.credentials.secret_access_key,
                    emulator.credentials.session_token,
                ),
            )

            def announce(started: "Started") -> None:
                _print_welcome(started, emulator, postgres, args.session_limit)
                if session_limit < CLUSTER_LIMIT_SECONDS:
                    _print_what_to_watch(args.session_limit)
                print("Ctrl-C ends everything.", flush=True)
                write(started.as_dict())

            await proxy.run(shutdown, on_started=announce)
    if sys.stdout.isatty():
        print("\nEnded; nothing is left behind.")
    return exit_code(shutdown)


def _config_for(emulator: "Emulator", listen: str, session_limit: str) -> "Config":
    """Give the configuration that a user would write for this cluster."""
    from dsqlproxy.config import load_config  # noqa: PLC0415

    flags = {"--cluster": emulator.cluster, "--listen": listen, "--role": "admin"}
    variables = {
        "DSQLPROXY_LISTENER_CONNECT_ADDRESS": f"{emulator.host}:{emulator.port}",
        "DSQLPROXY_LISTENER_CA_FILE": str(emulator.ca_file),
        "DSQLPROXY_LISTENER_SESSION_LIMIT": session_limit,
        "DSQLPROXY_ADMIN_LISTEN": "127.0.0.1:0",
        "DSQLPROXY_DRAIN_TIMEOUT": DRAIN_TIMEOUT,
    }
    return load_config(None, flags=flags, environ=variables).config


def _print_welcome(
    started: "Started",
    emulator: "Emulator",
    postgres: "EmbeddedPostgres",
    session_limit: str,
) -> None:
    bound = started.listeners[0].address
    if hasattr(bound, "path"):
        path = Path(bound.path)
        host, port = str(path.parent), path.name.rpartition(".")[2]
        jdbc = ""  # which speaks TCP only
    else:
        host, port = bound.host, str(bound.port)
        jdbc = f"  jdbc:postgresql://{bound}/postgres?user=admin\n"
    psql = "psql" if shutil.which("psql") else postgres.psql or "psql"
    line = f"{psql} -h {host} -p {port} -U admin postgres"
    print(
        f"""\
dsqlproxy demo: psql -> dsqlproxy -> an emulated Aurora DSQL cluster

  proxy      {bound}  (no password, no TLS needed)
  cluster    {emulator.cluster}
             emulated on {emulator.host}:{emulator.port}; asks for IAM tokens,
             closes each session after {session_limit}
  status     {this_program()} status --admin {started.admin}
             http://{started.admin}/sessions

Paste into another terminal:

  {line}

or for a driver:

{jdbc}  export PGHOST={host} PGPORT={port} PGUSER=admin PGDATABASE=postgres
"""
    )


def _print_what_to_watch(session_limit: str) -> None:
    print(
        f"""\
Leave psql open for longer than {session_limit}, in and out of transactions. The cluster
closes each connection then; the proxy has moved the session to a new one before,
logs "upstream swapped" below, and psql does not notice. A transaction or statement that
is still open when the limit comes is lost, as without the proxy.
"""
    )
