"""The composition root: builds a proxy from its configuration, runs it, ends it.

Ending is a list of steps, each of which waits for an event and none for a tick:

1. not ready any more (health), but still accepting for ``drain_delay``, since the
   containers of a pod are told to end together;
2. stop accepting;
3. sessions end at their next quiet moment, with 57P01; idle ones at once;
4. what is left at ``drain_timeout`` ends where it is, with 57P01 too;
5. tasks, admin listener and token threads end.

A second signal skips to step 4, and leaves it a moment only.
"""

import asyncio
import logging
import os
import secrets
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dsqlproxy import __version__
from dsqlproxy.channel.channel import Channel
from dsqlproxy.config import Config, ListenerConfig, TcpAddress, UnixAddress
from dsqlproxy.config.model import ClientCertificate
from dsqlproxy.errors import DsqlProxyError, TokenError
from dsqlproxy.listen.cancel import CancelKeys
from dsqlproxy.listen.client_tls import context_from_files, self_signed_context
from dsqlproxy.listen.listener import Listener
from dsqlproxy.ops.admin import AdminServer
from dsqlproxy.ops.health import Health
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.metrics import Metrics, TokenOutcome
from dsqlproxy.ops.sessions import OpenSessions, SessionState
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.services import Services
from dsqlproxy.session.session import Session
from dsqlproxy.upstream.connector import Connector, Target
from dsqlproxy.upstream.tokens import (
    SigningRequest,
    StaticCredentials,
    Token,
    TokenSource,
)

PROGRESS_SECONDS = 5.0
"""How often a drain that goes on says how many sessions are left."""

MAX_WAITING = 2000
"""Connections that have no session (yet, or no more), on all listeners together.

Twice the default of ``max_sessions``: a pool that opens all at once fits in, and
with the usual limit of 4,096 open files the living sessions keep theirs.
"""

STOP_SECONDS = 3.0
FORCED_SECONDS = 0.3
"""How long ended sessions may take for their last words; after a second signal."""


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


@dataclass(slots=True)
class Shutdown:
    """Asks a proxy to end; asked twice, to end at once."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    forced: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    force_reason: str = ""

    def request(self, reason: str) -> None:
        """Ask once, or once more."""
        if self.begun.is_set():
            self.force_reason = self.force_reason or reason
            self.forced.set()
        else:
            self.reason = reason
            self.begun.set()


class _MeteredTokens:
    """A token source that counts; the cluster's side does not know the counters."""

    def __init__(self, source: TokenSource, *, metrics: Metrics, log: EventLog) -> None:
        self._source = source
        self._metrics = metrics
        self._log = log

    async def sign(self, request: SigningRequest) -> Token:
        """Sign and count."""
        try:
            token = await self._source.sign(request)
        except TokenError:
            self._metrics.token_signed(TokenOutcome.FAILED)
            raise
        self._metrics.token_signed(TokenOutcome.SIGNED)
        self._log.debug("token signed", role=request.role, region=request.region)
        return token

    def forget(self) -> None:
        """Look for the credentials anew next time."""
        self._source.forget()


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
        clock: Callable[[], float],
        credentials: StaticCredentials | None = None,
    ) -> None:
        self._config = config
        self._log = log
        self._clock = clock
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_ended = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._open_sessions = OpenSessions()
        names = [listener.name for listener in config.listeners]
        self._health = Health(listeners=names, clock=clock)
        self._metrics = Metrics(
            listeners=names,
            version=__version__,
            close_reasons=list(CloseReason),
            open_traffic=self._open_sessions.traffic,
        )
        self._cancel_keys: CancelKeys[Session] = CancelKeys(secrets.token_bytes)
        self._tokens = {
            profile: TokenSource(profile=profile, credentials=credentials)
            for profile in {listener.profile for listener in config.listeners}
        }
        self._services = {
            listener.name: self._build_services(listener)
            for listener in config.listeners
        }

    def _build_services(self, listener: ListenerConfig) -> Services:
        tokens = _MeteredTokens(
            self._tokens[listener.profile], metrics=self._metrics, log=self._log
        )
        connector = Connector(
            Target.from_listener(listener),
            tokens,
            clock=self._clock,
            logger=logging.getLogger("dsqlproxy.upstream"),
        )
        return Services(
            config=listener,
            connector=connector,
            cancel_keys=self._cancel_keys,
            open_sessions=self._open_sessions,
            admitted=set(),
            metrics=self._metrics,
            health=self._health,
            log=self._log,
            clock=self._clock,
            new_id=lambda: secrets.token_hex(4),
            tls=_client_tls(listener),
        )

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
        for profile, region in self._identities():
            self._tasks.add(group.create_task(self._tokens[profile].prewarm(region)))
        await shutdown.begun.wait()
        await self._drain(shutdown, listeners)

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
            clock=self._clock,
        )

    def _identities(self) -> set[tuple[str | None, str]]:
        return {(each.profile, each.endpoint.region) for each in self._config.listeners}

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
        if not self._sessions:
            self._all_ended.set()

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

    # -- ending ----------------------------------------------------------------------

    async def _drain(self, shutdown: Shutdown, listeners: list[Listener]) -> None:
        """Take the steps written at the head of this file."""
        delay, timeout = self._config.drain_delay, self._config.drain_timeout
        self._health.note_draining(shutdown.reason)
        self._log.info(
            "draining",
            reason=shutdown.reason,
            sessions=len(self._sessions),
            deadline=delay + timeout,
        )
        forced, ended = shutdown.forced, self._all_ended
        await _first_of(forced.wait(), seconds=delay)
        self._group = None  # what was accepted just now comes too late
        for listener in listeners:
            listener.close()
        for session in tuple(self._sessions):
            session.drain()
        await self._wait_for_busy(forced, deadline=self._clock() + timeout)
        for session in tuple(self._sessions):
            session.stop()
        ended.clear()
        if self._sessions and not forced.is_set():
            await _first_of(forced.wait(), ended.wait(), seconds=STOP_SECONDS)
        if self._sessions and forced.is_set():
            await _first_of(ended.wait(), seconds=FORCED_SECONDS)

    async def _wait_for_busy(self, forced: asyncio.Event, *, deadline: float) -> None:
        """Wait until all sessions have ended, and say at once if that takes time."""
        ended = self._all_ended
        while self._sessions and not forced.is_set():
            left, busy = deadline - self._clock(), self._count_busy()
            if left <= 0:
                if busy:
                    self._log.warning("drain timeout reached", sessions=busy)
                return
            if busy:
                facts = {"sessions": len(self._sessions), "busy": busy}
                hint = "a second signal ends it now"
                self._log.info("draining", **facts, deadline=round(left, 1), hint=hint)
            ended.clear()
            seconds = min(left, PROGRESS_SECONDS)
            await _first_of(forced.wait(), ended.wait(), seconds=seconds)

    def _count_busy(self) -> int:
        """Count the sessions that do not end by themselves in a moment."""
        ending = {SessionState.LOGIN, SessionState.CLOSING}
        return sum(each.info().state not in ending for each in self._sessions)


def _client_tls(listener: ListenerConfig) -> ssl.SSLContext | None:
    match listener.client_tls:
        case "off":
            return None
        case "auto":
            return self_signed_context(now=datetime.now(UTC))
        case ClientCertificate() as files:
            return context_from_files(files.cert_file, files.key_file)


async def _first_of(*events: Coroutine[None, None, bool], seconds: float) -> None:
    """Wait for the first of some events, but not longer than so many seconds."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(event) for event in events]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
