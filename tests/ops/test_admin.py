"""The admin listener over real HTTP, with a real loop."""

import asyncio
import gzip
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import TypeVar

import pytest

from dsqlproxy.config.addresses import TcpAddress
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.ops.admin import AdminServer
from dsqlproxy.ops.bridge import LoopBridge
from dsqlproxy.ops.health import Health
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.metrics import Metrics

T = TypeVar("T")

LOOPBACK = TcpAddress("127.0.0.1", 0)
ROWS: list[dict[str, object]] = [{"id": "7f3a", "user": "admin"}]


class Proxy:
    """The admin server with what it shows; asks it from a thread as others do."""

    def __init__(self, listen: TcpAddress, loop: asyncio.AbstractEventLoop) -> None:
        self.living = [("main", 10, 20)]
        self.metrics = Metrics(
            listeners=["main"], version="1", open_traffic=lambda: self.living
        )
        self.health = Health(listeners=["main"], clock=lambda: 0.0)
        self.admin = AdminServer(
            listen=listen,
            metrics=self.metrics,
            health=self.health,
            sessions=lambda: ROWS,
            loop=loop,
            log=EventLog(logging.getLogger("dsqlproxy.test.admin")),
        )
        self.address = self.admin.start()

    def ask_blocking(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self.address.host, self.address.port, timeout=10)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    async def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[HTTPResponse, bytes]:
        return await asyncio.to_thread(self.ask_blocking, path, headers, method)

    async def ask_json(self, path: str) -> tuple[int, dict[str, object]]:
        response, body = await self.ask(path)
        assert response.getheader("Content-Type") == "application/json"
        assert response.getheader("Cache-Control") == "no-store"
        return response.status, json.loads(body)


@asynccontextmanager
async def running(listen: TcpAddress = LOOPBACK) -> AsyncIterator[Proxy]:
    proxy = Proxy(listen, asyncio.get_running_loop())
    try:
        yield proxy
    finally:
        proxy.admin.close()
        assert not [t for t in threading.enumerate() if t.name.startswith("admin")]


async def test_readiness_and_startup_follow_health() -> None:
    async with running() as proxy:
        assert (await proxy.ask_json("/startup"))[0] == 503
        status, body = await proxy.ask_json("/readiness")
        assert (status, body["ok"]) == (503, False)
        assert body["reason"] == "the listeners are not bound yet"
        proxy.health.note_listening()
        assert (await proxy.ask_json("/startup"))[0] == 200
        status, body = await proxy.ask_json("/readiness")
        assert (status, body["ok"], body["phase"]) == (200, True, "listening")


async def test_liveness_asks_the_loop() -> None:
    async with running() as proxy:
        assert (await proxy.ask_json("/liveness"))[0] == 200


async def test_a_stuck_loop_is_not_alive_and_still_measured() -> None:
    async with running() as proxy:
        proxy.admin._bridge._answer_seconds = 0.01
        answers: dict[str, tuple[int, bytes]] = {}

        def ask_all() -> None:
            for path in ("/liveness", "/sessions", "/metrics", "/readiness"):
                response, body = proxy.ask_blocking(path)
                answers[path] = (response.status, body)

        thread = threading.Thread(target=ask_all)
        thread.start()
        thread.join()  # on the loop's own thread: this is the loop being stuck
    assert answers["/liveness"][0] == 503
    assert b"did not answer within 0.01 s" in answers["/liveness"][1]
    assert answers["/sessions"][0] == 503
    assert answers["/metrics"][0] == 200
    assert b"dsqlproxy_sessions_open" in answers["/metrics"][1]
    assert answers["/readiness"][0] == 503


async def test_sessions_are_a_json_list() -> None:
    async with running() as proxy:
        assert await proxy.ask_json("/sessions") == (200, {"sessions": ROWS})


