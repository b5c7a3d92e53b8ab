"""How a statement is sent: the calls around it, and its other wording. No I/O."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dsqlproxy.emulator.ledger import (
    CHECK_ROWS,
    NOTE_DDL,
    change_mapping,
    note_dml,
    record_job,
    refuse,
)
from dsqlproxy.emulator.refusals import Refusal
from dsqlproxy.emulator.sql import Statement
from dsqlproxy.emulator.statements import Answer, Kind, Verdict

_SEPARATOR: Final = "; "


@dataclass(frozen=True, slots=True)
class Chances:
    """What the faults have in store for one statement."""

    conflict: bool = False
    refusal: Refusal | None = None
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class Treatment:
    """The calls around a statement, and the statement in place of it, if any."""

    before: tuple[str, ...] = ()
    instead: str = ""
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a simple query, in the order in which they answer.

    A ``hidden`` one is ours. A ``guarded`` one has to wait for the ones of ours that
    follow, the last of which ``releases`` its success; should one of them fail, that
    is its failure.
    """

    verdict: Verdict | None = None
    hidden: bool = False
    guarded: bool = False
    releases: bool = False
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class Wording:
    """A text that PostgreSQL gets, and where its parts stood in the client's text."""

    text: str
    pieces: tuple[tuple[int, int], ...]  # where a piece begins: here, there (or -1)

    def client_position(self, position: int) -> int | None:
        """Translate a position (from 1, as in errors) into the client's text."""
        for (start, origin), (end, _) in pairwise((*self.pieces, (1 << 62, -1))):
            if start < position <= end:
                return None if origin < 0 else position - start + origin
        return None


def treat(verdict: Verdict, chances: Chances) -> Treatment:
    """Decide which calls keep the rules for a statement that is not refused."""
    before: list[str] = []
    after: list[str] = []
    if chances.refusal and verdict.kind is not Kind.OTHER:
        before.append(refuse(chances.refusal))
    if verdict.kind is Kind.DDL:
        before.append(NOTE_DDL)
    if verdict.kind in {Kind.WRITE, Kind.COPY_IN}:
        before.append(note_dml(conflict=chances.conflict))
        after.append(CHECK_ROWS)
    if verdict.answer is Answer.JOB:
        after.append(record_job(chances.job_id, verdict.job_type))
    instead = change_mapping(verdict.mapping) if verdict.mapping else ""
    return Treatment(tuple(before), instead, tuple(after))


class Script:
    """A simple query as it is sent: collects statements, gives text and steps."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._parts: list[str] = []
        self._pieces: list[tuple[int, int]] = []
        self._length = 0
        self.steps: list[Step] = []
        self.is_changed = False

    def add_refused(self, statement: Statement, refusal: Refusal) -> None:
        """Let PostgreSQL raise; it still reads the statement, for its syntax."""
        self._add_ours(refuse(refusal))
        self._keep(statement.start, statement.end)
        self._put(_SEPARATOR)
        self.steps.append(Step())

    def add(
        self, statement: Statement, verdict: Verdict, treatment: Treatment, job_id: str
    ) -> None:
        """Append a statement with the calls around it."""
        for call in treatment.before:
            self._add_ours(call)
        guarded = bool(treatment.after)
        self.steps.append(Step(verdict, guarded=guarded, job_id=job_id))
        if treatment.instead:
            self._put(treatment.instead)
            self.is_changed = True
        else:
            self._keep_edited(statement, verdict)
        self._put(_SEPARATOR)
        for call in treatment.after:
            self._add_ours(call, releases=call is treatment.after[-1])
        if verdict.answer is not Answer.PLAIN:
            self.is_changed = True

    def wording(self) -> Wording:
        """Give the text so far."""
        return Wording("".join(self._parts), tuple(self._pieces))

    def _add_ours(self, call: str, *, releases: bool = False) -> None:
        self._put(call + _SEPARATOR)
        self.steps.append(Step(hidden=True, releases=releases))
        self.is_changed = True

    def _keep_edited(self, statement: Statement, verdict: Verdict) -> None:
        position = statement.start
        for edit in verdict.edits:
            self._keep(position, edit.start)
            self._put(edit.text)
            position = edit.end
            self.is_changed = True
        self._keep(position, statement.end)

    def _keep(self, start: int, end: int) -> None:
        self._pieces.append((self._length, start))
        self._append(self._source[start:end])

    def _put(self, text: str) -> None:
        self._pieces.append((self._length, -1))
        self._append(text)

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)


def reword(source: str, statement: Statement, verdict: Verdict) -> Wording:
    """Give the text of a prepared statement as PostgreSQL gets it."""
    script = Script(source)
    instead = treat(verdict, Chances()).instead
    script.add(statement, verdict, Treatment(instead=instead), "")
    return script.wording()
