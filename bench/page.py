"""The page ``docs/performance.md``: a written frame around the tables of one run."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from string import Template

from bench.credentials import SourceLatency
from bench.credentials_page import TARGET_MS, error_count, latency_table
from bench.measures import Plan, Results
from bench.memory import Memory
from bench.report import (
    DIRECT,
    NOTHING,
    Measure,
    number,
    speed_table,
    table,
    target_table,
)
from bench.servers import INTERMEDIARIES
from bench.swap_page import pause_table, statement_table, throughput_table
from bench.swaps import SESSION_LIMIT, STATEMENTS, SwapResults

TEMPLATE = Path(__file__).with_name("performance.md.template")


def render_page(
    *,
    environment: Sequence[str],
    date: date,
    plan: Plan,
    measures: Sequence[Measure],
    results: Results,
    memory: Mapping[str, Memory],
    swaps: SwapResults,
    latencies: Sequence[SourceLatency],
) -> str:
    """Fill the template."""
    subjects = (DIRECT, *INTERMEDIARIES)
    speed = [
        f"### {measure.title}\n\n{speed_table(measure, results.samples, subjects)}"
        for measure in measures
    ]
    return Template(TEMPLATE.read_text()).substitute(
        date=date.isoformat(),
        environment="; ".join(environment),
        rounds=plan.rounds,
        seconds=plan.seconds,
        targets=target_table(results.samples),
        speed="\n\n".join(speed),
        memory=memory_table(memory),
        idle_sessions=plan.idle_sessions,
        stalled_megabytes=f"{plan.stalled_megabytes:,}",
        swap_limit=f"{SESSION_LIMIT:g}",
        swap_sessions=plan.swap_sessions,
        swap_seconds=f"{plan.swap_seconds:g}",
        swap_pauses=pause_table(swaps),
        swap_run_seconds=plan.swap_run_seconds,
        swap_throughput=throughput_table(swaps),
        statements=STATEMENTS,
        statement_memory=statement_table(swaps),
        latency_sessions=plan.latency_sessions,
        latency_held=plan.latency_held,
        latency_seconds=f"{plan.latency_seconds:g}",
        latency_rounds=plan.latency_rounds,
        latency_target=f"{TARGET_MS:g}",
        latency=latency_table(latencies),
        latency_errors=error_count(latencies),
        failures=failure_list(results.failures),
    )


def memory_table(memory: Mapping[str, Memory]) -> str:
    """Write the memory of every intermediary that was measured."""
    rows = []
    for name in INTERMEDIARIES:
        if "emulator" in name:
            continue
        found = memory.get(name)
        if found is None:
            rows.append((name, "not run", *[NOTHING] * 4))
            continue
        rows.append(
            (
                name,
                _mebibytes(found.start),
                _kibibytes(found.per_idle_session),
                _kibibytes(found.per_used_session),
                _mebibytes(found.stalled),
                _mebibytes(found.peak),
            )
        )
    head = ["", "at start, MiB", "per idle session, KiB"]
    head += ["per session after 200 kB, KiB", "stalled reader, MiB", "peak, MiB"]
    return table(head, rows)


def failure_list(failures: Mapping[str, str]) -> str:
    """Say what was not measured, and why."""
    if not failures:
        return "Everything was measured."
    items = "\n".join(f"- {what}: {why}" for what, why in failures.items())
    return f"Not measured:\n\n{items}"


def _mebibytes(size: float | None) -> str:
    return number(None if size is None else size / 2**20, "{:.1f}")


def _kibibytes(size: float | None) -> str:
    return number(None if size is None else size / 2**10, "{:.0f}")
