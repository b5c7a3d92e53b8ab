"""The soak: which errors a fault explains, what counts as growth, and a short run."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime

import psycopg
import pytest

from bench.soak_faults import FAULTS, LOST, Fault, History, Window
from bench.soak_growth import Growth, Sample, growths
from bench.soak_log import ProxyLog, percentile
from bench.soak_programs import write_script
from bench.soak_report import Books, Outcome, report
from bench.soak_tally import Incident, ServerSaid, Tally, WrongAnswer, sqlstate_of

MIB = 1 << 20
BEFORE = Sample(memory_bytes=50 * MIB, files=20, threads=5)


# -- the whole -----------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_a_short_soak_passes() -> None:
    # SWAP.md 90 and 91, on a small scale: thousands of swaps take minutes. Not under
    # coverage, which doubles the work: after a fault all sessions have the same age,
    # and must be swapped within a second.
    words = [sys.executable, "-m", "bench.soak", "--minutes", "0.35", "--seed", "1"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*words, "--session-limit", "7"],
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("passed\n")


# -- growth --------------------------------------------------------------------------


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


# -- errors and faults ---------------------------------------------------------------


async def _nothing(_: object) -> None:
    await asyncio.sleep(0)


CUT = Fault("cut", _nothing, LOST)
WINDOW = Window(CUT, began_at=100.0, ended_at=103.0)


@pytest.mark.parametrize(
    ("incident", "is_explained"),
    [
        pytest.param(Incident(101, "psql", "08006", "lost"), True, id="its state"),
        pytest.param(Incident(101, "psql", "40001", "no"), False, id="another state"),
        pytest.param(Incident(99.9, "psql", "08006", "lost"), False, id="too early"),
        pytest.param(Incident(103.1, "psql", "08006", "lost"), False, id="too late"),
        pytest.param(
            Incident(101, "asyncpg", "", "InterfaceError: connection is closed"),
            True,
            id="a driver that was told before",
        ),
        pytest.param(
            Incident(
                *(101, "asyncpg, pool", ""),
                "InternalClientError: PoolConnectionHolder.release() called on a free"
                " connection holder",
            ),
            True,
            id="a pool whose connection was told before",
        ),
        pytest.param(
            Incident(101, "psql", "", "server closed the connection unexpectedly"),
            False,
            id="a program that was not told",
        ),
        pytest.param(
            Incident(101, "psql", "", "expected 1, found 2"), False, id="wrong values"
        ),
    ],
)
def test_a_fault_explains_errors_of_its_time_and_kind_only(
    incident: Incident, is_explained: bool
) -> None:
    cause = History([WINDOW]).cause_of(incident)
    assert cause is (WINDOW if is_explained else None)


def test_no_fault_explains_a_bug_of_the_proxy() -> None:
    assert not any("XX000" in fault.explains for fault in FAULTS)
    assert not any("08P01" in fault.explains for fault in FAULTS)


@pytest.mark.parametrize(
    ("error", "sqlstate"),
    [
        pytest.param(psycopg.errors.DivisionByZero("x"), "22012", id="a driver's"),
        pytest.param(ServerSaid("08006", "lost"), "08006", id="as it was printed"),
        pytest.param(
            psycopg.OperationalError("FATAL:  the database system is starting up"),
            "57P03",
            id="a connect, by its words",
        ),
        pytest.param(
            psycopg.OperationalError("terminating connection with 57P05 on command"),
            "57P05",
            id="on command",
        ),
        pytest.param(psycopg.OperationalError("odd"), "", id="unknown"),
        pytest.param(WrongAnswer("rate exceeded"), "", id="wrong values"),
    ],
)
def test_sqlstate_is_found_by_the_field_or_by_the_words(
    error: Exception, sqlstate: str
) -> None:
    assert sqlstate_of(error) == sqlstate


def test_each_error_of_a_group_is_kept() -> None:
    tally = Tally()
    errors = [psycopg.OperationalError("waking up cluster"), WrongAnswer("2 for 1")]
    tally.note_error("pool", ExceptionGroup("both", errors))
    assert [one.sqlstate for one in tally.incidents] == ["08006", ""]


# -- the log -------------------------------------------------------------------------

LOG = """\
{"ts": "2026-11-22T10:00:00.000Z", "level": "info", "event": "upstream swapped",\
 "pause_ms": 2.5}
{"ts": "2026-11-22T10:00:01.000Z", "level": "warning", "event": "swap deferred",\
 "outcome": "failed", "reason": "a value differs"}
{"ts": "2026-11-22T10:00:02.000Z", "level": "warning", "event": "upstream lost",\
 "code": "08006"}
{"ts": "2026-11-22T10:00:09.000Z", "level": "warning", "event": "upstream lost",\
 "code": "08006"}
{"ts": "2026-11-22T10:00:09.000Z", "level": "info", "event": "session recovered"}
{"ts": "2026-11-22T10:00:09.000Z", "level": "info", "event": "session closed",\
 "reason": "upstream_lost"}
{"ts": "2026-11-22T10:00:09.000Z", "level": "error", "event": "session failed",\
 "exception": "Traceback:\\n  there\\nAssertionError: because"}
