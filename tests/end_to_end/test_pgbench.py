"""pgbench through the proxy: its own scripts in its three ways of asking."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import ORIGINS, Ended, Origin, Program, Served, serve

MODES = ("simple", "extended", "prepared")
SCRIPTS = ("tpcb-like", "simple-update", "select-only")
SUMS = (
    "select (select sum(abalance) from pgbench_accounts),"
    " (select sum(tbalance) from pgbench_tellers),"
    " (select sum(bbalance) from pgbench_branches),"
    " (select coalesce(sum(delta), 0) from pgbench_history),"
    " (select count(*) from pgbench_history)"
)


@pytest.fixture(scope="module")
def served(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with serve(postgres) as served:
        yield served


@pytest.fixture(scope="module", params=ORIGINS)
def pgbench(request: pytest.FixtureRequest, served: Served) -> Program:
    """A pgbench whose tables were made through the proxy."""
    origin: Origin = request.param
    program = Program.find("pgbench", served, origin)
    # COPY of 100,000 rows, TRUNCATE, VACUUM, primary keys, foreign keys.
    done = program.run("-i", "-q", "-I", "dtgvpf")
    assert (done.code, "done in" in done.err) == (0, True), done.err
    assert _sums(served) == (0, 0, 0, 0, 0)
    return program


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("mode", MODES)
def test_no_transaction_fails_and_the_sums_are_right(
    served: Served, pgbench: Program, script: str, mode: str
) -> None:
    accounts, tellers, branches, deltas, rows = _sums(served)
    done = pgbench.run("-n", "-b", script, "-M", mode, "-c4", "-j2", "-t50")
    assert _processed(done) == (200, 0)
    after = _sums(served)
    writes = 0 if script == "select-only" else 200
    assert after[4] - rows == writes
    moved = after[3] - deltas
    assert after[0] - accounts == moved
    expected = moved if script == "tpcb-like" else 0
    assert (after[1] - tellers, after[2] - branches) == (expected, expected)


def test_tables_are_filled_by_the_server_too(served: Served, pgbench: Program) -> None:
    done = pgbench.run("-i", "-q", "-I", "G")
    assert (done.code, "done in" in done.err) == (0, True), done.err
    assert _sums(served) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("mode", ["extended", "prepared"])
def test_a_script_of_pipelines(pgbench: Program, tmp_path: Path, mode: str) -> None:
    script = tmp_path / "pipeline.sql"
    lines = [
        r"\set aid random(1, 100000)",
        r"\startpipeline",
        "begin;",
        *["select abalance from pgbench_accounts where aid = :aid;"] * 10,
        "end;",
        r"\endpipeline",
    ]
    script.write_text("\n".join(lines) + "\n")
    done = pgbench.run("-n", "-f", script, "-M", mode, "-c4", "-j2", "-t50")
    assert _processed(done) == (200, 0)


def test_every_transaction_may_have_a_session_of_its_own(pgbench: Program) -> None:
    done = pgbench.run("-n", "-C", "-S", "-c4", "-j2", "-t10")
    assert _processed(done) == (40, 0)


@pytest.mark.parametrize("script", ["simple-update", "select-only"])
@pytest.mark.parametrize("mode", MODES)
def test_the_rules_let_short_transactions_through(
    pgbench: Program, with_rules: Served, script: str, mode: str
) -> None:
    *_, before = _sums(with_rules)
    done = pgbench.through(with_rules).run(
        "-n", "-b", script, "-M", mode, "-c2", "-t20"
    )
    assert _processed(done) == (40, 0)
    *_, after = _sums(with_rules)
    assert after - before == (0 if script == "select-only" else 40)


@pytest.fixture(scope="module")
def with_rules(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with serve(postgres, has_rules=True, is_empty=False) as served:
        yield served


def _processed(done: Ended) -> tuple[int, int]:
    """Give how many transactions were processed, and how many failed."""
    assert done.code == 0, done.err
    counts = re.findall(r"^number of (.+?): (\d+)", done.out, re.MULTILINE)
    said = {what: int(count) for what, count in counts}
    return said["transactions actually processed"], said["failed transactions"]


def _sums(served: Served) -> tuple[int, int, int, int, int]:
    with psycopg.connect(served.direct_dsn) as direct:
        row = direct.execute(SUMS).fetchone()
    assert row is not None
    return row
