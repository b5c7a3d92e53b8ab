"""The prepared statements of a session, as a server has them (no I/O).

What a client sent is kept as it was: the same Parse, sent again under the same
environment, makes the same statement. A request about a statement is *pending*
until its answer says whether it took effect; that is told from outside, in order
(`commit`, `drop`), since answers name nothing.

The environment is what decides how literals are read when a statement is parsed.
The server reports a change of it just before ReadyForQuery, so for a statement that
was parsed in the same request as such a change it is not known which one counted:
it is *ambiguous* as long as it lives.

`parse` is on the way of every such message and is written for speed: one copy, two
searches, no call where nothing is special.
"""

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.session.hints import (
    INSENSITIVE,
    SETS,
    SETS_ENVIRONMENT,
    Mentions,
    is_plain,
)

MAX_SESSION_BYTES: Final = 16 << 20
MAX_PROCESS_BYTES: Final = 64 << 20

MAX_PENDING: Final = 16_384
"""As many as the tracker follows; more means that nobody tells what became of them."""

MAX_NAME_BYTES: Final = 63
"""What PostgreSQL looks at of a statement's name (NAMEDATALEN less one)."""

_OVERHEAD: Final = 200
"""What a statement takes beside its text: objects and a place in two tables."""

SMALL_BYTES: Final = 1024
"""Up to this a statement without a name is not counted against the limits."""

_NUL: Final = b"\0"
_LEAST_BYTES: Final = 4  # two ends and a count
_DECLARE: Final = ord("d")  # what the word begins with
_STATEMENT: Final = ord("S")

# More marks, beside those of `hints`.
AMBIGUOUS: Final = 16
"""Under which settings it was parsed is not known."""
UNKEPT: Final = 32
"""Its text was too large to be kept."""
_CLOSES: Final = 64  # no statement at all, but the Close of one
_SPECIAL: Final = SETS | AMBIGUOUS | UNKEPT
_FATE_KEPT: Final = ord("+")


class Environment(NamedTuple):
    """What a statement's literals are read by; None where a server reports nothing."""

    client_encoding: bytes | None = None
    datestyle: bytes | None = None
    intervalstyle: bytes | None = None
    timezone: bytes | None = None
    standard_conforming_strings: bytes | None = None

    def settings(self) -> dict[str, bytes]:
        """Give those that are known, by name."""
        return {
            name: value for name, value in self._asdict().items() if value is not None
        }


class Statement(NamedTuple):
    """A prepared statement: the body of its Parse, and what that was read under."""

    body: bytes
    environment: Environment

    @property
    def frame(self) -> bytes:
        """The Parse as the client sent it."""
        return frame(FrontendType.PARSE, self.body)


