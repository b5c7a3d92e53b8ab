"""Wrong ways of swapping, as somebody might well have written them.

Each replaces a part of the real thing, and each must be caught (`test_teeth.py`): that
is the proof that the tests prove something. What is not replaced stays as it is, the
comparison before the switch included.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pytest

from dsqlproxy.clocks import Reading
from dsqlproxy.pgproto.codes import FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import AskedSymbol
from dsqlproxy.session import relay, session, swap
from dsqlproxy.session.client_pump import ClientPump
from dsqlproxy.session.private import Item, Kind, Request
from dsqlproxy.session.replay import Replica, _Goal
from dsqlproxy.session.settings import Captured, capture
from dsqlproxy.session.state import SessionMemory
from dsqlproxy.session.statements import Statement
from dsqlproxy.session.telling import Telling, describe_item
from dsqlproxy.session.tracker import Tracker

Break = Callable[[pytest.MonkeyPatch], None]

_ENDS: Final = frozenset(b"SQWKF")
_READY: Final = frozenset(b"ZYX")
_UNNAMED: Final = b""
_SET = re.compile(rb"(?is)\A\s*set\s+(\w+)\s+to\s+([^;]+?)\s*\Z")

# -- when a session is quiet -----------------------------------------------------------


class LastMessageTracker(Tracker):
    """Quiet: the client's last message was Sync or Query, and ReadyForQuery came."""

    __slots__ = ("_is_asked", "_is_ready")

    def __init__(self, **known: bool) -> None:
        super().__init__(**known)
        self._is_asked = self._is_ready = True

    def note_sent(self, script: bytes) -> bytes:
        if script:
            self._is_asked, self._is_ready = script[-1] in _ENDS, False
        return super().note_sent(script)

    def note_received(self, script: bytes) -> bytes:
        self._is_ready |= not _READY.isdisjoint(script)
        return super().note_received(script)

    @property
    def is_quiet(self) -> bool:
        is_idle = self.state.status is TransactionStatus.IDLE
        return self._is_asked and self._is_ready and is_idle


class CountingTracker(Tracker):
    """Quiet: as many ReadyForQuery have come as Sync and Query went."""

    __slots__ = ("_owed",)

    def __init__(self, **known: bool) -> None:
        super().__init__(**known)
        self._owed = 0

    def note_sent(self, script: bytes) -> bytes:
        self._owed += sum(symbol in _ENDS for symbol in script)
        return super().note_sent(script)

    def note_received(self, script: bytes) -> bytes:
        self._owed -= sum(symbol in _READY for symbol in script)
        return super().note_received(script)

    @property
    def is_quiet(self) -> bool:
        return self._owed == 0 and self.state.status is TransactionStatus.IDLE


class PortalTracker(Tracker):
    """Quiet: as in truth, but that a portal may be open."""

    __slots__ = ()

    @property
    def is_quiet(self) -> bool:
        state = self.state
        is_busy = state.queue or state.skipping or state.in_copy or state.desynced
        is_over = state.client_terminated or state.upstream_failed
        return not is_busy and not is_over and state.status is TransactionStatus.IDLE


class SkippingTracker(Tracker):
    """Quiet: as in truth, but that the server may be discarding until Sync."""

    __slots__ = ()

    @property
    def is_quiet(self) -> bool:
        state = self.state._replace(skipping=False, since_sync=b"")
        is_busy = state.queue or state.in_copy or state.desynced
        is_over = state.client_terminated or state.upstream_failed
        has_failed = self.state.skipping
        is_idle = state.status is TransactionStatus.IDLE
        return (has_failed and not is_busy and not is_over and is_idle) or (
            super().is_quiet
        )


def _tracker(tracker: type[Tracker]) -> Break:
    return lambda patch: patch.setattr(relay, "Tracker", tracker)


# -- what is carried over --------------------------------------------------------------


class _SetTexts(SessionMemory):
    """Remembers what the client's SETs said, as they went by."""

    texts: dict[str, bytes | None]

    @property
    def frontend(self) -> Mapping[int, AskedSymbol]:
        frontend = dict(super().frontend)
        ask = frontend[FrontendType.QUERY]
        self.texts = {}

        def query(data: bytes, start: int, end: int) -> bytes:
            if found := _SET.match(data[start : end - 1]):
                name = found[1].decode().lower()
                self.texts[name] = found[2].strip(b"'")
            return ask(data, start, end)

        return {**frontend, FrontendType.QUERY: query}


