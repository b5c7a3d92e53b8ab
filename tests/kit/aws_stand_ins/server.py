"""HTTP on loopback, in threads of its own: it answers while the test's loop is busy."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from tests.kit.aws_stand_ins.operations import Closed, Reply, Request

_BACKLOG: Final = 256
_POLL_SECONDS: Final = 0.01
"""How often the standard library's server looks whether it is to end."""


class Server(ThreadingHTTPServer):
    """Answers each request in a thread; at its end none of them is left."""

    request_queue_size = _BACKLOG
    daemon_threads = False  # so that `server_close` waits for them

    def __init__(
        self, reply_to: Callable[[Request], Reply], clock: Callable[[], float]
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply_to = reply_to
        self.clock = clock
        """What the ``Date`` header says; AWS's clock, which may not be ours."""
        self.faults: list[BaseException] = []
        """What went wrong in the stand-ins themselves."""
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        # Called where the exception is handled; clients may give up at any time.
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.faults.append(error)

    def hang_up(self) -> None:
        """End the connections on which nothing was asked yet."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request: HTTP/1.0, so that no client keeps it open."""

    def _serve(self) -> None:
        assert isinstance(self.server, Server)
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", 0))
        request = Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
        )
        with contextlib.suppress(Closed):
            self._send(self.server.reply_to(request), self.server.clock())

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the standard library's names

    def _send(self, reply: Reply, now: float) -> None:
        self.send_response_only(reply.status)
        self.send_header("Date", formatdate(now, usegmt=True))
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing; what was asked is in the operations."""


@contextmanager
def serving(server: Server, *, on_end: Callable[[], None]) -> Iterator[None]:
    """Run a server for the time of a block; ``on_end`` lets its held calls go."""
    thread = threading.Thread(
        target=server.serve_forever, args=(_POLL_SECONDS,), name="AWS stand-ins"
    )
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        on_end()
        server.hang_up()
        server.server_close()
    assert not server.faults, server.faults
