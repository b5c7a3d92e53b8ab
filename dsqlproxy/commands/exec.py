"""``dsqlproxy exec``: a command with a proxy beside it, for as long as it runs."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from dsqlproxy.commands import options
from dsqlproxy.commands.child import CannotRun, Child, leave_standard_input
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.commands.job import DRAIN_SECONDS, Job, signals_passed_on, signals_to
from dsqlproxy.commands.orphans import go_on_below
from dsqlproxy.commands.run import loop_factory, raise_file_limit
from dsqlproxy.commands.token import choose_listener, signing_request
from dsqlproxy.dsql import DATABASE
from dsqlproxy.errors import ConfigError, DsqlProxyError

if TYPE_CHECKING:
    from dsqlproxy.app import Started
    from dsqlproxy.config import Config, ListenerConfig, TcpAddress
    from dsqlproxy.ops.log import EventLog

HELP = """\
Run a command with a proxy of its own, and end both together.

    dsqlproxy exec --config proxy.yaml -- psql -c 'select now()'
    dsqlproxy exec --cluster ENDPOINT --role admin -- psql -f schema.sql

The proxy listens on a free port of 127.0.0.1, and the command finds it by
PGHOST, PGPORT, PGUSER and PGDATABASE, as psql and every driver on libpq do.
For a program that wants a URL, let a shell write it:

    dsqlproxy exec --config proxy.yaml -- sh -c \\
        'migrate --url "postgresql://$PGUSER@$PGHOST:$PGPORT/$PGDATABASE"'

Several can run at a time. It is also the cure for a job that never ends
because the proxy in the container beside it goes on: here the proxy ends with
its command, and not before. As with any proxy that listens on a loopback
address, other users of this machine can connect to it while it runs.

What the command gets

  Its standard input, output and error are yours, and so are the terminal and
  all other files that you have open: <(...) of a shell can be its argument.

  The variables that would lead a connection elsewhere, or ask of it what is
  between proxy and cluster only, are taken away: PGSSL* (the way to the proxy
  is plain, the way to the cluster is verified TLS), PGHOSTADDR, PGSERVICE,
  PGREQUIREAUTH, PGCHANNELBINDING, PGGSSENCMODE, PGREQUIRESSL,
  PGTARGETSESSIONATTRS and PGMINPROTOCOLVERSION. All others are passed on,
  AWS_* and DSQLPROXY_* included.

  PGUSER is --role, else the listener's role, else the only one of its roles,
  else admin. With --role, or a role in the configuration, it is the role of
  every session, whatever user the command names.

What of the configuration counts

  One listener, named by --listener where the file has several, without its
  listen address and client_tls. Health and metrics are off without
  --admin-listen, so that two proxies never want the same port. Only warnings
  are logged, to standard error, unless --log-level or DSQLPROXY_LOG_LEVEL says
  otherwise; what the file says is meant for a proxy that runs by itself.

Signals

  SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed on to the command; a second
  SIGTERM, half a second later or more, kills it. SIGINT and SIGQUIT come from
  a terminal to the command too, so they are left to it: Ctrl-C in psql cancels
  the statement. Where no terminal sent them they are passed on. On Linux the
  command ends even if the proxy is killed; elsewhere it loses its connection.

  As process 1 of a container it needs no init (tini, docker run --init) beside
  it: it collects what the command leaves behind in the background, and ends
  with the command.

Exit codes

  that of the command, or 128 plus the number of the signal that ended it;
  126 if the command cannot be run, 127 if it is not found; 1 if the proxy
  cannot start, 2 for bad usage or configuration: then the command was not
  started. 143 after a second SIGTERM.