class SetTextReplica(Replica):
    """Tells the new upstream the SETs that went by, instead of asking the old one."""

    def _finish(self, goal: _Goal) -> Request:
        memory = self._memory
        assert isinstance(memory, _SetTexts), "both are replaced together"
        return super()._finish(goal._replace(values=dict(memory.texts)))

    def _compare_settings(self, goal: _Goal, captured: Captured) -> None:
        """Believe it: what a server makes of a text is not the text."""


class NoSettingsReplica(Replica):
    """Takes a new upstream's settings for those of the session."""

    def _finish(self, goal: _Goal) -> Request:
        self._telling._values.update(goal.values)
        return super()._finish(goal._replace(values={}))


class StatementsFirstReplica(Replica):
    """Parses statements before any setting is told, and not as of their time."""

    def early(self) -> Request:
        super().early()
        return Request.of(())

    def _finish(self, goal: _Goal) -> Request:
        self._goal, self._captured = goal, None
        telling = self._telling
        telling._statements.clear()
        named = {key: one for key, one in goal.statements.items() if key}
        items = [*_parse_as_it_is(telling, goal.statements)]
        items += telling.assign(goal.values)
        items += map(describe_item, named)
        if _UNNAMED in goal.statements:
            items.append(describe_item(_UNNAMED))
        items.append(capture(self._private_name, self._names, is_generic=False))
        return Request.of((*items, self._tidy()))


class NoUnnamedReplica(Replica):
    """Forgets the unnamed statement."""

    def _wanted(self) -> dict[bytes, Statement]:
        return {key: one for key, one in super()._wanted().items() if key}


class NoStaleReplica(Replica):
    """Parses a stale statement again, which gives it the shape of its table of now."""

    def _finish(self, goal: _Goal) -> Request:
        self._gone.clear()
        return super()._finish(goal._replace(statements=self._wanted()))


def _replica(replica: type[Replica]) -> Break:
    return lambda patch: patch.setattr(swap, "Replica", replica)


def _set_texts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "SessionMemory", _SetTexts)
    patch.setattr(swap, "Replica", SetTextReplica)


def _parse_as_it_is(
    telling: Telling, statements: Mapping[bytes, Statement]
) -> Iterator[Item]:
    """Parse under whatever settings there are."""
    for key, one in statements.items():
        if key not in telling:
            yield Item(Kind.PARSE, one.frame, key=key, statement=one)


def _no_environment(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Telling, "parse", _parse_as_it_is)


# -- when an upstream is looked at -----------------------------------------------------


def _monotonic_only(patch: pytest.MonkeyPatch) -> None:
    def seconds_since(self: Reading, earlier: Reading) -> float:
        return max(0.0, self.monotonic - earlier.monotonic)

    patch.setattr(Reading, "seconds_since", seconds_since)


def _check_after_writing(patch: pytest.MonkeyPatch) -> None:
    received = ClientPump.received

    def write_then_check(self: ClientPump, data: bytes) -> None:
        is_guarded, self._is_guarded = self._is_guarded, False
        received(self, data)
        if is_guarded:
            self._relay.note_first_message()

    patch.setattr(ClientPump, "received", write_then_check)


QUIET: Final[Mapping[str, Break]] = {
    "last message decides": _tracker(LastMessageTracker),
    "counting Sync and Query": _tracker(CountingTracker),
    "open portals": _tracker(PortalTracker),
    "while the server skips": _tracker(SkippingTracker),
}
"""Variants of when a session is quiet."""

STATE: Final[Mapping[str, Break]] = {
    "replaying SET texts": _set_texts,
    "no settings": _replica(NoSettingsReplica),
    "statements before settings": _replica(StatementsFirstReplica),
    "no parse-time environment": _no_environment,
    "no unnamed statement": _replica(NoUnnamedReplica),
    "stale statements parsed again": _replica(NoStaleReplica),
}
"""Variants of what is carried over."""

LOOKING: Final[Mapping[str, Break]] = {
    "monotonic clock only": _monotonic_only,
    "checking after writing": _check_after_writing,
}
"""Variants of whether the upstream is still there."""
