"""Random programs on real PostgreSQLs: does the tracker ever say what is not so?

The permanent form of SWAP 5.B.12 and 5.B.31; how it judges: `tests.kit.fuzzing`.

What was seen is kept, and then shown to trackers with one rule broken (SWAP 5.B.32):
each of them must disagree with the server somewhere, or the fuzz proves little.
"""

import os
import sys
from collections.abc import Callable, Iterator
from random import SystemRandom

import pytest

from dsqlproxy.pgproto.codes import TransactionStatus
from dsqlproxy.session import requests
from dsqlproxy.session.requests import State
from dsqlproxy.session.tracker import Tracker
from tests.kit.beside_postgres import monitored, newer_binaries, running_postgres
from tests.kit.fuzzing import Recording, Server, disagreement
from tests.kit.programs import with_ended_pipelines

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux", reason="asks the kernel whether all has been read"
    ),
    pytest.mark.timeout(120),
]

PROGRAMS = 600
DEEP_PROGRAMS = 20_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_postgres() as directory, monitored(directory) as monitor:
        yield Server(directory, monitor)


@pytest.fixture(scope="module")
def newer_server() -> Iterator[Server]:
    binaries = newer_binaries()
    if not binaries:
        pytest.skip("there is no PostgreSQL 18")
    with running_postgres(binaries) as directory, monitored(directory) as monitor:
        yield Server(directory, monitor, with_ended_pipelines)


@pytest.fixture(scope="module")
def recordings(server: Server) -> list[Recording]:
    """What was seen of the programs that are always run."""
    return [server.check(seed) for seed in range(PROGRAMS)]


def test_property_the_tracker_agrees_with_the_server(
    recordings: list[Recording],
) -> None:
    seen = [one for recording in recordings for one in recording]
    quiet = [one for one in seen if one.exchange.state == "idle"]
    asked = [one.prepared for one in seen if one.prepared is not None]
    # The programs get somewhere, and all of what is compared does occur.
    assert len(quiet) > PROGRAMS
    assert sum(bool(one.named) for one in asked) > PROGRAMS / 10
    assert sum(bool(one.unnamed) for one in asked) > PROGRAMS / 10
    occurring = set(b"".join(one.exchange.received for one in seen))
    assert not set(b"123tTnCIsVEFZYXGHcMNSAaxelpr") - occurring


def test_property_the_tracker_agrees_with_a_newer_server(newer_server: Server) -> None:
    for seed in range(PROGRAMS):
        newer_server.check(seed)


@pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "deep", reason="takes minutes"
)
@pytest.mark.timeout(3_600)
def test_property_the_tracker_agrees_with_both_for_long(
    server: Server, newer_server: Server
) -> None:
    first = SystemRandom().randrange(1 << 48)
    for seed in range(first, first + DEEP_PROGRAMS):
        server.check(seed)
        newer_server.check(seed)


# -- its teeth -------------------------------------------------------------------------


