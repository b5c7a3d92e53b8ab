"""A session on a real PostgreSQL, a tracker that sees all of it, and the truth.

The truth is what the server says of the session to another one (`pg_stat_activity`),
once it has read all that was sent and waits for more.
"""

import fcntl
import socket
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import FrameReader, FrameScanner
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from dsqlproxy.session.tracker import Tracker

Monitor = psycopg.Connection[tuple[str, str | None]]


@dataclass
class Session:
    """A session on the server, and a tracker that sees all of it."""

    connection: socket.socket
    monitor: Monitor
    process_id: int
    tracker: Tracker = field(default_factory=Tracker)
    answers: str = ""
    _sent: FrameScanner = field(
        default_factory=lambda: FrameScanner(FRONTEND_SYMBOLS, max_bytes=1 << 20)
    )
    _received: FrameScanner = field(
        default_factory=lambda: FrameScanner(BACKEND_SYMBOLS, max_bytes=1 << 20)
    )
    _held: bytes = b""

    def ask(self, *frames: bytes) -> None:
        """Send frames, and let the tracker see them and all that they lead to."""
        data = b"".join(frames)
        self.connection.sendall(data)
        self.tracker.note_sent(self._sent.scan(data))
        while self._server_is_busy():
            pass
        self._receive()

    @property
    def state(self) -> str:
        """What the server says of the session; empty when it has ended."""
        return self._activity()[0]

    def _server_is_busy(self) -> bool:
        unread = fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4))
        state, wait_event = self._activity()
        return bool(state) and (any(unread) or wait_event != "ClientRead")

    def _activity(self) -> tuple[str, str | None]:
        asked = "select state, wait_event from pg_stat_activity where pid = %s"
        return self.monitor.execute(asked, [self.process_id]).fetchone() or ("", None)

    def _receive(self) -> None:
        self.connection.setblocking(False)
        try:
            while data := self.connection.recv(65_536):
                script = self._received.scan(self._held + data)
                self._held = (self._held + data)[self._received.cut :]
                self.answers += script.decode()
                self.tracker.note_received(script)
        except BlockingIOError:
            pass
        finally:
            self.connection.setblocking(True)


@contextmanager
def log_in(directory: Path, monitor: Monitor) -> Iterator[Session]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(directory / ".s.PGSQL.5432"))
        user = (("user", "postgres"), ("database", "postgres"))
        connection.sendall(StartupMessage(PROTOCOL_3_0, user).encode())
        reader = FrameReader()
        greeting = reader.feed(connection.recv(65_536))
        while greeting[-1].type != BackendType.READY_FOR_QUERY:
            greeting += reader.feed(connection.recv(65_536))
        (key,) = (one for one in greeting if one.type == BackendType.BACKEND_KEY_DATA)
        yield Session(connection, monitor, BackendKeyData.decode(key.body).process_id)