"""

HOST: Final = "127.0.0.1"
# What of the environment breaks a plain connection to the proxy, or leads elsewhere
# (PostgreSQL documentation, "libpq: Environment Variables"): a service's host and port
# go before PGHOST and PGPORT; the proxy neither speaks TLS or GSS here nor asks who
# the client is; a cluster is no standby, and speaks protocol 3.0.
# PGPASSWORD and PGPASSFILE stay: nobody asks for them, and they may be for a server
# that the command names itself.
_CLEARED: Final = frozenset(
    {
        *("PGHOSTADDR", "PGSERVICE", "PGREQUIREAUTH", "PGCHANNELBINDING"),
        *("PGGSSENCMODE", "PGREQUIRESSL", "PGTARGETSESSIONATTRS"),
        "PGMINPROTOCOLVERSION",
    }
)
_CLEARED_PREFIX: Final = "PGSSL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags, and the command after them."""
    parser.usage = "%(prog)s [flags] -- COMMAND [ARGUMENT ...]"
    options.add_cluster_arguments(parser)
    group = parser.add_argument_group("proxy")
    group.add_argument(
        "--listener",
        metavar="NAME",
        help="the listener to use, where the file has several",
    )
    group.add_argument(
        "--role", metavar="ROLE", help="role of every session, and PGUSER"
    )
    # The destinations are those under which `options.load` looks for keys.
    for flag, key, metavar, text in (
        ("--admin-listen", "key_admin_listen", "ADDRESS", "health and metrics (off)"),
        ("--log-level", "key_log_level", "LEVEL", "the least level logged (warning)"),
        ("--log-format", "key_log_format", "FORMAT", "text, json or auto (text)"),
    ):
        group.add_argument(flag, dest=key, metavar=metavar, help=text)
    group.add_argument(
        "--event-loop",
        choices=("uvloop", "asyncio"),
        help="the event loop (default: uvloop where it is installed)",
    )
    # Everything from the first word that is no flag: a flag there is the command's.
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Run the command, and give its exit code."""
    words = command_of(args.command)
    if os.getpid() == 1:
        code = go_on_below(signals_passed_on())
        if code is not None:
            return code
    return _run_beside_proxy(words, args)


def _run_beside_proxy(words: Sequence[str], args: argparse.Namespace) -> int:
    loaded = options.load(args, environ=settings(os.environ))
    listener = choose_listener(loaded.config, args.listener)
    user = signing_request(listener, args.role).role
    own = listener_for(listener, role=args.role)
    config = loaded.config.model_copy(update={"listeners": (own,)})
    from dsqlproxy.ops.log import configure_logging  # noqa: PLC0415 - heavy

    def environ_at(address: "TcpAddress") -> dict[str, str]:
        return environ_for(
            address, user=user, database=own.database, environ=os.environ
        )

    with (
        configure_logging(
            level=config.log.level, log_format=config.log.format, stream=sys.stderr
        ) as log,
        asyncio.Runner(loop_factory=loop_factory(args.event_loop)) as runner,
    ):
        for note in loaded.notes:
            log.warning("configuration", note=note)
        try:
            return runner.run(_serve(words, config, log, environ_at=environ_at))
        except CannotRun as error:
            print(f"dsqlproxy: {error.message}", file=sys.stderr)
            return error.exit_code


def command_of(words: Sequence[str]) -> Sequence[str]:
    """Take the ``--`` away that ends the flags; what follows it is the command's."""
    command = words[1:] if words[:1] == ["--"] else words
    if not (command and command[0]):  # `-- "$COMMAND"`, and the variable is not set
        raise ConfigError(
            ["no command is given; accepted: dsqlproxy exec [flags] -- COMMAND"]
        )
    return command


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the environment that the configuration sees: what is different here.

    An address in DSQLPROXY_ADMIN_LISTEN is that of another proxy, which `dsqlproxy
    status` asks; only the flag is meant for this one.
    """
    return {
        **environ,
        "DSQLPROXY_LOG_LEVEL": environ.get("DSQLPROXY_LOG_LEVEL") or "warning",
        # Between the lines of the command stand sentences, also in a pipe.
        "DSQLPROXY_LOG_FORMAT": environ.get("DSQLPROXY_LOG_FORMAT") or "text",
        "DSQLPROXY_ADMIN_LISTEN": "off",
        "DSQLPROXY_DRAIN_DELAY": "0s",
        "DSQLPROXY_DRAIN_TIMEOUT": f"{DRAIN_SECONDS:g}s",
    }


def listener_for(listener: "ListenerConfig", *, role: str | None) -> "ListenerConfig":
    """Give the listener as one command needs it: on a free port, and without TLS."""
    from dsqlproxy.config import TcpAddress  # noqa: PLC0415 - not for --help

    changes: dict[str, object] = {"listen": TcpAddress(HOST, 0), "client_tls": "off"}
    if role is not None:
        changes |= {"role": role, "roles": None}
    return listener.model_copy(update=changes)


def environ_for(
    address: "TcpAddress", *, user: str, database: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """Give the environment in which a program finds the proxy, and nothing else."""
    from dsqlproxy.upstream.parameters import CLIENT_DATABASE  # noqa: PLC0415

    if database == CLIENT_DATABASE:
        database = environ.get("PGDATABASE") or DATABASE
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _CLEARED and not name.startswith(_CLEARED_PREFIX)
    }
    return {
        **kept,
        "PGHOST": address.host,
        "PGPORT": str(address.port),
        "PGUSER": user,
        "PGDATABASE": database,
    }


async def _serve(
    words: Sequence[str],
    config: "Config",
    log: "EventLog",
    *,
    environ_at: "Callable[[TcpAddress], dict[str, str]]",
) -> int:
    """Run proxy and command; both have ended when this does."""
    from dsqlproxy.app import Proxy  # noqa: PLC0415 - heavy
    from dsqlproxy.drain import Shutdown  # noqa: PLC0415

    clocks = system_clocks()
    proxy = Proxy(config, log=log, clocks=clocks)
    shutdown = Shutdown()
    job = Job(shutdown, clock=clocks.monotonic)
    failure: Exception | None = None
    with signals_to(job.note_signal):
        async with asyncio.TaskGroup() as group:

            def begin(started: "Started") -> None:
                if not shutdown.begun.is_set():
                    # `listener_for` has made it one of TCP.
                    address = cast("TcpAddress", started.listeners[0].address)
                    child = Child.start(words, environ=environ_at(address))
                    job.begin(child)
                    group.create_task(job.run(child))
                    # Not before: the command would have both from us.
                    leave_standard_input()
                    raise_file_limit()

            try:
                await proxy.run(shutdown, on_started=begin)
            except Exception as error:  # noqa: BLE001 - the command is waited for first
                failure = error
                _tell(error, log, has_begun=job.has_begun)
    if job.code is not None:
        return job.code
    if failure is not None:
        raise failure
    return 128 + (job.signal_before or 0)


def _tell(error: Exception, log: "EventLog", *, has_begun: bool) -> None:
    """Say that the command is alone now; it sees the end of its connections."""
    if not has_begun:
        return  # it becomes the end of this command
    event = "the proxy has failed, the command goes on"
    if isinstance(error, DsqlProxyError):
        log.error(event, error=str(error))
    else:
        log.error(event, exc_info=error)