Traceback (most recent call last):
"""


def test_the_log_tells_of_swaps_recoveries_bugs_and_early_warnings() -> None:
    faults = datetime(2026, 11, 22, 10, 0, 5, tzinfo=UTC)
    log = ProxyLog.read(LOG.splitlines(), faults_began_at=faults)
    assert log.swaps == {"completed": 1, "failed": 1}
    assert log.reasons == {"a value differs": 1}
    assert log.pauses_ms == [2.5]
    assert log.recoveries == {"recovered": 1}
    assert log.closed == {"upstream_lost": 1}
    assert log.early_warnings == {"upstream lost 08006": 1}
    assert log.tracebacks == {
        "session failed: AssertionError: because": 1,
        "Traceback (most recent call last):": 1,
    }


@pytest.mark.parametrize(
    ("percent", "value"),
    [
        pytest.param(50, 50, id="median"),
        pytest.param(99, 99, id="all but one"),
        pytest.param(100, 100, id="the longest"),
    ],
)
def test_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile(range(1, 101), percent) == value
    assert percentile([7.0], percent) == 7.0


# -- the table -----------------------------------------------------------------------


def _outcome(*incidents: Incident) -> Outcome:
    tally = Tally(operations=Counter({"query": 1200}), incidents=[*incidents])
    log = ProxyLog(swaps=Counter(completed=5000), pauses_ms=[1.0, 2.0])
    return Outcome(
        minutes=2.0,
        session_limit=5.0,
        seed=7,
        tally=tally,
        history=History([WINDOW]),
        log=log,
        books=Books(Counter(acknowledged=9), Counter({"ids lost": 0})),
        grown=[Growth("files", 20, 100, 110, 120, 22, bound=28, compared=22)],
    )


def test_a_run_passes_where_every_error_has_its_fault() -> None:
    outcome = _outcome(Incident(101, "psql", "08006", "lost"))
    assert outcome.has_passed
    lines = report(outcome).splitlines()
    assert f"  {'query':<38}{'1,200':>12}{'10.0':>12}" in lines
    assert f"  {'cut':<38}{'1':>12}{'1':>12}  08006 1" in lines
    assert lines[-1] == "passed"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        pytest.param(
            lambda outcome: outcome.unexplained.update(["x"]), "error", id="an error"
        ),
        pytest.param(
            lambda outcome: outcome.books.wrong.update(["ids lost"]), "id", id="an id"
        ),
        pytest.param(
            lambda outcome: outcome.log.tracebacks.update(["x"]),
            "traceback",
            id="a traceback",
        ),
        pytest.param(
            lambda outcome: outcome.log.early_warnings.update(["x"]),
            "warning",
            id="a warning",
        ),
        pytest.param(lambda outcome: outcome.log.swaps.clear(), "swaps", id="no swaps"),
        pytest.param(
            lambda outcome: outcome.grown.append(
                Growth("files", 1, 1, 1, 1, 99, bound=28, compared=99)
            ),
            "grew",
            id="growth",
        ),
    ],
)
def test_a_run_fails_by_each_condition_alone(spoil: object, named: str) -> None:
    outcome = _outcome()
    assert callable(spoil)
    spoil(outcome)
    failed = [name for name, is_so in outcome.conditions.items() if not is_so]
    assert len(failed) == 1
    assert named in failed[0]
    assert f"  FAILED  {failed[0]}" in report(outcome).splitlines()


def test_an_unexplained_error_is_shown_with_the_fault_before_it() -> None:
    early = Incident(50, "psql", "08006", "lost")
    during = Incident(101, "psql", "XX000", "internal error")
    late = Incident(110.5, "psql", "08006", "lost")
    text = report(_outcome(early, during, late))
    assert "without faults: psql: 08006 lost: 1" in text
    assert "during cut: psql: XX000 internal error: 1" in text
    assert "7.5 s after the time of cut: psql: 08006 lost: 1" in text


def test_psql_prints_one_line_for_each_that_is_wanted() -> None:
    plain, wanted = write_script(uuid.UUID(int=1), has_bind=False)
    bound, wanted_too = write_script(uuid.UUID(int=1), has_bind=True)
    assert "\\bind" not in plain
    assert "\\bind" in bound
    assert len(wanted_too.splitlines()) > len(wanted.splitlines())