async def test_metrics_are_fresh_and_in_the_form_that_prometheus_asks_for() -> None:
    async with running() as proxy:
        response, body = await proxy.ask("/metrics?name[]=x")
        assert str(response.getheader("Content-Type")).startswith("text/plain")
        series = b'dsqlproxy_bytes_total{direction="in",listener="main"}'
        assert series + b" 10.0\n" in body
        proxy.living = [("main", 11, 20)]
        accept = "application/openmetrics-text; version=1.0.0"
        response, body = await proxy.ask(
            "/metrics", {"Accept": accept, "Accept-Encoding": "gzip"}
        )
        assert str(response.getheader("Content-Type")).startswith(accept[:27])
        assert series + b" 11.0\n" in gzip.decompress(body)


async def test_the_root_lists_what_there_is() -> None:
    async with running() as proxy:
        response, body = await proxy.ask("/")
    assert response.status == 200
    assert b"/readiness" in body


async def test_other_paths_are_404_and_say_what_there_is() -> None:
    async with running() as proxy:
        status, body = await proxy.ask_json("/healthz")
    assert status == 404
    assert "/readiness" in str(body["paths"])


async def test_only_reading_is_possible() -> None:
    async with running() as proxy:
        assert (await proxy.ask("/sessions", method="POST"))[0].status == 405
        response, body = await proxy.ask("/sessions", method="HEAD")
    assert (response.status, body) == (200, b"")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9090", 200),
        ("[::1]:9090", 200),
        ("localhost:9090", 200),
        ("proxy.localhost", 200),
        ("attacker.example:9090", 421),
        ("127.0.0.1.attacker.example", 421),
        ("", 421),
    ],
)
async def test_on_loopback_no_foreign_name_is_answered(host: str, status: int) -> None:
    async with running() as proxy:
        response, _ = await proxy.ask("/sessions", {"Host": host})
    assert response.status == status


async def test_off_loopback_any_name_is_answered() -> None:
    async with running(TcpAddress("0.0.0.0", 0)) as proxy:  # noqa: S104
        response, _ = await proxy.ask("/startup", {"Host": "proxy.apps.svc:9090"})
    assert response.status == 503


async def test_without_a_host_field_it_is_no_browser() -> None:
    async with running() as proxy:

        def ask() -> bytes:
            address = (proxy.address.host, proxy.address.port)
            with socket.create_connection(address, timeout=10) as client:
                client.sendall(b"GET /startup HTTP/1.0\r\n\r\n")
                return client.recv(12)

        assert await asyncio.to_thread(ask) == b"HTTP/1.1 503"


async def test_a_taken_port_says_who_may_hold_it_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(DsqlProxyError) as caught:
            Proxy(address, asyncio.get_running_loop())
    assert f"the admin address {address} is taken" in str(caught.value)
    assert "another dsqlproxy" in caught.value.detail
    assert "127.0.0.1:0" in caught.value.hint


async def test_an_address_of_another_machine_says_so() -> None:
    with pytest.raises(DsqlProxyError, match=r"cannot listen on .* 192\.0\.2\.1:0"):
        Proxy(TcpAddress("192.0.2.1", 0), asyncio.get_running_loop())


async def test_a_host_that_cannot_be_resolved_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DsqlProxyError, match="Name or service not known"):
        Proxy(TcpAddress("nowhere.invalid", 0), asyncio.get_running_loop())


async def test_closing_releases_who_waits_for_the_loop() -> None:
    proxy = Proxy(LOOPBACK, asyncio.get_running_loop())
    proxy.admin._bridge._answer_seconds = 20
    entered = threading.Event()

    class Watched(LoopBridge):
        def call(self, function: Callable[[], T]) -> T:
            entered.set()
            return super().call(function)

    proxy.admin._bridge.__class__ = Watched
    address = (proxy.address.host, proxy.address.port)
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /liveness HTTP/1.0\r\n\r\n")
        entered.wait()
        proxy.admin.close()  # on the loop, which therefore never answered
        proxy.admin.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("admin")]


def test_a_server_that_never_started_can_be_closed() -> None:
    loop = asyncio.new_event_loop()
    AdminServer(
        listen=LOOPBACK,
        metrics=Metrics(listeners=[], version="1"),
        health=Health(listeners=[], clock=lambda: 0.0),
        sessions=list,
        loop=loop,
        log=EventLog(logging.getLogger("dsqlproxy.test.admin")),
    ).close()
    loop.close()
