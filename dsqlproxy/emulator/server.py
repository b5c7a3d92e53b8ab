"""The emulator: a listener that plays an Aurora DSQL cluster before a PostgreSQL.

Used by tests, by ``demo`` and by the command::

    async with EmbeddedPostgres.start() as postgres:
        async with Emulator(EmulatorConfig(), backend=postgres.address) as emulator:
            …  # emulator.host, .port, .cluster, .ca_file, .credentials
"""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import Final, Self

from dsqlproxy.channel.channel import Channel
from dsqlproxy.emulator import rulebook
from dsqlproxy.emulator.backend import BackendAddress, execute
from dsqlproxy.emulator.certs import PRIVATE_LINK_SUFFIX, write_certificates
from dsqlproxy.emulator.control import serve_control
from dsqlproxy.emulator.door import FrontDoor
from dsqlproxy.emulator.faults import Fault, Faults, SqlFaults
from dsqlproxy.emulator.limits import Slots, TokenBucket
from dsqlproxy.emulator.line import ClientLine
from dsqlproxy.emulator.postgres import SUPERUSER
from dsqlproxy.emulator.session import Session
from dsqlproxy.emulator.shared import Counts, Rulebook, Shared
from dsqlproxy.emulator.sigv4 import AccessKey, TokenVerifier
from dsqlproxy.errors import DsqlProxyError

logger = logging.getLogger(__name__)

ACCOUNT: Final = "111122223333"  # AWS's account of examples
PRINCIPAL_ARN: Final = f"arn:aws:iam::{ACCOUNT}:role/dsqlproxy-emulator"

_ID_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_SECRET_CHARACTERS: Final = f"{_ID_CHARACTERS}{_ID_CHARACTERS.upper()}/+"
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorConfig:
    """What an emulator is to be like; the defaults are a cluster's."""

    host: str = "127.0.0.1"
    port: int = 0
    region: str = "us-east-1"
    session_limit: float = 3600.0
    has_rules: bool = True
    max_connections: int = 10_000
    connect_rate: float = 100.0
    connect_burst: float = 1000.0
    login_timeout: float = 60.0
    with_session_token: bool = False
    """Whether the credentials are temporary ones, as of an assumed role."""
    faults: tuple[str, ...] = ()


def wall_clock() -> float:
    """Give the seconds since the epoch, which tokens are checked by."""
    return datetime.now(UTC).timestamp()


