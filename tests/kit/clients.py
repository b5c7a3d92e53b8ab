"""Real clients before a real proxy: the proxy served in a thread, and the programs.

Drivers and programs block, as users run them, so the proxy, the emulator and their
event loop (uvloop, as in production) live in a thread of their own::

    @pytest.fixture(scope="module", params=RULES)
    def served(request, postgres):
        with serve(postgres, has_rules=request.param) as served:
            yield served

The tables of a module are its own: the schema is empty when serving begins. Within a
module each test uses tables of its own name.
"""

import asyncio
import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
import pytest

from dsqlproxy.commands.run import loop_factory
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from tests.kit.stack import RunningProxy, running_emulator, running_proxy

RULES = (pytest.param(True, id="rules"), pytest.param(False, id="no-rules"))
"""For a fixture that serves with DSQL's SQL rules and without."""

ORIGINS = ("bundled", "system")
"""Where a program may come from: beside the embedded PostgreSQL, or ``PATH``."""

Origin = Literal["bundled", "system"]

LARGE_ROWS: Final = 50_000
LARGE_RESULT: Final = "select repeat('x', 1000) from generate_series(1, 50000)"
"""A query whose result has 50 MB and that DSQL's rules let through."""

_EMPTY_SCHEMA = (
    "drop schema public cascade",
    "create schema public",
    "grant create, usage on schema public to admin with grant option",
    "grant usage on schema public to public",
)
_RUNNING: Final = (
    "select from pg_stat_activity"
    " where state = 'active' and query like %s and pid <> pg_backend_pid()"
)
_SECONDS = 20.0
_AS_POSTGRES = {"database": "client", "unsupported_parameters": "pass"}


@dataclass(frozen=True, slots=True)
class Served:
    """A proxy that serves from another thread, and the PostgreSQL at its end."""

    proxy: RunningProxy
    emulator: Emulator
    postgres: EmbeddedPostgres
    has_rules: bool
    loop: asyncio.AbstractEventLoop

    @property
    def host(self) -> str:
        return self.proxy.host

    @property
    def port(self) -> int:
        return self.proxy.port

    @property
    def dsn(self) -> str:
        """The way through the proxy, for libpq."""
        return self.proxy.dsn()

    @property
    def direct_dsn(self) -> str:
        """The way around the proxy and the emulator."""
        return f"host='{self.postgres.directory}' user='admin' dbname='postgres'"

    @property
    def direct_environment(self) -> dict[str, str]:
        """The way around, for a program."""
        direct = {"PGHOST": str(self.postgres.directory), "PGPORT": "5432"}
        return {**self.proxy.environment(), **direct}

    def settle(self) -> None:
        """Wait until no session is left, on either side of the proxy."""

        async def settled() -> None:
            async with asyncio.timeout(_SECONDS):
                while self.proxy.proxy._sessions or self.emulator._open:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(settled(), self.loop).result(_SECONDS)


