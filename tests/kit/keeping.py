"""A session that is kept alive, on a stage: its clocks and its clusters are the test's.

    async with kept_session() as stage:
        await stage.ask("set timezone to 'Asia/Tokyo'")
        stage.clocks.pass_time(48 * 60)
        async with stage.keeping():
            await stage.until(lambda: stage.keeper.swaps == 1)
            assert stage.server.settings["timezone"] == "Asia/Tokyo"

Every upstream is a `PlayedServer`: it answers private questions as a server with a
handful of settings would, writes down what it hears, and can be told to be silent.
"""

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from prometheus_client import generate_latest

from dsqlproxy.config import Config
from dsqlproxy.errors import DsqlProxyError, TokenError
from dsqlproxy.listen.cancel import CancelKeys
from dsqlproxy.ops.health import Health
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.metrics import Metrics
from dsqlproxy.ops.sessions import OpenSessions
from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.messages import BackendKeyData, ParameterStatus
from dsqlproxy.session.keeper import Keeper
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.lifetime import Backoff, SwapWindow
from dsqlproxy.session.pins import PinReason
from dsqlproxy.session.report import Report
from dsqlproxy.session.services import Services
from dsqlproxy.session.statements import Budget
from dsqlproxy.session.watch import Watch
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from dsqlproxy.upstream.limiter import LoginLimiter
from dsqlproxy.upstream.resolve import Address
from tests.kit.channels import ScriptedPeer, channel_and_peer, until
from tests.kit.frames import command_complete, data_row, error, query, ready, server
from tests.kit.relayed import Relayed, relayed
from tests.kit.scripted import EndOfStream
from tests.kit.virtual_clocks import VirtualClocks

CLUSTER = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
HOUR = SwapWindow.of(3600.0, jitter=0.0)
REPORTED = (ParameterStatus("TimeZone", "UTC"),)
_ADDRESS = Address(2, ("127.0.0.1", 5432))
_ASKED = re.compile(rb"current_setting\('([^']*)'")
_SET = re.compile(rb"set\s+(\w+)\s+to\s+'([^']*)'", re.IGNORECASE)


class WrittenLog(EventLog):
    """A log that writes down each event, in a line, before the caller goes on."""

    __slots__ = ("lines",)

    def __init__(self, lines: list[str], **fields: object) -> None:
        super().__init__(logging.getLogger("test"), **fields)
        self.lines = lines

    def bind(self, **fields: object) -> "WrittenLog":
        return WrittenLog(self.lines, **{**self._fields, **fields})

    def _log(
        self,
        level: int,
        event: str,
        fields: dict[str, object],
        exc_info: BaseException | None = None,
    ) -> None:
        del level
        words = [event, *(f"{key}={value}" for key, value in fields.items())]
        if exc_info is not None:
            words.append(repr(exc_info))
        self.lines.append(" ".join(words))


class PlayedCredentials:
    """Credentials that are there, until a test takes them away."""

    def __init__(self) -> None:
        self.failure: TokenError | None = None
        self.waiting = 0
        self._changed = asyncio.Event()

    def take_away(self, failure: TokenError) -> None:
        self.failure = failure
        self._changed.clear()

    def give(self) -> None:
        self.failure = None
        self._changed.set()

    async def ready(self, *, within: float) -> None:
        del within
        if self.failure is not None:
            raise self.failure

    async def changed(self) -> None:
        if self.failure is None:
            return
        self.waiting += 1
        try:
            await self._changed.wait()
        finally:
            self.waiting -= 1


