"""DSQL's SQL rules for one session: what PostgreSQL gets, what the client sees. No I/O.

A rule is refused by making PostgreSQL raise, never by faking its state, so the
transaction status in ReadyForQuery is always PostgreSQL's own. Three means:

* Calls of our own around a statement, in the same transaction (`ledger` says why
  that is enough). In a simple query they become part of its text; in the extended
  protocol they are messages of their own around the client's Execute. Their answers
  are hidden. The success of a statement with a call after it is held back until
  that call has succeeded; if the call fails, its error is the statement's.
* A Parse that cannot succeed in place of one that a cluster would refuse; its error
  then says what the cluster says. In a failed transaction PostgreSQL says 25P02 to
  it, before it looks at names.
* Another wording of a statement: CREATE INDEX without ASYNC, version() of ours.

What was sent and is not answered yet stands in a queue (`outstanding`), so that each
request of the client has the answers that it would have, no more and no less.
Messages that need none of this pass untouched, and so does everything in a query
that PostgreSQL's lexer would refuse.

Known differences from a cluster: statements within routines are not looked at;
pg_settings shows the
version of the PostgreSQL behind; a Parse of a name that exists already makes us
judge the old statement as the new one; pg_prepared_statements shows one of ours;
RESET ALL within a transaction makes it forget what it did.
"""

from base64 import b32encode
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Final

from dsqlproxy.emulator import answers
from dsqlproxy.emulator.calls import call_messages
from dsqlproxy.emulator.faults import SqlFaults
from dsqlproxy.emulator.ledger import BACKEND_PARAMETERS, SCHEMA_CHANGED, SETUP_SQL
from dsqlproxy.emulator.outstanding import Outstanding, Prepared, Request, RequestKind
from dsqlproxy.emulator.parameters import refused_startup_parameter
from dsqlproxy.emulator.script import Chances, Script, Step, reword, treat
from dsqlproxy.emulator.sql import Statement, split
from dsqlproxy.emulator.statements import Answer, Kind, Verdict, judge
from dsqlproxy.pgproto.codes import BackendType, FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import Frame, frame

__all__ = [
    "BACKEND_PARAMETERS",
    "SETUP_SQL",
    "ClusterState",
    "SqlRules",
    "refused_startup_parameter",
]

_HIDDEN: Final = Step(hidden=True)
_RELEASING: Final = Step(hidden=True, releases=True)
_UNKNOWN: Final = Prepared()

