"""psql and pgbench under a soak: what they do, and what their output must be."""

import contextlib
import os
import re
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.processes import clean_environment
from bench.soak_tally import Place, ServerSaid, Tally, WrongAnswer, expect, sqlstate_in
from dsqlproxy.emulator.postgres import find_psql, locate

PROGRAM_SECONDS = 40.0
"""How long one run of a program may take, faults and all."""

MODES = ("simple", "extended", "prepared")

TABLES = (
    "create table public.soaked (id int, t text)",
    "grant all on public.soaked to admin",
    "create schema soak authorization admin",
    "create table soak.said (session uuid, number int)",
    "create function soak.add(a int, b int) returns int language sql"
    " as $$ select a + b $$",
    "grant all on all tables in schema soak to admin",
)
"""What the clients need, made by a superuser."""

_ROUNDS = 5
_RATE = 100
"""Transactions a second of each pgbench: a machine that is busy to its limit would
measure itself."""

_PROCESSED = re.compile(
    r"^number of transactions actually processed: (\d+)", re.MULTILINE
)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)
_WITH_SQLSTATE = re.compile(
    r"(?:FATAL|ERROR|PANIC):  ([0-9A-Z]{5}): (.*)", re.MULTILINE
)
_BARE = re.compile(r"(?:FATAL|ERROR|PANIC):  (.*)", re.MULTILINE)


OnError = Callable[[str, str], None]
"""Takes SQLSTATE and text of an error that a program printed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    code: int
    output: str


# -- pgbench -------------------------------------------------------------------------


def load_by_pgbench(place: Place, tally: Tally, *, mode: str) -> None:
    """Run pgbench for longer than a session limit, writing and reading in turn.

    Not tpcb-like: its clients wait for each other's locks longer than this limit
    leaves between insisting and the end.
    """
    script = ("simple-update", "select-only")[
        tally.operations[f"pgbench {mode}, run"] % 2
    ]
    words = ("-n", "-M", mode, "-b", script, "-c3", "-j1", "-T8", f"-R{_RATE}")
    ended = run_pgbench(
        place, *words, on_error=partial(_note, tally, f"pgbench {mode}")
    )
    processed = _PROCESSED.search(ended.output)
    tally.note(f"pgbench {mode}, transaction", int(processed[1]) if processed else 0)
    tally.note(f"pgbench {mode}, run")
    if not ended.code:
        failed = _FAILED.search(ended.output)
        expect(failed and failed[1], "0")


def run_pgbench(place: Place, *words: str, on_error: OnError) -> "Ended":
    """Run pgbench through the proxy."""
    return _run(place, [str(locate(os.environ) / "pgbench"), *words], on_error=on_error)


def make_tables(place: Place) -> None:
    """Fill pgbench's tables through the proxy."""

    def fail(sqlstate: str, text: str) -> None:
        raise ServerSaid(sqlstate, f"pgbench -i failed: {text}")

    run_pgbench(place, "-i", "-q", "-s", "2", on_error=fail)


# -- psql ----------------------------------------------------------------------------


def talk_by_psql(place: Place, tally: Tally) -> None:
    """Run a script over several session limits and compare all of its output."""
    script, wanted = write_script(uuid.uuid4(), has_bind=_has_bind())
    command = [str(_psql()), "-X", "-q", "-A", "-t", "-f", "-"]
    ended = _run(place, command, said=script, on_error=partial(_note, tally, "psql"))
    tally.note("psql script")
    if not ended.code and ended.output != wanted:
        raise WrongAnswer(_first_difference(ended.output, wanted))


def write_script(session: uuid.UUID, *, has_bind: bool) -> tuple[str, str]:
    """Write what psql is told, and what it must print.

    It idles in and out of a transaction, for about 1.2 s a round, so that swaps come
    at every point that they may come at.
    """
    said = [
        r"\set ON_ERROR_STOP 1",
        r"\set VERBOSITY verbose",
        "set search_path to soak, 'no such schema', public;",
        "set timezone to 'Asia/Tokyo';",
        rf"\set session {session}",
    ]
    wanted: list[str] = []
    for number in range(_ROUNDS):
        said += _round(number, has_bind=has_bind)
        bound = [str(number + 1)] if has_bind else []
        path = 'soak, "no such schema", public|Asia/Tokyo'
        copied = ["1", "2", "3"]
        wanted += [f"{number}|{path}", *bound, str(number + 40)]
        wanted += [str(3 * number + 1), *copied, str(3 * number + 3)]
    return "\n".join(said) + "\n", "\n".join(wanted) + "\n"


def _round(number: int, *, has_bind: bool) -> list[str]:
    bind = [rf"select $1::int + 1 \bind {number} \g"] if has_bind else []
    return [
        rf"\set n {number}",
        "select :n, current_setting('search_path'), current_setting('timezone');",
        *bind,
        r"\! sleep 0.4",
        "select add(:n, 40);",
        "begin;",
        "set local timezone to 'UTC';",
        "insert into said values (:'session', :n);",
        r"\! sleep 0.1",
        "select count(*) from said where session = :'session';",
        "commit;",
        r"\copy (select generate_series(1, 3)) to pstdout",
        r"\copy said from stdin",
        *(f"{uuid.UUID(int=0)}\t{number}",),
        r"\.",
        "insert into said values (:'session', :n), (:'session', :n);",
        r"\! sleep 0.6",
        "select count(*) from said where session = :'session';",
    ]


def _first_difference(found: str, wanted: str) -> str:
    pairs = zip(found.splitlines(), wanted.splitlines(), strict=False)
    for number, (is_there, should_be) in enumerate(pairs, 1):
        if is_there != should_be:
            return f"line {number}: expected {should_be!r}, found {is_there!r}"
    return f"expected {len(wanted)} characters, found {len(found)}"


def _psql() -> Path:
    found = find_psql(locate(os.environ))
    if found is None:
        raise WrongAnswer("psql is not installed")
    return found


def _has_bind() -> bool:
    said = subprocess.run(
        [str(_psql()), "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"(\d+)", said)
    return found is not None and int(found[1]) >= 16


# -- both ----------------------------------------------------------------------------


def _run(
    place: Place, command: list[str], *, on_error: OnError, said: str = ""
) -> "Ended":
    """Run a program; what it complains of is told when it does, and not at its end."""
    with (
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as script,
    ):
        script.write(said)
        script.seek(0)
        process = subprocess.Popen(
            command,
            env=clean_environment(place.environment),
            stdin=script,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process, _killed_after(PROGRAM_SECONDS, process):
            complaints = [*_complaints(process, on_error)]
            code = process.wait()
        if code and not complaints:
            on_error("", f"it ended with code {code}, without a word")
        output.seek(0)
        return Ended(code, output.read())


def _complaints(process: "subprocess.Popen[str]", on_error: OnError) -> Iterator[str]:
    """Give every error that a program prints, as it is printed."""
    for line in process.stderr or ():
        if found := _WITH_SQLSTATE.search(line):
            on_error(found[1], found[2])
            yield line
        elif found := _BARE.search(line):
            on_error(sqlstate_in(found[1]), found[1])
            yield line


@contextlib.contextmanager
def _killed_after(seconds: float, process: "subprocess.Popen[str]") -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _note(tally: Tally, client: str, sqlstate: str, text: str) -> None:
    tally.note_incident(client, sqlstate, text)
