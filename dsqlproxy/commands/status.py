"""``dsqlproxy status``: the sessions of a running proxy."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from dsqlproxy.commands.admin_client import (
    Answer,
    add_admin_arguments,
    ask,
    ask_readiness,
    find_admin,
)
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.ops.log_format import cut, visible

HELP = """\
Show the sessions of a running proxy: who is connected since when, what each
is doing, and the bytes that its client has sent (IN) and was sent (OUT).
UPSTREAM is the age of its connection to the cluster, NEXT SWAP the time
until the next one is opened, SWAPS how many came before this one, and PIN
what keeps it on this one. Below the sessions stands why the last login on a
listener failed, if it did.

The proxy is asked on its admin listener. Its address comes from --admin or
--ready-file, else from DSQLPROXY_ADMIN_LISTEN, else from the file named by
--config or DSQLPROXY_CONFIG; else it is 127.0.0.1:9090.

With --json the answer is one JSON object with the keys readiness and
sessions, ages in seconds. Exit code 1 when no proxy answers.
"""

_MAX_CELL_CHARS: Final = 40
_MAX_ADDRESS_CHARS: Final = 120
"""More than any address has: it is written by the proxy, not by the client."""
_RIGHT_ALIGNED: Final = frozenset(
    {"AGE", "UPSTREAM", "NEXT SWAP", "SWAPS", "IN", "OUT"}
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    add_admin_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    address = find_admin(args, os.environ)
    readiness = ask_readiness(address)
    answer = ask(address, "/sessions")
    sessions = answer.body.get("sessions")
    if not answer.ok or not isinstance(sessions, list):
        raise DsqlProxyError(f"the sessions cannot be listed: {answer.reason}")
    if args.json:
        print(json.dumps({"readiness": readiness.body, "sessions": sessions}))
        return 0
    if sessions:
        sys.stdout.writelines(f"{line}\n" for line in table(sessions))
        print()
    for line in (*failed_logins(readiness), *held_clients(sessions)):
        print(line)
    print(f"{address}: {summary(readiness, sessions)}")
    return 0


def table(sessions: Iterable[Mapping[str, object]]) -> list[str]:
    """Lay the sessions out in columns, under a line of headings."""
    rows = [_cells(session) for session in sessions]
    headings = {name: name for name in rows[0]}
    lines = [headings, *rows]
    widths = {name: max(len(line[name]) for line in lines) for name in headings}
    return [_line(line, widths) for line in lines]


def summary(readiness: Answer, sessions: Iterable[Mapping[str, object]]) -> str:
    """Say in one line how the proxy is and what its sessions are doing."""
    states = Counter(_cell(session.get("state")) for session in sessions)
    total = states.total()
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    noun = "session" if total == 1 else "sessions"
    found = f"{total} {noun} ({counts})" if total else "no sessions"
    how = "ready" if readiness.ok else f"not ready: {visible(readiness.reason)}"
    return f"{how}, {found}"


def failed_logins(readiness: Answer) -> list[str]:
    """Say of each listener whose last login failed when that was, and why."""
    listeners = readiness.body.get("listeners")
    if not isinstance(listeners, dict):
        return []
    return [
        f"last login on {visible(str(name))}: failed"
        f" {age_text(facts.get('seconds_ago'))} ago,"
        f" {visible(str(facts.get('sqlstate')))} {visible(str(facts.get('message')))}"
        for name, facts in listeners.items()
        if isinstance(facts, dict) and facts.get("last_login") == "failed"
    ]


def held_clients(sessions: Iterable[Mapping[str, object]]) -> list[str]:
    """Say how many clients are held at their login for each reason."""
    reasons = Counter(str(session.get("held_for") or "") for session in sessions)
    del reasons[""]
    return [f"{count} held: {visible(why)}" for why, count in reasons.most_common()]


def age_text(seconds: object) -> str:
    """Give an age as people say it: ``8s``, ``12m05s``, ``1h02m``, ``3d04h``."""
    if not isinstance(seconds, int | float):
        return "-"
    whole = int(seconds)
    for size, smaller, units in (
        (86_400, 3_600, "dh"),
        (3_600, 60, "hm"),
        (60, 1, "ms"),
    ):
        if whole >= size:
            count, rest = divmod(whole, size)
            return f"{count}{units[0]}{rest // smaller:02}{units[1]}"
    return f"{whole}s"


def size_text(count: object) -> str:
    """Give a number of bytes with three digits and a decimal unit."""
    if not isinstance(count, int | float):
        return "-"
    amount, unit = float(count), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, bigger
    digits = 0 if unit == "B" or amount >= 99.95 else 1
    return f"{amount:.{digits}f} {unit}"


def _cells(session: Mapping[str, object]) -> dict[str, str]:
    return {
        "SESSION": _cell(session.get("id")),
        "CLIENT": _cell(session.get("client"), limit=_MAX_ADDRESS_CHARS),
        "USER": _cell(session.get("user")),
        "APPLICATION": _cell(session.get("application_name")),
        "LISTENER": _cell(session.get("listener")),
        "STATE": _cell(session.get("state")),
        "AGE": age_text(session.get("age_seconds")),
        "UPSTREAM": age_text(session.get("upstream_age_seconds")),
        "NEXT SWAP": _time_to_swap(session.get("seconds_to_swap")),
        "SWAPS": _cell(session.get("swaps")),
        "IN": size_text(session.get("bytes_in")),
        "OUT": size_text(session.get("bytes_out")),
        "PIN": _cell(session.get("pin")),
    }


def _time_to_swap(seconds: object) -> str:
    return "due" if seconds == 0 else age_text(seconds)


def _cell(value: object, *, limit: int = _MAX_CELL_CHARS) -> str:
    """Make a value fit for a terminal: a client chooses its application_name."""
    text = "" if value is None else str(value)
    return visible(cut(text, limit)) or "-"


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = (
        text.rjust(widths[name]) if name in _RIGHT_ALIGNED else text.ljust(widths[name])
        for name, text in row.items()
    )
    return "  ".join(cells).rstrip()
