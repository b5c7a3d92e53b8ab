"""A proxy in the test's loop that moves its sessions when a test says so.

Its upstreams go through a `Tamper` to a real PostgreSQL, without TLS and without a
password; everything between the listener and the connector is the real thing::

    async with swapping(postgres) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.where)  # or proxy.dsn()
        session = proxy.session                     # the only one; or proxy.sessions
        assert await proxy.swap(session)            # False: it was put off
        proxy.tamper.plan(after(">S"), Eof(), connection=2)
        await proxy.until("session recovered")
        assert proxy.count("upstream swapped") == 1

Three windows: `CALM` never swaps by itself, and is the default; `STORM` swaps at every
quiet moment, over and over, and makes such moments; `WARM` swaps over and over too, but
waits until the session is quiet by itself. ``swap_soon`` asks a calm session for one.

Time is real unless ``clocks`` says otherwise; waits between attempts are milliseconds.
Log in as any user of the PostgreSQL, ``postgres`` for instance.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trustme

from dsqlproxy.app import Proxy, Started
from dsqlproxy.aws.credentials import StaticCredentials
from dsqlproxy.clocks import Clocks
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.config import Config, TcpAddress
from dsqlproxy.drain import Shutdown
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.ops.log import EventLog
from dsqlproxy.session.keeper import Keeper
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.lifetime import Backoff, SwapWindow
from dsqlproxy.session.services import Services
from dsqlproxy.session.session import Session
from dsqlproxy.upstream.crowding import Crowding
from dsqlproxy.upstream.limiter import LoginLimiter
from tests.kit.tamper import PlainConnector, Tamper

_NEVER = 1e9
_SECONDS = 15.0
"""More than anything on loopback takes."""

CALM = SwapWindow(
    warm_seconds=_NEVER,
    insist_seconds=_NEVER,
    last_start_seconds=_NEVER,
    dead_seconds=_NEVER,
    settle_seconds=0.001,
)
WARM = replace(CALM, warm_seconds=0.0)
STORM = replace(CALM, warm_seconds=0.0, insist_seconds=0.0)

SWAPPED = "upstream swapped"
DEFERRED = "swap deferred"


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the log."""

    name: str
    fields: dict[str, object]
    error: BaseException | None = None


class Events:
    """The log of a proxy, as it comes."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self._news = asyncio.Event()

    def note(self, event: Event) -> None:
        """Keep a line."""
        self.all.append(event)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def named(self, name: str, **fields: object) -> list[Event]:
        """Give the events of a name, and with such fields."""
        wanted = fields.items()
        return [
            each
            for each in self.all
            if each.name == name and wanted <= each.fields.items()
        ]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; it is asked at each event."""
        async with asyncio.timeout(_SECONDS):
            while not condition():
                await self._news.wait()


class _Log(EventLog):
    """Writes to `Events`."""

    __slots__ = ("_events",)

    def __init__(self, events: Events, **fields: object) -> None:
        super().__init__(logging.getLogger("dsqlproxy.test"), **fields)
        self._events = events

    def bind(self, **fields: object) -> "_Log":
        return _Log(self._events, **{**self._fields, **fields})

    def is_enabled_for(self, level: int) -> bool:
        del level
        return True

    def _log(
        self,
        level: int,
        event: str,
        fields: dict[str, object],
        exc_info: BaseException | None = None,
    ) -> None:
        del level
        self._events.note(Event(event, {**self._fields, **fields}, exc_info))


