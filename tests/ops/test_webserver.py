"""The little HTTP server: what it answers, and what it does not put up with."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.ops import webserver
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.webserver import (
    MAX_REQUESTS,
    BadRequest,
    Request,
    Response,
    WebServer,
    decode_head,
)

GET = b"GET /page?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"


def echo(request: Request) -> Response:
    return Response(HTTPStatus.OK, f"{request.path}\n".encode())


class Server:
    """A web server on a free port, and its clients' side."""

    def __init__(
        self, respond: Callable[[Request], Response], clock: Callable[[], float]
    ) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = listening.getsockname()
        log = EventLog(logging.getLogger("dsqlproxy.test.webserver"))
        self.web = WebServer(listening, respond=respond, clock=clock, log=log)
        self.web.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def ask(self, data: bytes) -> bytes:
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)


@contextmanager
def serving(
    respond: Callable[[Request], Response] = echo,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Server]:
    before = {thread.ident for thread in threading.enumerate()}
    server = Server(respond, clock)
    try:
        yield server
    finally:
        server.web.close()
        left = [t.name for t in threading.enumerate() if t.ident not in before]
        assert not left


def read_all(client: socket.socket) -> bytes:
    found = b""
    with suppress(ConnectionResetError):
        while data := client.recv(65_536):
            found += data
    return found


def test_get_is_answered_and_the_connection_closed() -> None:
    with serving() as server:
        head, _, body = server.ask(GET).partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert body == b"/page\n"
    assert {"Content-Length: 6", "Cache-Control: no-store", "Connection: close"} <= set(
        fields
    )


def test_head_gets_everything_but_the_body() -> None:
    with serving() as server:
        answer = server.ask(GET.replace(b"GET", b"HEAD"))
    assert b"Content-Length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS"])
def test_other_methods_are_refused_and_told_what_is_allowed(method: bytes) -> None:
    with serving() as server:
        answer = server.ask(GET.replace(b"GET", method))
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /\r\n\r\n", id="HTTP 0.9"),
        pytest.param(b"GET / SPDY/3\r\n\r\n", id="another protocol"),
        pytest.param(b"\r\n\r\n", id="an empty line"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", id="headers"),
    ],
)
def test_malformed_requests_get_400(data: bytes) -> None:
    with serving() as server:
        assert server.ask(data).startswith(b"HTTP/1.1 400 ")


def test_bare_newlines_are_read_too() -> None:
    with serving() as server:
        assert server.ask(b"GET /x HTTP/1.0\n\n").endswith(b"/x\n")


def test_a_head_may_arrive_in_pieces() -> None:
    with serving() as server, server.connect() as client:
        for number in range(len(GET)):
            client.sendall(GET[number : number + 1])
        assert read_all(client).endswith(b"/page\n")


def test_who_hangs_up_early_is_forgotten() -> None:
    with serving() as server:
        with server.connect() as client:
            client.sendall(b"GET /")
        assert server.ask(GET).endswith(b"/page\n")


def test_an_endless_head_is_cut_off() -> None:
    with serving() as server:
        assert server.ask(b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000) == b""


def test_a_request_that_drips_is_cut_off_in_time() -> None:
    # Each look at the clock is a second later: every byte comes soon enough, the
    # head as a whole does not.
    ticks = iter(range(1_000))
    with serving(clock=lambda: float(next(ticks))) as server:
        assert server.ask(b"G") == b""


def test_a_bug_in_a_page_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Request) -> Response:
        raise KeyError("a bug")

    with serving(fail) as server:
        assert server.ask(GET).startswith(b"HTTP/1.1 500 ")
    assert [record.message for record in caplog.records] == ["admin request failed"]


def test_too_many_requests_at_a_time_are_refused_and_later_ones_served() -> None:
    started = threading.Semaphore(0)
    finish = threading.Event()

    def slow(request: Request) -> Response:
        started.release()
        finish.wait()
        return echo(request)

    with serving(slow) as server:
        clients = [server.connect() for _ in range(MAX_REQUESTS)]
        for client in clients:
            client.sendall(GET)
        for _ in clients:
            started.acquire()
        with server.connect() as late:
            refused = read_all(late)
        finish.set()
        answers = [read_all(client) for client in clients]
        for client in clients:
            client.close()
        again = server.ask(GET)
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert all(answer.endswith(b"/page\n") for answer in answers)
    assert again.endswith(b"/page\n")


def test_closing_ends_who_is_still_talking() -> None:
    with serving() as server:
        idle = server.connect()
        with server.connect() as other:
            other.sendall(GET)
            read_all(other)
        # The first connection was accepted before the second.
        server.web.close()
        server.web.close()
        assert read_all(idle) == b""
        idle.close()


def test_a_server_that_never_started_can_be_closed() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    log = EventLog(logging.getLogger("dsqlproxy.test.webserver"))
    web = WebServer(listening, respond=echo, clock=time.monotonic, log=log)
    web.close()
    assert listening.fileno() == -1


class Exhausted(socket.socket):
    """A listener whose process has no descriptors left, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[OSError] = [OSError(24, "EMFILE"), BlockingIOError()]

    def accept(self) -> tuple[socket.socket, object]:
        if self.refusals:
            raise self.refusals.pop(0)
        return super().accept()


def test_running_out_of_descriptors_is_survived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webserver, "_ACCEPT_RETRY_SECONDS", 0.001)
    listening = Exhausted()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    log = EventLog(logging.getLogger("dsqlproxy.test.webserver"))
    web = WebServer(listening, respond=echo, clock=time.monotonic, log=log)
    web.start()
    with socket.create_connection(listening.getsockname(), timeout=10) as client:
        client.sendall(GET)
        assert read_all(client).endswith(b"/page\n")
    web.close()


@given(st.binary(max_size=300))
def test_noise_is_a_bad_request_or_a_request(noise: bytes) -> None:
    with suppress(BadRequest):
        assert decode_head(noise).method in {"GET", "HEAD"}
