"""What the benchmark finds on this machine: the programs, and what to say of them."""

import importlib.metadata
import os
import platform
import re
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, clean_environment

_PG_DIRECTORIES = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # the RPMs of postgresql.org
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
_SYSTEM_DIRECTORIES = "/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs to measure with; None is not installed."""

    postgres_bin: Path
    """Directory of initdb, postgres and pgbench, of a PostgreSQL that has TLS."""
    pgbouncer: Path | None
    stunnel: Path | None

    @classmethod
    def find(cls, postgres_bin: Path | None = None) -> "Programs":
        """Look for them; `BenchError` where there is no usable PostgreSQL."""
        return cls(
            postgres_bin=postgres_bin or _find_postgres(),
            pgbouncer=_which("pgbouncer"),
            stunnel=_which("stunnel4", "stunnel"),
        )

    @property
    def pgbench(self) -> Path:
        """The load generator of this PostgreSQL."""
        return self.postgres_bin / "pgbench"


def _find_postgres() -> Path:
    candidates = [
        directory
        for pattern in _PG_DIRECTORIES
        for directory in Path("/").glob(pattern)
        if all((directory / name).exists() for name in ("initdb", "pgbench"))
    ]
    if candidates:
        return max(candidates, key=_version_in_path)
    if (pgbench := _which("pgbench")) and (pgbench.parent / "initdb").exists():
        return pgbench.parent
    msg = "no PostgreSQL of the system was found (initdb, postgres, pgbench)"
    raise BenchError(msg)


def _version_in_path(directory: Path) -> int:
    numbers = re.findall(r"\d+", str(directory))
    return int(numbers[-1]) if numbers else 0


def _which(*names: str) -> Path | None:
    search = os.pathsep.join((os.environ.get("PATH", ""), _SYSTEM_DIRECTORIES))
    for name in names:
        if found := shutil.which(name, path=search):
            return Path(found)
    return None


def describe(programs: Programs) -> list[str]:
    """Say what was measured with, one fact an item."""
    postgres = programs.postgres_bin / "postgres"
    facts = [
        f"{_processor()}, {os.cpu_count()} cores",
        f"{platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        f"uvloop {_package('uvloop')}",
        ssl.OPENSSL_VERSION.rsplit(" ", 3)[0],
        f"PostgreSQL {_version((str(postgres), '--version'))}",
    ]
    if programs.pgbouncer:
        version = _version((str(programs.pgbouncer), "--version"))
        facts.append(f"PgBouncer {version}")
    if programs.stunnel:
        facts.append(f"stunnel {_version((str(programs.stunnel), '-version'))}")
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _version(command: Sequence[str]) -> str:
    done = subprocess.run(
        command,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found = _VERSION.search(done.stdout)
    return found[0] if found else "unknown"
