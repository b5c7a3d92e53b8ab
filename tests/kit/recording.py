"""Notes what a server says to a driver, frame by frame, on the way between them.

::

    with recorded(postgres_socket) as way:
        program(way.dsn)
    way.frames  # of all connections, in the order in which they were opened

So two runs of one program, around the proxy and through it, can be compared as they
stood on the wire. Taken out is what no two sessions share: process ids and keys,
numbers of tables, moments.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from dsqlproxy.pgproto.framing import Frame, FrameReader
from tests.kit.storm_runner import Answer, Where, _normalised

_MAX_BYTES = 1 << 30
_SECONDS = 20.0


@dataclass(slots=True)
class _Connection:
    """One client and its server; two threads pass on what they say."""

    client: socket.socket
    server: socket.socket
    said: bytearray = field(default_factory=bytearray)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for source, target, notes in (
            (self.client, self.server, None),
            (self.server, self.client, self.said),
        ):
            thread = threading.Thread(
                target=_pass_on, args=(source, target, notes), daemon=True
            )
            self.threads.append(thread)
            thread.start()

    def close(self, *, by_force: bool) -> None:
        """Wait until both have said their last, or make them."""
        if by_force:
            for each in (self.client, self.server):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(_SECONDS)
        assert not any(thread.is_alive() for thread in self.threads), "it stays open"
        self.client.close()
        self.server.close()


@dataclass(slots=True)
class Way:
    """A port that leads to a server, and what was said on the way."""

    port: int
    connections: list[_Connection] = field(default_factory=list)

    @property
    def dsn(self) -> str:
        """The way to the server, for libpq."""
        return f"host='127.0.0.1' port='{self.port}' user='admin' dbname='postgres'"

    @property
    def environment(self) -> dict[str, str]:
        """The way to the server, for a program."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "admin",
            "PGDATABASE": "postgres",
        }

    @property
    def frames(self) -> list[Answer]:
        """What the server said, on all connections; to be read when they are over."""
        frames: list[Frame] = []
        for connection in self.connections:
            # A request for encryption is declined with a byte that is no frame.
            said = bytes(connection.said).lstrip(b"N")
            frames += FrameReader(max_bytes=_MAX_BYTES).feed(said)
        return [_normalised(frame) for frame in frames]


@contextlib.contextmanager
def recorded(where: Where) -> Iterator[Way]:
    """Open a port that leads to a server; its connections have ended afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        way = Way(listener.getsockname()[1])
        accepting = threading.Thread(
            target=_accept, args=(listener, where, way.connections), daemon=True
        )
        accepting.start()
        has_failed = True
        try:
            yield way
            has_failed = False
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(_SECONDS)
            for connection in way.connections:
                connection.close(by_force=has_failed)


def _accept(
    listener: socket.socket, where: Where, connections: list[_Connection]
) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        server = _dial(where)
        for each in (client, server):
            if each.family != socket.AF_UNIX:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(client, server)
        connections.append(connection)
        connection.start()


def _dial(where: Where) -> socket.socket:
    if isinstance(where, tuple):
        return socket.create_connection(where)
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(where))
    return server


def _pass_on(
    source: socket.socket, target: socket.socket, notes: bytearray | None
) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            if notes is not None:
                notes += data
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
