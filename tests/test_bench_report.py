"""The pure parts of the benchmark: reading pgbench, medians, ratios, tables."""

from datetime import date

import pytest

from bench.load import parse_pgbench
from bench.measures import Plan, Results, result_query
from bench.memory import Memory
from bench.page import failure_list, memory_table, render_page
from bench.processes import BenchError
from bench.report import (
    DIRECT,
    NOTHING,
    PROXY,
    TARGETS,
    Figure,
    Measure,
    Sample,
    Target,
    better_peer,
    middle,
    ratio,
    speed_table,
    table,
    target_table,
)
from bench.swap_page import pause_table, statement_table, throughput_table
from bench.swaps import Pause, StatementMemory, SwapResults, Throughput

SUMMARY = """\
pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 10
query mode: simple
number of clients: 8
number of threads: 1
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 26042
number of failed transactions: 0 (0.000%)
latency average = 0.307 ms
initial connection time = 41.083 ms
tps = 26083.532713 (without initial connection time)
"""

SIMPLE = Measure("simple-1", "pgbench -S, simple, 1 client", Figure.QUERIES)


def runs(*speeds: float | None, cpu: float | None = None) -> list[Sample | None]:
    return [None if speed is None else Sample(speed, cpu=cpu) for speed in speeds]


# -- pgbench -------------------------------------------------------------------------


def test_summary_of_pgbench_is_read() -> None:
    result = parse_pgbench(SUMMARY)
    assert result.tps == pytest.approx(26083.532713)
    assert result.latency_ms == pytest.approx(0.307)
    assert result.transactions == 26042


@pytest.mark.parametrize(
    "line",
    ["tps = ", "latency average", "number of transactions actually"],
)
def test_summary_that_lacks_a_line_is_refused(line: str) -> None:
    text = "\n".join(each for each in SUMMARY.splitlines() if line not in each)
    with pytest.raises(BenchError, match="not pgbench's summary"):
        parse_pgbench(text)


def test_result_query_asks_for_about_the_bytes_wanted() -> None:
    query = result_query(39, 1_000_000)
    assert "repeat('x', 39)" in query
    assert "generate_series(1, 20000)" in query


# -- medians and ratios --------------------------------------------------------------


def test_median_passes_over_what_failed() -> None:
    assert middle([3.0, None, 1.0, 2.0]) == 2.0
    assert middle([None]) is None


def test_ratio_compares_within_a_round_only() -> None:
    # The machine slowed down after the first round; the ratio never changed.
    assert ratio([50.0, 5.0, 5.0], [100.0, 10.0, 10.0]) == pytest.approx(0.5)


def test_ratio_leaves_out_rounds_in_which_either_failed() -> None:
    assert ratio([None, 8.0, 9.0], [1.0, 10.0, None]) == pytest.approx(0.8)
    assert ratio([], [1.0]) is None
    assert ratio([1.0], [0.0]) is None


def test_better_peer_is_the_one_with_the_higher_median() -> None:
    samples = {
        ("simple-1", "PgBouncer"): runs(10, 30, 20),
        ("simple-1", "stunnel"): runs(25, 24, 1),
    }
    assert better_peer(samples, "simple-1") == "stunnel"
    assert better_peer(samples, "simple-8") is None


def test_missing_peer_leaves_the_other() -> None:
    samples = {("simple-1", "PgBouncer"): runs(None), ("simple-1", "stunnel"): runs(1)}
    assert better_peer(samples, "simple-1") == "stunnel"


# -- targets -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reached", "is_cost", "met"),
    [
        pytest.param(0.56, False, True, id="a speed at its bound is met"),
        pytest.param(0.55, False, False, id="a speed below it is not"),
        pytest.param(0.56, True, True, id="a cost at its bound is met"),
        pytest.param(0.57, True, False, id="a cost above it is not"),
    ],
)
def test_target_is_met_on_its_side(reached: float, is_cost: bool, met: bool) -> None:
    target = Target("x", 1, DIRECT, 0.56, is_cost=is_cost)
    assert target.is_met(reached) is met


def test_targets_are_shown_met_not_met_and_not_run() -> None:
    text = target_table(
        {
            ("simple-1", PROXY): runs(60),
            ("simple-1", DIRECT): runs(100),
            ("prepared-1", PROXY): runs(40),
            ("prepared-1", DIRECT): runs(100),
        }
    )
    row = text.splitlines()[2]
    assert "≥ 0.56" in row
    assert "0.60 met" in row
    assert "0.40 **not met**" in row
    assert "not run" in row
    assert len(text.splitlines()) == 2 + len(TARGETS)


