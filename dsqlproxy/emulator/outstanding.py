"""The requests of a session that PostgreSQL has not answered yet, in order. No I/O.

PostgreSQL answers in the order of the requests, so the front of this queue says what
a message from it belongs to. After an error in the extended protocol it skips all
that follows up to the next Sync, and so does the queue.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from dsqlproxy.emulator.refusals import Refusal
from dsqlproxy.emulator.script import Step, Wording
from dsqlproxy.emulator.statements import Kind, Verdict


class RequestKind(Enum):
    """What was asked; named as the messages of the manual."""

    QUERY = auto()
    PARSE = auto()
    BIND = auto()
    DESCRIBE = auto()
    EXECUTE = auto()
    CLOSE = auto()
    SYNC = auto()
    FUNCTION_CALL = auto()
    COPY_END = auto()  # CopyDone or CopyFail: no answer, but a place in the order


_ENDS_WITH_READY = frozenset(
    {RequestKind.QUERY, RequestKind.SYNC, RequestKind.FUNCTION_CALL}
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known of a prepared statement, and of the portals made from it."""

    verdict: Verdict = field(default_factory=lambda: Verdict(Kind.OTHER))
    wording: Wording | None = None


@dataclass(slots=True, eq=False)
class Request:
    """A message that was sent; what it is for decides what its answer becomes.

    ``hidden`` requests are ours: their answers go to nobody. ``step`` tells how an
    Execute is answered, ``steps`` how the statements of a Query are.
    """

    kind: RequestKind
    hidden: bool = False
    step: Step | None = None
    steps: deque[Step] = field(default_factory=deque)
    prepared: Prepared | None = None
    name: bytes = b""  # of the prepared statement that a Parse or a Close is about
    replaced: Prepared | None = None  # what a Parse took the name from
    refusal: Refusal | None = None  # what the failure of a Parse is to say
    copying: bool = False  # an Execute that takes CopyData now


class Outstanding:
    """The queue of requests, and whether PostgreSQL skips what the client sends."""

    __slots__ = ("_requests", "is_skipping")

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()
        self.is_skipping = False
        """An error was seen and no Sync was sent since: nothing is answered."""

    def __bool__(self) -> bool:
        return bool(self._requests)

    @property
    def front(self) -> Request | None:
        """Whose answer comes next."""
        while self._requests and self._requests[0].kind is RequestKind.COPY_END:
            self._requests.popleft()
        return self._requests[0] if self._requests else None

    def append(self, request: Request) -> None:
        """Note a request as sent."""
        self._requests.append(request)

    def answered(self) -> None:
        """Note that the front has had its answer."""
        self._requests.popleft()

    def ready_for_query_sent(self) -> None:
        """Note a ReadyForQuery: whatever it ends, it is not outstanding any more."""
        while self._requests:
            if self._requests.popleft().kind in _ENDS_WITH_READY:
                return

    def skip_to_sync(self) -> Iterator[Request]:
        """Take out what PostgreSQL skips after an error; give it in that order."""
        while self._requests:
            if self._requests[0].kind is RequestKind.SYNC:
                return
            yield self._requests.popleft()
        self.is_skipping = True

    def copy_started(self) -> None:
        """Forget each Sync that PostgreSQL reads, and ignores, within a COPY.

        libpq sends one with Execute, before it knows that data is wanted
        (CopyGetData, copyfromparse.c: Flush and Sync are ignored).
        """
        front, *rest = self._requests
        kept = [front]
        ended = False
        for request in rest:
            ended = ended or request.kind is RequestKind.COPY_END
            if ended or request.kind is not RequestKind.SYNC:
                kept.append(request)
        self._requests = deque(kept)
