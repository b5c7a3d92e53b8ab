"""A very small HTTP server on a thread of its own, for an operator's questions.

It stands apart from the event loop so that it can say that the loop is stuck. It
answers GET and HEAD, closes after each answer, and is bounded in every direction:
how many requests at a time, how long a request may take to arrive, how large its
head may be, how long the answer may take to be read.
"""

import contextlib
import io
import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from typing import Final

from dsqlproxy.ops.log import EventLog

MAX_REQUESTS: Final = 16
"""Requests at a time: some probes, some scrapers, a person; more is a fault."""
MAX_HEAD_BYTES: Final = 16_384
HEAD_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
_ACCEPT_RETRY_SECONDS: Final = 0.2

_METHODS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; the query string is not part of the path."""

    method: str
    path: str
    headers: Message


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())

    def encode(self, *, with_body: bool = True) -> bytes:
        """Give the bytes on the wire; HEAD gets everything but the body."""
        fields = (
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
            *self.headers,
        )
        head = f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in fields
        )
        return f"{head}\r\n".encode("latin-1") + (self.body if with_body else b"")


class BadRequest(Exception):
    """The request cannot be answered; the text says why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def response(self) -> Response:
        """Give what to answer."""
        is_method = self.status is HTTPStatus.METHOD_NOT_ALLOWED
        allow = (("Allow", ", ".join(_METHODS)),) if is_method else ()
        return Response(self.status, f"{self}\n".encode(), headers=allow)


def decode_head(head: bytes) -> Request:
    """Read the head of a request, up to and with its empty line."""
    line, _, rest = head.partition(b"\n")
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "not an HTTP/1 request")
    method, target, _ = words
    if method not in _METHODS:
        raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD")
    try:
        headers = parse_headers(io.BytesIO(rest))
    except HTTPException:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "malformed headers") from None
    return Request(method, target.partition("?")[0], headers)


class WebServer:
    """Serves ``respond`` on a bound socket, which it then owns, until ``close``.

    ``respond`` runs on one of at most ``MAX_REQUESTS`` threads. ``clock`` is
    monotonic.
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        respond: Callable[[Request], Response],
        clock: Callable[[], float],
        log: EventLog,
    ) -> None:
        self._listening = listening
        self._respond = respond
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._is_closed = False
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._pool = ThreadPoolExecutor(MAX_REQUESTS, "admin-request")
        self._thread = threading.Thread(
            target=self._accept_until_closed, name="admin", daemon=True
        )

    def start(self) -> None:
        """Begin to accept."""
        self._listening.setblocking(False)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting, end the requests in flight, and join every thread."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            for connection in self._connections:
                _kick(connection)
        self._stop_writer.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown()
        self._listening.close()
        self._stop_reader.close()

    def _accept_until_closed(self) -> None:
        with selectors.DefaultSelector() as stop, selectors.DefaultSelector() as both:
            stop.register(self._stop_reader, selectors.EVENT_READ)
            both.register(self._stop_reader, selectors.EVENT_READ)
            both.register(self._listening, selectors.EVENT_READ)
            while True:
                both.select()
                if self._is_closed:
                    return
                try:
                    connection, _ = self._listening.accept()
                except (BlockingIOError, ConnectionError):
                    continue  # whoever called has hung up already
                except OSError as error:
                    # Out of descriptors: the listener stays readable, so do not spin.
                    self._log.debug("admin accept failed", error=str(error))
                    stop.select(_ACCEPT_RETRY_SECONDS)
                    continue
                self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        with self._lock:
            is_full = len(self._connections) >= MAX_REQUESTS
            is_admitted = not (is_full or self._is_closed)
            if is_admitted:
                self._connections.add(connection)
        if is_admitted:
            self._pool.submit(self._serve, connection)
            return
        # A new socket's buffer takes this short answer without blocking.
        busy = Response(HTTPStatus.SERVICE_UNAVAILABLE, b"too many requests\n")
        with connection, contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(busy.encode())

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                if head := self._read_head(connection):
                    answer = self._answer(head)
                    connection.settimeout(ANSWER_SECONDS)  # for the whole of sendall
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _answer(self, head: bytes) -> bytes:
        with_body = True
        try:
            request = decode_head(head)
            with_body = request.method != "HEAD"
            response = self._respond(request)
        except BadRequest as error:
            response = error.response()
        except Exception:  # noqa: BLE001 - a bug in a page is an answer too
            self._log.exception("admin request failed")
            response = Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"internal error\n")
        return response.encode(with_body=with_body)

    def _read_head(self, connection: socket.socket) -> bytes:
        """Read up to the empty line; whoever is too slow gets no answer at all."""
        deadline = self._clock() + HEAD_SECONDS
        head = bytearray()
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            remaining = deadline - self._clock()
            if remaining <= 0 or len(head) > MAX_HEAD_BYTES:
                return b""
            connection.settimeout(remaining)
            data = connection.recv(4_096)
            if not data:
                return b""
            head += data
        return bytes(head)


def _kick(connection: socket.socket) -> None:
    """Wake a thread that reads from or writes to the connection."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
