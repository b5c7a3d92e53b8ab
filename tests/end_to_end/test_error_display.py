"""What drivers show of an error: its message, SQLSTATE, DETAIL and HINT.

Each driver meets the same two: a login that the cluster refuses, and a cluster that is
lost while a statement runs. What the proxy sends is the same for all of them; what is
shown of it is up to the driver.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.errors import ConnectionLost
from dsqlproxy.situations.sessions import UnderWay, upstream_lost
from tests.end_to_end.error_programs import JAVA, NODE, PYTHON
from tests.kit.clients import Program, Served, serve, wait_until_running

JDBC = "org.postgresql:postgresql:42.7.7"
JARS = Path(sys.prefix) / "jdbc"
"""In the virtual environment: the driver is fetched once, and goes with it."""

MUTE = {
    "psycopg2": "server closed the connection unexpectedly",
    "pg8000": "network error",
}
"""Drivers that show the end of a connection instead of the FATAL that came before it,
whoever sent that. (psycopg2 takes the last result of libpq's, pg8000 waits for
ReadyForQuery.) The log of the proxy has it."""

DENIED = "unable to accept connection, access denied"


@pytest.fixture(scope="module")
def served(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with serve(postgres, has_rules=False) as served:
        yield served


@dataclass(frozen=True, slots=True)
class Shown:
    """What a driver lets its user see of an error."""

    text: str
    sqlstate: str | None
    detail: str | None
    hint: str | None

    def has(self, *, message: str, sqlstate: str, detail: str, hint: str) -> None:
        """Compare; libpq gives an error of a login as one text, without its code."""
        assert message in self.text
        assert (self.sqlstate or sqlstate) == sqlstate
        assert detail in (self.detail or self.text)
        assert hint in (self.hint or self.text)


def find(*names: str) -> Path:
    """Find the first of some programs; skip where one is missing."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    return Path(shutil.which(names[0]) or os.devnull)


def fetch(*words: str | Path, cwd: Path) -> None:
    """Have a package manager fetch something; skip where it cannot, saying why."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            words, cwd=cwd, capture_output=True, text=True, timeout=25, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{words[0]}: its registry did not answer in time")
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        pytest.skip(f"{words[0]} cannot fetch the driver: {said[-300:]}")


# -- the programs ----------------------------------------------------------------------

Words = tuple[Path, tuple[str | Path, ...], dict[str, str]]
"""A program, its arguments, and what it needs in its environment."""


def python(name: str) -> Callable[[Path], Words]:
    return lambda _: (Path(sys.executable), ("-c", PYTHON[name]), {})


def node(directory: Path) -> Words:
    program = find("node", "npm")
    words = ("--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0")
    fetch("npm", "install", *words, f"--cache={directory}/cache", "pg@8", cwd=directory)
    return program, ("-e", NODE), {"NODE_PATH": str(directory / "node_modules")}


def java(directory: Path) -> Words:
    program = find("java", "javac")
    if not (jars := list(JARS.glob("*.jar"))):
        find("mvn")
        copy = (f"-Dartifact={JDBC}", f"-DoutputDirectory={JARS}")
        fetch("mvn", "-q", "-B", "dependency:copy", *copy, cwd=directory)
        jars = list(JARS.glob("*.jar"))
    source = directory / "Errors.java"
    source.write_text(JAVA)
    small = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m")
    return program, (*small, "-cp", jars[0], source), {}


PROGRAMS: dict[str, Callable[[Path], Words]] = {
    **{name: python(name) for name in PYTHON},
    "node-postgres": node,
    "pgjdbc": java,
}


@contextmanager
def started(
    name: str, directory: Path, way: Mapping[str, str]
) -> Iterator[tuple[IO[str], IO[str]]]:
    """Run a program; give what it says, line by line. An empty line lets it go on."""
    path, words, needed = PROGRAMS[name](directory)
    program = Program.at(path, {**way, **needed})
    with subprocess.Popen(  # noqa: S603 - our own words, no shell
        [program.path, *words],
        env=program.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.kill()


def running_by(name: str) -> str:
    """Give what the statement of a program has, and no other."""
    return f"pg_sleep(4) -- by {name}."


def terminate(served: Served, name: str) -> None:
    """Have PostgreSQL end the session of a program, and wait for that."""
    superuser = f"host='{served.postgres.directory}' user=postgres dbname=postgres"
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where query like %s and pid <> pg_backend_pid()",
            [f"%{running_by(name)}%"],
        )


# -- what they show --------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_driver_shows_what_it_can_of_an_error(
    served: Served, name: str, tmp_path: Path
) -> None:
    served.emulator.add_fault("access-denied")
    way = served.proxy.environment()
    with started(name, tmp_path, way) as (stdin, stdout):
        try:
            denied = Shown(**json.loads(stdout.readline()))
        finally:
            served.emulator.clear_faults()
        print(file=stdin, flush=True)
        wait_until_running(served, running_by(name))
        served.loop.call_soon_threadsafe(served.emulator.expire_sessions)
        lost = Shown(**json.loads(stdout.readline()))
    terminate(served, name)  # PostgreSQL would run the statement to its end
    denied.has(
        message=DENIED,
        sqlstate="08006",
        detail="The cluster refused the token: allow dsql:DbConnectAdmin on this",
        hint="is not authorized to perform: dsql:DbConnectAdmin",
    )
    if name in MUTE:
        assert MUTE[name] in lost.text
        return
    expected = by_sqlstate()[lost.sqlstate or ""]
    lost.has(
        message=expected.message,
        sqlstate=expected.sqlstate,
        detail=expected.detail,
        hint=expected.hint,
    )


def by_sqlstate() -> dict[str, ConnectionLost]:
    """Give what may be told: drivers differ in whether a commit may be under way."""
    lost = [upstream_lost(each) for each in (UnderWay.STATEMENT, UnderWay.COMMIT)]
    return {error.sqlstate: error for error in lost}


@pytest.mark.parametrize("name", MUTE)
def test_a_driver_that_says_nothing_of_a_fatal_does_not_say_postgresqls(
    served: Served, name: str, tmp_path: Path
) -> None:
    with started(name, tmp_path, served.direct_environment) as (_, stdout):
        wait_until_running(served, running_by(name))
        terminate(served, name)
        assert MUTE[name] in Shown(**json.loads(stdout.readline())).text
