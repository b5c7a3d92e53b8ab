"""Runs of `dsqlproxy check` on a machine of the test's own, and what they said."""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsqlproxy.cli import main
from tests.kit.aws_stand_ins import Home, StandIns, use_in_this_process
from tests.kit.processes import program
from tests.kit.scripted import Conversation, EndOfStream, scripted_server
from tests.upstream.wire import Authority

STEPS = (
    *("configuration", "DNS", "TCP", "TLS", "credentials", "clock", "token"),
    *("login", "SELECT 1"),
)
_LINE = re.compile(r"  (\w+(?: 1)?) +(ok|warning|failed|skipped) +(?:[0-9.]+ m?s|-)")


@dataclass(frozen=True)
class Report:
    """What one run of the command said."""

    code: int
    output: str
    errors: str = ""

    @property
    def outcomes(self) -> dict[str, str]:
        """How each step is, by its line."""
        lines = map(_LINE.match, self.output.splitlines())
        return {line[1]: line[2] for line in lines if line}

    @property
    def failed(self) -> list[str]:
        return [step for step, outcome in self.outcomes.items() if outcome == "failed"]

    @property
    def skipped(self) -> set[str]:
        return {step for step, outcome in self.outcomes.items() if outcome == "skipped"}

    @property
    def words(self) -> str:
        """All of it in one line, however it was wrapped."""
        return " ".join(self.output.split())


@dataclass
class Machine:
    """A configuration, and the machine on which it is examined."""

    directory: Path
    home: Home
    aws: StandIns
    listener: dict[str, Any]
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def write(self, *others: dict[str, Any]) -> Path:
        file = self.directory / "proxy.yaml"
        file.write_text(yaml.safe_dump({"listeners": [self.listener, *others]}))
        return file

    async def check(self, *flags: str, file: Path | None = None) -> Report:
        """Run the command in this process, beside the loop of the test."""
        use_in_this_process(self.monkeypatch, self.aws.environment(self.home))
        words = ["check", "--config", str(file or self.write()), *flags]
        code = await asyncio.to_thread(main, words)
        printed = self.capsys.readouterr()
        return Report(code, printed.out, printed.err)

    async def check_as_a_process(self, *flags: str) -> Report:
        """Run the command as a shell does."""
        words = ["check", "--config", str(self.write()), *flags]
        environ = self.aws.environment(self.home)
        async with program(
            *words, directory=self.directory, environ=environ, is_ready=False
        ) as running:
            code = await running.wait()
            return Report(code, running.output, running.errors)


@asynccontextmanager
async def presenting(
    machine: Machine, *names: str, **issue: Any
) -> AsyncIterator[None]:
    """Put a server in the cluster's place that has another certificate."""
    authority = Authority.make(machine.directory)
    context = authority.server_context(*names, **issue)

    async def script(peer: Conversation) -> None:
        with contextlib.suppress(ssl.SSLError, EndOfStream, ConnectionError):
            await peer.start_tls(context)
            await peer.receive_rest()

    async with scripted_server(script) as server:
        machine.listener["connect_address"] = f"{server.host}:{server.port}"
        machine.listener["ca_file"] = str(authority.ca_file)
        yield


def statement_in(report: Report) -> object:
    """Find the statement that is there to be pasted."""
    start = report.output.index("{")
    return json.JSONDecoder().raw_decode(report.output[start:])[0]


def assert_only_failure(report: Report, step: str, *words: str) -> None:
    """Look for one failing step, its way out, and the end of what depends on it."""
    assert report.code == 1
    assert report.failed == [step], report.output
    assert tuple(report.outcomes) == STEPS
    assert report.output.rstrip().endswith(f"not ready: {step} failed")
    assert report.skipped >= {"SELECT 1"}
    for word in words:
        assert word in report.words, report.output
    assert report.errors == ""
