"""Random programs against a real PostgreSQL, and the judgement of what came of them.

After each portion the server is asked:

* is the session idle? A tracker that calls it quiet when it is not would lose what is
  under way at a swap; one that never calls it quiet would make swaps impossible;
* at the quiet points, which prepared statements does the session have? They must be
  those that the tracker's effects add up to. To ask takes a pipeline of its own, whose
  answer must be exactly the answer to that: nothing else may be on its way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from dsqlproxy.session.tracker import Tracker
from tests.kit.beside_postgres import Exchange, Monitor, Prepared, Statements, log_in
from tests.kit.programs import Program, smaller_programs, write_program

_AMBIGUOUS = "Sync after CopyData within COPY"


class Seen(NamedTuple):
    """What was seen of one portion of a program."""

    exchange: Exchange
    prepared: Prepared | None
    """What the server said of the statements, where it was asked."""


Recording = list[Seen]


class Witness:
    """Shows a recording to a tracker, and compares what it says with the server."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._statements = Statements()
        self._opened = b""  # client frames since the last that ended a unit
        self._answers = b""  # answers since the last ReadyForQuery

    def disagrees(self, seen: Seen) -> str:
        """Say what the tracker has wrong after a portion; nothing if nothing."""
        exchange, tracker = seen.exchange, self._tracker
        dropped = tracker.note_sent(exchange.sent)
        self._statements.sent(exchange.requests, dropped)
        self._statements.heard(tracker.note_received(exchange.received))
        is_reset = any(ready in exchange.received for ready in b"ZYX")
        before = b"" if is_reset else self._opened
        self._opened = before + after_last(exchange.sent, b"SQKWF")
        self._answers = after_last(self._answers + exchange.received, b"ZYX")
        problem = self._about_rest(exchange) or self._about_statements(seen)
        if seen.prepared is not None:
            self._opened = b""
        return problem

    def _about_rest(self, exchange: Exchange) -> str:
        tracker, state = self._tracker, exchange.state
        if not state:
            ended = tracker.upstream_failed and not tracker.is_quiet
            return "" if ended else "does not know that the session has ended"
        if tracker.desynced:
            return f"does not understand: {tracker.desynced}"
        if tracker.is_quiet:
            return "" if self._may_be_quiet(state) else f"quiet; the server: {state}"
        # The server goes on calling itself idle when it is asked to close or describe
        # something, or for what is not there.
        unseen = set(b"DCO").intersection(self._opened + exchange.sent)
        shows_rest = state == "idle" and not unseen and b"E" not in self._answers
        return "not quiet; the server: idle" if shows_rest else ""

    def _may_be_quiet(self, state: str) -> bool:
        if state == "idle":
            return True
        # Statements that were only prepared: a Sync would end an empty transaction.
        is_prepared = set(b"PU").intersection(self._opened)
        is_only_that = set(b"PUDCOHdcf").issuperset(self._opened)
        is_well = b"E" not in self._answers
        return bool(state == "active" and is_prepared and is_only_that and is_well)

    def _about_statements(self, seen: Seen) -> str:
        if self._tracker.is_quiet and self._statements.has_pending:
            return "quiet, but a Parse or Close is not answered"
        ours = self._statements.prepared()
        if seen.prepared is None or seen.prepared == ours:
            return ""
        return f"has {ours}; the server: {seen.prepared}"


def after_last(symbols: bytes, ends: bytes) -> bytes:
    return symbols[max(symbols.rfind(end) for end in ends) + 1 :]


def disagreement(recording: Recording, tracker: Tracker) -> str:
    """Say where a tracker and the server disagree first; nothing if nowhere."""
    witness = Witness(tracker)
    for number, seen in enumerate(recording):
        try:
            problem = witness.disagrees(seen)
        except (LookupError, ValueError) as error:  # more or fewer than were pending
            problem = f"cannot tell which statement: {error!r}"
        if problem:
            return f"portion {number}: {problem}"
    return ""


def _random(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - a seed is to give the same program again


@dataclass
class Server:
    """The server that programs are tried on."""

    directory: Path
    monitor: Monitor
    adapt: Callable[[Program], Program] = list
    """Changes programs into what the server can stand."""

    def check(self, seed: int) -> Recording:
        """Run a program, and fail where the tracker and the server disagree."""
        program = write_program(_random(seed))
        recording, problem = self.attempt(program, seed)
        if problem:
            pytest.fail(self._explained(program, seed))
        return recording

    def attempt(self, program: Program, seed: int) -> tuple[Recording, str]:
        """Run a program; give what was seen, and what the tracker has wrong in it."""
        try:
            recording = self._record(self.adapt(program), _random(seed))
        except (AssertionError, LookupError, ValueError) as error:
            return [], f"{type(error).__name__}: {error}"
        return recording, disagreement(recording, Tracker())

    def _record(self, program: Program, random: Random) -> Recording:
        """Run a program to its end, or to where nobody can know what is under way."""
        recording: Recording = []
        with log_in(self.directory, self.monitor) as session:
            for portion in program:
                exchange = session.ask(*(word.frame for word in portion))
                if session.tracker.desynced == _AMBIGUOUS:
                    break
                # Not at all of them: the pipeline that asks ends with a Sync.
                asks = session.tracker.is_quiet and random.random() < 0.6
                prepared = session.prepared() if asks and exchange.state else None
                recording.append(Seen(exchange, prepared))
                if not exchange.state:
                    break
        return recording

    def _explained(self, program: Program, seed: int) -> str:
        """Cut a program down as long as anything is wrong with it; say what."""
        shrunk: Program | None = program
        while shrunk:
            program = shrunk
            smaller = smaller_programs(program)
            shrunk = next((one for one in smaller if self.attempt(one, seed)[1]), None)
        portions = enumerate(self.adapt(program))
        shown = "".join(f"\n  {number} {portion}" for number, portion in portions)
        return f"seed {seed}: {self.attempt(program, seed)[1]}{shown}"
