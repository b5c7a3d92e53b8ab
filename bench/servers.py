"""The servers and intermediaries under test, each for the length of a block.

All of them stand in front of one PostgreSQL with TLS and verify its certificate. It
lets clients in without a password: a token is another password at each login, and
what is compared is the way there, not PostgreSQL's password check.
"""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.emulated import (
    UNLIMITED,
    Cluster,
    RunningProxy,
    emulated_cluster,
    running_proxy,
)
from bench.load import DATABASE, ROLE, Route
from bench.processes import (
    Account,
    BenchError,
    answers,
    clean_environment,
    free_port,
    running,
    wait_until,
)
from bench.programs import Programs
from dsqlproxy.emulator.certs import write_certificates

REGION = "us-east-1"
CLUSTER = f"{'bench' * 5}x.dsql.{REGION}.on.aws"
MAX_SESSIONS = 1_200
TEMPORARY = "dsqlproxy-bench-"
"""How the names of our temporary directories begin."""

_DUMMY_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
}
_AS_IT_COMES = {
    "role": ROLE,
    "database": "client",
    "unsupported_parameters": "pass",
    "max_sessions": MAX_SESSIONS,
}
_POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "ssl": "on",
    "max_connections": str(MAX_SESSIONS),
    "shared_buffers": "256MB",
    "fsync": "off",
    "autovacuum": "off",  # it would come at another moment for each
    "jit": "off",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that clients connect to, and the process whose cost counts."""

    name: str
    route: Route
    pid: int | None = None
    companions: tuple[int, ...] = ()
    """Other processes on the way; they share a core with it, and are not counted."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Every process on the way to the server."""
        own = () if self.pid is None else (self.pid,)
        return own + self.companions


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where servers live and whom they run as."""

    directory: Path
    account: Account
    programs: Programs

    def new(self, name: str) -> Path:
        """Make a directory that the servers' user owns."""
        number = len(list(self.directory.iterdir()))
        path = self.directory / f"{number}-{name}"
        path.mkdir(mode=0o755)
        self.account.own(path)
        return path


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL with TLS that runs."""

    port: int
    socket_directory: Path
    ca_file: Path
    pid: int

    @property
    def direct(self) -> Subject:
        """A client that encrypts and verifies by itself."""
        return Subject("direct TLS", Route(self.port, CLUSTER, self.ca_file))


Starter = Callable[[Workplace, Postgres], AbstractContextManager[Subject]]


@contextlib.contextmanager
def postgres(place: Workplace, *, scale: int) -> Iterator[Postgres]:
    """Run a fresh PostgreSQL with pgbench's tables in it."""
    home = place.new("postgres")
    certificates = write_certificates(home, region=REGION, now=datetime.now(UTC))
    place.account.own(certificates.server_file)
    data = home / "data"
    _call(place, "initdb", "-D", data, "-U", ROLE, "-A", "trust", "--no-sync",
          "--encoding=UTF8", "--locale=C")  # fmt: skip
    rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n"
    (data / "pg_hba.conf").write_text(rules)
    port = free_port()
    settings = {
        **_POSTGRES_SETTINGS,
        "port": str(port),
        "unix_socket_directories": str(home),
        "ssl_cert_file": str(certificates.server_file),
        "ssl_key_file": str(certificates.server_file),
    }
    command = [str(place.programs.postgres_bin / "postgres"), "-D", str(data)]
    command += [word for item in settings.items() for word in ("-c", "=".join(item))]
    log = home / "log"
    with running(
        command, log_file=log, account=place.account, stop_signal=signal.SIGINT
    ) as process:
        wait_until(lambda: answers(port), process, log_file=log)
        here = ("-h", home, "-p", str(port), "-U", ROLE)
        _call(place, "createdb", *here, DATABASE)
        _call(place, "pgbench", *here, "-i", "-q", "-s", str(scale), DATABASE)
        yield Postgres(port, home, certificates.ca_file, process.pid)


def _call(place: Workplace, program: str, *words: str | Path) -> None:
    done = subprocess.run(
        [str(place.programs.postgres_bin / program), *map(str, words)],
        env=clean_environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **place.account.options(),  # type: ignore[call-overload]
    )
    if done.returncode:
        msg = f"{program} failed: {done.stderr.strip()[-300:]}"
        raise BenchError(msg)


