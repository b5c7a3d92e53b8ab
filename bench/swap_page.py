"""The section on swaps of ``docs/performance.md`` (no I/O)."""

from statistics import median

from bench.report import table
from bench.soak_log import percentile
from bench.swaps import CLIENTS, STATEMENTS, Pause, SwapResults

TARGET_RATIO = 0.95

_NOT_RUN = "not run"


def pause_table(found: SwapResults) -> str:
    """Write the pauses, by the log and by the client."""
    head = ["session, round trip added", "swaps", "log p50", "log p99"]
    head += ["usual", "met p50", "met p99", "met longest", "errors"]
    rows = [_pause_row(pause) for pause in found.pauses]
    return table(head, rows) if rows else _NOT_RUN


def _pause_row(pause: Pause) -> tuple[str, ...]:
    logged = [percentile(pause.logged_ms, percent) for percent in (50, 99)]
    noticed = [pause.noticed_ms(percent) for percent in (50, 99, 100)]
    return (
        f"{pause.kind}, {pause.round_trip_ms} ms",
        f"{len(pause.logged_ms):,}",
        *(f"{value:.1f}" for value in (*logged, pause.usual_ms)),
        *(f"{value:+.1f}" for value in noticed),
        f"{pause.errors}",
    )


def throughput_table(found: SwapResults) -> str:
    """Write the throughput with a session limit beside that without."""
    result = found.throughput
    if result is None or not result.pairs:
        return _NOT_RUN
    ratios = sorted(a / b for a, b in result.pairs)
    ratio = result.ratio or 0.0
    verdict = "met" if ratio >= TARGET_RATIO else "**not met**"
    limited, unlimited = zip(*result.pairs, strict=True)
    head = ["", "target", "measured", "min … max", "tps with", "tps without"]
    head += ["pairs", "swaps", "errors"]
    row = (
        f"tps with a limit ÷ without, {CLIENTS} clients",
        f"≥ {TARGET_RATIO:.2f}",
        f"{ratio:.3f} {verdict}",
        f"{ratios[0]:.3f} … {ratios[-1]:.3f}",
        f"{median(limited):,.0f}",
        f"{median(unlimited):,.0f}",
        f"{len(result.pairs)}",
        f"{result.swaps:,}",
        "0",
    )
    return table(head, [row])


def statement_table(found: SwapResults) -> str:
    """Write what sessions take with prepared statements and without."""
    result = found.memory
    if result is None:
        return _NOT_RUN
    bare, full = result.per_bare_session, result.per_full_session
    head = ["sessions", "without statements, KiB each"]
    head += [f"with {STATEMENTS} statements, KiB each", "bytes per statement"]
    head.append("of which text")
    row = (
        f"{result.sessions:,}",
        f"{bare / 1024:.1f}",
        f"{full / 1024:.1f}",
        f"{(full - bare) / STATEMENTS:,.0f}",
        f"{result.statement_bytes}",
    )
    return table(head, [row])
