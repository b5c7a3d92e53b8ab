"""``dsqlproxy check``: whether a client would get through, and if not, why."""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TextIO

from dsqlproxy.commands import options
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.commands.run import loop_factory
from dsqlproxy.commands.token import choose_listener, signing_request
from dsqlproxy.ops.doctor import (
    WIDTH,
    Checkup,
    Finding,
    Outcome,
    Step,
    as_json,
    as_lines,
)
from dsqlproxy.situations.remedies import Trouble

if TYPE_CHECKING:
    from dsqlproxy.clocks import Clocks
    from dsqlproxy.config import ListenerConfig
    from dsqlproxy.probe import ProbeReport

EXIT_FAILURE: Final = 1

HELP = """\
Examine the way from here to the cluster, step by step, and say what is wrong.

    dsqlproxy check --config proxy.yaml

What is looked at, one line each with the time that it took:

  configuration  the file, the environment and the flags; a warning names the
                 variables DSQLPROXY_... that are no setting
  DNS            the addresses of the cluster, or of connect_address
  TCP            a connection to one of them
  TLS            the certificate: its chain, its name and its dates
  credentials    where AWS credentials were found, whose they are, and how long
                 they are good; the name is asked of STS if it answers in time
  clock          this machine's clock against the date that STS gives
  token          an IAM token for the role, as a client's login would have
  login          a session on the cluster
  SELECT 1       an answer of it

Each line says ok, warning, failed or skipped. A step that failed is explained
below the lines in the words that a client would see, with what mends it; where
a permission or a grant is missing, the statement to paste is printed. What
depends on a step that failed is skipped; credentials and clock do not depend
on the cluster, and without good ones no token is sent. A warning is no failure.

All listeners of the file are examined, or the one of --listener. The role is
that of --role, else the listener's role, else the only one of its roles, else
admin. Nothing is bound, so the proxy may be running meanwhile; each listener
costs one login at its cluster, and takes at most connect_timeout and 10 s.
Nobody is asked anything on the terminal.

With --json, one object is printed:

  {"ok": false, "listeners": [
    {"name": "main", "cluster": "<host>", "ok": false, "client": "psql ...",
     "steps": [
       {"step": "dns", "outcome": "ok", "seconds": 0.012, "detail": "..."},
       {"step": "tcp", "outcome": "failed", "seconds": 0.018, "detail": "...",
        "error": {"code": "08001", "message": "...", "detail": "...",
                  "hint": "...", "remedy": "..."}},
       {"step": "tls", "outcome": "skipped", "seconds": null, "detail": ""}]}]}

The steps are configuration, dns, tcp, tls, credentials, clock, token, login
and query, always all of them; the outcomes ok, warning, failed and skipped. An
error stands at what failed and at warnings; its code is the SQLSTATE that a
client would see, empty where a client would see none, and remedy is there only
if there is something to paste. Neither form contains a secret.

With --probe, and if nothing stands in the way, the cluster of one listener is
then asked what no documentation says of it, in some dozens of sessions that
change nothing in the database. The report on standard output is made to be
sent to the authors: it names no token, key, cluster, address or account.
--probe-long asks what takes an hour as well. With --json the report is the key
probe of the object.

Exit codes: 0 a client would get through, 1 it would not, 2 bad usage or
configuration.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what is to be examined, and how it is told."""
    options.add_cluster_arguments(parser)
    group = parser.add_argument_group("examination")
    group.add_argument(
        "--listener",
        metavar="NAME",
        help="the only listener to examine (default: all of the file)",
    )
    group.add_argument("--role", metavar="ROLE", help="the role to log in as")
    group.add_argument("--json", action="store_true", help="print JSON")
    group = parser.add_argument_group("probe")
    group.add_argument(
        "--probe",
        action="store_true",
        help="then ask the cluster what no documentation says, for a report",
    )
    group.add_argument(
        "--probe-long",
        action="store_true",
        help="the same, with the questions that take an hour",
    )


def run(args: argparse.Namespace) -> int:
    """Examine, print, and say by the exit code whether all is well."""
    clocks = system_clocks()
    began_at = clocks.monotonic()
    loaded = options.load(args)
    listeners = loaded.config.listeners
    has_probe = args.probe or args.probe_long
    if has_probe or args.listener is not None:
        listeners = (choose_listener(loaded.config, args.listener),)
    roles = [signing_request(listener, args.role).role for listener in listeners]
    from dsqlproxy.commands.diagnosis import examine  # noqa: PLC0415 - heavy

    configuration = configuration_finding(
        str(loaded.path or "flags and environment"),
        loaded.notes,
        seconds=clocks.monotonic() - began_at,
    )
    width = text_width(sys.stdout)

    async def examine_all() -> list[Checkup]:
        checkups = []
        # One after the other, so that none disturbs another's times.
        for listener, role in zip(listeners, roles, strict=True):
            checkup = await examine(
                listener,
                role=role,
                configuration=configuration,
                clocks=clocks,
                environ=os.environ,
            )
            checkups.append(checkup)
            if not args.json:
                lines = as_lines(checkup, width=width)
                print(*lines, sep="\n", end="\n\n", flush=True)
        return checkups

    more = {}
    with asyncio.Runner(loop_factory=loop_factory(None)) as runner:
        checkups = runner.run(examine_all())
        ok = all(each.ok for each in checkups)
        if ok and has_probe:
            report = runner.run(
                probe(listeners[0], roles[0], clocks, is_long=args.probe_long)
            )
            more["probe"] = report.as_dict()
            if not args.json:
                print(report.as_text(), end="")
    if args.json:
        print(as_json(checkups, **more))
    return 0 if ok else EXIT_FAILURE


def configuration_finding(
    source: str, notes: Sequence[str], *, seconds: float
) -> Finding:
    """Say where a good configuration came from, and warn of what `run` would log."""
    if not notes:
        return Finding(Step.CONFIGURATION, Outcome.OK, seconds, source)
    first, *others = notes
    sentences = (note if note.endswith("?") else f"{note}." for note in others)
    trouble = Trouble(first, detail=" ".join(sentences))
    return Finding(Step.CONFIGURATION, Outcome.WARNING, seconds, source, trouble)


def text_width(stream: TextIO) -> int:
    """Give the columns for a text: the terminal's, 80 where it does not tell them."""
    if not stream.isatty():
        return WIDTH
    return min(WIDTH, shutil.get_terminal_size(fallback=(80, 24)).columns)


async def probe(
    listener: "ListenerConfig", role: str, clocks: "Clocks", *, is_long: bool
) -> "ProbeReport":
    """Ask the cluster of a listener the open questions; tell each on standard error."""
    from dsqlproxy.commands.diagnosis import startup_for, tokens_for  # noqa: PLC0415
    from dsqlproxy.probe import run_probe  # noqa: PLC0415 - heavy
    from dsqlproxy.upstream.connector import Target  # noqa: PLC0415

    tokens = tokens_for(listener, clocks)
    try:
        return await run_probe(
            Target.from_listener(listener),
            tokens,
            startup_for(listener, role),
            clocks=clocks,
            is_long=is_long,
            on_answer=lambda answered: print(
                f"dsqlproxy: asked {answered.key}", file=sys.stderr, flush=True
            ),
        )
    finally:
        tokens.close()
