"""What is measured, and in which order.

Timings on a shared machine drift by tens of percent within minutes. So one short run
of everybody follows another, round after round, and only what was measured in the
same round is compared.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench.load import Route, Session, run_pgbench
from bench.processes import BenchError, cpu_seconds, on_one_core
from bench.programs import Programs
from bench.report import Figure, Measure, Sample
from bench.servers import Subject

MODES = ("simple", "extended", "prepared")
CLIENTS = (1, 8)

SMALL_ROW = 39  # with its 11 bytes of framing a DataRow of 50 bytes
LARGE_ROW = 8192


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Many short rounds: where the scheduler puts the processes of a run decides more
    than how long it is.
    """

    rounds: int = 9
    seconds: int = 1
    megabytes: int = 100
    idle_sessions: int = 200
    stalled_megabytes: int = 1000
    swap_sessions: int = 20
    """Of each kind, at each distance, for so long; each is swapped every 4.3 s."""
    swap_seconds: float = 30.0
    swap_pairs: int = 7
    swap_run_seconds: int = 12
    statement_sessions: int = 1000
    latency_rounds: int = 3
    latency_sessions: int = 100
    latency_held: int = 200
    latency_seconds: float = 4.0
    """Of each phase, of which a run with one source has four."""

    @classmethod
    def quick(cls) -> "Plan":
        """Give a plan that shows whether everything works, and little more."""
        return cls(
            rounds=2,
            seconds=1,
            megabytes=30,
            stalled_megabytes=200,
            swap_sessions=4,
            swap_seconds=9.0,
            swap_pairs=1,
            swap_run_seconds=6,
            statement_sessions=100,
            latency_rounds=1,
            latency_sessions=20,
            latency_held=40,
            latency_seconds=1.0,
        )


Run = Callable[[Subject], Sample]
"""Measures one subject once; `OSError` or `BenchError` when it does not work."""


@dataclass(slots=True)
class Results:
    """Samples by measure and subject, one per round; None where a run failed."""

    samples: dict[tuple[str, str], list[Sample | None]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why something was not measured, by what it was."""

    def note(self, measure: Measure, subject: str, sample: Sample | None) -> None:
        """Add the sample of the next round."""
        self.samples.setdefault((measure.key, subject), []).append(sample)


def result_query(row_bytes: int, total_bytes: int) -> str:
    """Write a query whose answer has about so many bytes, made as it is sent."""
    rows = max(1, total_bytes // (row_bytes + 11))
    return (
        f"select payload from (select repeat('x', {row_bytes}) as payload,"  # noqa: S608
        f" generate_series(1, {rows})) as rows"
    )


def measures(
    plan: Plan, programs: Programs, pids: Sequence[int]
) -> Iterator[tuple[Measure, Run]]:
    """Give every measure of speed with the function that takes it."""
    for clients in CLIENTS:
        for mode in MODES:
            yield _pgbench(plan, programs, mode, clients)
    yield _one_core(plan, programs, pids)
    for key, row_bytes in (("rows-small", SMALL_ROW), ("rows-large", LARGE_ROW)):
        yield _large_result(plan, key, row_bytes)
    yield _connects(plan, programs)


def _pgbench(
    plan: Plan, programs: Programs, mode: str, clients: int
) -> tuple[Measure, Run]:
    word = "client" if clients == 1 else "clients"
    measure = Measure(
        f"{mode}-{clients}", f"pgbench -S, {mode}, {clients} {word}", Figure.QUERIES
    )

    def run(subject: Subject) -> Sample:
        with _cpu_of(subject) as spent:
            result = run_pgbench(
                programs.pgbench,
                subject.route,
                clients=clients,
                seconds=plan.seconds,
                options=(f"--protocol={mode}",),
            )
        return Sample(
            result.tps,
            latency_ms=result.latency_ms,
            cpu=spent.per(result.transactions / 1e6),
        )

    return measure, run


def _one_core(
    plan: Plan, programs: Programs, pids: Sequence[int]
) -> tuple[Measure, Run]:
    title = "pgbench -S, simple, 1 client, everything on one core"
    measure = Measure("simple-1-core", title, Figure.QUERIES)
    _, unpinned = _pgbench(plan, programs, "simple", 1)

    def run(subject: Subject) -> Sample:
        with on_one_core(pids):
            return unpinned(subject)

    return measure, run


def _large_result(plan: Plan, key: str, row_bytes: int) -> tuple[Measure, Run]:
    size = plan.megabytes * 1_000_000
    title = f"one result of {plan.megabytes} MB, rows of {row_bytes + 11:,} bytes"
    query = result_query(row_bytes, size)

    def run(subject: Subject) -> Sample:
        with opened(subject.route) as session, _cpu_of(subject) as spent:
            received, seconds = session.timed(query)
        return Sample(received / seconds / 1e6, cpu=spent.per(received / 1e9))

    return Measure(key, title, Figure.BYTES), run


def _connects(plan: Plan, programs: Programs) -> tuple[Measure, Run]:
    title = "connects per second, 8 clients (pgbench -S -C)"
    measure = Measure("connects", title, Figure.CONNECTS)

    def run(subject: Subject) -> Sample:
        with _cpu_of(subject) as spent:
            result = run_pgbench(
                programs.pgbench,
                subject.route,
                clients=8,
                seconds=plan.seconds,
                options=("--connect",),
            )
        return Sample(
            result.tps,
            latency_ms=result.latency_ms,
            cpu=spent.per(result.transactions / 1e6),
        )

    return measure, run


@contextlib.contextmanager
def opened(route: Route) -> Iterator[Session]:
    """Open a session for the length of the block."""
    session = Session.open(route)
    try:
        yield session
    finally:
        session.close()


@dataclass(slots=True)
class _Spent:
    seconds: float | None = None

    def per(self, units: float) -> float | None:
        """Give the CPU seconds per unit of work; per million they are microseconds."""
        return self.seconds / units if self.seconds is not None and units else None


@contextlib.contextmanager
def _cpu_of(subject: Subject) -> Iterator[_Spent]:
    spent = _Spent()
    before = cpu_seconds(subject.pid) if subject.pid else None
    yield spent
    after = cpu_seconds(subject.pid) if subject.pid else None
    if before is not None and after is not None:
        spent.seconds = after - before


def run_round(
    planned: Sequence[tuple[Measure, Run]],
    subjects: Sequence[Subject],
    results: Results,
    *,
    first: int,
) -> None:
    """Measure everything once; ``first`` says who begins, another each round."""
    turn = first % len(subjects)
    order = [*subjects[turn:], *subjects[:turn]]
    for measure, run in planned:
        for subject in order:
            try:
                sample = run(subject)
            except (OSError, BenchError) as error:
                results.failures[f"{subject.name}, {measure.title}"] = str(error)
                sample = None
            results.note(measure, subject.name, sample)
