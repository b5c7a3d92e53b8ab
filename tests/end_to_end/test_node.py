"""node-postgres through the proxy; needs node, npm and its registry."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import RULES, Program, Served, serve

PACKAGES = ("pg@8", "pg-cursor@2", "pg-query-stream@4")

SCRIPT = """
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');

async function main() {
  const seen = {};
  const client = new Client();
  client.on('notice', (notice) => { seen.notice = notice.message; });
  await client.connect();
  seen.simple = (await client.query('select 1 as a; select 2 as b')).map((r) => r.rows);
  seen.extended = (await client.query('select $1::int * 2 as x', [21])).rows;
  const named = { name: 'twice', text: 'select $1::text as t' };
  for (const value of ['a', 'b']) {
    seen.named = (await client.query({ ...named, values: [value] })).rows;
  }
  await client.query('drop table if exists nothing');
  try { await client.query('select * from nowhere'); }
  catch (error) { seen.error = [error.code, error.message, error.position]; }
  await client.query('begin');
  try { await client.query('select 1 / 0'); } catch (error) { seen.zero = error.code; }
  try { await client.query('select 1'); } catch (error) { seen.failed = error.code; }
  await client.query('rollback');
  const numbers = 'select n from generate_series(1, 1000) as n';
  const cursor = client.query(new Cursor(numbers));
  seen.cursor = [(await cursor.read(3)).map((row) => row.n)];
  await cursor.close();
  let sum = 0;
  for await (const row of client.query(new QueryStream(numbers, [], { batchSize: 90 })))
    sum += row.n;
  seen.stream = sum;
  try { await client.query('truncate nothing'); }
  catch (error) { seen.truncate = error.message; }
  await client.end();

  const pool = new Pool({ max: 5 });
  const work = (n) => pool.query('select $1::int as n', [n]);
  const results = await Promise.all([...Array(50).keys()].map(work));
  seen.pool = results.reduce((total, result) => total + result.rows[0].n, 0);
  await pool.end();
  console.log(JSON.stringify(seen));
}
main().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install node-postgres for this run; skip, saying why, where that cannot be."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    directory = tmp_path_factory.mktemp("node")
    words = (
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--fetch-retries=0",
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            [npm, *words, f"--cache={directory}/cache", *PACKAGES],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=25,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry did not answer in time")
    if done.returncode:
        pytest.skip(f"npm cannot install node-postgres: {done.stderr.strip()[-300:]}")
    return directory / "node_modules"


@pytest.fixture(scope="module", params=RULES)
def served(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[Served]:
    with serve(postgres, has_rules=request.param) as served:
        yield served


def test_node_postgres_sees_what_it_should(served: Served, modules: Path) -> None:
    node = Program(
        Path(shutil.which("node") or os.devnull), Program.python(served).environment
    )
    done = node.run("-", said=SCRIPT, NODE_PATH=str(modules))
    assert done.err == ""
    seen: dict[str, Any] = json.loads(done.out)
    refused = "unsupported statement: Truncate"
    missing = 'relation "nothing" does not exist'
    assert seen == {
        "simple": [[{"a": 1}], [{"b": 2}]],
        "extended": [{"x": 42}],
        "named": [{"t": "b"}],
        "notice": 'table "nothing" does not exist, skipping',
        "error": ["42P01", 'relation "nowhere" does not exist', "15"],
        "zero": "22012",
        "failed": "25P02",
        "cursor": [[1, 2, 3]],
        "stream": 1000 * 1001 // 2,
        "truncate": refused if served.has_rules else missing,
        "pool": sum(range(50)),
    }