class PlainTracker(Tracker):
    """A tracker without memory of what scripts do: its rules can be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self._now = State()

    @property
    def state(self) -> State:
        return self._now

    def note_sent(self, script: bytes) -> bytes:
        self._now, dropped = requests.after_sent(self._now, script)
        return dropped

    def note_received(self, script: bytes) -> bytes:
        self._now, effects = requests.after_received(self._now, script)
        return effects


class LastMessage(PlainTracker):
    """Quiet is when the last was a Sync or Query, and a ReadyForQuery came then."""

    last = b"S"
    answer = b"Z"

    def note_sent(self, script: bytes) -> bytes:
        if script:
            self.last, self.answer = script[-1:], b""
        return super().note_sent(script)

    def note_received(self, script: bytes) -> bytes:
        self.answer = script[-1:] or self.answer
        return super().note_received(script)

    @property
    def is_quiet(self) -> bool:
        return self.last in {b"S", b"Q", b"K", b"W"} and self.answer == b"Z"


class Counter(PlainTracker):
    """Counts requests that a ReadyForQuery answers, and ReadyForQuery."""

    outstanding_readies = 0

    def note_sent(self, script: bytes) -> bytes:
        self.outstanding_readies += sum(one in b"SQKWF" for one in script)
        return super().note_sent(script)

    def note_received(self, script: bytes) -> bytes:
        self.outstanding_readies -= sum(one in b"ZYX" for one in script)
        return super().note_received(script)

    @property
    def is_quiet(self) -> bool:
        return (
            not self.outstanding_readies
            and self.state.status is TransactionStatus.IDLE
            and requests.LEAVES_NO_PORTAL.issuperset(self.state.since_sync)
            and not self.upstream_failed
        )


class AnyUnit(PlainTracker):
    """Does not ask what was sent since the last Sync."""

    @property
    def is_quiet(self) -> bool:
        self._now = self._now._replace(since_sync=b"")
        return super().is_quiet


class AnyStatus(PlainTracker):
    """Does not ask whether a transaction is open."""

    @property
    def is_quiet(self) -> bool:
        status, self._now = (
            self._now.status,
            self._now._replace(status=TransactionStatus.IDLE),
        )
        quiet = super().is_quiet
        self._now = self._now._replace(status=status)
        return quiet


class RefusedCounts(PlainTracker):
    """Takes a Parse or Close for done when it is sent."""

    def note_received(self, script: bytes) -> bytes:
        return super().note_received(script).replace(b"-", b"+")


class DiscardedCounts(PlainTracker):
    """Waits for answers to a Parse or Close that the server discards."""

    def note_sent(self, script: bytes) -> bytes:
        super().note_sent(script)
        return b""


@pytest.mark.parametrize(
    "mutant",
    [LastMessage, Counter, AnyUnit, AnyStatus, RefusedCounts, DiscardedCounts],
)
def test_another_tracker_does_not_agree_with_the_server(
    mutant: type[PlainTracker], recordings: list[Recording]
) -> None:
    assert not any(disagreement(one, PlainTracker()) for one in recordings)
    assert any(disagreement(one, mutant()) for one in recordings)


Rule = Callable[[State, int], State]
Change = Callable[[State, State], State]
"""Makes another state of those before and after a frame."""


def spoilt(rule: Rule, change: Change) -> Rule:
    return lambda state, symbol: change(state, rule(state, symbol))


def discards_to_any_end(before: State, after: State) -> State:
    if before.queue[:1] not in {b"P", b"U", b"B", b"D", b"E", b"C", b"O"}:
        return after
    ends = [at for at, one in enumerate(before.queue) if one in b"SQKWF"]
    return after._replace(queue=before.queue[ends[0] :]) if ends else after


BROKEN_RULES: dict[str, tuple[bytes, Change]] = {
    "after an error nothing is discarded": (
        b"E",
        lambda _, after: after._replace(skipping=False),
    ),
    "an error is discarded up to a Query": (b"E", discards_to_any_end),
    "a failed Parse of the unnamed statement keeps it": (
        b"E",
        lambda before, after: after._replace(has_unnamed=before.has_unnamed),
    ),
    "a failed COPY goes on": (
        b"E",
        lambda before, after: after._replace(in_copy=before.in_copy),
    ),
    "PortalSuspended answers nothing": (b"s", lambda before, _: before),
    "EmptyQueryResponse answers nothing": (b"I", lambda before, _: before),
    "CommandComplete answers nothing": (b"C", lambda before, _: before),
    "NoData answers nothing": (b"n", lambda before, _: before),
    "a Query keeps the unnamed statement": (
        b"ZYX",
        lambda before, after: after._replace(has_unnamed=before.has_unnamed),
    ),
    "CopyInResponse answers nothing": (b"G", lambda before, _: before),
    "a Sync before CopyInResponse is answered": (
        b"G",
        lambda before, after: after._replace(queue=before.queue),
    ),
}


@pytest.mark.parametrize("name", BROKEN_RULES)
def test_a_tracker_with_a_broken_rule_does_not_agree_with_the_server(
    name: str, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols, change = BROKEN_RULES[name]
    for symbol in symbols:
        rule = requests._RECEIVED[symbol]
        monkeypatch.setitem(requests._RECEIVED, symbol, spoilt(rule, change))
    assert any(disagreement(one, PlainTracker()) for one in recordings)


def skips_to_ready(state: State) -> State:
    return SYNC_SENT(state)._replace(skipping=state.skipping)


def is_answered_within_copy(state: State) -> State:
    return state._replace(queue=state.queue + b"S", since_sync=b"", skipping=False)


SYNC_SENT = requests._sync_sent


@pytest.mark.parametrize("rule", [skips_to_ready, is_answered_within_copy])
def test_a_sync_that_does_something_else_does_not_agree_with_the_server(
    rule: Callable[[State], State],
    recordings: list[Recording],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "_sync_sent", rule)
    assert any(disagreement(one, PlainTracker()) for one in recordings)


def test_without_the_tags_a_tracker_does_not_agree_with_the_server(
    recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_TOLD", frozenset(b"S"))
    assert any(disagreement(one, PlainTracker()) for one in recordings)
