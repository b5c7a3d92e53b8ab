"""One connection to the emulator, from accept to close."""

import asyncio
import logging
from typing import Final

from dsqlproxy.emulator import fatals
from dsqlproxy.emulator.backend import Backend, send_cancel
from dsqlproxy.emulator.door import FrontDoor
from dsqlproxy.emulator.fatals import LoginAbandoned, LoginRefused
from dsqlproxy.emulator.line import ClientLine
from dsqlproxy.emulator.login import Login
from dsqlproxy.emulator.pumps import Ending, Pumps
from dsqlproxy.emulator.shared import Shared
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import (
    AUTHENTICATION_OK,
    BackendKeyData,
    ParameterStatus,
)
from dsqlproxy.pgproto.startup import CancelRequest, StartupMessage

logger = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 1.0

_WITHOUT_A_WORD: Final = frozenset({Ending.SESSION_LIMIT, Ending.MESSAGE_TOO_LARGE})


class Session:
    """One client's connection. Owns the client's line and the channel behind it."""

    def __init__(self, line: ClientLine, shared: Shared, door: FrontDoor) -> None:
        self._line = line
        self._shared = shared
        self._door = door
        self._pumps: Pumps | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._accepted_at = asyncio.get_running_loop().time()
        self.key: BackendKeyData | None = None
        """What a CancelRequest for this session must carry."""

    async def run(self) -> None:
        """Serve the connection until it is closed; raises nothing of the peers'."""
        try:
            await self._serve()
        except LoginRefused as refused:
            response = refused.response
            self._shared.counts.logins_refused[response.sqlstate] += 1
            fields = {
                "code": response.sqlstate,
                "message": response.message,
                "hint": response.hint,
            }
            logger.info("login refused", extra={"fields": fields})
            self._line.write(response.encode())
            await self._line.linger(_CLOSE_SECONDS)
        except (LoginAbandoned, OSError, TimeoutError) as error:
            fields = {"error": str(error)}
            logger.debug("connection ended before its login", extra={"fields": fields})
        finally:
            self._line.abort()
            await self._line.wait_closed()

    def arm(self) -> None:
        """Begin to count for a fault given just now."""
        self._line.count_from_here()
        self._set_timer(self._shared.faults.close_after)

    def expire(self) -> None:
        """End at once without a word, as at the session limit."""
        if self._pumps:
            self._pumps.end(Ending.SESSION_LIMIT)

    def end_with_fatal(self, sqlstate: str) -> None:
        """End with a FATAL, at the next boundary between frames."""
        if self._pumps:
            self._pumps.end_with(fatals.commanded(sqlstate))

    async def _serve(self) -> None:
        shared = self._shared
        async with asyncio.timeout(shared.login_timeout):
            arrival = await self._door.receive(self._line)
        match arrival.packet:
            case CancelRequest() as request:
                await self._cancel(request, arrival.server_name)
            case StartupMessage() as startup:
                with shared.slots.hold() as has_slot:
                    async with asyncio.timeout(shared.login_timeout):
                        backend = await Login(self._line, shared).run(
                            startup, server_name=arrival.server_name, has_slot=has_slot
                        )
                    try:
                        await self._relay(backend)
                    finally:
                        backend.channel.abort()
                        await backend.channel.wait_closed()

    async def _cancel(self, request: CancelRequest, server_name: str | None) -> None:
        """Pass a cancel request on to the session that it names exactly."""
        shared = self._shared
        named = server_name is not None and server_name.lower() in shared.hosts
        if not named or shared.faults.no_cancel or not shared.sessions.find(request):
            fields = {"process_id": request.process_id}
            logger.info("cancel request not forwarded", extra={"fields": fields})
            return
        async with asyncio.timeout(shared.login_timeout):
            await send_cancel(shared.backend, request)
        shared.counts.cancels_forwarded += 1
        await self._line.close_within(_CLOSE_SECONDS)

    async def _relay(self, backend: Backend) -> None:
        shared = self._shared
        rules = shared.rulebook.for_session() if shared.rulebook else None
        self.key = backend.key
        self._pumps = Pumps(self._line, backend.channel, rules=rules)
        shared.sessions.add(self)
        shared.counts.logins_accepted += 1
        try:
            self._greet(backend)
            self._set_timer(shared.session_limit - self._age)
            self._set_timer(shared.faults.close_after)
            ending = await self._pumps.run()
            fields = {"reason": ending.name.lower()}
            logger.info("emulated session ended", extra={"fields": fields})
            shared.sessions.discard(self)
            await self._part(ending)
        finally:
            shared.sessions.discard(self)
            for timer in self._timers:
                timer.cancel()

    def _greet(self, backend: Backend) -> None:
        frames = [AUTHENTICATION_OK.encode()]
        frames += [self._greeting_frame(received) for received in backend.greeting]
        frames.append(frame(*backend.ready))
        self._line.write(b"".join(frames))

    def _greeting_frame(self, received: Frame) -> bytes:
        kind, body = received
        if kind == BackendType.BACKEND_KEY_DATA and self._shared.faults.no_key_data:
            return b""
        if kind == BackendType.PARAMETER_STATUS and self._shared.rulebook:
            status = ParameterStatus.decode(body)
            if status.name == "server_version":
                shown = self._shared.rulebook.server_version
                return ParameterStatus(status.name, shown).encode()
        return frame(kind, body)

    @property
    def _age(self) -> float:
        """How long ago the connection was accepted.

        A cluster documents "connection duration"; that it counts from the connection
        and not from the login is inferred, and the stricter reading of the two.
        """
        return asyncio.get_running_loop().time() - self._accepted_at

    def _set_timer(self, seconds: float | None) -> None:
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(seconds, self.expire))

    async def _part(self, ending: Ending) -> None:
        """Close the client's side in the way that fits; the caller does the rest."""
        if ending in _WITHOUT_A_WORD:
            await self._line.hang_up(_CLOSE_SECONDS)
        else:
            await self._line.linger(_CLOSE_SECONDS)
