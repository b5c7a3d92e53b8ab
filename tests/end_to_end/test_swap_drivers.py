"""Programs of drivers in a storm of swaps, beside the same ones around the proxy.

Each statement outside a transaction, and each transaction, runs on another upstream
(`storm.py`). What the program sees must be equal, and so must be every frame that the
driver got. Numbers in brackets are those of the catalogue of tests (SWAP.md, 5).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.end_to_end.driver_programs import (
    CREATED,
    asyncpg_idle_statements,
    asyncpg_pool,
    pg8000_life,
    psycopg2_encodings,
    psycopg2_life,
    psycopg_copies,
    psycopg_cursors,
    psycopg_life,
    psycopg_pipelines,
    psycopg_statements_kept,
)
from tests.end_to_end.test_differential import (
    Seen,
    asyncpg_statements,
    pg8000_statements,
    psycopg2_statements,
    psycopg_copy,
    psycopg_errors,
    psycopg_pipeline,
    psycopg_settings,
    psycopg_statements,
)
from tests.end_to_end.test_node import modules
from tests.kit.clients import Program, Served, serve
from tests.kit.recording import Way, recorded
from tests.kit.storm import Weather, storming
from tests.kit.storm_runner import Where

__all__ = ["modules"]  # a fixture

PROGRAMS = (
    psycopg_life,
    psycopg_cursors,
    psycopg_statements_kept,
    psycopg_copies,
    psycopg_statements,
    psycopg_errors,
    psycopg_settings,
    psycopg_pipeline,
    psycopg_copy,
    psycopg2_encodings,
    psycopg2_life,
    psycopg2_statements,
    asyncpg_idle_statements,
    asyncpg_pool,
    asyncpg_statements,
    pg8000_life,
    pg8000_statements,
)


WITH_RULES = (
    psycopg_statements_kept,
    psycopg_copies,
    psycopg_errors,
    psycopg_settings,
    psycopg_pipeline,
    psycopg2_statements,
    asyncpg_idle_statements,
    pg8000_life,
    pg8000_statements,
)
"""Those that go on after what Aurora DSQL refuses."""

NODE = """
const { Client } = require('pg');
const Cursor = require('pg-cursor');

async function main() {
  const seen = [];
  const note = (what) => seen.push(what);
  const client = new Client();
  client.on('notice', (notice) => note([notice.code, notice.message]));
  await client.connect();
  const twice = { name: 'twice', text: "select $1::text, date '01/02/2020'::text" };
  note((await client.query('select 1 as a; select 2 as b')).map((r) => r.rows));
  for (const style of ['MDY', 'DMY', 'SQL, DMY']) {
    await client.query(`set datestyle to '${style}'`);
    note((await client.query({ ...twice, values: [style] })).rows);
    note((await client.query('select $1::int * 2 as x', [21])).rows);
  }
  for (const text of ['select 1 / 0', 'select * from nowhere', 'selec 1']) {
    try { await client.query(text); }
    catch (error) { note([error.code, error.message, error.position]); }
    try { await client.query(text, []); }
    catch (error) { note([error.code, error.message, error.position]); }
  }
  await client.query('begin');
  await client.query("insert into books values (3, 'Dune')");
  await client.query("set local timezone to 'Asia/Tokyo'");
  note((await client.query('show timezone')).rows);
  await client.query('commit');
  note((await client.query('show timezone')).rows);
  const numbers = 'select n from generate_series(1, 1000) as n';
  for (const size of [1, 7, 400]) {
    const cursor = client.query(new Cursor(numbers));
    note((await cursor.read(size)).length);
    note((await cursor.read(size)).map((row) => row.n));
    await cursor.close();
    note((await client.query({ ...twice, values: ['again'] })).rows);
  }
  note((await client.query('table books order by id')).rows);
  await client.end();
  console.log(JSON.stringify(seen));
}
main().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture(scope="module")
def storm(postgres: EmbeddedPostgres) -> Iterator[Weather]:
    with storming(postgres) as weather:
        yield weather


@pytest.fixture(scope="module")
def calm_with_rules(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with serve(postgres, has_rules=True, is_empty=False, client_tls="off") as served:
        yield served


@pytest.fixture(scope="module")
def storm_with_rules(postgres: EmbeddedPostgres) -> Iterator[Weather]:
    with storming(postgres, has_rules=True, is_empty=False) as weather:
        yield weather


def books_anew(served: Served) -> None:
    with psycopg.connect(served.direct_dsn, autocommit=True) as direct:
        for statement in CREATED:
            direct.execute(statement.encode())


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_gets_the_same_frames_in_a_storm(
    storm: Weather, program: Callable[[str], Seen]
) -> None:
    with storm.blowing():
        sees_the_same(storm.served, program)


def test_pipelines_that_change_settings_are_moved_later(storm: Weather) -> None:
    # What was parsed beside a SET, and under which settings, is not known.
    reason = "parsed under settings that changed in the same request"
    with storm.blowing(at_least=10, but_for=reason):
        sees_the_same(storm.served, psycopg_pipelines)


@pytest.mark.parametrize("program", WITH_RULES)
def test_with_the_rules_a_program_gets_the_same_frames_in_a_storm(
    calm_with_rules: Served,
    storm_with_rules: Weather,
    program: Callable[[str], Seen],
) -> None:
    calm = calm_with_rules
    with storm_with_rules.blowing():
        sees_the_same(storm_with_rules.served, program, (calm.host, calm.port))


def sees_the_same(
    served: Served, program: Callable[[str], Seen], where: Where | None = None
) -> None:
    """Run a program around the proxy (or elsewhere), and through it."""
    books_anew(served)
    with recorded(where or around(served)) as direct:
        expected = program(direct.dsn)
    books_anew(served)
    with recorded((served.host, served.port)) as moved:
        found = program(moved.dsn)
    same_frames(direct, moved)
    assert found == expected


def around(served: Served) -> Path:
    return served.postgres.directory / ".s.PGSQL.5432"


def same_frames(direct: Way, moved: Way) -> None:
    expected, found = direct.frames, moved.frames
    for number, (one, other) in enumerate(zip(expected, found, strict=False)):
        context = found[max(0, number - 3) : number]
        assert other == one, f"frame {number} differs, after {context}"
    assert len(found) == len(expected) > 10


def test_node_postgres_gets_the_same_frames_in_a_storm(
    storm: Weather, modules: Path
) -> None:
    served = storm.served
    path = Path(shutil.which("node") or os.devnull)
    environment = Program.python(served).environment

    def run(way: Way) -> str:
        books_anew(served)
        node = Program(path, {**environment, **way.environment})
        done = node.run("-", said=NODE, NODE_PATH=str(modules))
        assert done.err == ""
        return done.out

    with recorded(around(served)) as direct:
        expected = run(direct)
    with storm.blowing(at_least=10), recorded((served.host, served.port)) as moved:
        assert run(moved) == expected
    same_frames(direct, moved)
    assert len(json.loads(expected)) > 20
