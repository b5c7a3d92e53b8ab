import argparse
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dsqlproxy.commands import emulator as command
from dsqlproxy.emulator.backend import BackendAddress
from dsqlproxy.emulator.faults import Fault
from dsqlproxy.errors import ConfigError, DsqlProxyError
from tests.kit.processes import NO_CREDENTIALS

KEYS = [
    "host",
    "port",
    "cluster",
    "region",
    "ca_file",
    "access_key_id",
    "secret_access_key",
    "principal_arn",
    "control",
]


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


@contextmanager
def running(*words: str, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a process of its own."""
    program = [sys.executable, "-m", "dsqlproxy", "emulator", *words]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(  # noqa: S603 - our own command
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()  # and not kill: it leaves nothing then


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a short name, for the paths of sockets, open to nobody."""
    tmp_path_factory.getbasetemp()
    directory = Path("/tmp") / f"emu{os.getpid()}"  # noqa: S108 - made and removed here
    directory.mkdir(mode=0o711)
    yield directory
    left = os.listdir(directory)
    for name in left:
        (directory / name).unlink()
    directory.rmdir()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_nothing(
    tmp_path: Path, temporary: Path, number: signal.Signals
) -> None:
    ready_file = tmp_path / "ready.json"
    with running("--ready-file", str(ready_file), temporary=temporary) as process:
        assert process.stdout is not None
        text = [process.stdout.readline().rstrip("\n") for _ in KEYS]
        content = json.loads(ready_file.read_text())
        assert list(content) == KEYS
        assert text == [f"{key}: {content[key]}" for key in KEYS]
        assert stat.S_IMODE(ready_file.stat().st_mode) == 0o600
        assert Path(content["ca_file"]).exists()
        assert len(list(temporary.iterdir())) == 2  # PostgreSQL's and the emulator's
        process.send_signal(number)
        assert process.wait(20) == 0
        errors = process.stderr.read() if process.stderr else ""
        assert content["secret_access_key"] not in errors
    assert not ready_file.exists()
    assert list(temporary.iterdir()) == []


PSQL = """\
#!{python}
import psycopg
with psycopg.connect() as connection:
    print(*connection.execute("select current_user").fetchone())
"""


@pytest.fixture
def terminal(tmp_path: Path) -> dict[str, str]:
    """The environment of another terminal, with leftovers, and with a psql."""
    psql = tmp_path / "psql"
    psql.write_text(PSQL.format(python=sys.executable))
    psql.chmod(0o700)
    return {
        **os.environ,
        **NO_CREDENTIALS,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "AWS_SESSION_TOKEN": "of another key",
        "AWS_PROFILE": "of another day",
        "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
        "NO_PROXY": "127.0.0.1",
        "DSQLPROXY_CONFIG": "/nowhere.yaml",
        "DSQLPROXY_LISTENER_LISTEN": "127.0.0.1:0",
        "DSQLPROXY_ADMIN_LISTEN": "127.0.0.1:0",
    }


def printed_by(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """Give the variables and the commands, which are there to be pasted."""
    assert process.stdout is not None
    indented = []
    while not (line := process.stdout.readline()).endswith(" token\n"):
        assert line
        if line.startswith("  "):
            indented.append(line.strip())
    commands = [*indented[-2:], line.strip(), process.stdout.readline().strip()]
    return "\n".join(indented[:-2]), commands


def pasted(words: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - it is what is tested
        ["/bin/sh", "-c", words],
        capture_output=True,
        check=False,
        text=True,
        env=environ,
        timeout=20,
    )


def test_what_it_prints_can_be_pasted(
    temporary: Path, terminal: dict[str, str]
) -> None:
    with running(temporary=temporary) as process:
        variables, commands = printed_by(process)
        check, execute, token, proxy = commands
        for command_line, shown in (
            (check, "  ready: psql"),
            (execute, "admin\n"),
            (token, "X-Amz-Signature="),
        ):
            done = pasted(f"{variables}\n{command_line}", terminal)
            assert done.stderr == ""
            assert done.returncode == 0
            assert shown in done.stdout
        with proxy_of(f"{variables}\nexec {proxy}", terminal) as address:
            host, _, port = address.rpartition(":")
            with psycopg.connect(
                host=host, port=port, user="anyone", dbname="postgres"
            ) as connection:
                found = connection.execute("select current_user").fetchone()
            assert found == ("admin",)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@contextmanager
def proxy_of(words: str, environ: dict[str, str]) -> Iterator[str]:
    """Run a proxy from a shell, and give its address."""
    with subprocess.Popen(  # noqa: S603 - it is what is tested
        ["/bin/sh", "-c", words], stderr=subprocess.PIPE, text=True, env=environ
    ) as proxy:
        try:
            assert proxy.stderr is not None
            yield json.loads(proxy.stderr.readline())["address"]
        finally:
            proxy.terminate()


def test_a_line_is_told_to_a_running_emulator(temporary: Path, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    with running("--ready-file", str(ready_file), temporary=temporary) as process:
        printed_by(process)
        control = json.loads(ready_file.read_text())["control"]
        assert command.tell(control, "fault waking-up:20") == "ok waking-up:20"
        with running("--tell", control, "status", temporary=temporary) as asking:
            answer, errors = asking.communicate(timeout=20)
            assert (asking.returncode, errors) == (0, "")
        assert "waking-up" in json.dumps(json.loads(answer.removeprefix("ok ")))
        with pytest.raises(DsqlProxyError, match="accepted: fault NAME"):
            command.tell(control, "nonsense")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with pytest.raises(DsqlProxyError, match="no emulator answers") as refused:
        command.tell(control, "status")
    assert "control" in refused.value.hint


def test_an_emulator_that_ends_meanwhile_gives_no_answer(temporary: Path) -> None:
    path = temporary / "control"

    def leave(server: socket.socket) -> None:
        accepted, _ = server.accept()
        with accepted:
            accepted.recv(100)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=leave, args=(server,))
        thread.start()
        with pytest.raises(DsqlProxyError, match="no answer"):
            command.tell(str(path), "status")
        thread.join()


def test_a_backend_that_cannot_be_reached_is_said(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    backends = {f"//{address}": address, "///?host=/nowhere": "/nowhere/.s.PGSQL.5432"}
    for words, where in backends.items():
        for rules in ("dsql", "off"):
            flags = ("--backend", f"postgresql:{words}", "--rules", rules)
            with running(*flags, temporary=temporary) as process:
                _, errors = process.communicate(timeout=20)
                assert process.returncode == 1
                assert f"--backend cannot be reached at {where}: " in errors
                assert "Errno" not in errors
                assert "superuser" not in errors
                assert "Check that it runs" in errors
    assert list(temporary.iterdir()) == []


def test_its_log_has_fields_and_a_level(temporary: Path) -> None:
    with running("--log-format", "json", temporary=temporary) as process:
        assert process.stderr is not None
        event = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert event["event"] == "emulator listening"
    assert event["host"] == "127.0.0.1"
    assert isinstance(event["port"], int)
    with running("--log-level", "warning", temporary=temporary) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[1] == ""


def test_a_taken_port_is_said(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with running("--listen", address, temporary=temporary) as process:
            _, errors = process.communicate(timeout=20)
            assert process.returncode == 1
            assert f"cannot listen on {address}" in errors
            assert "--listen" in errors
            assert "Traceback" not in errors
    assert list(temporary.iterdir()) == []


def test_the_defaults_are_a_cluster_s() -> None:
    config, backend = command.settings(parse())
    assert (config.host, config.port, config.region) == ("127.0.0.1", 0, "us-east-1")
    assert (config.session_limit, config.has_rules) == (3600, True)
    assert (config.max_connections, config.connect_rate) == (10_000, 100)
    assert config.connect_burst == 1000
    assert backend is None


def test_every_flag_arrives() -> None:
    config, backend = command.settings(
        parse(
            *("--listen", "[::1]:6000", "--session-limit", "90s", "--rules", "off"),
            *("--backend", "postgresql://u@h/d", "--max-connections", "5"),
            *("--connect-rate", "7", "--connect-burst", "8"),
            *("--region", "eu-west-1", "--fault", "no-cancel", "--fault", "skew:-5"),
        )
    )
    assert (config.host, config.port) == ("::1", 6000)
    assert (config.session_limit, config.has_rules) == (90, False)
    assert (config.max_connections, config.connect_rate) == (5, 7)
    assert (config.connect_burst, config.region) == (8, "eu-west-1")
    assert config.faults == ("no-cancel", "skew:-5")
    assert backend == BackendAddress("h", 5432, None, "u", None, "d")


def test_all_problems_are_told_at_once() -> None:
    flags: dict[str, Any] = {
        "--listen": "nonsense",
        "--session-limit": "0s",
        "--max-connections": "0",
        "--connect-rate": "-1",
        "--connect-burst": "many",
        "--backend": "http://x",
        "--region": "mars",
        "--fault": "bang",
    }
    words = [f"{flag}={value}" for flag, value in flags.items()]
    with pytest.raises(ConfigError) as refused:
        command.settings(parse(*words))
    told = [problem.partition(":")[0] for problem in refused.value.problems]
    assert sorted(told) == sorted(flags)
    assert all("accepted" in problem for problem in refused.value.problems[-1:])


def test_the_manual_names_every_fault() -> None:
    for fault in Fault:
        assert f"    {fault}" in command.HELP


def test_the_manual_fits_a_terminal() -> None:
    assert max(map(len, command.HELP.splitlines())) <= 78


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dsqlproxy.emulator.postgres", None)
    with pytest.raises(DsqlProxyError, match="not installed") as refused:
        command.run(parse())
    assert "'.[emulator]'" in refused.value.hint
