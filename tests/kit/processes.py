"""The program as its users start it: a process, its ready file, its output."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsqlproxy.emulator.server import Emulator

START_SECONDS = 20.0
END_SECONDS = 15.0

NO_CREDENTIALS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""An environment in which the AWS chain finds nothing, wherever the tests run."""


@dataclass(slots=True)
class Program:
    """A running `dsqlproxy`; ``ready`` is what its ready file says."""

    process: asyncio.subprocess.Process
    directory: Path
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def host(self) -> str:
        return str(self.ready["listeners"][0]["host"])

    @property
    def port(self) -> int:
        return int(self.ready["listeners"][0]["port"])

    @property
    def admin(self) -> str:
        return "{host}:{port}".format(**self.ready["admin"])

    @property
    def dsn(self) -> str:
        return (
            f"host={self.host} port={self.port} user=admin dbname=postgres"
            " connect_timeout=10"
        )

    @property
    def ready_file(self) -> Path:
        return self.directory / "ready.json"

    @property
    def output(self) -> str:
        return (self.directory / "stdout").read_text()

    @property
    def errors(self) -> str:
        return (self.directory / "stderr").read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def wait(self) -> int:
        """Give the exit code, soon."""
        async with asyncio.timeout(END_SECONDS):
            return await self.process.wait()

    async def wait_ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            while not self.ready_file.exists():
                assert self.process.returncode is None, self.errors
                await asyncio.sleep(0.01)
        self.ready = json.loads(self.ready_file.read_text())


@asynccontextmanager
async def program(
    *words: str,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    is_ready: bool = True,
) -> AsyncIterator[Program]:
    """Run a command; in ``directory`` its output and its own temporary files.

    Only variables of AWS and of the proxy itself are not inherited.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "DSQLPROXY_"))
    }
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o711)  # a PostgreSQL of another user finds its directory in it
    with (
        (directory / "stdout").open("wb") as output,
        (directory / "stderr").open("wb") as errors,
    ):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dsqlproxy", *words),
            *(("--ready-file", str(directory / "ready.json")) if is_ready else ()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={
                **inherited,
                **NO_CREDENTIALS,
                "TMPDIR": str(temporary),
                **(environ or {}),
            },
        )
    running = Program(process, directory)
    try:
        if is_ready:
            await running.wait_ready()
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def flags_for(emulator: Emulator) -> tuple[str, ...]:
    """Give the flags of a proxy before an emulator."""
    return (
        *("--cluster", emulator.cluster, "--listen", "127.0.0.1:0"),
        *("--admin-listen", "127.0.0.1:0"),
    )


def environ_for(emulator: Emulator, **more: str) -> dict[str, str]:
    """Give the rest of its configuration, and its credentials, as variables."""
    return {
        "AWS_ACCESS_KEY_ID": emulator.credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": emulator.credentials.secret_access_key,
        "DSQLPROXY_LISTENER_CONNECT_ADDRESS": f"{emulator.host}:{emulator.port}",
        "DSQLPROXY_LISTENER_CA_FILE": str(emulator.ca_file),
        **more,
    }
