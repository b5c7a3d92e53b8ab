"""Memory of the intermediaries, each freshly started."""

import contextlib
import time
from dataclasses import dataclass

from bench.load import Session
from bench.measures import LARGE_ROW, Plan, opened, result_query
from bench.processes import memory_bytes, resident_bytes
from bench.servers import Postgres, Starter, Subject, Workplace

RESULT_BYTES = 200_000
STALL_SECONDS = 2.0

_SETTLE_SECONDS = 0.3
"""How long after the last byte memory is read; idle work has ended by then."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; None where the system does not tell."""

    start: int | None = None
    per_idle_session: float | None = None
    per_used_session: float | None = None
    """After one result of `RESULT_BYTES` in each, all of them still open."""
    stalled: int | None = None
    """Growth of the resident set while a client does not read a large result."""
    peak: int | None = None
    """Highest growth until that client has read everything."""


def measure_memory(
    starter: Starter, place: Workplace, server: Postgres, plan: Plan
) -> Memory:
    """Start the intermediary twice: for many sessions, and for one that stalls."""
    with starter(place, server) as subject:
        start, idle, used = _sessions(subject, plan)
    with starter(place, server) as subject:
        stalled, peak = _stalled_reader(subject, plan)
    count = plan.idle_sessions
    return Memory(
        start=start,
        per_idle_session=_each(start, idle, count),
        per_used_session=_each(start, used, count),
        stalled=stalled,
        peak=peak,
    )


def _each(before: int | None, after: int | None, count: int) -> float | None:
    return None if before is None or after is None else (after - before) / count


def _sessions(
    subject: Subject, plan: Plan
) -> tuple[int | None, int | None, int | None]:
    start = _settled_memory(subject)
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(opened(subject.route))
            for _ in range(plan.idle_sessions)
        ]
        idle = _settled_memory(subject)
        for session in sessions:
            session.timed(result_query(39, RESULT_BYTES))
        return start, idle, _settled_memory(subject)


def _settled_memory(subject: Subject) -> int | None:
    time.sleep(_SETTLE_SECONDS)
    return memory_bytes(subject.pid) if subject.pid else None


def _stalled_reader(subject: Subject, plan: Plan) -> tuple[int | None, int | None]:
    query = result_query(LARGE_ROW, plan.stalled_megabytes * 1_000_000)
    with opened(subject.route) as session:
        _warm(session)
        before = resident_bytes(subject.pid) if subject.pid else None
        session.ask(query)
        time.sleep(STALL_SECONDS)
        stalled = resident_bytes(subject.pid) if subject.pid else None
        session.read_answer()
        peak = resident_bytes(subject.pid, peak=True) if subject.pid else None
    if before is None or stalled is None or peak is None:
        return None, None
    return stalled - before, peak - before


def _warm(session: Session) -> None:
    """Have the buffers of one session made, which are not what is looked for."""
    session.timed(result_query(LARGE_ROW, 1_000_000))