def test_cpu_target_compares_cpu_and_not_speed() -> None:
    samples = {
        ("simple-1", PROXY): runs(1, cpu=30.0),
        ("simple-1", "PgBouncer"): runs(1000, cpu=15.0),
    }
    cost = next(target for target in TARGETS if target.is_cost)
    assert cost.reached(samples, "simple-1") == pytest.approx(2.0)


# -- tables --------------------------------------------------------------------------


def test_table_is_aligned_markdown() -> None:
    assert table(("", "tps"), [("a", "1"), ("long", "10,000")]) == (
        "|      |    tps |\n| ---- | -----: |\n| a    |      1 |\n| long | 10,000 |"
    )


def test_speed_table_shows_median_spread_and_ratios() -> None:
    samples: dict[tuple[str, str], list[Sample | None]] = {
        ("simple-1", DIRECT): runs(100, 200),
        ("simple-1", PROXY): [Sample(50, 0.5, 20.04), Sample(120, 0.3, 18.0)],
    }
    lines = speed_table(SIMPLE, samples, (DIRECT, PROXY, "stunnel")).splitlines()
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert cells == [PROXY, "85", "50 … 120", "0.400", "19.0", "0.55", NOTHING]
    assert "not run" in lines[4]


def test_speed_table_has_a_latency_only_where_there_is_one() -> None:
    large = Measure("rows-large", "large rows", Figure.BYTES)
    text = speed_table(large, {("rows-large", PROXY): runs(900, cpu=1.0)}, (PROXY,))
    assert "latency" not in text
    assert "CPU s/GB" in text


def test_memory_of_what_did_not_run_says_so() -> None:
    memory = Memory(
        start=40 * 2**20,
        per_idle_session=38 * 2**10,
        per_used_session=None,
        stalled=0,
        peak=2**19,
    )
    lines = memory_table({PROXY: memory}).splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == [PROXY, "40.0", "38", NOTHING, "0.0", "0.5"]
    assert all("not run" in line for line in lines[3:])


def test_failures_are_listed_with_their_reason() -> None:
    assert failure_list({}) == "Everything was measured."
    assert "- stunnel: it is not installed" in failure_list(
        {"stunnel": "it is not installed"}
    )


def test_page_has_every_section_and_no_placeholder() -> None:
    results = Results()
    results.note(SIMPLE, PROXY, Sample(50))
    page = render_page(
        environment=["a processor", "PostgreSQL 15"],
        date=date(2026, 11, 22),
        plan=Plan.quick(),
        measures=[SIMPLE],
        results=results,
        memory={},
        swaps=SwapResults(),
        latencies=[],
    )
    assert "$" not in page
    assert "2026-11-22: a processor; PostgreSQL 15." in page
    headings = (
        "## Targets",
        "## Speed",
        f"### {SIMPLE.title}",
        "## Swaps",
        "## A source of credentials that hangs",
        "## Memory",
    )
    for heading in headings:
        assert heading in page


# -- swaps ---------------------------------------------------------------------------


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in text.splitlines()[2].strip("|").split("|")]


def test_pause_is_what_a_statement_took_beyond_the_usual() -> None:
    pause = Pause("busy", 60, logged_ms=[120.0], met_ms=[180.0, 190.0], errors=1)
    pause.other_ms = [60.0, 61.0, 59.0]
    row = _cells(pause_table(SwapResults(pauses=[pause])))
    assert row[:5] == ["busy, 60 ms", "1", "120.0", "120.0", "60.0"]
    assert row[5:] == ["+120.0", "+130.0", "+130.0", "1"]


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        pytest.param(
            [(95.0, 100.0), (1.0, 10.0), (99.0, 100.0)], "0.950 met", id="met"
        ),
        pytest.param([(94.0, 100.0)], "0.940 **not met**", id="not met"),
    ],
)
def test_throughput_is_the_median_of_the_ratios_within_pairs(
    pairs: list[tuple[float, float]], verdict: str
) -> None:
    found = SwapResults(throughput=Throughput(pairs, swaps=12))
    assert _cells(throughput_table(found))[2] == verdict


def test_memory_of_a_statement_is_the_growth_by_it() -> None:
    memory = StatementMemory(
        1000, 125, per_bare_session=51_200, per_full_session=76_200
    )
    row = _cells(statement_table(SwapResults(memory=memory)))
    assert row == ["1,000", "50.0", "74.4", "500", "125"]


def test_swaps_that_were_not_measured_say_so() -> None:
    nothing = SwapResults()
    tables = (pause_table, throughput_table, statement_table)
    assert {write(nothing) for write in tables} == {"not run"}
