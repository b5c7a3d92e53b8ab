"""From samples to tables: medians, ratios within a round, targets (no I/O)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

DIRECT = "direct TLS"
PROXY = "dsqlproxy"
POOLER = "PgBouncer"
PEERS = (POOLER, "stunnel")
"""What people put in front of a server for its TLS today."""

NOTHING = "-"


class Figure(Enum):
    """What a measure counts: its unit, that of its CPU time, and their formats."""

    QUERIES = ("tps", "{:,.0f}", "CPU µs/transaction", "{:.1f}")
    BYTES = ("MB/s", "{:,.0f}", "CPU s/GB", "{:.2f}")
    CONNECTS = ("connects/s", "{:,.0f}", "CPU µs/connect", "{:,.0f}")

    def __init__(self, unit: str, form: str, cpu_unit: str, cpu_form: str) -> None:
        self.unit = unit
        self.form = form
        self.cpu_unit = cpu_unit
        self.cpu_form = cpu_form


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured of every subject."""

    key: str
    title: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: its speed, more is better; ``cpu`` is of the intermediary alone."""

    value: float
    latency_ms: float | None = None
    cpu: float | None = None


Rounds = Sequence[Sample | None]
"""The runs of one subject, one per round; None where it failed."""

Samples = Mapping[tuple[str, str], Rounds]
"""By key of the measure and name of the subject."""


def values(rounds: Rounds, name: str = "value") -> list[float | None]:
    """Give one figure of each round."""
    return [None if each is None else getattr(each, name) for each in rounds]


def middle(numbers: Iterable[float | None]) -> float | None:
    """Give the median of what is known; None when nothing is."""
    known = [number for number in numbers if number is not None]
    return median(known) if known else None


def ratio(over: Sequence[float | None], under: Sequence[float | None]) -> float | None:
    """Give the median of the ratios within each round; None when there is none."""
    return middle(
        above / below
        for above, below in zip(over, under, strict=False)
        if above is not None and below
    )


def better_peer(samples: Samples, key: str) -> str | None:
    """Name the faster of PgBouncer and stunnel, by median; None without either."""
    medians = {
        peer: speed
        for peer in PEERS
        if (speed := middle(values(samples.get((key, peer), ())))) is not None
    }
    return max(medians, key=lambda peer: medians[peer]) if medians else None


# -- targets -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a ratio of the proxy to something else."""

    title: str
    clients: int
    other: str
    """Whom the proxy is compared with; empty: the better of the peers."""
    bound: float
    is_cost: bool = False
    """Whether CPU time counts, which should be low, and not speed."""

    def reached(self, samples: Samples, key: str) -> float | None:
        """Give the ratio that was measured."""
        other = self.other or better_peer(samples, key)
        if other is None:
            return None
        name = "cpu" if self.is_cost else "value"
        return ratio(
            values(samples.get((key, PROXY), ()), name),
            values(samples.get((key, other), ()), name),
        )

    def is_met(self, reached: float) -> bool:
        """Tell whether a ratio is good enough."""
        return reached <= self.bound if self.is_cost else reached >= self.bound

    @property
    def wanted(self) -> str:
        """The bound as tables show it."""
        return f"{'≤' if self.is_cost else '≥'} {self.bound:.2f}"


TARGETS = (
    Target("speed ÷ direct TLS", 1, DIRECT, 0.56),
    Target("speed ÷ direct TLS", 8, DIRECT, 0.70),
    Target("speed ÷ the better of PgBouncer and stunnel", 1, "", 1.1),
    Target("speed ÷ the better of PgBouncer and stunnel", 8, "", 0.9),
    Target("CPU per transaction ÷ PgBouncer's", 1, POOLER, 1.5, is_cost=True),
    Target("CPU per transaction ÷ PgBouncer's", 8, POOLER, 1.5, is_cost=True),
)
_TARGET_COLUMNS = ("simple", "extended", "prepared", "simple, one core")


def target_table(samples: Samples) -> str:
    """Write every target beside what was measured, met or not."""
    rows = []
    for target in TARGETS:
        keys = [f"{mode}-{target.clients}" for mode in _TARGET_COLUMNS[:3]]
        cells = [_verdict(target, samples, key) for key in keys]
        alone = target.clients == 1
        cells.append(_verdict(target, samples, "simple-1-core") if alone else NOTHING)
        clients = f"{target.clients} client{'s' * (target.clients > 1)}"
        rows.append((f"{target.title}, {clients}", target.wanted, *cells))
    return table(("dsqlproxy", "target", *_TARGET_COLUMNS), rows)


def _verdict(target: Target, samples: Samples, key: str) -> str:
    reached = target.reached(samples, key)
    if reached is None:
        return "not run"
    return f"{reached:.2f} {'met' if target.is_met(reached) else '**not met**'}"


# -- tables ------------------------------------------------------------------------


def speed_table(measure: Measure, samples: Samples, subjects: Sequence[str]) -> str:
    """Write one measure of all subjects."""
    figure = measure.figure
    with_latency = any(
        each is not None and each.latency_ms is not None
        for subject in subjects
        for each in samples.get((measure.key, subject), ())
    )
    head = ["", figure.unit, "min … max"]
    head += ["latency ms"] if with_latency else []
    head += [figure.cpu_unit, "÷ direct", "÷ better peer"]
    direct = values(samples.get((measure.key, DIRECT), ()))
    peer = better_peer(samples, measure.key)
    best = values(samples.get((measure.key, peer or ""), ()))
    rows = []
    for subject in subjects:
        rounds = samples.get((measure.key, subject), ())
        speeds = values(rounds)
        if middle(speeds) is None:
            rows.append((subject, "not run", *[NOTHING] * (len(head) - 2)))
            continue
        row = [subject, number(middle(speeds), figure.form), spread(speeds, figure)]
        if with_latency:
            row.append(number(middle(values(rounds, "latency_ms")), "{:.3f}"))
        row.append(number(middle(values(rounds, "cpu")), figure.cpu_form))
        row.append(number(ratio(speeds, direct), "{:.2f}"))
        row.append(number(ratio(speeds, best), "{:.2f}"))
        rows.append(tuple(row))
    return table(head, rows)


def spread(speeds: Sequence[float | None], figure: Figure) -> str:
    """Write the slowest and the fastest run."""
    known = [speed for speed in speeds if speed is not None]
    return f"{figure.form.format(min(known))} … {figure.form.format(max(known))}"


def number(value: float | None, form: str) -> str:
    """Format a number that may be unknown."""
    return NOTHING if value is None else form.format(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table, its columns aligned for those who read it as text."""
    grid = [tuple(head), *map(tuple, rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*grid, strict=True)]
    lines = [_row(cells, widths) for cells in grid]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], _row(rule, widths), *lines[1:]])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = cells
    padded = [first.ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
    return f"| {' | '.join(padded)} |"