@contextlib.contextmanager
def serve(
    postgres: EmbeddedPostgres,
    *,
    has_rules: bool = False,
    is_empty: bool = True,
    emulator: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """Serve from another thread; settings are those of the listener.

    The schema is emptied first unless another `serve` needs what is in it.
    ``emulator`` are settings of `EmulatorConfig`.

    Without rules everything that a client asks for at its start is passed on, so
    that the session is the same as with PostgreSQL itself.
    """
    started: Future[tuple[Served, asyncio.Event]] = Future()
    if not has_rules:
        settings = {**_AS_POSTGRES, **settings}

    async def run() -> None:
        stop = asyncio.Event()
        if is_empty:
            await postgres.execute(*_EMPTY_SCHEMA)
        cluster = {"has_rules": has_rules, **(emulator or {})}
        async with (
            running_emulator(postgres, **cluster) as running,
            running_proxy(running, **settings) as proxy,
        ):
            loop = asyncio.get_running_loop()
            served = Served(proxy, running, postgres, has_rules, loop)
            started.set_result((served, stop))
            await stop.wait()

    def run_loop() -> None:
        with asyncio.Runner(loop_factory=loop_factory(None)) as runner:
            runner.run(run())

    ended: Future[None] = Future()
    # A daemon: should it hang, the test fails and the run still ends.
    threading.Thread(
        target=_settle, args=(ended, run_loop), name="serve", daemon=True
    ).start()
    futures: tuple[Future[Any], ...] = (started, ended)
    wait(futures, return_when=FIRST_COMPLETED)
    if not started.done():
        ended.result()  # raises what kept it from starting
    served, stop = started.result()
    try:
        yield served
    finally:
        served.loop.call_soon_threadsafe(stop.set)
        ended.result(_SECONDS)


def _settle(future: Future[None], call: Callable[[], None]) -> None:
    """Make a call; let a future end as it does."""
    try:
        call()
        future.set_result(None)
    except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
        future.set_exception(error)


# -- programs ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program said, and with which code it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.out.splitlines()


@dataclass(frozen=True, slots=True)
class Program:
    """A client program, and the environment that leads it to a server."""

    path: Path
    environment: dict[str, str] = field(repr=False)

    @classmethod
    def find(cls, name: str, served: Served, origin: Origin = "bundled") -> "Program":
        """Find a program; only one that is to be the system's may be missing."""
        path = served.postgres.bin_dir / name
        if origin == "system":
            found = shutil.which(name)
            if found is None or Path(found) == path:
                pytest.skip(f"no {name} is installed on this system")
            path = Path(found)
        return cls.at(path, served.proxy.environment())

    @classmethod
    def python(cls, served: Served) -> "Program":
        """Give this Python, for a client in a process of its own."""
        return cls.at(Path(sys.executable), served.proxy.environment())

    @classmethod
    def at(cls, path: Path, environment: Mapping[str, str]) -> "Program":
        """Give a program that is led to a server by these variables alone."""
        return cls(path, {**_quiet_environment(), **environment})

    def through(self, served: Served) -> "Program":
        """Give the same program on the way through another proxy."""
        return Program(self.path, {**self.environment, **served.proxy.environment()})

    def around(self, served: Served) -> "Program":
        """Give the same program on the way around the proxy."""
        return Program(self.path, {**self.environment, **served.direct_environment})

    def run(
        self,
        *arguments: str | Path,
        said: str = "",
        seconds: float = _SECONDS,
        **environment: str,
    ) -> Ended:
        """Run it to its end."""
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            [self.path, *arguments],
            env={**self.environment, **environment},
            input=said,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def running(self, *arguments: str) -> "Iterator[RunningProgram]":
        """Run it in a process group of its own, as a shell does."""
        with subprocess.Popen(  # noqa: S603 - our own words, no shell
            [self.path, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process:
            try:
                yield RunningProgram(process)
            finally:
                process.kill()

    @contextlib.contextmanager
    def on_terminal(self, *arguments: str) -> "Iterator[Terminal]":
        """Run it on a terminal of its own, where Ctrl-C is a key."""
        master, slave = pty.openpty()
        # The first to open a terminal in a new session gets it as its controlling
        # one, from which keys become signals.
        take_terminal = (
            "import os, sys; os.open(os.ttyname(0), os.O_RDWR);"
            " os.execv(sys.argv[1], sys.argv[1:])"
        )
        process = subprocess.Popen(  # noqa: S603 - our own words, no shell
            [sys.executable, "-c", take_terminal, self.path, *arguments],
            env={**self.environment, "TERM": "dumb"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        try:
            yield Terminal(master, process)
        finally:
            process.kill()
            process.wait()
            os.close(master)


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """A program that has not ended yet."""

    process: subprocess.Popen[str]

    def interrupt(self) -> None:
        """Press Ctrl-C: the whole group gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> Ended:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=_SECONDS)
        return Ended(self.process.returncode, out, err)


@dataclass(slots=True)
class Terminal:
    """The screen and the keyboard of a program."""

    master: int
    process: subprocess.Popen[bytes]
    screen: str = ""

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait_for(self, text: str, *, seconds: float = _SECONDS) -> str:
        """Wait for a text; give what came up to it, and take that from the screen."""
        deadline = time.monotonic() + seconds
        while text not in self.screen:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.master], [], [], max(0.0, left))
            assert readable, f"{text!r} did not come; the screen has {self.screen!r}"
            self.screen += os.read(self.master, 65_536).decode()
        before, _, self.screen = self.screen.partition(text)
        return before + text

    def wait(self) -> int:
        """Wait for the program's end; give its exit code."""
        return self.process.wait(_SECONDS)


def _quiet_environment() -> dict[str, str]:
    """Give an environment without the settings of whoever runs the tests."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "PSQLRC": os.devnull,
        "PSQL_HISTORY": os.devnull,
        "PSQL_PAGER": "cat",
    }


def wait_until_running(served: Served, text: str) -> None:
    """Wait until PostgreSQL runs a query that contains the text."""
    superuser = f"host='{served.postgres.directory}' user=postgres dbname=postgres"
    deadline = time.monotonic() + _SECONDS
    with psycopg.connect(superuser, autocommit=True) as connection:
        while not connection.execute(_RUNNING, (f"%{text}%",)).fetchall():
            assert time.monotonic() < deadline, f"{text!r} does not run"


def in_threads(calls: Sequence[Any]) -> list[Any]:
    """Make calls at the same time; give their results in order."""
    with ThreadPoolExecutor(len(calls)) as executor:
        return [future.result(_SECONDS) for future in map(executor.submit, calls)]


@contextlib.contextmanager
def in_background(call: Callable[[], object]) -> Iterator[None]:
    """Make a call while the block runs; its exception is raised after the block."""
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(call)
        yield
    future.result()
