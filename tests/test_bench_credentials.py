"""How late the loop is: the ticker, the table, and a short run of the measure."""

import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.credentials import (
    PHASES,
    Late,
    LatencyRun,
    Scale,
    SourceLatency,
    Where,
    measure_source,
)
from bench.credentials_page import error_count, latency_table
from bench.emulated import emulated_cluster
from bench.processes import BenchError
from bench.ticking import INTERVAL_SECONDS, Ticker, Ticks


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# -- the ticker ----------------------------------------------------------------------


def test_who_comes_while_the_loop_is_busy_waits_for_its_end(tmp_path: Path) -> None:
    clock = Clock()
    ticker = Ticker(clock)
    ticker.begin()
    clock.now += 0.0105
    ticker.note()
    assert len(ticker.late) == 11  # at 0 ms, 1 ms … 10 ms
    assert ticker.late[0] == pytest.approx(0.0105)
    assert ticker.late[-1] == pytest.approx(0.0005)
    clock.now += 0.0002
    ticker.note()
    assert len(ticker.late) == 11  # nothing was due meanwhile

    ticker.write(tmp_path / "ticks")
    late = Ticks(tmp_path / "ticks").late_between(100.0 + 4.5 * INTERVAL_SECONDS, 101)
    assert late == pytest.approx([0.0055, 0.0045, 0.0035, 0.0025, 0.0015, 0.0005])


def test_percentiles_are_in_milliseconds() -> None:
    late = Late.of([number / 1000 for number in range(1, 101)])
    assert late == Late(p50=50.0, p99=99.0, longest=100.0)


def test_a_loop_that_never_ran_was_not_on_time() -> None:
    with pytest.raises(BenchError, match="did not tick"):
        Late.of([])


# -- the table -----------------------------------------------------------------------


def _run(**p99: float) -> LatencyRun:
    late = {phase: Late(0.5, p99.get(phase, 2.0), 30.0) for phase in PHASES}
    idle = {phase: Late(0.5, 1.5, 9.0) for phase in PHASES}
    return LatencyRun(late, idle, errors=1)


def _cells(text: str, row: int) -> list[str]:
    return [cell.strip() for cell in text.splitlines()[2 + row].strip("|").split("|")]


def test_table_has_a_row_for_each_phase_with_medians_and_verdict() -> None:
    source = SourceLatency(
        "STS hangs", [_run(hanging=3.0), _run(hanging=20.0), _run(hanging=50.0)]
    )
    text = latency_table([source])
    assert len(text.splitlines()) == 2 + len(PHASES)
    hanging = PHASES.index("hanging")
    assert _cells(text, hanging) == [
        *("STS hangs, hanging", "0.5", "20.0", "30.0", "10.0", "1.5", "met")
    ]
    assert error_count([source]) == 3


def test_a_target_that_is_missed_is_named() -> None:
    text = latency_table([SourceLatency("STS hangs", [_run(released=20.1)])])
    assert _cells(text, PHASES.index("released"))[-1] == "**not met**"


@pytest.mark.parametrize("found", [[], [SourceLatency("STS hangs")]])
def test_what_was_not_measured_says_so(found: list[SourceLatency]) -> None:
    assert latency_table(found) == "not run"


# -- the whole -----------------------------------------------------------------------


@pytest.fixture
def new_directory(tmp_path: Path) -> Callable[[str], Path]:
    numbers = itertools.count()

    def make(name: str) -> Path:
        directory = tmp_path / f"{next(numbers)}-{name}"
        directory.mkdir()
        return directory

    return make


@pytest.mark.timeout(60)
def test_a_short_run_has_a_figure_for_each_phase(
    new_directory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Under coverage the proxy would be late by its own measure.
    for name in [each for each in os.environ if each.startswith("COVERAGE")]:
        monkeypatch.delenv(name)
    scale = Scale(
        sessions=3, arrivals_per_second=10, held=6, seconds=0.3, brief_seconds=3.0
    )
    with emulated_cluster(new_directory("emulator")) as cluster:
        where = Where(cluster, "admin", "postgres", new_directory)
        found = measure_source("AWS SSO refuses at once", where, scale)
    assert found.errors == 0
    for late in (found.proxy, found.idle):
        assert tuple(late) == PHASES
        for figures in late.values():
            assert 0 <= figures.p50 <= figures.p99 <= figures.longest
            assert math.isfinite(figures.longest)
