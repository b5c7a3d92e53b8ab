"""`dsqlproxy exec` as a program, before an emulated cluster."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.kit.clients import (
    Ended,
    Program,
    RunningProgram,
    Served,
)
from tests.kit.processes import NO_CREDENTIALS

_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Exec:
    """`dsqlproxy exec` with a configuration; what is given to it is the command."""

    program: Program
    flags: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        return ("-m", "dsqlproxy", "exec", *self.flags)

    def with_environment(self, **variables: str) -> "Exec":
        environment = {**self.program.environment, **variables}
        return replace(self, program=Program(self.program.path, environment))

    def with_flags(self, *flags: str) -> "Exec":
        return replace(self, flags=(*self.flags, *flags))

    def run(self, *command: str, said: str = "") -> Ended:
        return self.program.run(*self.words, "--", *command, said=said)

    def in_shell(self, script: str, *command: str) -> Ended:
        """Run it as ``"$@"`` of a script, for what only a shell can do."""
        shell = replace(self.program, path=Path("/bin/bash"))
        words = (str(self.program.path), *self.words, "--", *command)
        return shell.run("-c", script, "bash", *words, said="said")

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator["Running"]:
        """Run a command that is spoken with while it runs."""
        with subprocess.Popen(  # noqa: S603 - our own words, no shell
            [self.program.path, *self.words, "--", *command],
            env=self.program.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process:
            try:
                yield Running(process)
            finally:
                process.kill()


class Running(RunningProgram):
    """A command that has not ended yet, with the proxy before it."""

    def line(self) -> str:
        """Wait for a line of its output."""
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


def environ_of(served: Served) -> dict[str, str]:
    """Give the credentials, and a PATH that has psql."""
    key = served.emulator.credentials
    return {
        **NO_CREDENTIALS,
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "PATH": os.pathsep.join([str(served.postgres.bin_dir), os.environ["PATH"]]),
        **{name: text for name, text in os.environ.items() if "COVERAGE_" in name},
    }


def listener_of(served: Served, **settings: object) -> dict[str, object]:
    emulator = served.emulator
    return {
        "cluster": emulator.cluster,
        "connect_address": f"{emulator.host}:{emulator.port}",
        "ca_file": str(emulator.ca_file),
        **settings,
    }


def program_of(served: Served, **environ: str) -> Program:
    return Program.at(Path(sys.executable), {**environ_of(served), **environ})


def wait_until_stopped(shell: int) -> None:
    """Wait until whatever a shell has started on its terminal is stopped.

    Where there is no /proc nobody can tell, and it is taken for granted.
    """
    if not Path("/proc/self/stat").exists():
        return
    deadline = time.monotonic() + _SECONDS
    while set(_states_of_jobs(shell)) != {"T"}:
        assert time.monotonic() < deadline, "something goes on"
        time.sleep(0.01)


def _states_of_jobs(shell: int) -> Iterator[str]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it has ended
            continue
        state, _, _, session, *_ = text.rpartition(")")[2].split()
        if session == str(shell) and stat.parent.name != str(shell):
            yield state
