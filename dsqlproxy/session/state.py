"""What a session's next upstream must be told (no I/O).

A session at the server is its login, its settings, and its prepared statements; on
Aurora DSQL there is nothing else. Everything else that PostgreSQL has (LISTEN,
PREPARE, cursors, libraries, …) cannot be carried over, and pins the session.

Statements are known from the wire. Settings are not: nothing but the server knows
what a SET has come to. So of settings only names are remembered, and whether what
the server last said of them (the snapshot) may be stale.

The relay feeds it: its functions stand in for those of `pgproto.script` at both
scanners (`frontend`, `backend`), and it is told what the tracker makes of the
answers (`note_dropped`, `note_effects`).
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import AskedSymbol
from dsqlproxy.pgproto.messages import ParameterStatus
from dsqlproxy.pgproto.script import (
    CURSOR_DECLARED,
    DEALLOCATED_ALL,
    DISCARDED_ALL,
    LIBRARY_LOADED,
    LISTENING,
    PREPARED,
    SETTING_CHANGED,
    query_symbol,
)
from dsqlproxy.session.hints import (
    ENVIRONMENT_NAMES,
    SETS,
    Mentions,
    is_plain,
    is_plain_long,
    names_at_startup,
)
from dsqlproxy.session.pins import PinReason, pinned
from dsqlproxy.session.settings import BASE_NAMES, Captured
from dsqlproxy.session.statements import (
    AMBIGUOUS,
    MAX_SESSION_BYTES,
    UNKEPT,
    Budget,
    Environment,
    Statement,
    Statements,
)
from dsqlproxy.upstream.parameters import Parameters, names_in_options, split_options

_SUCCEEDED: Final = ord("+")
_REFUSED: Final = ord("-")
_UNNAMED_GONE: Final = ord("u")
_UNIT_ENDED: Final = ord("z")
_ONE_UNIT: Final = b"+z"

_PINS_BY_TAG: Final = {
    LISTENING: PinReason.LISTEN,
    PREPARED: PinReason.PREPARE,
    CURSOR_DECLARED: PinReason.CURSOR,
    LIBRARY_LOADED: PinReason.LOAD,
}

MAX_REPORTS: Final = 1024
"""Reported values whose turn has not come: the tracker takes them as they come."""

_USUAL: Final = {
    b"select ": b"Q",
    b"insert ": b"W",
    b"update ": b"W",
    b"delete ": b"W",
}
"""What `query_symbol` says of a single statement that begins like this."""
_USUAL_BYTES: Final = 7

_LONG_TEXT: Final = 1024
"""Above this a Query is not copied to look into it, unless it may hold a SET."""


class SessionMemory:
    """All that one session's next upstream must be told, and why it cannot be.

    ``parameters`` are those of the startup packet as the upstream got it,
    ``reported`` what that upstream said of itself. ``private_name`` is what the
    proxy calls its own statements among the client's: random, so that no client
    has the same. `close` gives back what was taken from the budget.
    """

    __slots__ = (
        "_is_stale", "_mentions", "_reported", "_reports", "_statements", "_tag_pins",
        "private_name", "snapshot",
    )  # fmt: skip

    def __init__(
        self,
        parameters: Parameters,
        reported: Iterable[ParameterStatus],
        *,
        budget: Budget,
        private_name: str,
        max_bytes: int = MAX_SESSION_BYTES,
    ) -> None:
        self.private_name = private_name
        self.snapshot: Captured | None = None
        """What the server last said of the settings; None: as the session began."""
        self._reported = {one.name: one.value for one in reported}
        self._mentions = Mentions()
        self._statements = Statements(
            _environment(self._reported),
            self._mentions,
            budget=budget,
            max_bytes=max_bytes,
        )
        self._reports: deque[ParameterStatus] = deque(maxlen=MAX_REPORTS)
        self._tag_pins: frozenset[PinReason] = frozenset()
        self._is_stale = False
        self._mentions.add(names_at_startup(parameters))
        options = dict(parameters).get("options", "")
        self._mentions.add(names_in_options(split_options(options)))

    def close(self) -> None:
        """Give back what was taken from the budget; nothing is kept afterwards."""
        self._statements.lose()

    # -- what passes -----------------------------------------------------------------

    @property
    def frontend(self) -> Mapping[int, AskedSymbol]:
        """The functions that a scanner of client frames asks."""
        return {
            FrontendType.PARSE: self._statements.parse,
            FrontendType.CLOSE: self._statements.close,
            FrontendType.QUERY: self._query,
        }

    @property
    def backend(self) -> Mapping[int, AskedSymbol]:
        """The functions that a scanner of upstream frames asks."""
        return {BackendType.PARAMETER_STATUS: self._parameter_status}

    def _query(self, data: bytes, start: int, end: int) -> bytes:
        if end - start > _LONG_TEXT:
            if not is_plain_long(data, start, end):
                self._read(data[start:end].lower())
            return query_symbol(data, start, end)
        text = data[start:end].lower()
        symbol = _USUAL.get(text[:_USUAL_BYTES])
        if symbol and text.find(b";", 0, -2) < 0 and text.find(b"set_config") < 0:
            return symbol
        symbol = query_symbol(data, start, end)
        if symbol == b"K" or (text.find(b"set") >= 0 and not is_plain(text)):
            self._read(text)
        return symbol

    def _read(self, text: bytes) -> None:
        if self._mentions.read(text.removesuffix(b"\0")):
            self._is_stale = True

    def _parameter_status(self, data: bytes, start: int, end: int) -> bytes:
        try:
            self._reports.append(ParameterStatus.decode(data[start:end]))
        except ProtocolError:
            self.note_desynced()
        return b"S"

    def note_dropped(self, dropped: bytes) -> None:
        """Note which of the requests just sent the server discards (`Tracker`)."""
        self._statements.note_fates(dropped)

    def note_effects(self, effects: bytes) -> None:
        """Note what answers mean to statements and settings (`Tracker`)."""
        statements = self._statements
        if effects == _ONE_UNIT:  # a Parse and its Sync, as a driver sends them
            statements.commit_unit()
            return
        for effect in effects:
            if effect == _SUCCEEDED:
                statements.commit()
            elif effect == _UNIT_ENDED:
                statements.end_unit()
            elif effect == _UNNAMED_GONE:
                statements.forget(b"")
            elif effect == _REFUSED:
                statements.refuse()
            else:
                self._note_rare(effect)

    def _note_rare(self, effect: int) -> None:
        if effect == BackendType.PARAMETER_STATUS:
            if self._reports:
                self.note_reported(self._reports.popleft())
            else:
                self.note_desynced()
        elif effect == SETTING_CHANGED:
            self._is_stale = True
        elif effect == DEALLOCATED_ALL:
            self._statements.forget_named()
            self._tag_pins -= {PinReason.PREPARE}
        elif effect == DISCARDED_ALL:
            # It closes cursors and stops listening too, and never runs in a block
            # that could be rolled back. A library stays.
            self._statements.forget_named()
            self._tag_pins &= {PinReason.LOAD}
            self._is_stale = True
        elif effect != CURSOR_DECLARED or self._mentions.has_held:
            self._tag_pins |= {_PINS_BY_TAG[effect]}

    def note_reported(self, parameter: ParameterStatus) -> None:
        """Note a value that the upstream reports."""
        name, value = parameter.name, parameter.value
        self._is_stale = True
        self._mentions.add(frozenset((name.lower(),)))
        self._reported[name] = value
        if name.lower() in ENVIRONMENT_NAMES:
            self._statements.change_environment(_environment(self._reported))

    def note_desynced(self) -> None:
        """Note that the session cannot be followed any more."""
        self._statements.lose()

    # -- what there is -----------------------------------------------------------------

    @property
    def reported(self) -> Mapping[str, str]:
        """What the upstream last reported, as the client has been told."""
        return self._reported

    @property
    def environment(self) -> Environment:
        """How literals are read now."""
        return self._statements.environment

    @property
    def named(self) -> Mapping[bytes, Statement]:
        """The prepared statements that have a name, oldest first."""
        return self._statements.named

    @property
    def unnamed(self) -> Statement | None:
        """The unnamed statement."""
        return self._statements.unnamed

    @property
    def names(self) -> tuple[str, ...]:
        """The settings to ask a server about; the one that values stand in first."""
        return (*BASE_NAMES, *sorted(self._mentions.names))

    @property
    def statement_bytes(self) -> int:
        """What the statements count as against the limits."""
        return self._statements.used_bytes

    # -- whether the snapshot is good ------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Whether something was seen that changes settings, since the snapshot."""
        return self._is_stale or self._mentions.has_set

    @property
    def might_be_dirty(self) -> bool:
        """Whether a statement that may change settings can have been run unseen."""
        marks = self._statements.marks
        return self._is_stale or self._mentions.has_set or bool(marks & SETS)

    def note_captured(self, captured: Captured) -> None:
        """Keep what the server says of the settings; nothing may be under way."""
        self.snapshot = captured
        self._is_stale = self._mentions.has_set = False

    def mention(self, names: Iterable[str]) -> None:
        """Add names to ask about."""
        self._mentions.add(frozenset(names))

    def note_carried_over(
        self,
        captured: Captured,
        reported: Iterable[ParameterStatus],
        gone: Iterable[bytes],
    ) -> None:
        """Note that another upstream has all this now, but for statements ``gone``."""
        self.note_captured(captured)
        self._reported = {one.name: one.value for one in reported}
        for name in gone:
            self._statements.forget(name)
        self._statements.end_unit()
        self._statements.environment = _environment(self._reported)

    # -- whether it can be carried over -----------------------------------------------

    @property
    def pins(self) -> tuple[PinReason, ...]:
        """Why the session cannot be carried over; empty if it can."""
        statements = self._statements
        if statements.is_lost:
            return (PinReason.DESYNCED,)
        marks = statements.marks
        found = {
            PinReason.ENVIRONMENT: marks & AMBIGUOUS,
            PinReason.MEMORY: marks & UNKEPT or statements.has_unknown,
            PinReason.SETTINGS: self._mentions.is_full,
        }
        pins = [reason for reason, is_so in found.items() if is_so]
        return (*pins, *sorted(self._tag_pins))

    @property
    def pin(self) -> str:
        """The first reason; empty if there is none."""
        return next(iter(self.pins), "")

    def refuse_if_pinned(self) -> None:
        """Raise `NotCarriedOver` with the reason, if there is one."""
        for reason in self.pins:
            raise pinned(reason)


def _environment(reported: Mapping[str, str]) -> Environment:
    known = {name.lower(): value for name, value in reported.items()}
    values = (known.get(name) for name in ENVIRONMENT_NAMES)
    return Environment(
        *(
            None if value is None else value.encode("utf-8", "surrogateescape")
            for value in values
        )
    )
