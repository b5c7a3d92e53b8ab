"""The composition root: builds a proxy from its configuration, runs it, ends it.

How it ends is written in `drain.py`.
"""

import asyncio
import logging
import os
import random
import secrets
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from dsqlproxy import __version__
from dsqlproxy.aws.credentials import Identity, StaticCredentials
from dsqlproxy.aws.tokens import TokenSource
from dsqlproxy.channel.channel import Channel
from dsqlproxy.clocks import Clocks
from dsqlproxy.config import Config, ListenerConfig, TcpAddress, UnixAddress
from dsqlproxy.config.client_tls import ClientCertificate
from dsqlproxy.drain import Drain, Shutdown
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.listen.cancel import CancelKeys
from dsqlproxy.listen.client_tls import context_from_files, self_signed_context
from dsqlproxy.listen.listener import Listener
from dsqlproxy.ops.admin import AdminServer
from dsqlproxy.ops.health import Health
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.metrics import Metrics
from dsqlproxy.ops.sessions import OpenSessions
from dsqlproxy.ops.signing import CredentialLog, MeteredTokens
from dsqlproxy.session.lifetime import Backoff, SwapWindow
from dsqlproxy.session.pins import PinReason
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.services import Services
from dsqlproxy.session.session import Session
from dsqlproxy.session.statements import Budget
from dsqlproxy.session.watch import Watch
from dsqlproxy.upstream.bucket import Bucket
from dsqlproxy.upstream.connector import Connector, Target
from dsqlproxy.upstream.limiter import PACE, PACE_BURST, LoginLimiter

MAX_WAITING = 2000
"""Connections that have no session (yet, or no more), on all listeners together.

Twice the default of ``max_sessions``: a pool that opens all at once fits in, and
with the usual limit of 4,096 open files the living sessions keep theirs.
"""

STATEMENT_BYTES = 64 * 1024 * 1024
"""What all sessions together may keep of prepared statements (`SessionMemory`)."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a listener listens, for the ready file and the log."""

    name: str
    address: TcpAddress | UnixAddress

    def as_dict(self) -> dict[str, object]:
        """Give the ready file's form."""
        match self.address:
            case UnixAddress(path):
                return {"name": self.name, "host": None, "port": None, "unix": path}
            case TcpAddress(host, port):
                return {"name": self.name, "host": host, "port": port, "unix": None}


@dataclass(frozen=True, slots=True)
class Started:
    """What is running, once it is."""

    listeners: tuple[Bound, ...]
    admin: TcpAddress | None

    def as_dict(self) -> dict[str, object]:
        """Give the content of the ready file."""
        admin = self.admin and {"host": self.admin.host, "port": self.admin.port}
        listeners = [bound.as_dict() for bound in self.listeners]
        return {"pid": os.getpid(), "listeners": listeners, "admin": admin}