class Budget:
    """What all sessions of a process together may keep of statements."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int = MAX_PROCESS_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0


_Pending = tuple[bytes, bytes, int]  # name, body of the Parse, marks


class Statements:
    """The statements of one session, and the requests about them under way."""

    __slots__ = (
        "_budget", "_has_setter", "_is_lost", "_marks", "_max_bytes", "_mentions",
        "_named", "_pending", "_plain", "_unit", "_unit_changed", "_unnamed",
        "_unnamed_environment", "environment", "has_unknown", "used_bytes",
    )  # fmt: skip

    def __init__(
        self,
        environment: Environment,
        mentions: Mentions,
        *,
        budget: Budget,
        max_bytes: int = MAX_SESSION_BYTES,
    ) -> None:
        self.environment = environment
        """The one that counts now; see `change_environment`."""
        self.used_bytes = 0
        self.has_unknown = False
        """Whether there was a statement of which not even the name could be kept."""
        self._mentions = mentions
        self._budget = budget
        self._max_bytes = max_bytes
        self._pending: deque[_Pending] = deque()
        self._plain: _Pending = (b"", b"", 0)  # the last one that was nothing special
        self._named: dict[bytes, Statement] = {}
        self._unnamed = b""  # its body; there is none
        self._unnamed_environment = environment
        self._marks: dict[bytes, int] = {}  # of living ones that have any
        self._unit: list[bytes] = []  # parsed since the last ReadyForQuery
        self._unit_changed = False
        self._has_setter = False  # of the environment, parsed in this unit
        self._is_lost = False

    # -- what passes -----------------------------------------------------------------

    def parse(self, data: bytes, start: int, end: int) -> bytes:
        """Take the body of a Parse; give its symbol."""
        body = data[start:end]
        if body == self._plain[1] and body:  # the same as the last time
            self._pending.append(self._plain)
            return b"U"
        text = body.lower()
        if (
            not _LEAST_BYTES <= end - start <= SMALL_BYTES
            or body.find(_NUL, 1) != end - start - 3  # what follows: no types
            or body[0]  # there is a name
            or text[1] == _DECLARE
            or (text.find(b"set") > 0 and not is_plain(text[1:-3]))
        ):
            return self._parse_special(body, text)
        self._plain = (b"", body, 0)
        self._pending.append(self._plain)
        return b"U"

    def close(self, data: bytes, start: int, end: int) -> bytes:
        """Take the body of a Close; give its symbol."""
        if start < end and data[start] == _STATEMENT:
            name = data[start + 1 : end].partition(_NUL)[0]
            self._push(name[:MAX_NAME_BYTES], b"", _CLOSES)
            return b"C"
        return b"O"

    def _parse_special(self, body: bytes, text: bytes) -> bytes:
        """Take a Parse that is named or large, has types, or may change settings."""
        name_end = body.find(_NUL)
        text_end = body.find(_NUL, name_end + 1)
        name = body[: max(name_end, 0)][:MAX_NAME_BYTES]
        if _is_whole(body, name_end, text_end) and self._charge(name, body):
            marks = self._mentions.read(text[name_end + 1 : text_end])
        else:
            marks = UNKEPT
            body = b""
            self.has_unknown |= name_end < 0
        if not name.isascii():
            # The same bytes name another statement under another client_encoding.
            marks |= AMBIGUOUS
        self._push(name, body, marks)
        return b"P" if name_end else b"U"

    def _push(self, name: bytes, body: bytes, marks: int) -> None:
        if self._is_lost:
            self._drop((name, body, marks))
            return
        self._pending.append((name, body, marks))
        if len(self._pending) > MAX_PENDING:
            self.lose()

    # -- what became of it -------------------------------------------------------------

    def note_fates(self, fates: bytes) -> None:
        """Part the youngest pending requests: ``+`` stays, ``-`` is discarded."""
        if len(fates) > len(self._pending):
            self.lose()
            return
        youngest = [self._pending.pop() for _ in fates]
        for fate, request in zip(fates, reversed(youngest), strict=True):
            if fate == _FATE_KEPT:
                self._pending.append(request)
            else:
                self._drop(request)

    def commit(self) -> None:
        """Let the oldest pending request take effect."""
        if not self._pending:
            self.lose()
            return
        name, body, marks = self._pending.popleft()
        if name or self._marks or len(self._unnamed) > SMALL_BYTES:
            self.forget(name)
        if marks & _CLOSES:
            if not name:
                self._unnamed = b""
            return
        if not marks & INSENSITIVE:
            self._unit.append(name)
            if self._has_setter:
                marks |= AMBIGUOUS
        if marks:
            self._commit_marks(name, marks)
        if not name:
            self._unnamed = body
            self._unnamed_environment = self.environment
        elif body:
            self._named[name] = Statement(body, self.environment)

    def commit_unit(self) -> None:
        """Do what `commit` and then `end_unit` do; fast where nothing is special."""
        pending = self._pending
        if pending and not (self._unit or self._marks or self._unit_changed):
            name, body, marks = pending[0]
            if not (name or marks) and len(self._unnamed) <= SMALL_BYTES:
                pending.popleft()
                self._unnamed = body
                self._unnamed_environment = self.environment
                return
        self.commit()
        self.end_unit()

    def _commit_marks(self, name: bytes, marks: int) -> None:
        if marks & SETS_ENVIRONMENT:
            self._has_setter = True
        if marks & _SPECIAL:
            self._marks[name] = marks

    def refuse(self) -> None:
        """Let the oldest pending request come to nothing."""
        if self._pending:
            self._drop(self._pending.popleft())
        else:
            self.lose()

    def end_unit(self) -> None:
        """Note a ReadyForQuery: what was reported before it holds from here on."""
        if self._unit_changed:
            for name in self._unit:
                if name in self._named or (self._unnamed and not name):
                    self._marks[name] = self._marks.get(name, 0) | AMBIGUOUS
            self._unit_changed = False
        self._unit.clear()
        self._has_setter = False

    def change_environment(self, environment: Environment) -> None:
        """Note that statements are read in another way, since some time ago."""
        self.environment = environment
        self._unit_changed = bool(self._unit)

    # -- what there is -----------------------------------------------------------------

    @property
    def named(self) -> Mapping[bytes, Statement]:
        """The statements with a name, oldest first."""
        return MappingProxyType(self._named)

    @property
    def unnamed(self) -> Statement | None:
        """The one without."""
        if not self._unnamed:
            return None
        return Statement(self._unnamed, self._unnamed_environment)

    @property
    def marks(self) -> int:
        """The marks that any living statement has."""
        marks = 0
        for one in self._marks.values():
            marks |= one
        return marks

    @property
    def is_lost(self) -> bool:
        """Whether it is not known any more what the server has."""
        return self._is_lost

    def forget(self, name: bytes) -> None:
        """Note that a statement is gone, if there was one."""
        if self._marks:
            self._marks.pop(name, None)
        if name:
            statement = self._named.pop(name, None)
            body = statement.body if statement else b""
        else:
            body, self._unnamed = self._unnamed, b""
        self._give_back(name, body)

    def forget_named(self) -> None:
        """Note that all that have a name are gone."""
        for name in {*self._named, *filter(None, self._marks)}:
            self.forget(name)
        self.has_unknown = False

    def lose(self) -> None:
        """Give up: what the server has is not known any more, and not kept."""
        self._is_lost = True
        for request in self._pending:
            self._drop(request)
        self._pending = deque(maxlen=0)  # keeps nothing that is put into it
        self.forget_named()
        self.forget(b"")
        self.has_unknown = False

    def _drop(self, request: _Pending) -> None:
        self._give_back(request[0], request[1])

    def _charge(self, name: bytes, body: bytes) -> bool:
        """Count a statement against the limits, if they allow it."""
        size = _charged_bytes(name, body)
        budget = self._budget
        if (
            self.used_bytes + size > self._max_bytes
            or budget.used_bytes + size > budget.limit_bytes
        ):
            return False
        self.used_bytes += size
        budget.used_bytes += size
        return True

    def _give_back(self, name: bytes, body: bytes) -> None:
        size = _charged_bytes(name, body)
        self.used_bytes -= size
        self._budget.used_bytes -= size


def _charged_bytes(name: bytes, body: bytes) -> int:
    """Say what a statement counts as; a small one without a name as nothing.

    Of these there is one in a session, and on the way as many as the tracker follows.
    """
    if not body or (not name and len(body) <= SMALL_BYTES):
        return 0
    return len(body) + _OVERHEAD


def _is_whole(body: bytes, name_end: int, text_end: int) -> bool:
    """Say if a body is all of a Parse: name, text, and as many types as it says."""
    if name_end < 0 or text_end < 0:
        return False
    count = int.from_bytes(body[text_end + 1 : text_end + 3])
    return len(body) == text_end + 3 + 4 * count