class PlayedServer:
    """One upstream. It leaves out what a test does not need: portals, types, errors."""

    def __init__(self, peer: ScriptedPeer, settings: dict[bytes, bytes]) -> None:
        self.peer = peer
        self.settings = dict(settings)
        self.heard = ""
        """The types of the frames that came."""
        self.queries: list[bytes] = []
        self.may_answer = asyncio.Event()
        """While it is not set, it reads on and answers nothing."""
        self.may_answer.set()
        self.refusal = b""
        """What it answers to the next private question."""
        self.task: asyncio.Task[None] | None = None
        self._sql: dict[bytes, bytes] = {}
        self._bound: tuple[bytes, list[bytes]] = (b"", [])
        self._is_skipping = False

    async def play(self) -> None:
        """Answer until the end of the connection."""
        with contextlib.suppress(EndOfStream, OSError, ValueError):
            while True:
                kind, body = await self.peer.receive_frame()
                self.heard += chr(kind)
                answer = self._answer(kind, body)
                await self.may_answer.wait()
                await self.peer.send(answer)

    async def stop(self) -> None:
        """Do not read any more; whoever closes the socket must do so before."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})

    async def end(self, how: str = "close") -> None:
        """End the connection, by "close" or "reset"."""
        await self.stop()
        getattr(self.peer, how)()

    def _answer(self, kind: int, body: bytes) -> bytes:  # noqa: PLR0911 - a table
        if kind == FrontendType.SYNC:
            self._is_skipping = False
            return ready()
        if self._is_skipping:
            return b""
        match kind:
            case FrontendType.QUERY:
                sql = body.removesuffix(b"\0")
                self.queries.append(sql)
                return self._run(sql) + ready()
            case FrontendType.PARSE:
                name, sql, _ = body.split(b"\0", 2)
                return self._parse(name, sql)
            case FrontendType.BIND:
                _, name, rest = body.split(b"\0", 2)
                self._bound = (self._sql[name], _parameters(rest))
                return server("2")
            case FrontendType.DESCRIBE:
                return server("tn")
            case FrontendType.EXECUTE:
                return self._run(*self._bound)
            case FrontendType.CLOSE:
                return server("3")
            case _:
                return b""

    def _parse(self, name: bytes, sql: bytes) -> bytes:
        if b"pg_my_temp_schema" in sql:  # as Aurora DSQL does
            return self._refuse(error("not supported", sqlstate="0A000"))
        if self.refusal and b"current_setting" in sql:
            refusal, self.refusal = self.refusal, b""
            return self._refuse(refusal)
        self._sql[name] = sql
        return server("1")

    def _refuse(self, answer: bytes) -> bytes:
        self._is_skipping = True
        return answer

    def _run(self, sql: bytes, values: list[bytes] | None = None) -> bytes:
        if b"current_setting" in sql:
            row = [self.settings.get(name, b"") for name in _ASKED.findall(sql)]
            return data_row(*row, b"admin", b"admin", b"postgres") + server("C")
        if values:
            self.settings[values[0]] = values[1]
            return data_row(values[1]) + server("C")
        if found := _SET.match(sql):
            self.settings[found[1]] = found[2]
            return command_complete("SET")
        return server("C")


def _parameters(rest: bytes) -> list[bytes]:
    values = []
    position = 4
    for _ in range(int.from_bytes(rest[2:4])):
        end = position + 4 + int.from_bytes(rest[position : position + 4])
        values.append(rest[position + 4 : end])
        position = end
    return values


@dataclass
class PlayedCluster:
    """Opens upstreams, each with its own server; or refuses, as often as it is told."""

    group: asyncio.TaskGroup
    stack: contextlib.AsyncExitStack
    clocks: VirtualClocks
    servers: list[PlayedServer] = field(default_factory=list)
    refusals: list[DsqlProxyError] = field(default_factory=list)
    on_open: Callable[[PlayedServer], None] = lambda _: None
    attempts: int = 0

    async def open(self, startup: UpstreamStartup) -> Upstream:
        del startup
        self.attempts += 1
        if self.refusals:
            raise self.refusals.pop(0)
        opened = await self.stack.enter_async_context(channel_and_peer())
        played = self.play(opened[1])
        self.on_open(played)
        return Upstream(
            channel=opened[0],
            parameters=REPORTED,
            key=BackendKeyData(len(self.servers), b"key!"),
            notices=(),
            opened_at=self.clocks.clocks.read(),
            address=_ADDRESS,
        )

    async def cancel(
        self, key: BackendKeyData, *, address: Address | None = None
    ) -> None:
        del key, address
        raise AssertionError("nobody cancels on this stage because no client can")

    def play(self, peer: ScriptedPeer) -> PlayedServer:
        """Let a server answer at this end."""
        played = PlayedServer(peer, {b"timezone": b"UTC", b"client_encoding": b"UTF8"})
        self.servers.append(played)
        played.task = self.group.create_task(played.play())
        return played


@dataclass
class Stage:
    """A session with its keeper, which does nothing before `keeping`."""

    between: Relayed
    kept: Kept
    keeper: Keeper
    clocks: VirtualClocks
    cluster: PlayedCluster
    lines: list[str]

    @property
    def log(self) -> str:
        """What was logged so far."""
        return "\n".join(self.lines)

    @property
    def metrics(self) -> str:
        """What is counted so far."""
        return generate_latest(self.kept.services.metrics.registry).decode()

    @property
    def server(self) -> PlayedServer:
        """The server that was opened last."""
        return self.cluster.servers[-1]

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Let the keeper do its work."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.keeper.run())
            yield
            task.cancel()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what has no event of its own."""
        await until(condition)

    async def logged(self, event: str) -> None:
        """Wait for an event in the log."""
        await until(lambda: event in self.log)

    async def say(self, sql: str) -> None:
        """Let the client send a query."""
        await self.between.client.send(query(sql))

    async def ask(self, sql: str) -> None:
        """Let the client send a query, and get its answer."""
        await self.say(sql)
        await self.answered()

    async def answered(self) -> None:
        """Wait for the answer to a query; what comes before it is passed over."""
        while (await self.between.client.receive_frame()).type != ord("Z"):
            pass

    def fall_idle(self) -> None:
        """Let the watch find the session idle: its next message is looked at."""
        self.kept.services.watch.look()
        self.kept.services.watch.look()


