"""The command line: which command is meant, and how its end becomes an exit code.

Exit codes: 0 a clean end, 1 a failure, 2 bad usage or configuration, 130 after
Ctrl-C. `run` gives 129, 130 or 143 itself when a second signal forces its end.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Final, NoReturn, Protocol, cast

from dsqlproxy import __version__
from dsqlproxy.errors import ConfigError, DsqlProxyError

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

COMMANDS: Final[Mapping[str, str]] = {
    "run": "run the proxy; this is what dsqlproxy does without a command",
    "demo": "a stand-in for a cluster and the proxy, to try it without AWS",
    "emulator": "the stand-in for a cluster alone",
    "exec": "run one command with a proxy of its own, and end with it",
    "check": "examine the way to the cluster, and say what is wrong with it",
    "token": "print one IAM token",
    "schema": "print the JSON schema of the configuration",
    "status": "list the sessions of a running proxy",
    "healthcheck": "say whether a running proxy is ready, by exit code",
    "wait": "wait until a running proxy is ready",
}

MANUAL: Final = """\
usage: dsqlproxy --config proxy.yaml
       dsqlproxy --cluster ENDPOINT [--listen ADDRESS] [--profile NAME] ...
       dsqlproxy COMMAND ...

A local proxy that lets any PostgreSQL client use Amazon Aurora DSQL. Clients
connect to it without password and without TLS; it signs an IAM token for each
connection, opens verified TLS to the cluster, and passes everything on.

Try it without AWS

  `dsqlproxy demo` starts a stand-in for a cluster with the proxy in front of
  it, and prints the psql line to paste. Ctrl-C ends both.

Use it

  With the AWS credentials of your shell, and no file:

      dsqlproxy --cluster <26 characters>.dsql.us-east-1.on.aws
      psql -h 127.0.0.1 -U admin postgres

  Does it not work? `dsqlproxy check` says why; give it the same --cluster,
  --role and --profile, or --config. For one command there is
  `dsqlproxy exec --cluster ENDPOINT --role admin -- psql`.

  For several clusters, or anything beyond the flags of `dsqlproxy run --help`,
  write a file; config.example.yaml has every key.

Commands

{commands}

  `dsqlproxy COMMAND --help` is the manual of each.

Configuration

  A flag wins over the environment, the environment over the file, the file over
  the default. DSQLPROXY_CONFIG names the file, DSQLPROXY_LISTENER_<KEY> sets a
  key of the only listener (as in DSQLPROXY_LISTENER_CLUSTER), and
  DSQLPROXY_ADMIN_LISTEN, DSQLPROXY_LOG_LEVEL, DSQLPROXY_LOG_FORMAT,
  DSQLPROXY_DRAIN_DELAY and DSQLPROXY_DRAIN_TIMEOUT set the rest. An empty
  variable counts as unset. A path is relative to where the proxy starts.

Safety

  Clients are not asked who they are, so the proxy listens on loopback addresses
  and unix sockets only, unless the configuration allows more with
  allow_remote_trust: true.

Exit codes

  0    a clean end, a complete drain after SIGTERM or Ctrl-C included
  1    a failure
  2    bad usage or configuration
  129, 130 or 143: a second signal forced the end

  --version prints the version, --help this page.
"""


class Command(Protocol):
    """What the file of a command holds; see `dsqlproxy.commands`."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Define the command's flags."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and give the exit code."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints go the way of all others."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong instead of printing usage and leaving."""
        raise ConfigError([f"{message}; see {self.prog} --help"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and give the exit code."""
    open_standard_streams()
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        # Here, so that a reader who has gone away is noticed while we can say it.
        print(end="", flush=True)
    except ConfigError as error:
        _complain(*_config_lines(error))
        return EXIT_USAGE
    except DsqlProxyError as error:
        _complain(*filter(None, (error.message, error.detail, error.hint)))
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `dsqlproxy schema | head`: the interpreter would flush again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    return code


def open_standard_streams() -> None:
    """Open the null device as each standard stream that was closed, as by ``<&-``.

    The next thing opened would get its number otherwise: an event loop would serve as
    standard input, be given to a command as its own, and be closed in its place. What
    we start is spared the same; it reads nothing and its words go nowhere.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY
            opened = os.open(os.devnull, flags)  # the lowest number that is free
            os.set_inheritable(opened, True)
            mode = "r" if number == 0 else "w"
            stream = os.fdopen(opened, mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


def _run(argv: Sequence[str]) -> int:
    match list(argv):
        case ["-h" | "--help", *_]:
            print(_manual(), end="")
            return 0
        case ["--version", *_]:
            print(f"dsqlproxy {__version__}")
            return 0
        case [str(name), *rest] if not name.startswith("-"):
            return _run_command(name, rest)
        case arguments:
            return _run_command("run", arguments)


def _run_command(name: str, arguments: Sequence[str]) -> int:
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        guess = f'; did you mean "{near[0]}"?' if near else ""
        raise ConfigError(
            [f'there is no command "{name}"; accepted: {", ".join(COMMANDS)}{guess}']
        )
    command = cast("Command", import_module(f"dsqlproxy.commands.{name}"))
    parser = _Parser(
        prog=f"dsqlproxy {name}",
        description=command.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def _manual() -> str:
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return MANUAL.replace("{commands}", "\n".join(lines))


def _config_lines(error: ConfigError) -> Sequence[str]:
    """Put the file before each of its problems: every line can be grepped for."""
    if not error.source:
        return error.problems
    # What a flag or a variable set has its own name, and is not in the file.
    return [
        problem
        if problem.startswith(("--", "DSQLPROXY_"))
        else f"{error.source}: {problem}"
        for problem in error.problems
    ]


def _complain(*lines: str) -> None:
    for line in lines:
        print(f"dsqlproxy: {' '.join(line.splitlines())}", file=sys.stderr)
