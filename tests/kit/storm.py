"""A proxy in which every quiet moment of a session becomes a swap.

`storming` serves as `clients.serve` does, but what a client says in a quiet session
waits until the session has moved to another upstream, and only then goes on. So each
statement outside a transaction, and each transaction, has a server process of its
own; what must hold from one to the next has been carried over, or is missing. While a
client is silent nothing is moved, so that the number of swaps does not depend on time.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.ops.metrics import SwapOutcome
from dsqlproxy.session.lifetime import Backoff, SwapWindow
from dsqlproxy.session.relay import Relay
from dsqlproxy.session.relay_keeper import RelayKeeper
from dsqlproxy.session.relay_state import HOLDING, RelayState
from dsqlproxy.session.services import UpstreamConnector
from dsqlproxy.session.session import Session
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from dsqlproxy.upstream.limiter import LoginLimiter, OnWait
from tests.kit.clients import Served, serve

ALWAYS = SwapWindow(
    warm_seconds=0.0,
    insist_seconds=0.0,
    last_start_seconds=1e9,
    dead_seconds=1e9,
    settle_seconds=0.001,
)
"""An upstream of any age is to be replaced, and none is too old to be used."""

_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Weather:
    """What a proxy has done to its sessions, as far as it says so itself."""

    served: Served

    @property
    def swaps(self) -> int:
        """How many swaps there were since the proxy began."""
        return self._count(SwapOutcome.COMPLETED)

    @property
    def log(self) -> list[str]:
        """The lines of its log."""
        return self.served.proxy.log.getvalue().splitlines()

    @property
    def put_off(self) -> list[str]:
        """The lines that say why a swap did not come about."""
        return [line for line in self.log if " swap deferred " in line]

    @contextlib.contextmanager
    def blowing(self, at_least: int = 1, *, but_for: str = "") -> Iterator[None]:
        """Fail unless so many swaps were made within the block, and none put off.

        Reasons that contain ``but_for`` are to be expected, if it is given.
        """
        before, known = self.swaps, len(self.put_off)
        yield
        found = self.swaps - before
        assert found >= at_least, f"only {found} swaps"
        new = self.put_off[known:]
        if but_for:
            assert new, f"no swap was put off because of {but_for!r}"
            new = [line for line in new if but_for not in line]
        assert not new, f"swaps were put off: {new}"

    def wait_for_swaps(self, number: int) -> None:
        """Wait until so many more swaps were made than now."""
        wanted = self.swaps + number
        deadline = time.monotonic() + _SECONDS
        while self.swaps < wanted:
            assert time.monotonic() < deadline, self.log[-20:]
            time.sleep(0.001)

    def wait_for_log(self, pattern: str) -> str:
        """Wait for a line of the log; give the first."""
        deadline = time.monotonic() + _SECONDS
        while True:
            found = [line for line in self.log if re.search(pattern, line)]
            if found:
                return found[0]
            assert time.monotonic() < deadline, f"{pattern!r} not in {self.log[-20:]}"
            time.sleep(0.001)

    def _count(self, outcome: SwapOutcome) -> int:
        metrics = self.served.proxy.proxy._metrics
        return int(metrics._swaps.labels("main", outcome)._value.get())


@contextlib.contextmanager
def storming(
    postgres: EmbeddedPostgres, *, has_rules: bool = False, **settings: Any
) -> Iterator[Weather]:
    """Serve, and move each session whenever its client speaks in a quiet one."""
    calm = {"connect_rate": 1e9, "connect_burst": 1e9}
    with serve(
        postgres, has_rules=has_rules, emulator=calm, client_tls="off", **settings
    ) as served:
        proxy = served.proxy.proxy
        connector = proxy._services["main"].connector
        _change(
            served,
            connector=_WaitingConnector(connector, proxy._sessions),
            limiter=_NoLimit(1e9),
            new_window=lambda: ALWAYS,
            new_backoff=lambda: Backoff(1.0, random=lambda: 0.0),
        )
        yield Weather(served)


@contextlib.contextmanager
def aging(
    postgres: EmbeddedPostgres,
    *,
    limit: float,
    cluster_limit: float = 3600.0,
    window: SwapWindow | None = None,
    has_rules: bool = False,
    **settings: Any,
) -> Iterator[Weather]:
    """Serve, and take each upstream for as old as with a session limit of so little.

    The cluster closes sessions at a limit of its own: in an hour there are 6.5
    minutes for what has begun, which would be milliseconds here. A ``window`` of the
    test's own says when what happens instead.
    """
    cluster = {"session_limit": cluster_limit}
    with serve(
        postgres, has_rules=has_rules, emulator=cluster, client_tls="off", **settings
    ) as served:
        _change(
            served,
            new_window=lambda: window or SwapWindow.of(limit, jitter=0.5),
            new_backoff=lambda: Backoff(limit, random=lambda: 0.0),
        )
        yield Weather(served)


# -- how a moment becomes a swap -----------------------------------------------------


def _change(served: Served, **changes: Any) -> None:
    """Change what the sessions of a proxy share; before the first of them begins.

    The listeners hold this very object, so it is changed in place.
    """
    services = served.proxy.proxy._services["main"]
    for name, value in changes.items():
        object.__setattr__(services, name, value)


class _NoLimit(LoginLimiter):
    """Lets everybody pass: those who wait for their clients are many."""

    @asynccontextmanager
    async def login(
        self, *, within: float | None = None, on_wait: OnWait | None = None
    ) -> AsyncIterator[None]:
        del within, on_wait
        yield

    @asynccontextmanager
    async def swap(self, *, is_urgent: bool = False) -> AsyncIterator[None]:
        del is_urgent
        yield


class _WaitingConnector:
    """Opens the next upstream of a session when its client has something to say.

    Until then nothing is opened, and what the client says waits from its first byte.
    """

    def __init__(self, inner: UpstreamConnector, sessions: set[Session]) -> None:
        self._inner = inner
        self._sessions = sessions

    async def open(self, startup: UpstreamStartup) -> Upstream:
        relay = self._relay_of(startup)
        if relay is None or relay.is_upstream_lost:
            return await self._inner.open(startup)
        try:
            await _moment(relay)
            return await self._inner.open(startup)
        except BaseException:
            if relay.state in HOLDING and not relay.is_upstream_lost:
                relay.release()
            raise

    async def cancel(self, *arguments: Any, **named: Any) -> None:
        await self._inner.cancel(*arguments, **named)

    def _relay_of(self, startup: UpstreamStartup) -> Relay | None:
        """Give the relay of the session that asks; a first login has none yet."""
        for session in self._sessions:
            if session._kept is not None and session._kept.startup is startup:
                return session._kept.relay
        return None


async def _moment(relay: Relay) -> None:
    """Return with the relay paused: the client speaks, and nothing is under way."""
    moment: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def seize() -> None:
        relay.pause()
        if not moment.done():
            moment.set_result(None)

    def speaks() -> None:
        if moment.done():
            return
        if relay.state is RelayState.RUNNING:
            relay.insist(seize)
        else:
            relay.guard()  # it waits for another reason

    assert relay.keeper is not None, "a session that lives is kept"
    if isinstance(relay.keeper, _Herald):
        relay.keeper.on_first_message = speaks
    else:
        relay.keeper = _Herald(relay.keeper, speaks)
    relay.guard()
    await moment


@dataclass(slots=True)
class _Herald:
    """A keeper that tells of the client's next message as well."""

    keeper: RelayKeeper
    on_first_message: Callable[[], None]

    def upstream_lost(self) -> bool:
        return self.keeper.upstream_lost()

    def first_message(self) -> None:
        self.keeper.first_message()
        self.on_first_message()

    def client_waits(self) -> None:
        self.keeper.client_waits()

    def statement_refused(self, error: DsqlProxyError) -> None:
        self.keeper.statement_refused(error)
