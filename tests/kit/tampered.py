"""One connection through a `Tamper`: two sockets, and what is done to their frames."""

import asyncio
import contextlib
import socket
import struct
from collections import defaultdict
from pathlib import Path
from typing import Protocol, assert_never

from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, FrameReader, frame
from dsqlproxy.pgproto.startup import CancelRequest, StartupMessage, StartupReader
from tests.kit.tamper_plans import (
    Cut,
    Delay,
    Eof,
    Error,
    Fatal,
    How,
    Inject,
    Plan,
    Replace,
    Reset,
    Stall,
    Swallow,
    Way,
)

_CHUNK = 65_536
_MAX_BYTES = 1 << 30
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds
_UNITS = frozenset({FrontendType.SYNC, FrontendType.QUERY, FrontendType.FUNCTION_CALL})
_ASYNCHRONOUS = frozenset(
    {
        BackendType.NOTICE_RESPONSE,
        BackendType.PARAMETER_STATUS,
        BackendType.NOTIFICATION_RESPONSE,
    }
)


class Planner(Protocol):
    """What a connection asks of its `Tamper`."""

    postgres: Path
    session_limit: float | None
    is_hasty: bool
    connections: "list[Tampered]"
    cancels: list[CancelRequest]

    def due(self, number: int, way: Way, frame: Frame) -> list[Plan]:
        """Give the plans for a frame."""

    def due_on_login(self, number: int) -> list[Plan]:
        """Give the plans for a login."""

    def next_byte(self, number: int, way: Way, passed: int) -> tuple[int, Plan] | None:
        """Give how many bytes are to pass before the next plan that counts them."""

    def note(self, number: int, way: Way, frame: Frame) -> None:
        """Keep a frame."""

    def tell(self) -> None:
        """Wake whoever waits for something to happen."""


class _Ended(Exception):
    """The connection is at its end: nothing more passes."""