class Emulator:
    """One emulated cluster; an async context manager that owns all it opens."""

    def __init__(
        self,
        config: EmulatorConfig,
        *,
        backend: BackendAddress,
        clock: Callable[[], float] = wall_clock,
        random: Random | None = None,
    ) -> None:
        random = random or SystemRandom()
        self._config = config
        self._backend = backend
        self._wall_clock = clock
        self._random = random
        self._open: dict[asyncio.Task[None], Channel] = {}
        self._is_closing = False
        self.cluster_id = "".join(random.choices(_ID_CHARACTERS, k=26))
        self.region = config.region
        self.cluster = f"{self.cluster_id}.dsql.{config.region}.on.aws"
        """The endpoint's host name, which tokens are signed for."""
        self.private_link_name = (
            f"{self.cluster_id}.{PRIVATE_LINK_SUFFIX}.{config.region}.on.aws"
        )
        self.principal_arn = PRINCIPAL_ARN
        self.credentials = _new_credentials(config, random)
        self._keys = {self.credentials.access_key_id: self.credentials}
        self.host = config.host
        self.port = config.port

    async def __aenter__(self) -> Self:
        """Start to listen."""
        async with AsyncExitStack() as stack:
            self._directory = Path(tempfile.mkdtemp(prefix="dsqlproxy-emulator-"))
            stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
            files = write_certificates(
                self._directory, region=self.region, now=datetime.now(UTC)
            )
            self.ca_file = files.ca_file
            self.control_path = self._directory / "control"
            self._shared = self._share()
            if self._shared.rulebook:
                await self._prepare(self._shared.rulebook)
            self._door = FrontDoor(files.server_file)
            self._group = await asyncio.TaskGroup().__aenter__()
            stack.push_async_callback(self._end_all)
            await self._listen(stack)
            self._exit_stack = stack.pop_all()
        where = {"host": self.host, "port": self.port}
        logger.info("emulator listening", extra={"fields": where})
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Close the listeners, end all sessions, remove the files."""
        return await self._exit_stack.__aexit__(exc_type, exc, traceback)

    # -- what tests look at --------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """What has happened so far."""
        return self._shared.counts

    @property
    def open_sessions(self) -> int:
        """How many sessions are logged in."""
        return len(self._shared.sessions)

    # -- whose tokens it takes -----------------------------------------------------

    def trust(self, key: AccessKey) -> None:
        """Take the tokens of one more key from now on, or of a renewed one.

        Its principal is what ``AWS IAM GRANT`` names. May be called from any thread.
        """
        self._keys[key.access_key_id] = key

    def distrust(self, access_key_id: str) -> None:
        """Refuse the tokens of a key from now on, as when it is deleted or expires.

        Sessions that are open stay: a cluster looks at a token once, at the login.
        """
        self._keys.pop(access_key_id, None)

    # -- faults --------------------------------------------------------------------

    def add_fault(self, word: str) -> None:
        """Put a fault in force, ``NAME`` or ``NAME:ARG``; ValueError if it is none.

        Open sessions count the bytes and seconds of a new fault from now on.
        """
        fault = self._shared.faults.add(word)
        logger.info("fault in force", extra={"fields": {"fault": word}})
        if fault in {Fault.RESET_AFTER, Fault.STALL_AFTER, Fault.CLOSE_AFTER}:
            for session in self._shared.sessions:
                session.arm()
        elif fault is Fault.FATAL and self._shared.faults.fatal:
            self.end_sessions(self._shared.faults.fatal)

    def clear_faults(self) -> None:
        """End every fault; what it has done to sessions stays done."""
        self._shared.faults.clear()

    def reset_after(self, *, bytes: int) -> None:  # noqa: A002 - reads as a sentence
        """Break each connection after so many more bytes towards the client."""
        self.add_fault(f"{Fault.RESET_AFTER}:{bytes}")

    def stall_after(self, *, bytes: int) -> None:  # noqa: A002 - reads as a sentence
        """Send so many more bytes to each client, then nothing."""
        self.add_fault(f"{Fault.STALL_AFTER}:{bytes}")

    def close_after(self, *, seconds: float) -> None:
        """Close each session without a word, so long from now or from its login."""
        self.add_fault(f"{Fault.CLOSE_AFTER}:{seconds:f}")

    def expire_sessions(self) -> int:
        """End every open session without a word, as at the session limit."""
        sessions = list(self._shared.sessions)
        for session in sessions:
            session.expire()
        return len(sessions)

    def end_sessions(self, sqlstate: str) -> int:
        """End every open session with a FATAL, at its next boundary."""
        sessions = list(self._shared.sessions)
        for session in sessions:
            session.end_with_fatal(sqlstate)
        return len(sessions)

    def status(self) -> dict[str, object]:
        """Give counts and faults in force."""
        counts = self.counts
        return {
            "sessions": self.open_sessions,
            "connections": counts.connections,
            "logins_accepted": counts.logins_accepted,
            "logins_refused": dict(counts.logins_refused),
            "cancels_forwarded": counts.cancels_forwarded,
            "faults": list(self._shared.faults.words),
        }

    # -- inside --------------------------------------------------------------------

    def _share(self) -> Shared:
        config = self._config
        loop_time = asyncio.get_running_loop().time
        faults = Faults(loop_time, SqlFaults(self._random))
        for word in config.faults:
            faults.add(word)
        hosts = frozenset({self.cluster, self.private_link_name})
        rules = rulebook.open_rulebook(faults.sql) if config.has_rules else None
        embedded = self._backend.user is None
        return Shared(
            cluster_id=self.cluster_id,
            hosts=hosts,
            cluster_arn=f"arn:aws:dsql:{self.region}:{ACCOUNT}:cluster/"
            f"{self.cluster_id}",
            verifier=TokenVerifier(hosts, self.region, self._keys),
            backend=self._backend,
            # The embedded server trusts its socket, and a cluster gives nobody its
            # superuser. Whoever gives a user for the backend has chosen it.
            forbidden_roles=frozenset({SUPERUSER} if embedded else ()),
            rulebook=rules,
            faults=faults,
            bucket=TokenBucket(
                rate=config.connect_rate, burst=config.connect_burst, clock=loop_time
            ),
            slots=Slots(config.max_connections),
            wall_clock=self._wall_clock,
            session_limit=config.session_limit,
            login_timeout=config.login_timeout,
        )

    async def _prepare(self, rules: Rulebook) -> None:
        """Give the PostgreSQL behind us what the rules keep in it."""
        superuser = replace(self._backend, user=self._backend.user or SUPERUSER)
        try:
            await execute(superuser, *rules.cluster_sql)
        except (OSError, DsqlProxyError) as error:
            raise DsqlProxyError(
                "the PostgreSQL behind the emulator cannot be prepared for the rules",
                detail=str(error),
                hint="--rules dsql needs a superuser there; --rules off does not.",
            ) from None

    async def _listen(self, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            self._new_line,
            self.host,
            self.port,
            backlog=_BACKLOG,
        )
        stack.callback(server.close)
        self.host, self.port = server.sockets[0].getsockname()[:2]
        control = await loop.create_unix_server(
            lambda: Channel(on_connected=self._serve_control), str(self.control_path)
        )
        stack.callback(control.close)

    def _new_line(self) -> ClientLine:
        def serve(_: Channel) -> None:
            self._shared.counts.connections += 1
            self._start(line, Session(line, self._shared, self._door).run)

        line = ClientLine(self._shared.faults, on_connected=serve)
        return line

    def _serve_control(self, channel: Channel) -> None:
        self._start(channel, lambda: serve_control(channel, self))

    def _start(
        self, channel: Channel, serve: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        if self._is_closing:  # accepted just before the listener was closed
            channel.abort()
            return
        task = self._group.create_task(_contained(serve))
        self._open[task] = channel
        task.add_done_callback(self._open.pop)

    async def _end_all(self) -> None:
        self._is_closing = True
        channels = list(self._open.values())
        for task in list(self._open):
            task.cancel()
        # A task that had not begun yet closes nothing.
        for channel in channels:
            channel.abort()
            await channel.wait_closed()
        # Without the exception that ends the block, if one does: it is the caller's,
        # and the group would wrap it.
        await self._group.__aexit__(None, None, None)


async def _contained(serve: Callable[[], Coroutine[None, None, None]]) -> None:
    """Keep a fault of one session, which would be a bug, from ending all others."""
    try:
        await serve()
    except Exception:
        logger.exception("a session of the emulator failed")


def _new_credentials(config: EmulatorConfig, random: Random) -> AccessKey:
    # AWS: AKIA begins the id of a long-term key, ASIA that of a temporary one.
    prefix = "ASIA" if config.with_session_token else "AKIA"
    suffix = "".join(random.choices(_ID_CHARACTERS.upper(), k=16))
    token = "".join(random.choices(_SECRET_CHARACTERS, k=400))
    return AccessKey(
        access_key_id=prefix + suffix,
        secret_access_key="".join(random.choices(_SECRET_CHARACTERS, k=40)),
        principal_arn=PRINCIPAL_ARN,
        session_token=token if config.with_session_token else None,
    )
