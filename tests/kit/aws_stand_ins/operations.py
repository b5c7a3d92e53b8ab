"""One operation of a service: what it does with its next calls, and what it has seen.

An operation answers until it is told otherwise. `hang` holds calls, those that come
and not those that have been answered; after `release` each gets what the operation
does then: so `hang`, `deny`, `release` denies a call that had been waiting.
"""

import asyncio
import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from tests.kit.aws_stand_ins.mint import TemporaryCredentials

AN_HOUR: Final = 3600.0
PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked; the names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def form(self) -> dict[str, str]:
        """The body of a request of AWS's query protocol."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def json(self) -> dict[str, Any]:
        """The body of a request of AWS's JSON protocols."""
        return dict(json.loads(self.body))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP, as it is sent."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, status: int, value: Mapping[str, Any], **headers: str) -> "Reply":
        """Send an object; underscores in the names of headers become hyphens."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        body = json.dumps(value).encode()
        return cls(status, body, {"Content-Type": "application/json", **named})


class Denied(Exception):
    """An error that the service tells its caller in its own form."""

    def __init__(self, code: str, message: str, *, status: int = 403) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Answers:
    """Calls are answered: with these credentials, or with fresh ones for so long."""

    given: TemporaryCredentials | None = None
    lifetime: float = AN_HOUR


Outcome = Answers | Denied | Reply


class Closed(Exception):
    """The stand-in was closed while a call was held."""


class Operation:
    """What a test controls; every method may be called from any thread."""

    def __init__(self, name: str, *, denial: Denied) -> None:
        self.name = name
        self._denial = denial
        self._outcome: Outcome = Answers()
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._waiting: list[tuple[int, Future[None]]] = []
        self._is_hanging = False
        self._is_closed = False

    # -- what it has seen ----------------------------------------------------------

    @property
    def calls(self) -> int:
        """How many calls have come, answered or not."""
        return len(self.requests)

    @property
    def requests(self) -> tuple[Request, ...]:
        """All calls that have come."""
        with self._changed:
            return tuple(self._requests)

    async def wait_for_calls(
        self, number: int, within: float = PATIENCE_SECONDS
    ) -> None:
        """Wait until so many calls have come since the start; TimeoutError if not."""
        async with asyncio.timeout(within):
            await asyncio.wrap_future(self._when_called(number))

    def block_for_calls(self, number: int, within: float = PATIENCE_SECONDS) -> None:
        """Wait as `wait_for_calls` does, in a test that has no loop."""
        self._when_called(number).result(within)

    # -- what it does with the next ones -------------------------------------------

    def answer(
        self, given: TemporaryCredentials | None = None, *, lifetime: float = AN_HOUR
    ) -> None:
        """Answer: with given credentials or with fresh ones, new for each call."""
        self._set(Answers(given, lifetime))

    def deny(self, code: str = "", message: str = "", *, status: int = 0) -> None:
        """Deny in the service's own form; what is left out is the usual denial."""
        usual = self._denial
        self._set(
            Denied(
                code or usual.code,
                message or usual.message,
                status=status or usual.status,
            )
        )

    def fail(self, status: int = 500, body: bytes = b"") -> None:
        """Answer with this status and nothing that AWS would say."""
        self.reply(Reply(status, body, {"Content-Type": "text/plain"}))

    def reply(self, reply: Reply) -> None:
        """Answer with exactly this."""
        self._set(reply)

    def hang(self) -> None:
        """Take calls and say nothing, until `release`."""
        with self._changed:
            self._is_hanging = True

    def release(self) -> None:
        """Let the calls that are held go on, and hold none any more."""
        with self._changed:
            self._is_hanging = False
            self._changed.notify_all()

    # -- for the server ------------------------------------------------------------

    def arrive(self, request: Request) -> Outcome:
        """Count a call, hold it as long as it hangs, give what becomes of it."""
        with self._changed:
            self._requests.append(request)
            self._tell()
            self._changed.wait_for(lambda: self._is_closed or not self._is_hanging)
            if self._is_closed:
                raise Closed
            return self._outcome

    def close(self) -> None:
        """End the calls that are held, without an answer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # -- inside --------------------------------------------------------------------

    def _set(self, outcome: Outcome) -> None:
        with self._changed:
            self._outcome = outcome

    def _when_called(self, number: int) -> Future[None]:
        called: Future[None] = Future()
        with self._changed:
            self._waiting.append((number, called))
            self._tell()
        return called

    def _tell(self) -> None:
        count = len(self._requests)
        due = [called for number, called in self._waiting if number <= count]
        self._waiting = [each for each in self._waiting if each[0] > count]
        for called in due:
            if called.set_running_or_notify_cancel():
                called.set_result(None)
