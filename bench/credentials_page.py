"""The section on credentials of ``docs/performance.md`` (no I/O)."""

from collections.abc import Sequence

from bench.credentials import PHASES, SourceLatency
from bench.report import table

TARGET_MS = 20.0

_NOT_RUN = "not run"


def latency_table(found: Sequence[SourceLatency]) -> str:
    """Write how late the loop was, source by source and phase by phase."""
    head = ["source, phase", "p50", "p99", "longest", "p99 ÷ healthy"]
    head += ["idle loop p99", f"target: p99 ≤ {TARGET_MS:g}"]
    rows = [_row(source, phase) for source in found if source.runs for phase in PHASES]
    return table(head, rows) if rows else _NOT_RUN


def _row(source: SourceLatency, phase: str) -> tuple[str, ...]:
    p99 = source.p99(phase)
    verdict = "met" if p99 <= TARGET_MS else "**not met**"
    return (
        f"{source.source}, {phase}",
        f"{source.p50(phase):.1f}",
        f"{p99:.1f}",
        f"{source.longest(phase):.1f}",
        f"{source.ratio(phase):.1f}",
        f"{source.idle_p99(phase):.1f}",
        verdict,
    )


def error_count(found: Sequence[SourceLatency]) -> int:
    """Count what clients met in all runs; it should be nothing."""
    return sum(source.errors for source in found)