@contextlib.asynccontextmanager
async def kept_session(
    *,
    recovery: str = "presumed",
    new_window: Callable[[], SwapWindow] = lambda: HOUR,
    backoff_seconds: float = 1.0,
) -> AsyncIterator[Stage]:
    """Give a session before its keeper has begun; its upstream is as old as nothing."""
    clocks = VirtualClocks()
    log = WrittenLog([])
    async with contextlib.AsyncExitStack() as stack:
        between = await stack.enter_async_context(
            relayed(start=False, reported=REPORTED)
        )
        group = await stack.enter_async_context(asyncio.TaskGroup())
        channels = await stack.enter_async_context(contextlib.AsyncExitStack())
        cluster = PlayedCluster(group, channels, clocks)
        ids = itertools.count()
        listener = {"name": "main", "cluster": CLUSTER, "recovery": recovery}
        config = Config.model_validate({"listeners": [listener]}).listeners[0]
        services = Services(
            config=config,
            connector=cluster,
            credentials=PlayedCredentials(),
            cancel_keys=CancelKeys(bytes),
            open_sessions=OpenSessions(),
            admitted=set(),
            metrics=Metrics(
                listeners=["main"], version="0", pin_reasons=list(PinReason)
            ),
            health=Health(listeners=["main"], clock=clocks.clocks.monotonic),
            log=log,
            clocks=clocks.clocks,
            limiter=LoginLimiter(1000),
            watch=Watch(clocks.clocks),
            statement_budget=Budget(),
            new_window=new_window,
            new_backoff=lambda: Backoff(backoff_seconds, random=lambda: 0.0),
            new_id=lambda: str(next(ids)),
        )
        kept = Kept(
            services=services,
            report=Report(services, session_id="1", client="test"),
            relay=between.relay,
            memory=between.relay.memory,
            startup=UpstreamStartup("admin", (("user", "admin"),)),
            upstream=Upstream(
                channel=between.relay.upstream,
                parameters=REPORTED,
                key=None,
                notices=(),
                opened_at=clocks.clocks.read(),
                address=_ADDRESS,
            ),
        )
        keeper = Keeper(kept)
        between.relay.keeper = keeper
        services.watch.add(keeper)
        between.relay.start()
        cluster.play(between.server)
        yield Stage(between, kept, keeper, clocks, cluster, log.lines)
        for played in cluster.servers:
            await played.stop()
