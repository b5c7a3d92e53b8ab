"""The admin listener: health, metrics and the list of sessions, over HTTP.

======================  =====================================================
``/startup``            200 once the listeners are bound
``/readiness``          200 while clients should be sent here (``ops.health``)
``/liveness``           200 while the event loop answers
``/metrics``            Prometheus
``/sessions``           the open sessions, as JSON
======================  =====================================================

It only reads, and listens on loopback unless it is told otherwise. On loopback a
request must name it by an address or ``localhost``: a web page that makes its own
host name point to 127.0.0.1 (DNS rebinding) must not read who is connected.
"""

import asyncio
import contextlib
import errno
import json
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from prometheus_client import make_wsgi_app

from dsqlproxy.config.addresses import TcpAddress
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.ops.bridge import LoopBridge, LoopStuckError
from dsqlproxy.ops.health import Health, Verdict
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.metrics import Metrics
from dsqlproxy.ops.webserver import Request, Response, WebServer

_BACKLOG: Final = 64
_INDEX: Final = b"""dsqlproxy

/startup    are the listeners bound?
/readiness  should clients be sent here?
/liveness   does the event loop answer?
/metrics    for Prometheus
/sessions   the open sessions, as JSON
"""


class AdminPages:
    """What each path answers; runs on the web server's threads."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        health: Health,
        sessions: Callable[[], list[dict[str, object]]],
        bridge: LoopBridge,
        is_loopback: bool,
    ) -> None:
        self._metrics = metrics
        self._metrics_page = make_wsgi_app(metrics.registry)
        self._health = health
        self._sessions = sessions
        self._bridge = bridge
        self._is_loopback = is_loopback
        self._pages: dict[str, Callable[[Request], Response]] = {
            "/": lambda _: Response(HTTPStatus.OK, _INDEX),
            "/startup": lambda _: _verdict(self._health.startup()),
            "/readiness": lambda _: _verdict(self._health.readiness()),
            "/liveness": lambda _: _verdict(self._liveness()),
            "/metrics": self._metrics_text,
            "/sessions": self._session_list,
        }

    def respond(self, request: Request) -> Response:
        """Answer a request."""
        if self._is_loopback and not _names_loopback(request.headers.get("Host")):
            wrong = "this listener answers to an IP address or localhost only"
            return _json(HTTPStatus.MISDIRECTED_REQUEST, {"error": wrong})
        page = self._pages.get(request.path)
        if page is None:
            known = sorted(self._pages)
            return _json(
                HTTPStatus.NOT_FOUND, {"error": "no such path", "paths": known}
            )
        return page(request)

    def _liveness(self) -> Verdict:
        try:
            self._bridge.call(lambda: None)
        except LoopStuckError as error:
            return Verdict(ok=False, reason=str(error))
        return Verdict(ok=True, reason="the event loop answers")

    def _session_list(self, _: Request) -> Response:
        try:
            rows = self._bridge.call(self._sessions)
        except LoopStuckError as error:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)})
        return _json(HTTPStatus.OK, {"sessions": rows})

    def _metrics_text(self, request: Request) -> Response:
        # A stuck loop is when the rest of the numbers is wanted most, so the byte
        # counters are then shown as they were.
        with contextlib.suppress(LoopStuckError):
            self._bridge.call(self._metrics.refresh)
        headers: dict[str, str] = {}
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": request.path,
            "QUERY_STRING": "",
            "HTTP_ACCEPT": request.headers.get("Accept", ""),
            "HTTP_ACCEPT_ENCODING": request.headers.get("Accept-Encoding", ""),
        }
        page = self._metrics_page(
            environ, lambda _status, fields: headers.update(fields)
        )
        content_type = headers.pop("Content-Type")
        return Response(
            HTTPStatus.OK, b"".join(page), content_type, tuple(headers.items())
        )


class AdminServer:
    """Binds the admin address and serves ``AdminPages`` on it.

    ``start`` and ``close`` block for moments only and may be called on the loop's
    thread, ``close`` more than once.
    """

    def __init__(
        self,
        *,
        listen: TcpAddress,
        metrics: Metrics,
        health: Health,
        sessions: Callable[[], list[dict[str, object]]],
        loop: asyncio.AbstractEventLoop,
        log: EventLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listen = listen
        self._log = log
        self._clock = clock
        self._bridge = LoopBridge(loop)
        self._pages = AdminPages(
            metrics=metrics,
            health=health,
            sessions=sessions,
            bridge=self._bridge,
            is_loopback=listen.is_loopback,
        )
        self._server: WebServer | None = None

    def start(self) -> TcpAddress:
        """Bind and begin to answer; gives the address with its true port."""
        listening = _bind(self._listen)
        self._server = WebServer(
            listening, respond=self._pages.respond, clock=self._clock, log=self._log
        )
        self._server.start()
        host, port = listening.getsockname()[:2]
        return TcpAddress(host, port)

    def close(self) -> None:
        """Stop answering; every thread and socket of it is gone afterwards."""
        self._bridge.close()
        if self._server is not None:
            self._server.close()


def _bind(address: TcpAddress) -> socket.socket:
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(address, error) from error
    try:
        # For a quick restart only; unlike SO_REUSEPORT it cannot share a port.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(target)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _cannot_listen(address, error) from error
    return listening


def _cannot_listen(address: TcpAddress, error: OSError) -> DsqlProxyError:
    if error.errno == errno.EADDRINUSE:
        return DsqlProxyError(
            f"the admin address {address} is taken",
            detail="Another program, perhaps another dsqlproxy, listens there",
            hint="Stop it, or set admin.listen (DSQLPROXY_ADMIN_LISTEN) to another"
            " address, to 127.0.0.1:0 for any free port, or to off",
        )
    return DsqlProxyError(
        f"cannot listen on the admin address {address}: {error.strerror or error}",
        hint="Set admin.listen (DSQLPROXY_ADMIN_LISTEN) to an address of this machine",
    )


def _names_loopback(host_field: str | None) -> bool:
    """Tell whether a Host field can only mean the listener itself."""
    if host_field is None:
        return True  # no browser leaves it out
    host = host_field.strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    else:
        host = host.partition(":")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _verdict(verdict: Verdict) -> Response:
    status = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return _json(status, {"ok": verdict.ok, "reason": verdict.reason, **verdict.facts})


def _json(status: HTTPStatus, value: dict[str, object]) -> Response:
    return Response(status, json.dumps(value).encode() + b"\n", "application/json")
