import argparse
import json
import os
import signal
import socket
import stat
import subprocess
import sys
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
            process.kill()


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


def blocks(printed: str) -> Iterator[str]:
    """Give the indented lines, which are there to be pasted."""
    for line in printed.splitlines():
        if line.startswith("  "):
            yield line


def test_what_it_prints_can_be_pasted(temporary: Path) -> None:
    with running(temporary=temporary) as process:
        assert process.stdout is not None
        printed = ""
        while "--cluster" not in printed:
            printed += process.stdout.readline()
        pasted = "\n".join(blocks(printed))
        assert pasted.count("export AWS_ACCESS_KEY_ID=") == 1
        environment = {
            **os.environ,
            **NO_CREDENTIALS,
            "AWS_SESSION_TOKEN": "of another key",
            "DSQLPROXY_LISTENER_LISTEN": "127.0.0.1:0",
            "DSQLPROXY_ADMIN_LISTEN": "127.0.0.1:0",
        }
        with subprocess.Popen(  # noqa: S603 - it is what is tested
            ["/bin/sh", "-c", pasted],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        ) as proxy:
            try:
                assert proxy.stderr is not None
                listening = json.loads(proxy.stderr.readline())
                host, _, port = listening["address"].rpartition(":")
                with psycopg.connect(
                    host=host, port=port, user="anyone", dbname="postgres"
                ) as connection:
                    found = connection.execute("select current_user").fetchone()
                assert found == ("admin",)
            finally:
                os.killpg(proxy.pid, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


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
    assert "dsqlproxy[emulator]" in refused.value.hint
    assert "'.[emulator]'" in refused.value.hint
