"""The clients: pgbench, and a session over a plain socket that only counts bytes."""

import re
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Self

from bench.processes import BenchError, clean_environment

ROLE = "bench"
DATABASE = "bench"

_LENGTH_AND_CODE = Struct("!II")
_LENGTH = Struct("!I")
_SSL_REQUEST = 80877103
_PROTOCOL_3_0 = 196608
_READY_FOR_QUERY = b"Z\0\0\0\x05I"
_RECEIVE_BYTES = 256 * 1024
_TIMEOUT_SECONDS = 60.0

_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_LATENCY = re.compile(r"^latency average = ([0-9.]+) ms", re.MULTILINE)
_PROCESSED = re.compile(
    r"^number of transactions actually processed: (\d+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where clients connect to, and under which TLS."""

    port: int
    server_name: str = ""
    """The name to verify; empty for a plain connection."""
    ca_file: Path | None = None

    @property
    def is_tls(self) -> bool:
        """Whether the client itself encrypts."""
        return bool(self.server_name)


@dataclass(frozen=True, slots=True)
class PgbenchResult:
    """What pgbench said at its end."""

    tps: float
    latency_ms: float
    transactions: int


def parse_pgbench(output: str) -> PgbenchResult:
    """Read pgbench's summary; `BenchError` when it is not one."""
    tps, latency = _TPS.search(output), _LATENCY.search(output)
    processed = _PROCESSED.search(output)
    if tps is None or latency is None or processed is None:
        msg = f"this is not pgbench's summary: {output.strip()[-200:]!r}"
        raise BenchError(msg)
    return PgbenchResult(
        tps=float(tps[1]), latency_ms=float(latency[1]), transactions=int(processed[1])
    )


def run_pgbench(
    pgbench: Path,
    route: Route,
    *,
    clients: int,
    seconds: int,
    options: Sequence[str] = (),
) -> PgbenchResult:
    """Run pgbench's select-only script; `BenchError` when it fails."""
    environment = {
        "PGHOST": route.server_name or "127.0.0.1",
        "PGHOSTADDR": "127.0.0.1",
        "PGPORT": str(route.port),
        "PGUSER": ROLE,
        "PGDATABASE": DATABASE,
        "PGGSSENCMODE": "disable",
        "PGSSLMODE": "verify-full" if route.is_tls else "disable",
        **({"PGSSLROOTCERT": str(route.ca_file)} if route.is_tls else {}),
    }
    command = [str(pgbench), "--no-vacuum", "--select-only"]
    command += [f"--client={clients}", f"--time={seconds}", *options]
    try:
        done = subprocess.run(
            command,
            env=clean_environment(environment),
            capture_output=True,
            text=True,
            timeout=seconds + _TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        msg = "pgbench did not end"
        raise BenchError(msg) from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        msg = f"pgbench ended with code {done.returncode}: {said[0]}"
        raise BenchError(msg)
    return parse_pgbench(done.stdout)


class Session:
    """A session that asks simple queries and throws the answers away.

    As cheap a reader as Python allows, so that what is measured is in front of it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray(_RECEIVE_BYTES)

    @classmethod
    def open(cls, route: Route) -> Self:
        """Connect and log in; `OSError` or `BenchError` when that fails."""
        sock = socket.create_connection(("127.0.0.1", route.port), _TIMEOUT_SECONDS)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if route.is_tls:
                sock = _under_tls(sock, route)
            body = f"user\0{ROLE}\0database\0{DATABASE}\0\0".encode()
            header = _LENGTH_AND_CODE.pack(len(body) + 8, _PROTOCOL_3_0)
            sock.sendall(header + body)
            session = cls(sock)
            session.read_answer()
        except BaseException:
            sock.close()
            raise
        return session

    def ask(self, query: str) -> None:
        """Send a query without reading its answer."""
        body = query.encode() + b"\0"
        self._socket.sendall(b"Q" + _LENGTH.pack(len(body) + 4) + body)

    def read_answer(self) -> int:
        """Read up to ReadyForQuery; give how many bytes came."""
        view = memoryview(self._buffer)
        total = 0
        tail = b""
        while tail != _READY_FOR_QUERY:
            received = self._socket.recv_into(self._buffer)
            if not received:
                msg = f"the connection was closed after {total} bytes: {tail!r}"
                raise BenchError(msg)
            total += received
            last = view[max(0, received - len(_READY_FOR_QUERY)) : received]
            tail = (tail + bytes(last))[-len(_READY_FOR_QUERY) :]
        return total

    def timed(self, query: str) -> tuple[int, float]:
        """Run a query; give the bytes of its answer and the seconds it took."""
        start = time.perf_counter()
        self.ask(query)
        return self.read_answer(), time.perf_counter() - start

    def prepare(self, texts: Sequence[str]) -> None:
        """Prepare statements with names of their own, and let them be."""
        frames = b""
        for number, text in enumerate(texts):
            body = f"s{number}\0{text}\0".encode() + b"\0\0"
            frames += b"P" + _LENGTH.pack(len(body) + 4) + body
        self._socket.sendall(frames + b"S" + _LENGTH.pack(4))
        self.read_answer()

    def close(self) -> None:
        """Close the connection without a word."""
        self._socket.close()


def _under_tls(sock: socket.socket, route: Route) -> socket.socket:
    sock.sendall(_LENGTH_AND_CODE.pack(8, _SSL_REQUEST))
    if sock.recv(1) != b"S":
        msg = "the server has no TLS"
        raise BenchError(msg)
    context = ssl.create_default_context(cafile=route.ca_file)
    return context.wrap_socket(sock, server_hostname=route.server_name)