@dataclass
class Swapping:
    """A proxy that listens, its upstreams, and what happened to it."""

    proxy: Proxy
    tamper: Tamper
    connector: PlainConnector
    where: tuple[str, int]
    events: Events
    shutdown: Shutdown
    services: Services
    window: SwapWindow = field(default=CALM)
    """What the next upstream of a session gets; a test may change it."""

    def dsn(self, **parameters: object) -> str:
        """Give a libpq connection string; parameters add to it or replace."""
        words: dict[str, object] = {
            "host": self.where[0],
            "port": self.where[1],
            "user": "postgres",
            "dbname": "postgres",
            "connect_timeout": 10,
            **parameters,
        }
        return " ".join(f"{key}='{value}'" for key, value in words.items())

    # -- what happened ---------------------------------------------------------------

    def count(self, event: str, **fields: object) -> int:
        """Say how often an event was logged, with such fields."""
        return len(self.events.named(event, **fields))

    @property
    def swaps(self) -> int:
        """How many swaps were completed."""
        return self.count(SWAPPED)

    async def until(self, event: str, times: int = 1, **fields: object) -> None:
        """Wait until an event was logged so often."""
        await self.events.until(lambda: self.count(event, **fields) >= times)

    @property
    def failures(self) -> list[BaseException]:
        """The bugs that were logged; none is expected, ever."""
        return [each.error for each in self.events.all if each.error is not None]

    # -- its sessions ----------------------------------------------------------------

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are logged in."""
        return [one for one in self.proxy._sessions if one._keeper is not None]

    @property
    def session(self) -> Session:
        """The only session."""
        (session,) = self.sessions
        return session

    def kept(self, session: Session | None = None) -> Kept:
        """Give what keeper and swap of a session share: relay, memory, upstream."""
        kept = (session or self.session)._kept
        assert kept is not None, "the session is not logged in"
        return kept

    def keeper(self, session: Session | None = None) -> Keeper:
        """Give who keeps a session alive."""
        keeper = (session or self.session)._keeper
        assert keeper is not None, "the session is not logged in"
        return keeper

    # -- swaps on command --------------------------------------------------------------

    def swap_soon(
        self, session: Session | None = None, *, window: SwapWindow = STORM
    ) -> None:
        """Have a session moved once: with STORM the next client's request waits."""
        keeper = self.keeper(session)
        keeper.window = window
        keeper._wake.set()

    def calm_down(self, session: Session | None = None) -> None:
        """Have no more swaps tried of this session than the one under way."""
        self.keeper(session).window = CALM

    async def swap(
        self, session: Session | None = None, *, window: SwapWindow = STORM
    ) -> bool:
        """Move a session once, and say whether that was done at the first attempt.

        The session must be quiet, or become it. An attempt that comes to nothing is
        not followed by another.
        """
        session = session or self.session
        seen = len(self.events.all)

        def outcome() -> Event | None:
            return next(
                (
                    each
                    for each in self.events.all[seen:]
                    if each.name in {SWAPPED, DEFERRED}
                    and each.fields["session"] == session.id
                ),
                None,
            )

        self.swap_soon(session, window=window)
        await self.events.until(outcome)
        event = outcome()
        assert event is not None, "it was waited for"
        if event.name == SWAPPED:
            return True
        self.calm_down(session)
        return False


@asynccontextmanager
async def swapping(
    postgres: EmbeddedPostgres | Path,
    *,
    window: SwapWindow = CALM,
    clocks: Clocks | None = None,
    session_limit: float | None = None,
    may_fail: bool = False,
    **settings: Any,
) -> AsyncIterator[Swapping]:
    """Run a proxy before a PostgreSQL; it has ended when the context has.

    ``session_limit`` is when the `Tamper` ends a connection; ``settings`` are keys of
    the listener. A bug that the proxy logged fails the test unless it ``may_fail``.
    """
    clocks = clocks or system_clocks()
    events = Events()
    # Nothing is verified here, and to read the system's authorities takes 40 ms.
    authority = trustme.CA().cert_pem.tempfile()
    async with Tamper(postgres, session_limit=session_limit) as tamper:
        connector = PlainConnector(tamper, clocks)
        with authority as ca_file:
            proxy = Proxy(
                _config(ca_file=ca_file, **settings),
                log=_Log(events),
                clocks=clocks,
                credentials=StaticCredentials.of("AKIATEST", "secret", None),
            )
        services = proxy._services["main"] = replace(
            proxy._services["main"],
            connector=connector,
            limiter=LoginLimiter(1e6, 1e6, crowding=_hasty_crowding()),
            new_window=lambda: running.window,
            new_backoff=_hasty_backoff,
        )
        shutdown = Shutdown()
        started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            group.create_task(proxy.run(shutdown, on_started=started.set_result))
            address = (await started).listeners[0].address
            assert isinstance(address, TcpAddress)
            running = Swapping(
                proxy,
                tamper,
                connector,
                (address.host, address.port),
                events,
                shutdown,
                services,
                window,
            )
            try:
                yield running
            finally:
                tamper.forget_plans()
                shutdown.request("test")
                shutdown.request("test")  # now, whatever is running
    if running.failures and not may_fail:
        raise running.failures[0]


def _config(**settings: Any) -> Config:
    listener = {
        "name": "main",
        "listen": "127.0.0.1:0",
        "cluster": "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws",
        "database": "client",
        "unsupported_parameters": "pass",
        **settings,
    }
    top = {"admin": {"listen": "off"}, "log": {"level": "debug"}}
    return Config.model_validate({"listeners": [listener], **top})


def _hasty_crowding() -> Crowding:
    """Give one that leaves a busy cluster alone for 2 ms, and for 60 at most."""
    pauses = (0.002, 0.004, 0.008, 0.016, 0.032, 0.06)
    return Crowding(random=lambda: 0.0, pauses_seconds=pauses)


def _hasty_backoff() -> Backoff:
    """Give one that begins with 2 ms and ends with 60."""
    return Backoff(7.2, random=lambda: 0.0)
