"""An emulated cluster and the proxy, as processes of their own, as users run them."""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import BenchError, running, wait_until

UNLIMITED = 100_000
"""A rate of logins that nothing here comes near; the highest there may be."""

ENDING_SECONDS = 30.0
"""How long the proxy may take to end in order."""

_CONTROL_SECONDS = 10.0
_NO_OTHER_CREDENTIALS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """An emulator that runs, and what its ready file says of it."""

    pid: int
    name: str
    host: str
    port: int
    ca_file: str
    credentials: Mapping[str, str] = field(repr=False)
    control: str

    @property
    def listener(self) -> dict[str, object]:
        """What a proxy's listener must know of it."""
        return {
            "cluster": self.name,
            "connect_address": f"{self.host}:{self.port}",
            "ca_file": self.ca_file,
        }

    def tell(self, line: str) -> str:
        """Give a command to the control socket; `BenchError` if it is refused."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(_CONTROL_SECONDS)
            control.connect(self.control)
            control.sendall(line.encode() + b"\n")
            answer = control.makefile().readline().strip()
        if not answer.startswith("ok"):
            msg = f"the emulator was told {line!r} and said {answer!r}"
            raise BenchError(msg)
        return answer


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """A proxy that runs."""

    host: str
    port: int
    pid: int
    log_file: Path


@contextlib.contextmanager
def emulated_cluster(home: Path, *words: str) -> Iterator[Cluster]:
    """Run an emulator without SQL rules and without a limit of logins.

    ``words`` are more of its flags. Files go to ``home``, a directory of its own.
    """
    ready_file, log_file = home / "ready.json", home / "log"
    command = [sys.executable, "-m", "dsqlproxy", "emulator", "--rules", "off"]
    command += ["--connect-rate", str(UNLIMITED), "--connect-burst", str(UNLIMITED)]
    command += [*words, "--ready-file", str(ready_file)]
    with running(command, log_file=log_file) as process:
        wait_until(ready_file.exists, process, log_file=log_file)
        ready: dict[str, Any] = json.loads(ready_file.read_text())
        keys = {
            **_NO_OTHER_CREDENTIALS,
            "AWS_ACCESS_KEY_ID": ready["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": ready["secret_access_key"],
        }
        yield Cluster(
            pid=process.pid,
            name=ready["cluster"],
            host=ready["host"],
            port=ready["port"],
            ca_file=ready["ca_file"],
            credentials=keys,
            control=ready["control"],
        )


@contextlib.contextmanager
def running_proxy(
    home: Path,
    *,
    listener: Mapping[str, object],
    credentials: Mapping[str, str],
    log_level: str = "warning",
    must_end_in_order: bool = False,
    program: Sequence[str] = ("dsqlproxy",),
) -> Iterator[RunningProxy]:
    """Run ``dsqlproxy --config``; its files go to ``home``, a directory of its own.

    ``must_end_in_order``: `BenchError` if it does not leave with code 0 on SIGTERM.
    ``program``: the module that is run, and words that it takes before the flags.
    """
    ready_file, log_file, config_file = home / "ready.json", home / "log", home / "yaml"
    config = {
        "listeners": [{"listen": "127.0.0.1:0", **listener}],
        "admin": {"listen": "off"},
        "log": {"level": log_level, "format": "json"},
        "drain_timeout": "1s",
    }
    config_file.write_text(json.dumps(config))  # which is YAML
    command = [sys.executable, "-m", *program, "--config", str(config_file)]
    command += ["--ready-file", str(ready_file)]
    environment = {**_NO_OTHER_CREDENTIALS, **credentials}
    with running(command, log_file=log_file, environment=environment) as process:
        wait_until(ready_file.exists, process, log_file=log_file)
        ready: dict[str, Any] = json.loads(ready_file.read_text())
        bound = ready["listeners"][0]
        yield RunningProxy(bound["host"], bound["port"], ready["pid"], log_file)
        if must_end_in_order:
            process.send_signal(signal.SIGTERM)
            if code := process.wait(ENDING_SECONDS):
                msg = f"the proxy ended with code {code} after SIGTERM"
                raise BenchError(msg)