_STEPWISE: Final = frozenset({RequestKind.QUERY, RequestKind.EXECUTE})


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What the sessions of one emulator share outside PostgreSQL.

    That is only where ids come from: jobs and IAM mappings are rows in the schema
    ``sys``, so that they come and go with the transactions that made them.
    """

    random: Random = field(default_factory=SystemRandom)

    def mint_job_id(self) -> str:
        """Make an id as those seen on a cluster: 128 bits in base32, lower case."""
        number = self.random.getrandbits(128)
        return b32encode(number.to_bytes(16, "big")).decode().rstrip("=").lower()


class SqlRules:
    """Translates both directions of one session, frame by frame.

    `from_client` gives what PostgreSQL is to get for a frame, `from_backend` what the
    client is to get; each may be nothing, or several frames. The login may pass
    through `from_backend` or around it.
    """

    def __init__(self, *, cluster: ClusterState, faults: SqlFaults) -> None:
        self._faults = faults
        self._outstanding = Outstanding()
        self._prepared: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, Prepared] = {}
        self._held: list[bytes] = []  # a success that still depends on a call
        self._copy: Request | None = None  # an Execute whose data is yet to come
        self._copy_calls: tuple[str, ...] = ()  # what follows that data
        self._cluster = cluster

    # -- from the client ----------------------------------------------------------

    def from_client(self, received: Frame) -> list[bytes]:
        """Give what PostgreSQL is to get for a frame of the client."""
        kind, body = received
        passed = [frame(kind, body)]
        if self._outstanding.is_skipping and kind != FrontendType.SYNC:
            return passed
        match kind:
            case FrontendType.QUERY:
                return self._query(body)
            case FrontendType.PARSE:
                return self._parse(body)
            case FrontendType.EXECUTE:
                return self._execute(body)
            case FrontendType.COPY_DONE | FrontendType.COPY_FAIL if self._copy:
                return [*passed, *self._copy_end()]
        self._note(kind, body)
        return passed

    def _note(self, kind: int, body: bytes) -> None:
        """Note a message that is passed on as it is, if it is answered."""
        match kind:
            case FrontendType.BIND:
                self._bind(body)
            case FrontendType.DESCRIBE:
                self._describe(body)
            case FrontendType.CLOSE:
                self._close(body)
            case FrontendType.SYNC:
                self._sync()
            case FrontendType.FUNCTION_CALL:
                self._outstanding.append(Request(RequestKind.FUNCTION_CALL))
            case _:
                pass

    def _query(self, body: bytes) -> list[bytes]:
        source = _text(body)
        script = Script(source)
        statements = split(source)
        for statement in statements:
            verdict = self._judge(statement)
            if verdict.refusal:
                script.add_refused(statement, verdict.refusal)
                continue
            chances = self._draw(verdict)
            treatment = treat(verdict, chances)
            script.add(statement, verdict, treatment, chances.job_id)
        request = Request(RequestKind.QUERY)
        self._outstanding.append(request)
        terminated = all(statement.is_terminated for statement in statements)
        if not script.is_changed or not terminated:
            return [frame(FrontendType.QUERY, body)]
        wording = script.wording()
        request.steps = deque(script.steps)
        request.prepared = Prepared(wording=wording)
        return [frame(FrontendType.QUERY, _bytes(wording.text))]

    def _parse(self, body: bytes) -> list[bytes]:
        name, _, rest = body.partition(b"\0")
        text, _, types = rest.partition(b"\0")
        source = _text(text)
        statements = split(source)
        verdict = Verdict(Kind.OTHER)
        if len(statements) == 1 and statements[0].is_terminated:
            verdict = self._judge(statements[0])
        prepared = Prepared(verdict)
        if verdict.refusal:
            text = answers.CANNOT_SUCCEED.encode()
        elif verdict.edits or verdict.mapping:
            prepared = Prepared(verdict, reword(source, statements[0], verdict))
        if prepared.wording:
            text = _bytes(prepared.wording.text)[:-1]
        replaced = self._prepared.get(name)
        self._prepared[name] = prepared
        self._outstanding.append(
            Request(
                RequestKind.PARSE,
                prepared=prepared,
                name=name,
                replaced=replaced,
                refusal=verdict.refusal,
            )
        )
        return [frame(FrontendType.PARSE, b"\0".join((name, text, types)))]

    def _bind(self, body: bytes) -> None:
        portal, _, rest = body.partition(b"\0")
        statement = rest.partition(b"\0")[0]
        prepared = self._prepared.get(statement, _UNKNOWN)
        self._portals[portal] = prepared
        self._outstanding.append(Request(RequestKind.BIND, prepared=prepared))

    def _describe(self, body: bytes) -> None:
        known = self._portals if body[:1] == b"P" else self._prepared
        prepared = known.get(body[1:].rstrip(b"\0"), _UNKNOWN)
        self._outstanding.append(Request(RequestKind.DESCRIBE, prepared=prepared))

    def _execute(self, body: bytes) -> list[bytes]:
        prepared = self._portals.get(body.partition(b"\0")[0], _UNKNOWN)
        verdict = prepared.verdict
        chances = self._draw(verdict)
        treatment = treat(verdict, chances)
        guarded = bool(treatment.after)
        step = Step(verdict, guarded=guarded, job_id=chances.job_id)
        sent = self._calls(treatment.before)
        request = Request(RequestKind.EXECUTE, step=step, prepared=prepared)
        self._outstanding.append(request)
        sent.append(frame(FrontendType.EXECUTE, body))
        if verdict.kind is Kind.COPY_IN:
            # PostgreSQL reads data now; a call may follow when that has ended.
            self._copy, self._copy_calls = request, treatment.after
            return sent
        return sent + self._calls(treatment.after, releasing=True)

    def _close(self, body: bytes) -> None:
        name = body[1:].rstrip(b"\0")
        is_statement = body[:1] == b"S"
        closed = self._prepared.get(name) if is_statement else None
        request = Request(RequestKind.CLOSE, name=name, prepared=closed)
        self._outstanding.append(request)

    def _sync(self) -> None:
        if self._copy and self._copy.copying:
            return  # read and ignored within a COPY
        self._outstanding.is_skipping = False
        self._outstanding.append(Request(RequestKind.SYNC))

    def _copy_end(self) -> list[bytes]:
        self._outstanding.append(Request(RequestKind.COPY_END))
        self._copy = None
        return self._calls(self._copy_calls, releasing=True)

    def _calls(self, calls: Iterable[str], *, releasing: bool = False) -> list[bytes]:
        """Send calls of ours as messages that disturb none of the client's names."""
        sent: list[bytes] = []
        for call in calls:
            for kind, message in call_messages(call):
                last = releasing and kind is RequestKind.EXECUTE
                step = _RELEASING if last else _HIDDEN
                self._outstanding.append(Request(kind, hidden=True, step=step))
                sent.append(message)
        return sent

    # -- from PostgreSQL ----------------------------------------------------------

    def from_backend(self, received: Frame) -> list[bytes]:
        """Give what the client is to get for a frame of PostgreSQL."""
        kind, body = received
        if kind == BackendType.PARAMETER_STATUS:
            return [answers.parameter_status(body)]
        front = self._outstanding.front
        if front is None or kind in answers.ASYNCHRONOUS:
            return [frame(kind, body)]
        if kind == BackendType.READY_FOR_QUERY:
            return self._ready_for_query(body)
        if kind == BackendType.ERROR_RESPONSE:
            return self._error(front, body)
        if kind == BackendType.COPY_IN_RESPONSE and front.kind is RequestKind.EXECUTE:
            front.copying = True
            self._outstanding.copy_started()
        if front.kind in _STEPWISE:
            return self._stepwise(front, received)
        return self._last_answer(front, received)

    def _last_answer(self, front: Request, received: Frame) -> list[bytes]:
        kind = received.type
        if kind in answers.LAST_ANSWERS:
            self._outstanding.answered()
        if front.kind is RequestKind.CLOSE and not front.hidden:
            self._closed(front)
        if front.hidden:
            return []
        described = front.prepared and front.prepared.verdict.answer
        if kind == BackendType.NO_DATA and described is Answer.JOB:
            return [answers.JOB_COLUMNS]
        if kind == BackendType.ROW_DESCRIPTION and described is Answer.SHOWN:
            return [answers.shown_column(received.body)]
        return [frame(*received)]

    def _closed(self, request: Request) -> None:
        if request.prepared and self._prepared.get(request.name) is request.prepared:
            del self._prepared[request.name]

    def _stepwise(self, front: Request, received: Frame) -> list[bytes]:
        """Answer within a Query or an Execute."""
        step = front.step or (front.steps[0] if front.steps else None)
        if received.type in answers.ENDS_OF_STATEMENT:
            if front.steps:
                front.steps.popleft()
            elif front.kind is RequestKind.EXECUTE:
                self._outstanding.answered()
            return self._completed(step, received, front)
        if step and step.hidden:
            return []
        shown = step.verdict.shown if step and step.verdict else ""
        if received.type == BackendType.DATA_ROW and shown:
            return [answers.shown_row(shown, received.body)]
        if received.type == BackendType.ROW_DESCRIPTION and shown:
            return [answers.shown_column(received.body)]
        return [frame(*received)]

    def _completed(
        self, step: Step | None, received: Frame, front: Request
    ) -> list[bytes]:
        if step and step.hidden:
            return self._release() if step.releases else []
        if answers.tag_of(received) == "DEALLOCATE ALL":
            self._prepared.clear()
        sent = [frame(*received)]
        if step and step.verdict:
            sent = self._answer(step, step.verdict, received, front)
        if step and step.guarded:
            self._held = sent
            return []
        return sent

    def _release(self) -> list[bytes]:
        released, self._held = self._held, []
        return released

    def _answer(
        self, step: Step, verdict: Verdict, received: Frame, front: Request
    ) -> list[bytes]:
        if verdict.answer is Answer.JOB:
            columns = [answers.JOB_COLUMNS] if front.kind is RequestKind.QUERY else []
            return [*columns, answers.job_row(step.job_id), frame(*received)]
        if verdict.mapping:
            # What tag a cluster gives is not known; PostgreSQL's for its own GRANT.
            tag = "GRANT" if verdict.mapping.is_grant else "REVOKE"
            return [answers.command_complete(tag)]
        return [frame(*received)]

    def _error(self, front: Request, body: bytes) -> list[bytes]:
        self._held.clear()
        wording = front.prepared.wording if front.prepared else None
        sent = answers.error_response(body, refusal=front.refusal, wording=wording)
        if front.kind in {
            RequestKind.QUERY, RequestKind.SYNC, RequestKind.FUNCTION_CALL
        }:  # fmt: skip
            front.steps.clear()  # ReadyForQuery is all that follows
            return [sent]
        skipped = list(self._outstanding.skip_to_sync())
        if self._copy in skipped:
            self._copy = None
        for request in reversed(skipped):
            self._take_back(request)
        return [sent]

    def _take_back(self, request: Request) -> None:
        """Undo what was noted of a Parse that did not happen."""
        if request.kind is not RequestKind.PARSE or request.hidden:
            return
        if self._prepared.get(request.name) is request.prepared:
            if request.replaced is None:
                del self._prepared[request.name]
            else:
                self._prepared[request.name] = request.replaced

    def _ready_for_query(self, body: bytes) -> list[bytes]:
        self._outstanding.ready_for_query_sent()
        if body[0] == TransactionStatus.IDLE and not self._outstanding:
            self._portals.clear()  # none outlives its transaction
        return [frame(BackendType.READY_FOR_QUERY, body)]

    # -- judging ------------------------------------------------------------------

    def _judge(self, statement: Statement) -> Verdict:
        return judge(statement, refuse_set_config=self._faults.refuse_set_config)

    def _draw(self, verdict: Verdict) -> Chances:
        """Draw what the faults have in store for a statement."""
        faults = self._faults
        changed = self._happens(faults.oc001) and verdict.kind is not Kind.OTHER
        writes = verdict.kind in {Kind.WRITE, Kind.COPY_IN}
        return Chances(
            conflict=writes and self._happens(faults.oc000),
            refusal=SCHEMA_CHANGED if changed else None,
            job_id=self._cluster.mint_job_id() if verdict.answer is Answer.JOB else "",
        )

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._faults.random.random() < probability


def _text(body: bytes) -> str:
    return body.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"
