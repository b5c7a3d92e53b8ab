"""`dsqlproxy demo --session-limit 2s`: swaps are seen in its log, and not in psql."""

import json
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_demo import ANY_PORT, printed, sessions_of, short_path
from tests.end_to_end.wire import until
from tests.kit import processes
from tests.kit.clients import Program, Terminal

__all__ = ["short_path"]  # a fixture

READY = "postgres=> "


def swaps_in(running: processes.Program) -> list[dict[str, Any]]:
    """Give what the demonstration shows of swaps on its screen."""
    lines = [json.loads(line) for line in running.errors.splitlines() if line]
    return [line for line in lines if line["event"] == "upstream swapped"]


async def shown(running: processes.Program, number: int) -> None:
    await until(lambda: len(swaps_in(running)) >= number)


def asked(terminal: Terminal, line: str, prompt: str = READY) -> str:
    terminal.type(line + "\n")
    return terminal.wait_for(prompt)


async def test_swaps_are_shown_and_an_open_psql_does_not_notice(
    short_path: Path,
) -> None:
    limit = ("--session-limit", "2s")
    async with processes.program(
        "demo", *ANY_PORT, *limit, directory=short_path
    ) as running:
        path, *words = shlex.split(printed(running, r"^  \S*psql -h .*$"))
        if shutil.which(path) is None:
            pytest.skip("there is no psql")
        psql = Program.at(Path(shutil.which(path) or path), {})
        with psql.on_terminal("-X", "-n", *words) as terminal:
            terminal.wait_for(READY)
            screen = asked(terminal, "create table t (id int primary key, v text);")
            screen += asked(terminal, "set search_path to elsewhere, public;")
            screen += asked(terminal, r"\set word kept")
            for number in (1, 2):
                await shown(running, number)
                screen += asked(terminal, "begin;", "postgres=*> ")
                row = "insert into t select count(*) + 1, :'word' from t;"
                screen += asked(terminal, row, "postgres=*> ")
                screen += asked(terminal, "commit;")
                assert "elsewhere, public" in asked(terminal, "show search_path;")
            assert "2 | kept" in asked(terminal, "table t;")
            (session,) = json.loads(sessions_of(running))["sessions"]
            assert session["swaps"] >= 2
            terminal.type("\\q\n")
            assert terminal.wait() == 0
        running.send(signal.SIGTERM)
        assert await running.wait() == 0
        for sign in ("FATAL", "ERROR", "WARNING", "closed", "lost"):
            assert sign not in screen
        swap = swaps_in(running)[0]
        assert swap["reason"] == "session_limit"
        assert 1.6 <= swap["age"] < 2
        assert swap["pause_ms"] < 1000
