"""A row of docs/errors.md produced by a real psql: what it prints, and what is logged.

A test names the row that it produces, and gets it::

    @produces("connection-refused")
    async def test_nobody_listens_there(row: Situation, emulator: Emulator) -> None:
        async with running_proxy(emulator, …) as proxy:
            await Run(row, proxy, emulator).by_psql("-c", "select 1")

`Run` puts the page's examples where psql printed ports, addresses and the cluster's
name, and compares all that is left letter by letter.
"""

import asyncio
import os
import re
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dsqlproxy.aws.tokens import TokenSource
from dsqlproxy.clocks import Clocks
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.ops.log_format import text_value
from dsqlproxy.pgproto.messages import ErrorResponse
from dsqlproxy.session.errors_page import (
    CONNECTION_CLOSED,
    CONNECTION_FAILED,
    in_psql_s_words,
    response,
    shown,
    sqlstate,
)
from dsqlproxy.situations.catalogue import CATALOGUE
from dsqlproxy.situations.situation import (
    ADDRESS,
    CLUSTER,
    CLUSTER_ID,
    NAME,
    LogEvent,
    Situation,
)
from tests.end_to_end.wire import SOON, logged
from tests.kit.stack import RunningProxy, config_for, serving

ROWS = {situation.key: situation for situation in CATALOGUE}

Test = Callable[..., Any]


def produces(*keys: str) -> Callable[[Test], Test]:
    """Say which rows a test produces; it runs once for each, as ``row``."""
    rows = [pytest.param(ROWS[key], id=key) for key in keys]
    return pytest.mark.parametrize("row", rows)


def rows_of(module: object) -> list[str]:
    """Give the rows that the tests of a module produce."""
    return [
        str(row.id)
        for test in vars(module).values()
        for mark in getattr(test, "pytestmark", ())
        if mark.name == "parametrize" and mark.args[0] == "row"
        for row in mark.args[1]
    ]


# -- psql ------------------------------------------------------------------------------


def psql_of(postgres: EmbeddedPostgres) -> Path:
    """Give the psql beside the embedded PostgreSQL (16)."""
    return postgres.bin_dir / "psql"


def psql_of_the_system() -> Path:
    """Give the psql of the system, which knows TLS; skip where there is none."""
    found = shutil.which("psql")
    if found is None:
        pytest.skip("no psql is installed on this system")
    return Path(found)


@asynccontextmanager
async def psql(
    program: Path, proxy: RunningProxy, *words: str, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run psql with a pipe for its input; it has ended when the context has."""
    process = await asyncio.create_subprocess_exec(
        program,
        *("-X", "-A", "-t", *words),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            **proxy.environment(**environment),
        },
    )
    try:
        async with asyncio.timeout(SOON):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said_by(
    program: Path, proxy: RunningProxy, *words: str, **environment: str
) -> str:
    """Run psql to its end; give what it says on standard error."""
    async with psql(program, proxy, *words, **environment) as process:
        _, errors = await process.communicate()
    return errors.decode()


# -- comparing -------------------------------------------------------------------------


@dataclass(slots=True)
class Run:
    """One production of a row, before a proxy that serves ``emulator``."""

    row: Situation
    proxy: RunningProxy
    emulator: Emulator
    samples: dict[str, str] = field(default_factory=dict)
    """What else differs from the page: regular expressions, and what is there."""

    def as_on_the_page(self, text: str) -> str:
        """Put the page's examples in the place of this run's names and numbers."""
        dialled = self.proxy.proxy._config.listeners[0].connect_address
        replaced = {
            re.escape(f"{dialled} (for {self.emulator.cluster})"): NAME,
            re.escape(self.emulator.cluster): CLUSTER,
            re.escape(self.emulator.cluster_id): CLUSTER_ID,
            re.escape(str(dialled)): ADDRESS,
            rf"port {self.proxy.port}\b": "port 5432",
            **self.samples,
        }
        for pattern, sample in replaced.items():
            text = re.sub(pattern, sample, text)
        return text

    async def by_psql(self, program: Path, *words: str, **environment: str) -> None:
        """Have psql connect, with ``-c 'select 1'`` unless told otherwise."""
        words = words or ("-c", "select 1")
        await self.has(await said_by(program, self.proxy, *words, **environment))

    async def has(self, printed: str) -> None:
        """Compare what was printed with the page, and the log with both."""
        printed = self.as_on_the_page(printed)
        assert printed == shown(self.row), f"{printed}\n-- is not --\n{shown(self.row)}"
        await self.is_logged()

    async def has_sent(self, error: ErrorResponse) -> None:
        """Compare what a client got that psql cannot be."""
        words, got = shown(self.row), self.as_on_the_page(in_psql_s_words(error))
        assert words in {got, CONNECTION_FAILED + got, got + CONNECTION_CLOSED}, (
            f"{got}\n-- not --\n{words}"
        )
        assert error.sqlstate == sqlstate(self.row)
        await self.is_logged()

    async def is_logged(self) -> str:
        """Find the row's line in the log, with its code and its session: the last."""
        event = self.row.log_event
        if event is LogEvent.NONE:
            return ""
        session = await self._last_session()
        code = sqlstate(self.row)
        if event is LogEvent.FAILED:
            code = ""  # a traceback says more
        rest = f"( .*)? code={code}( |$)" if code else "( |$)"
        line = await logged(self.proxy, f" {event} session={session}{rest}")
        if event is LogEvent.LOGIN_FAILED:
            sent = response(self.row)
            line = self.as_on_the_page(line)
            for name, text in (
                ("message", sent.message),
                ("detail", sent.detail),
                ("hint", sent.hint),
            ):
                assert f" {name}={text_value(text)}" in line, line
        return line

    async def _last_session(self) -> str:
        """Give the id of the client that came last."""
        await logged(self.proxy, " session=")
        found: list[str] = re.findall(r" session=(\w+)", self.proxy.log.getvalue())
        return found[-1]


# -- a proxy with the AWS chain --------------------------------------------------------


@asynccontextmanager
async def proxy_of_the_chain(
    emulator: Emulator,
    *,
    clocks: Clocks | None = None,
    prepare: Callable[[TokenSource], None] = lambda _: None,
    **settings: Any,
) -> AsyncIterator[RunningProxy]:
    """Run a proxy that has to find its credentials, in this process's environment."""
    config = config_for(emulator, **settings)
    async with serving(config, clocks=clocks, prepare=prepare) as running:
        yield running
