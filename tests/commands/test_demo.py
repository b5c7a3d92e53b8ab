"""`dsqlproxy demo` as a process: what it prints works, and it leaves nothing."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dsqlproxy.commands import demo
from tests.end_to_end.wire import until
from tests.kit.processes import Program, program

ANY_PORT = ("--listen", "127.0.0.1:0")


def processes_of(demo: Program) -> list[str]:
    """Name the processes whose temporary directory is the demo's."""
    temporary = str(demo.directory / "tmp")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if temporary in command:
            found.append(command)
    return found


def printed(demo: Program, pattern: str) -> str:
    found = re.search(pattern, demo.output, re.MULTILINE)
    assert found, demo.output
    return found[0].strip()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a short name, since the path of a socket has 107 bytes."""
    directory = Path("/tmp") / f"demo{os.getpid()}"  # noqa: S108 - of this process
    directory.mkdir(mode=0o711)
    yield directory
    shutil.rmtree(directory)


async def run(command: str, **variables: str) -> str:
    """Paste a line into a shell."""
    process = await asyncio.create_subprocess_shell(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_what_it_prints_works_and_nothing_is_left(
    short_path: Path, number: signal.Signals
) -> None:
    async with program(
        "demo", "--listen", "127.0.0.1:0", directory=short_path
    ) as running:
        psql = printed(running, r"^  \S*psql -h .*$")
        assert psql.endswith(f"-h 127.0.0.1 -p {running.port} -U admin postgres")
        if shutil.which(shlex.split(psql)[0]):
            assert "42" in await run(f"{psql} -Atc 'select 6 * 7'")
        variables = printed(running, r"^  export .*$")
        query = "import psycopg; print(psycopg.connect().execute('select 7'))"
        line = f"{variables}; {sys.executable} -c {shlex.quote(query)}"
        assert "INTRANS" in await run(line)
        jdbc = printed(running, r"^  jdbc:postgresql://\S+$")
        where = jdbc.removeprefix("jdbc:postgresql:")
        async with await psycopg.AsyncConnection.connect(
            f"postgresql:{where}"
        ) as connection:
            cursor = await connection.execute("select current_user")
            assert await cursor.fetchone() == ("admin",)
        status = printed(running, r"http://\S+/sessions$")
        assert str(running.ready["admin"]["port"]) in status
        line = printed(running, r"^  status .*$").removeprefix("status").strip()
        assert "no sessions" in await run(line)
        assert processes_of(running)
        running.send(number)
        assert await running.wait() == 0
    assert processes_of(running) == []
    assert list((short_path / "tmp").iterdir()) == []
    assert not running.ready_file.exists()
    assert "Traceback" not in running.errors


async def test_a_signal_at_any_time_of_its_start_leaves_nothing(
    short_path: Path,
) -> None:
    for seconds in (0.3, 0.6, 0.9):
        async with program(
            *("demo", "--listen", "127.0.0.1:0"),
            directory=short_path,
            is_ready=False,
        ) as running:
            await asyncio.sleep(seconds)  # the moment is what is tested
            running.send(signal.SIGTERM)
            # Before Python has come to our code, a signal ends it as any program.
            assert await running.wait() in {0, -signal.SIGTERM}
        assert processes_of(running) == []
        assert list((short_path / "tmp").iterdir()) == [], running.errors


async def test_it_does_not_wait_long_for_a_statement(short_path: Path) -> None:
    async with program("demo", *ANY_PORT, directory=short_path) as running:
        connection = await psycopg.AsyncConnection.connect(running.dsn)
        async with connection, asyncio.TaskGroup() as group:
            asked = group.create_task(ended_in(connection, "select pg_sleep(60)"))
            await until(lambda: "active" in sessions_of(running))
            running.send(signal.SIGINT)
            async with asyncio.timeout(8):
                assert await running.wait() == 0
                assert await asked == "57P01"
    assert list((short_path / "tmp").iterdir()) == []


async def ended_in(
    connection: "psycopg.AsyncConnection[tuple[object, ...]]", statement: str
) -> str | None:
    """Give the SQLSTATE with which a statement fails."""
    try:
        await connection.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate
    return None


def sessions_of(running: Program) -> str:
    """Give what the proxy says of its sessions."""
    with urllib.request.urlopen(f"http://{running.admin}/sessions") as answer:
        text: bytes = answer.read()
    return text.decode()


async def test_with_a_short_limit_it_says_and_shows_what_to_watch(
    short_path: Path,
) -> None:
    async with program(
        "demo", *ANY_PORT, "--session-limit", "30s", directory=short_path
    ) as running:
        assert "closes each session after 30s" in running.output
        assert 'logs "upstream swapped" below' in running.output
        async with await psycopg.AsyncConnection.connect(running.dsn):
            # What is logged of a session's life is shown, and swaps are a part of it.
            await until(lambda: '"session opened"' in running.errors)
            (session,) = json.loads(sessions_of(running))["sessions"]
            assert 0 < session["seconds_to_swap"] <= 26
        running.send(signal.SIGTERM)
        assert await running.wait() == 0


async def test_with_a_real_limit_there_is_nothing_to_watch(short_path: Path) -> None:
    async with program("demo", *ANY_PORT, directory=short_path) as running:
        assert "upstream swapped" not in running.output
        await (await psycopg.AsyncConnection.connect(running.dsn)).close()
        running.send(signal.SIGTERM)
        assert await running.wait() == 0
    assert running.errors == ""


async def test_on_a_unix_socket_it_has_no_line_for_jdbc(short_path: Path) -> None:
    async with program(
        "demo", "--listen", f"unix:{short_path}", directory=short_path
    ) as running:
        assert "jdbc" not in running.output
        variables = printed(running, r"^  export .*$")
        assert f"PGHOST={short_path} PGPORT=5432 " in variables
        psql = printed(running, r"^  \S*psql -h .*$")
        if shutil.which(shlex.split(psql)[0]):
            assert "42" in await run(f"{psql} -Atc 'select 6 * 7'")
        running.send(signal.SIGTERM)
        assert await running.wait() == 0


async def test_a_second_signal_ends_it_by_force_and_leaves_nothing(
    short_path: Path,
) -> None:
    async with program(
        *("demo", "--listen", "127.0.0.1:0", "--log-level", "info"),
        directory=short_path,
    ) as running:
        connection = await psycopg.AsyncConnection.connect(running.dsn)
        await connection.execute("select 1")  # which began a transaction
        running.send(signal.SIGINT)
        await until(lambda: '"draining"' in running.errors)
        running.send(signal.SIGINT)
        assert await running.wait() == 130
        await connection.close()
    assert processes_of(running) == []
    assert list((short_path / "tmp").iterdir()) == []


async def test_a_taken_port_is_told_with_the_way_out(short_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with program(
            "demo", "--listen", address, directory=short_path, is_ready=False
        ) as running:
            assert await running.wait() == 1
    assert f"cannot listen on {address}: the address is taken" in running.errors
    assert "--listen 127.0.0.1:0" in running.errors
    assert "Traceback" not in running.errors
    assert running.output == ""
    assert processes_of(running) == []
    assert list((short_path / "tmp").iterdir()) == []


async def test_bad_flags_are_bad_usage(tmp_path: Path) -> None:
    for words in (
        ("--session-limit", "soon"),
        ("--session-limit", "0"),
        ("--session-limit", "25h"),
        ("--listen", "here"),
        ("--fault", "x"),
    ):
        async with program(
            "demo", *words, directory=tmp_path, is_ready=False
        ) as running:
            assert await running.wait() == 2
        assert words[0] in running.errors
        assert "Traceback" not in running.errors


def test_the_manual_fits_the_terminal() -> None:
    assert max(map(len, demo.HELP.splitlines())) <= 82