class Tampered:
    """One connection, from accept to close; owns both sockets."""

    def __init__(self, tamper: Planner, proxy: socket.socket) -> None:
        self._tamper = tamper
        self._loop = asyncio.get_running_loop()
        self._proxy = proxy
        self._server = socket.socket(socket.AF_UNIX)
        self._server.setblocking(False)
        self._writing = asyncio.Lock()  # both directions may speak to the proxy
        self._has_server = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._ending: asyncio.Future[How] = self._loop.create_future()
        self._passed = dict.fromkeys(Way, 0)  # bytes since the login
        self._is_logged_in = False
        self._asked = 0  # Sync, Query and FunctionCall seen so far
        self._answered = 0  # and the ReadyForQuery that came for them
        self._answers: defaultdict[int, list[Plan]] = defaultdict(list)
        self._is_dropping = False  # the rest of an answer that became an error
        self.number = 0
        self.startup: StartupMessage | None = None
        self.has_ended = False
        self.late = b""
        """What the proxy sent after the connection had ended in order."""

    async def run(self) -> None:
        """Serve the connection until both sides have closed it."""
        limit = self._tamper.session_limit
        timer = None if limit is None else self._loop.call_later(limit, self.end)
        try:
            packet, rest = await self._receive_startup()
            if isinstance(packet, StartupMessage):
                await self._serve(packet, rest)
            elif isinstance(packet, CancelRequest):
                await self._cancel(packet)
        except (_Ended, ConnectionError):
            pass
        finally:
            if timer is not None:
                timer.cancel()
            self.has_ended = True
            self._proxy.close()
            self._server.close()
            self._tamper.tell()

    def end(self, how: How = How.EOF) -> None:
        """End it without a word; the first way counts."""
        if not self._ending.done():
            self._ending.set_result(how)
            self._flowing.clear()

    async def _receive_startup(self) -> tuple[object, bytes]:
        reader = StartupReader()
        packet = None
        while packet is None:
            data = await self._loop.sock_recv(self._proxy, _CHUNK)
            if not data:
                raise _Ended
            packet = reader.feed(data)
        return packet, reader.take_rest()

    async def _cancel(self, request: CancelRequest) -> None:
        self._tamper.cancels.append(request)
        await self._loop.sock_connect(self._server, str(self._tamper.postgres))
        await self._loop.sock_sendall(self._server, request.encode())
        while await self._loop.sock_recv(self._server, _CHUNK):
            pass

    async def _serve(self, startup: StartupMessage, rest: bytes) -> None:
        self._tamper.connections.append(self)
        self.number = len(self._tamper.connections)
        self.startup = startup
        self._tamper.tell()
        async with asyncio.TaskGroup() as group:
            pumps = [
                group.create_task(self._from_proxy(startup, rest)),
                group.create_task(self._from_server()),
            ]
            how = await self._ending
            for pump in pumps:
                pump.cancel()
        await self._part(how)

    async def _part(self, how: How) -> None:
        self.has_ended = True
        self._server.close()
        if how is How.RESET:
            self._proxy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._proxy.close()
            self._tamper.tell()
            return
        with contextlib.suppress(OSError):
            self._proxy.shutdown(socket.SHUT_WR)
        self._tamper.tell()
        # Closing with unread bytes in the socket would make a reset of it.
        while data := await self._loop.sock_recv(self._proxy, _CHUNK):
            self.late += data

    # -- two pumps -----------------------------------------------------------------

    async def _from_proxy(self, startup: StartupMessage, rest: bytes) -> None:
        """Pass on what the proxy says; it may end before the server does."""
        with contextlib.suppress(_Ended):
            try:
                for plan in self._tamper.due_on_login(self.number):
                    await self._carry_out(plan, Way.TO_SERVER, None)
                await self._loop.sock_connect(self._server, str(self._tamper.postgres))
                await self._loop.sock_sendall(self._server, startup.encode())
                self._has_server.set()
                await self._pump(Way.TO_SERVER, self._proxy, rest)
                self._server.shutdown(socket.SHUT_WR)
            except OSError:
                self.end()

    async def _from_server(self) -> None:
        """Pass on what the server says; its end is the connection's."""
        await self._has_server.wait()
        with contextlib.suppress(_Ended, OSError):
            await self._pump(Way.TO_PROXY, self._server, b"")
        self.end()

    async def _pump(self, way: Way, source: socket.socket, data: bytes) -> None:
        reader = FrameReader(max_bytes=_MAX_BYTES)
        while True:
            frames = reader.feed(data)
            if self._tamper.is_hasty and self._is_logged_in:
                await self._pass_together(way, frames)
                frames = []
            for received in frames:
                await self._flowing.wait()
                await self._take(way, received)
            data = await self._receive(source)
            if not data:
                return

    async def _receive(self, source: socket.socket) -> bytes:
        await self._flowing.wait()
        return await self._loop.sock_recv(source, _CHUNK)

    async def _pass_together(self, way: Way, frames: list[Frame]) -> None:
        """Pass frames on in one go: nothing is planned for them."""
        data = b"".join(frame(*each) for each in frames)
        if way is Way.TO_SERVER:
            self._note_all(way, frames)
        await self._send(way, data)
        if way is Way.TO_PROXY:
            self._note_all(way, frames)

    def _note_all(self, way: Way, frames: list[Frame]) -> None:
        for each in frames:
            self._tamper.note(self.number, way, each)

    # -- one frame -----------------------------------------------------------------

    async def _take(self, way: Way, received: Frame) -> None:
        if way is Way.TO_PROXY and not self._is_logged_in:
            await self._send(way, frame(*received))
            self._is_logged_in = received.type == BackendType.READY_FOR_QUERY
            return
        if way is Way.TO_SERVER:
            self._tamper.note(self.number, way, received)
        else:
            changed = await self._answer(received)
            if changed is None:
                return
            received = changed
        await self._pass(way, received)

    async def _answer(self, received: Frame) -> Frame | None:
        """Give a frame of the server as it was planned when its unit was asked."""
        changed: Frame | None = received
        for plan in list(self._answers[self._answered]):
            fault = plan.fault
            if isinstance(fault, Replace):
                if chr(received.type) == fault.kind:
                    self._answers[self._answered].remove(plan)
                    changed = Frame(received.type, fault.edit(received.body))
            elif received.type not in _ASYNCHRONOUS:
                self._answers[self._answered].remove(plan)
                assert isinstance(fault, Error), "only these two concern an answer"
                await self._say(fault.encode())
                self._is_dropping = True
        if received.type == BackendType.READY_FOR_QUERY:
            self._answered += 1
            self._is_dropping = False
        return None if self._is_dropping else changed

    async def _pass(self, way: Way, received: Frame) -> None:
        """Carry out what is planned for a frame, and pass it on."""
        due = self._tamper.due(self.number, way, received)
        passing: Frame | None = received
        for plan in due:
            if plan.moment.is_before or isinstance(plan.fault, Replace | Cut):
                passing = await self._carry_out(plan, way, passing)
        if way is Way.TO_SERVER and received.type in _UNITS:
            self._asked += 1
        if passing is not None:
            await self._send_counted(way, passing)
        for plan in due:
            if not plan.moment.is_before and not isinstance(plan.fault, Replace | Cut):
                await self._carry_out(plan, way, received)

    async def _send_counted(self, way: Way, passing: Frame) -> None:
        """Send a frame, and stop where a plan counts bytes."""
        data = frame(*passing)
        while planned := self._tamper.next_byte(self.number, way, self._passed[way]):
            count, plan = planned
            if count > len(data):
                break
            await self._send_part(way, data[:count])
            data = data[count:]
            await self._carry_out(plan, way, None)
        await self._send_part(way, data)
        if way is Way.TO_PROXY:
            self._tamper.note(self.number, way, passing)

    async def _send_part(self, way: Way, data: bytes) -> None:
        if data:
            await self._send(way, data)
            self._passed[way] += len(data)

    async def _carry_out(
        self, plan: Plan, way: Way, passing: Frame | None
    ) -> Frame | None:
        """Do what is planned; give the frame that goes on, if one does."""
        plan.fire(self.number)
        self._tamper.tell()
        match plan.fault:
            case Eof() | Reset() | Fatal() as fault:
                await self._end_by(fault)
            case Inject(data):
                await self._say(data)
            case Stall():
                await self._stall(plan)
            case Delay():
                await plan.released.wait()
            case Swallow():
                return None
            case Cut(then):
                await self._cut(plan, way, passing, then)
                return None
            case Error() | Replace() as fault if way is Way.TO_PROXY:
                return await self._change(fault, passing)
            case Error() | Replace():
                self._answers[self._asked].append(plan)
            case _ as unreachable:
                assert_never(unreachable)
        return passing

    async def _end_by(self, fault: Eof | Reset | Fatal) -> None:
        if isinstance(fault, Fatal):
            await self._say(fault.encode())
        self.end(How.RESET if isinstance(fault, Reset) else How.EOF)
        raise _Ended

    async def _change(
        self, fault: Error | Replace, passing: Frame | None
    ) -> Frame | None:
        assert passing is not None, "this fault needs a frame"
        if isinstance(fault, Replace):
            return Frame(passing.type, fault.edit(passing.body))
        await self._say(fault.encode())
        self._is_dropping = passing.type != BackendType.READY_FOR_QUERY
        return None if self._is_dropping else passing

    async def _stall(self, plan: Plan) -> None:
        self._flowing.clear()
        try:
            await plan.released.wait()
        finally:
            self._flowing.set()

    async def _cut(
        self, plan: Plan, way: Way, passing: Frame | None, then: object
    ) -> None:
        assert passing is not None, "Cut needs a frame"
        data = frame(*passing)
        half = len(data) // 2
        await self._send(way, data[:half])
        if isinstance(then, How):
            self.end(then)
            raise _Ended
        await self._stall(plan)
        await self._send(way, data[half:])

    async def _say(self, data: bytes) -> None:
        """Say something to the proxy that no server said."""
        await self._send(Way.TO_PROXY, data)
        with contextlib.suppress(ProtocolError):  # garbage is no frame
            for ours in FrameReader().feed(data):
                self._tamper.note(self.number, Way.TO_PROXY, ours)

    async def _send(self, way: Way, data: bytes) -> None:
        if way is Way.TO_SERVER:
            await self._loop.sock_sendall(self._server, data)
            return
        async with self._writing:
            await self._loop.sock_sendall(self._proxy, data)