class Proxy:
    """Everything that one configuration describes.

    ``credentials`` replaces the AWS chain, for demonstrations and tests. Raises
    `ConfigError` at once for what can be known before the first byte.
    """

    def __init__(
        self,
        config: Config,
        *,
        log: EventLog,
        clocks: Clocks,
        credentials: StaticCredentials | None = None,
    ) -> None:
        self._config = config
        self._log = log
        self._clocks = clocks
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._drain = Drain(
            config, sessions=self._sessions, clock=clocks.monotonic, log=log
        )
        self._watch = Watch(clocks)
        self._budget = Budget(STATEMENT_BYTES)
        rates = [listener.max_connect_rate for listener in config.listeners]
        self._pace = Bucket(max(PACE, *rates), PACE_BURST)
        self._limiters: dict[str, LoginLimiter] = {}
        self._group: asyncio.TaskGroup | None = None
        self._open_sessions = OpenSessions()
        names = [listener.name for listener in config.listeners]
        self._health = Health(listeners=names, clock=clocks.monotonic)
        self._metrics = Metrics(
            listeners=names,
            version=__version__,
            close_reasons=list(CloseReason),
            pin_reasons=list(PinReason),
            connect_queues=self._connect_queues,
            open_traffic=self._open_sessions.traffic,
        )
        self._cancel_keys: CancelKeys[Session] = CancelKeys(secrets.token_bytes)
        self._given = credentials
        self._tokens: dict[Identity, TokenSource] = {}
        for listener in config.listeners:
            identity = self._identity(listener)
            if identity not in self._tokens:
                self._tokens[identity] = TokenSource(
                    identity,
                    region=listener.endpoint.region,
                    clocks=clocks,
                    events=CredentialLog(log),
                )
        self._services = {
            listener.name: self._build_services(listener)
            for listener in config.listeners
        }

    def _build_services(self, listener: ListenerConfig) -> Services:
        source = self._tokens[self._identity(listener)]
        credentials = source.for_cluster(listener.endpoint.host)
        tokens = MeteredTokens(credentials, metrics=self._metrics, log=self._log)
        connector = Connector(
            Target.from_listener(listener),
            tokens,
            clocks=self._clocks,
            logger=logging.getLogger("dsqlproxy.upstream"),
        )
        limit = listener.session_limit
        return Services(
            config=listener,
            connector=connector,
            credentials=credentials,
            cancel_keys=self._cancel_keys,
            open_sessions=self._open_sessions,
            admitted=set(),
            metrics=self._metrics,
            health=self._health,
            log=self._log,
            clocks=self._clocks,
            limiter=self._limiter(listener),
            watch=self._watch,
            statement_budget=self._budget,
            new_window=lambda: SwapWindow.of(limit, jitter=random.random()),  # noqa: S311
            new_backoff=lambda: Backoff(limit, random=random.random),
            new_id=lambda: secrets.token_hex(4),
            tls=_client_tls(listener),
        )

    def _limiter(self, listener: ListenerConfig) -> LoginLimiter:
        """Give the limiter of a listener's cluster; the least that is asked for counts.

        All listeners of a cluster share it, since the cluster counts them together.
        """
        host = listener.endpoint.host
        if host not in self._limiters:
            sharing = [
                each for each in self._config.listeners if each.endpoint.host == host
            ]
            self._limiters[host] = LoginLimiter(
                min(each.max_connect_rate for each in sharing),
                min(each.max_connect_burst for each in sharing),
                pace=self._pace,
            )
        return self._limiters[host]

    def _connect_queues(self) -> Iterator[tuple[str, int]]:
        for name, services in self._services.items():
            yield name, services.limiter.waiting

    # -- running ---------------------------------------------------------------------

    async def run(
        self, shutdown: Shutdown, *, on_started: Callable[[Started], None]
    ) -> None:
        """Serve until ``shutdown`` asks to end; `DsqlProxyError` if it cannot start."""
        listeners = [self._new_listener(each) for each in self._config.listeners]
        admin = self._new_admin()
        failure: DsqlProxyError | None = None

        def note_started() -> None:
            self._note_listening(started)
            on_started(started)

        try:
            for listener in listeners:
                listener.bind()
            started = Started(
                tuple(Bound(each.name, each.bound) for each in listeners),
                admin.start() if admin else None,
            )
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await self._serve(
                        shutdown, listeners, group=group, on_listening=note_started
                    )
                except DsqlProxyError as error:
                    failure = error  # the group would wrap it
                for task in self._tasks:
                    task.cancel()
        finally:
            for listener in listeners:
                listener.close()
            if admin is not None:
                admin.close()
            for source in self._tokens.values():
                source.close()
        if failure is not None:
            raise failure
        self._log.info("stopped")

    async def _serve(
        self,
        shutdown: Shutdown,
        listeners: list[Listener],
        *,
        group: asyncio.TaskGroup,
        on_listening: Callable[[], None],
    ) -> None:
        """Listen until it is time to end, then let the sessions end."""
        for listener in listeners:
            await listener.start()
        on_listening()
        for source in self._tokens.values():
            self._tasks.add(group.create_task(source.keep()))
        self._tasks.add(group.create_task(self._watch.run()))
        await shutdown.begun.wait()
        self._health.note_draining(shutdown.reason)
        await self._drain.run(shutdown, stop_accepting=lambda: self._close(listeners))

    def _close(self, listeners: list[Listener]) -> None:
        """Accept nobody any more."""
        self._group = None  # what was accepted just now comes too late
        for listener in listeners:
            listener.close()

    def _new_listener(self, config: ListenerConfig) -> Listener:
        services = self._services[config.name]
        return Listener(
            config.listen,
            name=config.name,
            unix_mode=config.unix_mode,
            on_accept=lambda channel: self._accept(channel, services),
        )

    def _new_admin(self) -> AdminServer | None:
        address = self._config.admin.listen
        if address is None:
            return None
        return AdminServer(
            listen=address,
            metrics=self._metrics,
            health=self._health,
            sessions=self._open_sessions.rows,
            loop=asyncio.get_running_loop(),
            log=self._log,
            clock=self._clocks.monotonic,
        )

    def _identity(self, listener: ListenerConfig) -> Identity:
        return Identity(listener.profile, listener.assume_role, self._given)

    def _accept(self, channel: Channel, services: Services) -> None:
        """Begin a session; called by the event loop for each connection."""
        if self._group is None:
            channel.abort()
            return
        admitted = sum(len(each.admitted) for each in self._services.values())
        waiting = len(self._sessions) - admitted
        if waiting >= MAX_WAITING:
            # Whoever opens connections and says nothing must not use up the files.
            self._log.warning("too many connections before login", waiting=waiting)
            channel.abort()
            return
        session = Session(channel, services)
        self._sessions.add(session)
        task = self._group.create_task(session.run())
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._forget(session, task))

    def _forget(self, session: Session, task: asyncio.Task[None]) -> None:
        self._sessions.discard(session)
        self._tasks.discard(task)
        self._drain.note_ended()

    def _note_listening(self, started: Started) -> None:
        self._health.note_listening()
        for bound, config in zip(
            started.listeners, self._config.listeners, strict=True
        ):
            self._log.info(
                "listening",
                listener=bound.name,
                address=str(bound.address),
                cluster=config.endpoint.host,
                role=config.role or ",".join(config.roles or ()) or "the client's user",
            )
            if config.trusts_remote_clients:
                self._log.warning(
                    "remote clients are trusted",
                    listener=bound.name,
                    address=str(bound.address),
                    hint="Whoever reaches this address uses the cluster as the role"
                    " of this listener, without a password.",
                )
        if started.admin is not None:
            self._log.info("admin listening", address=str(started.admin))


def _client_tls(listener: ListenerConfig) -> ssl.SSLContext | None:
    match listener.client_tls:
        case "off":
            return None
        case "auto":
            return self_signed_context(now=datetime.now(UTC))
        case ClientCertificate() as files:
            return context_from_files(files.cert_file, files.key_file)
