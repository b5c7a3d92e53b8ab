"""`dsqlproxy run` as a process: what it writes, how it ends, what it leaves."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import yaml

from dsqlproxy.commands import run
from dsqlproxy.drain import Shutdown
from dsqlproxy.emulator.server import Emulator
from tests.end_to_end.conftest import emulator, postgres
from tests.end_to_end.wire import until
from tests.kit.processes import NO_CREDENTIALS, Program, environ_for, flags_for, program

__all__ = ("emulator", "postgres")  # fixtures that are borrowed


async def session(proxy: Program) -> "psycopg.AsyncConnection[tuple[object, ...]]":
    return await psycopg.AsyncConnection.connect(proxy.dsn, autocommit=True)


def shown_to_others(proxy: Program) -> list[bytes]:
    """Give what the list of processes shows; nothing where there is no /proc."""
    paths = [Path(f"/proc/{proxy.pid}/{name}") for name in ("cmdline", "environ")]
    return [path.read_bytes() for path in paths if path.exists()]


def left_by(proxy: Program) -> list[str]:
    """Name what is still there of a proxy that has ended."""
    left = [str(path) for path in (proxy.directory / "tmp").iterdir()]
    return left + ([str(proxy.ready_file)] if proxy.ready_file.exists() else [])


def test_what_is_loaded_is_not_looked_at_by_the_garbage_collector() -> None:
    # In a process of its own: this one has too much to look at.
    program = """
import asyncio, gc
from dsqlproxy.commands import run

async def main():
    run.keep_code_uncollected(after_seconds=0.0)
    await asyncio.sleep(0.01)
    assert gc.get_freeze_count()

