"""The verdict of the soak: what counts as growth."""

import pytest

from bench.soak import Growth, Sample, growths, report
from bench.soak_load import Tally

MIB = 1 << 20
BEFORE = Sample(memory_bytes=50 * MIB, files=20, threads=5)


def _verdict(samples: list[Sample], after: Sample = BEFORE) -> dict[str, bool]:
    found = growths(BEFORE, samples, after)
    return {each.name: each.is_within_bound for each in found}


def _run(*memory: int) -> list[Sample]:
    return [Sample(size * MIB, files=100, threads=9) for size in memory]


@pytest.mark.parametrize(
    ("memory", "is_within_bound"),
    [
        pytest.param((60, 70, 70, 70), True, id="level after a beginning"),
        pytest.param((60, 70, 75, 79), True, id="a little more"),
        pytest.param((60, 70, 80, 90), False, id="more and more"),
        pytest.param((60, 70, 300, 70), True, id="a peak that goes again"),
        pytest.param((60,), True, id="one look alone"),
    ],
)
def test_memory_may_grow_at_the_beginning_only(
    memory: tuple[int, ...], is_within_bound: bool
) -> None:
    assert _verdict(_run(*memory))["memory_bytes"] is is_within_bound


def test_files_and_threads_are_judged_when_the_clients_have_left() -> None:
    samples = _run(60, 70, 70, 70)
    assert _verdict(samples) == {"memory_bytes": True, "files": True, "threads": True}
    leaking = Sample(70 * MIB, files=40, threads=12)
    verdict = _verdict(samples, after=leaking)
    assert verdict == {"memory_bytes": True, "files": False, "threads": False}


def test_the_report_shows_each_error_that_nobody_asked_for() -> None:
    tally = Tally()
    tally.note("query", 1200)
    tally.note_expected("57014 cancelled")
    tally.note_unexplained("query", "OperationalError 08006 the connection\nmore")
    grown = Growth("files", 20, 100, 110, 60, bound=28, compared=60)
    lines = report(2.0, tally, [grown]).splitlines()
    assert f"  {'query':<32}{'1,200':>12}{'10.0':>12}" in lines
    assert "  query: OperationalError 08006 the connection: 1" in lines
    assert any(line.endswith("TOO MUCH") for line in lines)
