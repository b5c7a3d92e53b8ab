"""pgbench in a storm of swaps: no transaction fails, and the sums are right (89)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.end_to_end.test_pgbench import MODES, _processed, _sums
from tests.kit.clients import Program
from tests.kit.storm import Weather, storming

CLIENTS = 4
EACH = 10


@pytest.fixture(scope="module")
def storm(postgres: EmbeddedPostgres) -> Iterator[Weather]:
    with storming(postgres) as weather:
        yield weather


@pytest.fixture(scope="module")
def pgbench(storm: Weather) -> Program:
    """A pgbench whose tables were made through the storm."""
    program = Program.find("pgbench", storm.served)
    with storm.blowing(at_least=10):
        done = program.run("-i", "-q", "-I", "dtgvpf")
    assert (done.code, "done in" in done.err) == (0, True), done.err
    assert _sums(storm.served) == (0, 0, 0, 0, 0)
    return program


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("script", ["tpcb-like", "select-only"])
def test_every_transaction_has_an_upstream_of_its_own(
    storm: Weather, pgbench: Program, script: str, mode: str
) -> None:
    *before, deltas, rows = _sums(storm.served)
    words = ("-n", "-b", script, "-M", mode, f"-c{CLIENTS}", "-j2", f"-t{EACH}")
    with storm.blowing(at_least=CLIENTS * (EACH - 1)):
        done = pgbench.run(*words)
    assert _processed(done) == (CLIENTS * EACH, 0)
    *after, total, written = _sums(storm.served)
    moved = total - deltas
    assert [new - old for new, old in zip(after, before, strict=True)] == [moved] * 3
    assert written - rows == (CLIENTS * EACH if script == "tpcb-like" else 0)


@pytest.mark.parametrize("mode", ["extended", "prepared"])
def test_pipelines_are_moved_between_each_other(
    storm: Weather, pgbench: Program, tmp_path: Path, mode: str
) -> None:
    script = tmp_path / "pipeline.sql"
    reads = ["select abalance from pgbench_accounts where aid = :aid;"] * 5
    update = "update pgbench_tellers set tbalance = tbalance where tid = 1;"
    lines = [
        r"\set aid random(1, 100000)",
        r"\startpipeline",
        *("begin;", *reads, update, "end;"),
        r"\endpipeline",
        *reads,
    ]
    script.write_text("\n".join(lines) + "\n")
    with storm.blowing(at_least=5 * 10):
        done = pgbench.run("-n", "-f", script, "-M", mode, "-c2", "-t5")
    assert _processed(done) == (10, 0)


def test_sessions_of_one_transaction_end_well(storm: Weather, pgbench: Program) -> None:
    with storm.blowing(at_least=10):
        done = pgbench.run("-n", "-C", "-S", "-c2", "-t10")
    assert _processed(done) == (20, 0)