asyncio.run(main())
"""
    done = subprocess.run(  # noqa: S603 - our own words, no shell
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_it_serves_until_a_signal_and_leaves_nothing(
    emulator: Emulator, tmp_path: Path, loop: str, number: signal.Signals
) -> None:
    async with program(
        *flags_for(emulator),
        *("--event-loop", loop),
        directory=tmp_path,
        environ=environ_for(emulator),
    ) as proxy:
        connection = await session(proxy)
        cursor = await connection.execute("select current_user, 6 * 7")
        assert await cursor.fetchone() == ("admin", 42)
        proxy.send(number)
        assert await proxy.wait() == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            await connection.execute("select 1")
        await connection.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((proxy.host, proxy.port)).close()
    assert left_by(proxy) == []
    assert proxy.output == ""
    events = [json.loads(line) for line in proxy.errors.splitlines()]
    names = [event["event"] for event in events]
    assert names[0] == "listening"
    assert names[-1] == "stopped"
    assert {"level": "info", "reason": number.name}.items() <= {
        **next(event for event in events if event["event"] == "draining")
    }.items()


@pytest.mark.parametrize(
    ("second", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
async def test_a_second_signal_ends_it_by_force(
    emulator: Emulator, tmp_path: Path, second: signal.Signals, code: int
) -> None:
    async with program(
        *flags_for(emulator), directory=tmp_path, environ=environ_for(emulator)
    ) as proxy:
        connection = await session(proxy)
        await connection.execute("begin")
        proxy.send(signal.SIGTERM)
        await until(lambda: '"draining"' in proxy.errors)
        proxy.send(second)
        assert await proxy.wait() == code
        with pytest.raises(psycopg.errors.AdminShutdown):
            await connection.execute("select 1")
        await connection.close()
    assert left_by(proxy) == []


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_it_serves_and_ends_without_a_standard_stream(
    emulator: Emulator, tmp_path: Path, closed: str, loop: str
) -> None:
    # libuv took the number for the event loop itself, and aborted at its end.
    words = ("-m", "dsqlproxy", *flags_for(emulator), "--event-loop", loop)
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *words),
        *("--ready-file", str(tmp_path / "ready.json")),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **NO_CREDENTIALS, **environ_for(emulator)},
    )
    proxy = Program(process, tmp_path)
    (tmp_path / "stderr").touch()
    try:
        await proxy.wait_ready()
        connection = await session(proxy)
        await connection.close()
        proxy.send(signal.SIGTERM)
        assert await proxy.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_nohup_keeps_it_from_ending_with_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, shutdown = asyncio.get_running_loop(), Shutdown()
    added: list[int] = []
    monkeypatch.setattr(
        loop, "add_signal_handler", lambda number, *_: added.append(number)
    )
    monkeypatch.setattr(loop, "remove_signal_handler", lambda _: True)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with run.forward_signals(shutdown):
            assert added == [signal.SIGTERM, signal.SIGINT]
    finally:
        signal.signal(signal.SIGHUP, before)
    with run.forward_signals(shutdown):
        assert added[2:] == [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def test_the_manual_fits_the_terminal() -> None:
    assert max(map(len, run.HELP.splitlines())) <= 78


def test_it_is_named_as_it_can_be_started_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "my bin" / "dsqlproxy"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["my bin/dsqlproxy", "demo"])
    assert run.this_program() == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert run.this_program() == "dsqlproxy"
    monkeypatch.setattr("sys.argv", ["/x/dsqlproxy/__main__.py", "demo"])
    assert run.this_program() == f"{sys.executable} -m dsqlproxy"


async def test_a_drain_that_runs_out_is_a_clean_end(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with program(
        *flags_for(emulator),
        *("--drain-timeout", "200ms"),
        directory=tmp_path,
        environ=environ_for(emulator),
    ) as proxy:
        connection = await session(proxy)
        await connection.execute("begin")
        proxy.send(signal.SIGTERM)
        assert await proxy.wait() == 0
        await connection.close()


async def test_a_taken_port_is_told_with_the_way_out(
    emulator: Emulator, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with program(
            *flags_for(emulator),
            *("--listen", address),
            directory=tmp_path,
            environ=environ_for(emulator),
            is_ready=False,
        ) as proxy:
            assert await proxy.wait() == 1
    assert f"cannot listen on {address}: the address is taken" in proxy.errors
    assert "--listen 127.0.0.1:0" in proxy.errors
    assert "Traceback" not in proxy.errors


async def test_a_start_that_fails_leaves_anothers_ready_file(
    emulator: Emulator, tmp_path: Path
) -> None:
    # A second proxy, started by mistake with the same flags, removed the file of the
    # first: whoever waits for it then waited in vain.
    async with program(
        *flags_for(emulator), directory=tmp_path, environ=environ_for(emulator)
    ) as first:
        other = tmp_path / "other"
        other.mkdir()
        async with program(
            *flags_for(emulator),
            *("--listen", f"127.0.0.1:{first.port}"),
            *("--ready-file", str(first.ready_file)),
            directory=other,
            environ=environ_for(emulator),
            is_ready=False,
        ) as second:
            assert await second.wait() == 1
        assert first.ready_file.exists()


async def test_the_ready_file_has_all_that_a_script_needs(
    emulator: Emulator, tmp_path: Path
) -> None:
    config = {
        "listeners": [
            {"name": "tcp", "listen": "127.0.0.1:0", "cluster": emulator.cluster},
            {
                "name": "unix",
                "listen": f"unix:{tmp_path}/s.sock",
                "cluster": emulator.cluster,
            },
        ],
        "admin": {"listen": "127.0.0.1:0"},
        "log": {"format": "text"},
    }
    for listener in config["listeners"]:
        assert isinstance(listener, dict)
        listener["connect_address"] = f"{emulator.host}:{emulator.port}"
        listener["ca_file"] = str(emulator.ca_file)
    path = tmp_path / "proxy.yaml"
    path.write_text(yaml.safe_dump(config))
    async with program(
        *("run", "--config", str(path)),
        directory=tmp_path,
        environ=environ_for(emulator)
        | {
            "DSQLPROXY_LISTENER_CONNECT_ADDRESS": "",
            "DSQLPROXY_LISTENER_CA_FILE": "",
        },
    ) as proxy:
        tcp, unix = proxy.ready["listeners"]
        assert proxy.ready["pid"] == proxy.pid
        assert tcp == {
            "name": "tcp",
            "host": "127.0.0.1",
            "port": proxy.port,
            "unix": None,
        }
        assert unix["unix"] == f"{tmp_path}/s.sock"
        assert stat.S_ISSOCK(os.stat(unix["unix"]).st_mode)
        assert proxy.ready["admin"]["port"]
        connection = await session(proxy)
        await connection.close()
        proxy.send(signal.SIGTERM)
        assert await proxy.wait() == 0
    assert "s.sock" not in os.listdir(tmp_path)
    assert " INFO listening listener=tcp address=127.0.0.1:" in proxy.errors


async def test_a_ready_file_that_cannot_be_written_stops_the_start(
    emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "ready.json"
    async with program(
        *flags_for(emulator),
        *("--ready-file", str(path)),
        directory=tmp_path,
        environ=environ_for(emulator),
        is_ready=False,
    ) as proxy:
        assert await proxy.wait() == 1
    assert f"cannot write the ready file {path}" in proxy.errors
    assert "Traceback" not in proxy.errors


async def test_bad_usage_is_code_2_with_every_problem(tmp_path: Path) -> None:
    async with program(
        *("--cluster", "https://x", "--listen", "127.0.0.1:99999"),
        directory=tmp_path,
        is_ready=False,
    ) as proxy:
        assert await proxy.wait() == 2
    assert "--cluster" in proxy.errors
    assert "--listen" in proxy.errors
    assert "Traceback" not in proxy.errors


@pytest.mark.parametrize(
    ("environ", "message", "hint"),
    [
        pytest.param({}, "no AWS credentials", "aws configure", id="none"),
        pytest.param(
            {"DSQLPROXY_LISTENER_PROFILE": "missing"},
            "there is no AWS profile 'missing'",
            "aws configure list-profiles",
            id="profile",
        ),
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "AKIAXXXXXXXXXXXXXXXX"},
            "the AWS credentials are incomplete",
            "unset AWS_ACCESS_KEY_ID",
            id="partial",
        ),
    ],
)
async def test_missing_credentials_are_told_to_the_client(
    emulator: Emulator,
    tmp_path: Path,
    environ: dict[str, str],
    message: str,
    hint: str,
) -> None:
    full = environ_for(emulator)
    bare = {name: value for name, value in full.items() if name.startswith("DSQL")}
    async with program(
        *flags_for(emulator),
        directory=tmp_path,
        environ=bare | environ | {"DSQLPROXY_LISTENER_HOLD_TIMEOUT": "0"},
    ) as proxy:
        with pytest.raises(psycopg.OperationalError) as caught:
            await session(proxy)
        said = str(caught.value)
        assert f"FATAL:  {message}" in said
        assert hint in said
        await until(lambda: '"login failed"' in proxy.errors)
        (failed,) = (
            event
            for event in map(json.loads, proxy.errors.splitlines())
            if event["event"] == "login failed"
        )
        assert failed["code"] == "28000"
        assert failed["message"] == message
        # The proxy is not ready with such credentials, and says why.
        assert emulator.counts.logins_accepted == 0


async def test_its_command_line_and_environment_hold_no_token(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with program(
        *flags_for(emulator),
        *("--log-level", "debug"),
        directory=tmp_path,
        environ=environ_for(emulator),
    ) as proxy:
        connection = await session(proxy)
        for shown in shown_to_others(proxy):
            assert b"X-Amz" not in shown
        await connection.close()
        proxy.send(signal.SIGTERM)
        assert await proxy.wait() == 0
    for text in (proxy.errors, proxy.output):
        assert "X-Amz" not in text
        assert emulator.credentials.secret_access_key not in text
