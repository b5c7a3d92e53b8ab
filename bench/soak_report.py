"""The verdict of a soak, and the table that a person reads (no I/O)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.soak_faults import History, Window
from bench.soak_growth import (
    FILES_ALLOWANCE,
    MEMORY_ALLOWANCE_BYTES,
    MEMORY_FACTOR,
    THREADS_ALLOWANCE,
    Growth,
)
from bench.soak_log import ProxyLog, percentile
from bench.soak_tally import Incident, Tally

SWAPS_A_MINUTE = 100
"""Fewer than this, and the soak has not done what it is for: it wants thousands."""


@dataclass(slots=True)
class Books:
    """What the database says at the end, beside what the writers know."""

    said: Counter[str] = field(default_factory=Counter)
    """Ids that writers made, by what they were told of them."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Ids that are lost, doubled or foreign; accounts that do not balance."""


@dataclass
class Outcome:
    """All that a soak found."""

    minutes: float
    session_limit: float
    seed: int
    tally: Tally
    history: History
    log: ProxyLog
    books: Books
    grown: Sequence[Growth]

    def __post_init__(self) -> None:
        self.unexplained: Counter[str] = Counter()
        self.by_window: list[tuple[Window, Counter[str]]] = [
            (window, Counter()) for window in self.history.windows
        ]
        found = {id(window): errors for window, errors in self.by_window}
        for incident in self.tally.incidents:
            cause = self.history.cause_of(incident)
            if cause is None:
                self.unexplained[f"{self._phase(incident)}: {incident.title}"] += 1
            else:
                found[id(cause)][incident.sqlstate or "told before"] += 1

    def _phase(self, incident: Incident) -> str:
        windows = self.history.windows
        if not windows or incident.at < windows[0].began_at:
            return "without faults"
        last = [window for window in windows if window.began_at <= incident.at][-1]
        if last.contains(incident):
            return f"during {last.fault.name}"
        seconds = incident.at - last.ended_at
        return f"{seconds:.1f} s after the time of {last.fault.name}"

    @property
    def conditions(self) -> dict[str, bool]:
        """What must hold, and whether it does."""
        wanted_swaps = self.minutes * SWAPS_A_MINUTE
        return {
            f"{wanted_swaps:,.0f} swaps or more": (
                self.log.swaps["completed"] >= wanted_swaps
            ),
            "no error without a fault": not self.unexplained,
            "no warning of the proxy without a fault": not self.log.early_warnings,
            "no id lost or doubled, accounts balance": not +self.books.wrong,
            "nothing grew": all(each.is_within_bound for each in self.grown),
            "no traceback in the log": not self.log.tracebacks,
        }

    @property
    def has_passed(self) -> bool:
        """Whether all of them hold."""
        return all(self.conditions.values())


def report(outcome: Outcome) -> str:
    """Write it all down for a reader."""
    title = (
        f"dsqlproxy soak: {outcome.minutes:g} minutes, session limit"
        f" {outcome.session_limit:g} s, faults in the second half"
        f" (seed {outcome.seed})"
    )
    sections = (_work, _swaps, _faults, _errors, _books, _resources, _verdict)
    parts = ["\n".join(section(outcome)) for section in sections]
    return "\n\n".join([title, *parts])


def _head(*words: str) -> str:
    return f"{words[0]:<40}" + "".join(f"{word:>12}" for word in words[1:])


def _count(name: str, count: int) -> str:
    return f"  {name:<38}{count:>12,}"


def _reasons(reasons: Counter[str]) -> Iterator[str]:
    for name, count in reasons.most_common():
        yield f"    {name}: {count:,}"


def _work(outcome: Outcome) -> Iterator[str]:
    yield _head("work", "number", "per second")
    for name, count in sorted(outcome.tally.operations.items()):
        yield _count(name, count) + f"{count / outcome.minutes / 60:>12.1f}"


def _swaps(outcome: Outcome) -> Iterator[str]:
    log = outcome.log
    yield _head("swaps", "number")
    for name in ("completed", "deferred", "failed"):
        yield _count(name, log.swaps[name])
    yield from _reasons(log.reasons)
    pauses = [percentile(log.pauses_ms, percent) for percent in (50, 99, 100)]
    words = [f"{pause:.1f}" for pause in pauses]
    yield _head("pause of a completed swap, ms", "p50", "p99", "longest")
    yield f"{'':<40}" + "".join(f"{word:>12}" for word in words)
    yield _head("upstreams lost in a quiet session", "number")
    for name in ("recovered", "failed"):
        yield _count(name, log.recoveries[name])


def _faults(outcome: Outcome) -> Iterator[str]:
    yield _head("faults", "times", "errors") + "  seen by clients, by SQLSTATE"
    times: Counter[str] = Counter()
    errors: dict[str, Counter[str]] = {}
    for window, seen in outcome.by_window:
        times[window.fault.name] += 1
        errors.setdefault(window.fault.name, Counter()).update(seen)
    for name, count in times.items():
        seen = errors[name]
        states = ", ".join(f"{state} {each:,}" for state, each in seen.most_common())
        yield _count(name, count) + f"{seen.total():>12,}  {states}"
    if not times:
        yield "  none"


def _errors(outcome: Outcome) -> Iterator[str]:
    yield _head("errors that clients saw", "number")
    for name, count in sorted(outcome.tally.expected.items()):
        yield _count(f"provoked: {name}", count)
    explained = len(outcome.tally.incidents) - outcome.unexplained.total()
    yield _count("explained by a fault", explained)
    yield _count("unexplained", outcome.unexplained.total())
    yield from _reasons(outcome.unexplained)
    warned = outcome.log.early_warnings
    yield _count("warnings of the proxy without a fault", warned.total())
    yield from _reasons(warned)
    yield _count("tracebacks and errors in its log", outcome.log.tracebacks.total())
    yield from _reasons(outcome.log.tracebacks)


def _books(outcome: Outcome) -> Iterator[str]:
    yield _head("ledger", "number")
    for name, count in sorted(outcome.books.said.items()):
        yield _count(f"ids {name}", count)
    for name, count in sorted(outcome.books.wrong.items()):
        yield _count(name, count)


def _resources(outcome: Outcome) -> Iterator[str]:
    heads = ("start", "middle", "end", "highest", "idle after", "bound")
    yield f"{'the proxy':<16}" + "".join(f"{head:>12}" for head in heads)
    for each in outcome.grown:
        unit = 1 << 20 if each.name == "memory_bytes" else 1
        values = (
            *(each.start, each.middle, each.end),
            *(each.highest, each.idle, each.bound),
        )
        digits = 1 if unit > 1 else 0
        name = "memory, MiB" if unit > 1 else each.name
        row = "".join(f"{value / unit:>12.{digits}f}" for value in values)
        yield f"  {name:<14}{row}{'' if each.is_within_bound else '  TOO MUCH'}"
    yield "  Start, middle and end: medians of the first, second and last quarter."
    yield (
        f"  Bounds: memory at the end, {MEMORY_FACTOR:g} times the middle and"
        f" {MEMORY_ALLOWANCE_BYTES >> 20} MiB; idle after the load,"
    )
    yield (
        f"  {FILES_ALLOWANCE} files and {THREADS_ALLOWANCE} threads"
        " more than idle before it."
    )


def _verdict(outcome: Outcome) -> Iterator[str]:
    for name, is_so in outcome.conditions.items():
        yield f"  {'ok' if is_so else 'FAILED':<8}{name}"
    yield "passed" if outcome.has_passed else "FAILED"
