"""Programs that the benchmark starts: with whose rights, until when, at what cost."""

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 20.0
STOP_SECONDS = 10.0

_UNPRIVILEGED = "nobody"
_PROC = Path("/proc")
_CLIENT_SETTINGS = ("PG", "AWS_", "DSQLPROXY_")


class BenchError(Exception):
    """Something that the benchmark needs is not there or did not work."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that servers run as: root may not run a PostgreSQL."""

    uid: int
    gid: int

    @classmethod
    def for_servers(cls) -> "Account":
        """Give our own user, or an unprivileged one where that is root."""
        if os.getuid() != 0:
            return cls(os.getuid(), os.getgid())
        entry = pwd.getpwnam(_UNPRIVILEGED)
        return cls(entry.pw_uid, entry.pw_gid)

    def own(self, *paths: Path) -> None:
        """Give it files and directories."""
        if os.getuid() == 0:
            for path in paths:
                os.chown(path, self.uid, self.gid)

    def options(self) -> dict[str, object]:
        """Give the arguments of `subprocess.Popen` that make a child this user."""
        if os.getuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment without what would steer a client of PostgreSQL or AWS."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_CLIENT_SETTINGS)
    }
    return {**kept, "LC_ALL": "C", **(extra or {})}


def free_port() -> int:
    """Find a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    log_file: Path,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of the block; its output goes to ``log_file``."""
    options = account.options() if account else {}
    with log_file.open("wb") as log:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            cwd="/" if account else None,
            env=clean_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end them in order
            **options,  # type: ignore[call-overload]
        )
    try:
        yield process
    finally:
        _stop(process, stop_signal)


def _stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def wait_until(
    is_ready: Callable[[], bool],
    process: subprocess.Popen[bytes],
    *,
    log_file: Path,
) -> None:
    """Wait for a program that was just started; `BenchError` when it does not come."""
    name = Path(str(process.args[0] if isinstance(process.args, list) else "")).name
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        tail = log_file.read_text(errors="replace").strip().splitlines()[-3:]
        said = " / ".join(tail) or "nothing"
        if process.poll() is not None:
            msg = f"{name} ended with code {process.returncode}; it said: {said}"
            raise BenchError(msg)
        if time.monotonic() > deadline:
            msg = f"{name} was not ready after {START_SECONDS:g} s; it said: {said}"
            raise BenchError(msg)
        time.sleep(0.02)


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port of the loopback interface."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


# -- what a process costs (Linux only; elsewhere unknown) ---------------------------


def cpu_seconds(pid: int) -> float | None:
    """CPU time of a process and all its threads, ended ones too; in ticks of 10 ms."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def memory_bytes(pid: int) -> int | None:
    """Proportional set size of a process; resident set where that may not be read."""
    directory = _PROC / str(pid)
    for file, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        if (size := _kilobytes(directory / file, key)) is not None:
            return size
    return None


def resident_bytes(pid: int, *, peak: bool = False) -> int | None:
    """Resident set size of a process, now or at its highest."""
    return _kilobytes(_PROC / str(pid) / "status", "VmHWM:" if peak else "VmRSS:")


def _kilobytes(file: Path, key: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return None


def with_children(pids: Iterable[int]) -> set[int]:
    """Give processes together with their children (the sessions of PostgreSQL)."""
    wanted = set(pids)
    found = set(wanted)
    if not sys.platform.startswith("linux"):
        return found
    for directory in _PROC.iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) in wanted:
                found.add(int(directory.name))
    return found


@contextlib.contextmanager
def on_one_core(pids: Iterable[int]) -> Iterator[None]:
    """Keep processes, and this one with its future children, on one core.

    Without it, one client on a virtual machine measures mostly what it costs to wake
    another core, which is the same for everybody and different from run to run.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    everything = os.sched_getaffinity(0)
    everybody = [*with_children(pids), os.getpid()]
    try:
        _set_affinity(everybody, {min(everything)})
        yield
    finally:
        _set_affinity(everybody, everything)


def _set_affinity(pids: Iterable[int], cores: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in (_PROC / str(pid) / "task").iterdir():
                os.sched_setaffinity(int(task.name), cores)
