"""A peer between the proxy and a real PostgreSQL that spoils what passes, on command.

It speaks plain TCP to the proxy, without TLS and without asking for a password, knows
where frames begin and end, and keeps all that passed::

    async with Tamper(postgres) as tamper:
        connector = PlainConnector(tamper, clocks)
        plan = tamper.plan(after(">S", containing=b""), Eof(), connection=2)
        …
        await plan.fired.wait()
        assert tamper.letters(1, ">") == "PBES"

Connections are numbered from 1 in the order of their startup packets; those that
carry a CancelRequest have no number and are passed on. Kept are the frames to the
server when they have come, whatever becomes of them, and the frames to the proxy when
they have been sent: what the proxy did, and what it saw.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dsqlproxy.channel.channel import Channel
from dsqlproxy.clocks import Clocks
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.errors import UpstreamUnavailable
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, CancelRequest, StartupMessage
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from dsqlproxy.upstream.login import LoggedIn, Login
from dsqlproxy.upstream.resolve import Address
from tests.kit.tamper_plans import Fault, How, Moment, Plan, Way
from tests.kit.tampered import Tampered

_BACKLOG = 128
_SECONDS = 10.0
"""More than anything on loopback takes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that passed, or that the proxy sent and that went no further."""

    connection: int
    way: Way
    frame: Frame

    @property
    def kind(self) -> str:
        """The frame's type."""
        return chr(self.frame.type)

    @property
    def body(self) -> bytes:
        """The frame's body."""
        return self.frame.body


class Tamper:
    """The listener, its connections, and the plans for them; owns all it opens."""

    def __init__(
        self, postgres: EmbeddedPostgres | Path, *, session_limit: float | None = None
    ) -> None:
        if isinstance(postgres, EmbeddedPostgres):
            postgres = postgres.directory / ".s.PGSQL.5432"
        self.postgres = postgres
        """The unix socket of the server."""
        self.session_limit = session_limit
        """After how many seconds a connection ends without a word."""
        self.is_hasty = False
        """Whether frames that came together pass in one go, at a third of the cost.

        Nothing can be planned then.
        """
        self.host = "127.0.0.1"
        self.port = 0
        self.connections: list[Tampered] = []
        self.cancels: list[CancelRequest] = []
        self.seen: list[Seen] = []
        """All frames after the logins, in the order of their passing."""
        self._plans: list[Plan] = []
        self._news = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(socket.socket())
            listener.bind((self.host, 0))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            self._group = await stack.enter_async_context(asyncio.TaskGroup())
            accepting = self._group.create_task(self._accept(listener))
            stack.callback(self._cancel_all)
            stack.callback(accepting.cancel)
            self._exit_stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Close everything; a bug in a connection ends the test."""
        return await self._exit_stack.__aexit__(exc_type, exc, traceback)

    # -- what a test plans and does ------------------------------------------------

    def plan(
        self,
        moment: Moment,
        fault: Fault,
        *,
        connection: int | None = None,
        every: bool = False,
    ) -> Plan:
        """Have a fault carried out at a moment, once unless it is for every frame."""
        plan = Plan(moment, fault, connection, is_every=every)
        self._plans.append(plan)
        return plan

    def forget_plans(self) -> None:
        """Carry out nothing more; what is held back goes on."""
        for plan in self._plans:
            plan.release()
        self._plans.clear()

    def kill(self, number: int, how: How = How.EOF) -> None:
        """End a connection without a word."""
        self.connections[number - 1].end(how)

    def close_all(self, how: How = How.EOF) -> None:
        """End all connections without a word."""
        for connection in self.connections:
            connection.end(how)

    # -- what a test looks at ------------------------------------------------------

    def frames(self, number: int, way: str) -> list[Frame]:
        """Give a connection's frames in one direction, the login's apart."""
        return [
            seen.frame
            for seen in self.seen
            if seen.connection == number and seen.way == way
        ]

    def letters(self, number: int, way: str) -> str:
        """Give the types of these frames."""
        return "".join(chr(frame.type) for frame in self.frames(number, way))

    @property
    def open_numbers(self) -> list[int]:
        """The numbers of the connections that have not ended."""
        return [one.number for one in self.connections if not one.has_ended]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; it is asked whenever something has passed."""
        async with asyncio.timeout(_SECONDS):
            while not condition():
                await self._news.wait()

    # -- what connections ask ------------------------------------------------------

    def due(self, number: int, way: Way, frame: Frame) -> list[Plan]:
        """Give the plans for a frame; each is asked once for each frame."""
        return [plan for plan in self._plans if plan.is_due(number, way, frame)]

    def due_on_login(self, number: int) -> list[Plan]:
        """Give the plans for a login."""
        return [plan for plan in self._plans if plan.is_due_on_login(number)]

    def next_byte(self, number: int, way: Way, passed: int) -> tuple[int, Plan] | None:
        """Give how many bytes are to pass before the next plan that counts them."""
        found = (
            (left, plan)
            for plan in self._plans
            if (left := plan.bytes_until(number, way, passed)) is not None
        )
        return min(found, key=lambda pair: pair[0], default=None)

    def note(self, number: int, way: Way, frame: Frame) -> None:
        """Keep a frame."""
        self.seen.append(Seen(number, way, frame))
        self.tell()

    def tell(self) -> None:
        """Wake whoever waits for something to happen."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    # -- inside --------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._group.create_task(Tampered(self, connection).run())
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def _cancel_all(self) -> None:
        for task in self._serving:
            task.cancel()


class PlainConnector:
    """Opens upstreams through a `Tamper`, as the proxy's `UpstreamConnector`."""

    def __init__(self, tamper: Tamper, clocks: Clocks) -> None:
        self._tamper = tamper
        self._clocks = clocks
        self.startups: list[UpstreamStartup] = []
        """What was asked for, in order, failed ones included."""
        self.timeout_seconds = _SECONDS

    async def open(self, startup: UpstreamStartup) -> Upstream:
        """Open a session; `UpstreamUnavailable` or `UpstreamRejected` if it fails."""
        self.startups.append(startup)
        opened_at = self._clocks.read()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                channel = await self._dial()
                try:
                    logged_in = await _log_in(channel, startup)
                except BaseException:
                    channel.abort()
                    raise
        except (OSError, TimeoutError) as error:
            raise UpstreamUnavailable("no way to the server") from error
        return Upstream(
            channel=channel,
            parameters=logged_in.parameters,
            key=logged_in.key,
            notices=logged_in.notices,
            opened_at=opened_at,
            address=Address(socket.AF_INET, (self._tamper.host, self._tamper.port)),
        )

    async def cancel(
        self, key: BackendKeyData, *, address: Address | None = None
    ) -> None:
        """Cancel what a session does; returns when the server has closed."""
        del address  # there is one only
        channel = await self._dial()
        try:
            channel.write(CancelRequest(key.process_id, key.secret_key).encode())
            while await channel.read():
                pass
        finally:
            channel.abort()

    async def _dial(self) -> Channel:
        _, channel = await asyncio.get_running_loop().create_connection(
            Channel, self._tamper.host, self._tamper.port
        )
        return channel


async def _log_in(channel: Channel, startup: UpstreamStartup) -> LoggedIn:
    channel.write(StartupMessage(PROTOCOL_3_0, startup.parameters).encode())
    login = Login()
    while data := await channel.read():
        for event in login.receive(data):
            assert isinstance(event, LoggedIn), "the server asks for a password"
            channel.unread(login.take_rest())
            return event
    raise ConnectionResetError("the end came before ReadyForQuery")