@contextlib.contextmanager
def pgbouncer(place: Workplace, server: Postgres) -> Iterator[Subject]:
    """Run PgBouncer: session pooling, plain to the client, TLS to the server."""
    program = place.programs.pgbouncer
    if program is None:
        msg = "PgBouncer is not installed"
        raise BenchError(msg)
    home = place.new("pgbouncer")
    port = free_port()
    (home / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"{DATABASE} = host=localhost port={server.port} user={ROLE}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = session\nmax_client_conn = {MAX_SESSIONS}\n"
        f"default_pool_size = {MAX_SESSIONS - 50}\n"
        f"server_tls_sslmode = verify-full\nserver_tls_ca_file = {server.ca_file}\n"
        "log_connections = 0\nlog_disconnections = 0\n"
    )
    command = [str(program), str(home / "pgbouncer.ini")]
    with running(command, log_file=home / "log", account=place.account) as process:
        wait_until(lambda: answers(port), process, log_file=home / "log")
        yield Subject("PgBouncer", Route(port), process.pid)


@contextlib.contextmanager
def stunnel(place: Workplace, server: Postgres) -> Iterator[Subject]:
    """Run stunnel in its client mode for PostgreSQL."""
    program = place.programs.stunnel
    if program is None:
        msg = "stunnel is not installed"
        raise BenchError(msg)
    home = place.new("stunnel")
    port = free_port()
    (home / "stunnel.conf").write_text(
        "foreground = yes\npid =\ndebug = err\n"
        "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
        "[postgresql]\nclient = yes\nprotocol = pgsql\n"
        f"accept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{server.port}\n"
        f"verifyChain = yes\nCAfile = {server.ca_file}\n"
        f"checkHost = {CLUSTER}\nsni = {CLUSTER}\n"
    )
    command = [str(program), str(home / "stunnel.conf")]
    with running(command, log_file=home / "log", account=place.account) as process:
        wait_until(lambda: answers(port), process, log_file=home / "log")
        yield Subject("stunnel", Route(port), process.pid)


@contextlib.contextmanager
def proxy(place: Workplace, server: Postgres) -> Iterator[Subject]:
    """Run dsqlproxy, logging in to the server itself."""
    listener = {
        "cluster": CLUSTER,
        "connect_address": f"127.0.0.1:{server.port}",
        "ca_file": str(server.ca_file),
        # Before version 17, PostgreSQL has no direct TLS: spare it the attempt.
        "tls_negotiation": "postgres",
    }
    home = place.new("dsqlproxy")
    with running_proxy(
        home, listener={**_AS_IT_COMES, **listener}, credentials=_DUMMY_CREDENTIALS
    ) as run:
        yield Subject("dsqlproxy", Route(run.port), run.pid)


@contextlib.contextmanager
def proxy_and_emulator(
    place: Workplace, server: Postgres, *, session_limit: str = "60m"
) -> Iterator[Subject]:
    """Run dsqlproxy in front of the emulator, in front of the same server."""
    with (
        cluster_before(place, server, session_limit=session_limit) as cluster,
        proxy_before(place, cluster, session_limit=session_limit) as run,
    ):
        name = "dsqlproxy + emulator"
        yield Subject(name, Route(run.port), run.pid, (cluster.pid,))


@contextlib.contextmanager
def cluster_before(
    place: Workplace, server: Postgres, *, session_limit: str
) -> Iterator[Cluster]:
    """Run an emulator in front of the server."""
    backend = f"//:{server.port}/{DATABASE}?host={server.socket_directory}"
    words = ["--backend", f"postgresql:{backend}", "--region", REGION]
    words += ["--session-limit", session_limit]
    with emulated_cluster(place.new("emulator"), *words) as cluster:
        yield cluster


@contextlib.contextmanager
def proxy_before(
    place: Workplace,
    cluster: Cluster,
    *,
    session_limit: str,
    connect_address: str = "",
    log_level: str = "warning",
) -> Iterator[RunningProxy]:
    """Run dsqlproxy in front of an emulator, reached at ``connect_address``."""
    listener = {
        **_AS_IT_COMES,
        **cluster.listener,
        **({"connect_address": connect_address} if connect_address else {}),
        "session_limit": session_limit,
        "max_connect_rate": UNLIMITED,
    }
    with running_proxy(
        place.new("dsqlproxy"),
        listener=listener,
        credentials=cluster.credentials,
        log_level=log_level,
    ) as run:
        yield run


INTERMEDIARIES: dict[str, Starter] = {
    "dsqlproxy": proxy,
    "dsqlproxy + emulator": proxy_and_emulator,
    "PgBouncer": pgbouncer,
    "stunnel": stunnel,
}
"""In the order of the tables, after direct TLS."""
