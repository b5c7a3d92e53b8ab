"""What every test stands on: leaks fail, loops can be chosen, certificates exist."""

import asyncio
import gc
import inspect
import os
import signal
import ssl
import stat
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import trustme
import uvloop
from hypothesis import settings

from tests.kit.channels import SERVER_NAME, TlsContexts

settings.register_profile("fast", max_examples=50, deadline=None)
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_TURNS_TO_CLOSE = 200
"""Turns of the loop that transports get for closing their sockets."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_loops: run under asyncio and under uvloop")
    # What is ignored is inherited: under nohup no program would end by SIGHUP, and a
    # shell ignores the other two for what it runs in the background.
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run a test under asyncio's loop, and where marked under uvloop's too."""
    if item.get_closest_marker("both_loops"):
        return _LOOPS
    return {"asyncio": _LOOPS["asyncio"]}


@pytest.fixture(autouse=True)
def _leaks_fail(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("nothing_left")


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Fail where a task or a socket that a test made is still there after it.

    What fixtures of a wider scope hold was there before. A transport closes its
    socket some turns of the loop after it was told to; that long is waited. Sockets
    are counted, not compared: uvloop makes its own pair anew for each run.
    """
    before = len(_open_sockets())
    tasks = asyncio.all_tasks()
    yield
    expected = {*tasks, asyncio.current_task()}
    for _ in range(_TURNS_TO_CLOSE):
        if asyncio.all_tasks() <= expected and len(_open_sockets()) <= before:
            return
        await asyncio.sleep(0)
    left = f"tasks {asyncio.all_tasks() - tasks}, {before} of these sockets were there"
    left += f" before: {_open_sockets()}"
    gc.collect()  # let whoever forgot to close it say where it came from
    pytest.fail(f"left behind by this test: {left}")


def _open_sockets() -> list[int]:
    """Give the descriptors of this process that are sockets."""
    found = []
    for name in os.listdir("/dev/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.append(int(name))
        except OSError:
            pass  # the descriptor by which the directory was read
    return found


@pytest.fixture(scope="session")
def certificate_authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(certificate_authority: trustme.CA) -> TlsContexts:
    """A server and a client that trusts it; new ones for each test."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate_authority.issue_cert(SERVER_NAME).configure_cert(server)
    server.set_alpn_protocols(["postgresql"])
    client = ssl.create_default_context()
    certificate_authority.configure_trust(client)
    client.set_alpn_protocols(["postgresql"])
    return TlsContexts(server, client)


@pytest.fixture(params=["plain", "tls"])
def perhaps_tls(request: pytest.FixtureRequest, tls: TlsContexts) -> TlsContexts | None:
    """Run a test twice: without TLS, and with it."""
    return tls if request.param == "tls" else None
