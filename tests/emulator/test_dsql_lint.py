"""AWS's linter as an oracle: what it calls an error, the rules refuse, and no more.

dsql-lint judges files and has its own parser, so some of its findings are advice or
say that it does not know the syntax; where the two disagree, the table says why.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dsqlproxy.emulator.sql import split
from dsqlproxy.emulator.statements import judge

_LINTER = shutil.which("dsql-lint", path=str(Path(sys.executable).parent))

pytestmark = pytest.mark.skipif(_LINTER is None, reason="dsql-lint is not installed")

_AGREED = [
    # supported
    "SELECT 1",
    "SELECT a FROM t WHERE b = 'truncate' ORDER BY a LIMIT 1",
    "WITH x AS (SELECT 1 AS n) SELECT n FROM x",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING",
    "UPDATE t SET a = 1 WHERE b = 2",
    "DELETE FROM t WHERE a = 1",
    "CREATE TABLE t (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), a text NOT NULL)",
    "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY)",
    "CREATE INDEX ASYNC i ON t (a)",
    "CREATE UNIQUE INDEX ASYNC i ON t (a, b)",
    "CREATE VIEW v AS SELECT a FROM t",
    "CREATE SCHEMA s",
    "CREATE DOMAIN d AS int",
    "CREATE ROLE r WITH LOGIN",
    "CREATE SEQUENCE s CACHE 65536",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$",
    "ALTER TABLE t ADD COLUMN c text",
    "ALTER TABLE t RENAME COLUMN a TO b",
    "ALTER TABLE t RENAME TO u",
    "DROP TABLE t",
    "DROP INDEX i",
    "DROP VIEW v",
    "GRANT SELECT ON t TO r",
    "REVOKE SELECT ON t FROM r",
    "COMMENT ON TABLE t IS 'x'",
    "EXPLAIN SELECT 1",
    "BEGIN",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "COMMIT",
    "ROLLBACK",
    "SET search_path = s",
    "SET TIME ZONE 'UTC'",
    "SHOW server_version",
    "RESET search_path",
    "DEALLOCATE ALL",
    "COPY t FROM STDIN",
    "AWS IAM GRANT r TO 'arn:aws:iam::123456789012:role/x'",
    # unsupported
    "TRUNCATE t",
    "CREATE TEMP TABLE t (a int)",
    "CREATE TEMP VIEW v AS SELECT 1",
    "CREATE TABLE t (id serial PRIMARY KEY)",
    "CREATE TABLE t (id bigserial PRIMARY KEY)",
    "CREATE TABLE t (a int[])",
    "CREATE TABLE t AS SELECT 1 AS a",
    "CREATE TABLE t (a int) PARTITION BY RANGE (a)",
    "CREATE TABLE t (a int) INHERITS (p)",
    "CREATE TABLE t (a int) TABLESPACE s",
    "CREATE TABLE t (a int) WITH (fillfactor = 50)",
    "CREATE INDEX i ON t (a)",
    "CREATE MATERIALIZED VIEW v AS SELECT 1 AS a",
    "CREATE EXTENSION pgcrypto",
    "CREATE DATABASE d",
    "CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f()",
    "CREATE TYPE mood AS ENUM ('a')",
    "CREATE POLICY p ON t",
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$",
    "CREATE SEQUENCE s",
    "ALTER TABLE t ADD COLUMN c int NOT NULL",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
    "ALTER TABLE t ALTER COLUMN a TYPE text",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "SAVEPOINT a",
    "PREPARE p AS SELECT 1",
    "DISCARD ALL",
    "LISTEN a",
    "LOCK TABLE t",
    "VACUUM t",
    "COPY t FROM '/tmp/x'",
    "NOTIFY a",
    "UNLISTEN a",
    "DECLARE c CURSOR FOR SELECT 1",
    "DEALLOCATE p",
    "RELEASE a",
    "ROLLBACK TO a",
    "DROP TYPE mood",
    "CREATE TYPE p AS (a int)",
    "CREATE SERVER s FOREIGN DATA WRAPPER f",
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY)",
    "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
    "ALTER ROLE r SET search_path = s",
    "SET TRANSACTION READ ONLY",
]

# The linter's parser does not know these, so it says nothing of them.
_UNPARSED = [
    "CREATE UNLOGGED TABLE t (a int)",
    "DO $$ BEGIN END $$",
    "FETCH c",
    "REINDEX TABLE t",
    "CLUSTER t",
    "ALTER SYSTEM SET work_mem = '1'",
    "CREATE TABLESPACE s LOCATION '/x'",
    "CREATE RULE r AS ON INSERT TO t DO NOTHING",
    "CREATE AGGREGATE a (int) (sfunc = f, stype = int)",
    "REFRESH MATERIALIZED VIEW v",
]

# (statement, whether the rules refuse it, why the linter says otherwise)
_DISAGREED = [
    ("SET statement_timeout = 0", True, "it does not judge settings"),
    ("SET ROLE r", True, "it does not judge settings"),
    ("SELECT pg_advisory_lock(1)", True, "it does not judge function calls"),
    ("SELECT * INTO x FROM t", True, "it overlooks this CREATE TABLE AS"),
    ("CREATE TABLE t (a money)", True, "it does not judge data types but arrays"),
    ("EXECUTE p", True, "it judges PREPARE only"),
    ("CLOSE c", True, "it judges DECLARE only"),
    ("DROP EXTENSION x", True, "it judges CREATE only"),
    ("DROP DATABASE d", True, "it judges CREATE only"),
    (
        "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE",
        True,
        "a cluster refuses it",
    ),
    ("SELECT * FROM t FOR SHARE", True, "a cluster refuses it"),
    ("SELECT 1 FROM t TABLESAMPLE SYSTEM (1)", True, "a cluster refuses it"),
    ("CREATE INDEX ASYNC i ON t USING gin (a)", False, "not emulated"),
    ("CREATE INDEX ASYNC i ON t (a DESC)", False, "not emulated"),
    ("ALTER INDEX i RENAME TO j", False, "not emulated"),
    ('CREATE TABLE t (a text COLLATE "de_DE")', False, "not emulated"),
    ("COMMIT AND CHAIN", True, "its own grammar of a cluster has AND NO CHAIN only"),
]


def _lint(sql: str) -> list[str]:
    assert _LINTER is not None
    done = subprocess.run(  # noqa: S603 - a linter, on statements of ours
        [_LINTER, "--format", "json", "-"],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return [item["rule"] for file in report["files"] for item in file["diagnostics"]]


def _is_refused(sql: str) -> bool:
    return any(judge(statement).refusal for statement in split(sql))


@pytest.mark.parametrize("sql", _AGREED)
def test_the_rules_refuse_what_the_linter_refuses(sql: str) -> None:
    rules = _lint(sql)
    assert "parse_error" not in rules
    assert _is_refused(sql) == bool(rules), rules


@pytest.mark.parametrize("sql", _UNPARSED)
def test_what_the_linter_cannot_parse_is_refused_all_the_same(sql: str) -> None:
    assert _lint(sql) == ["parse_error"]
    assert _is_refused(sql)


@pytest.mark.parametrize(("sql", "refused", "reason"), _DISAGREED)
def test_a_known_disagreement_still_is_one(
    sql: str, reason: str, *, refused: bool
) -> None:
    assert _is_refused(sql) is refused, reason
    assert bool(_lint(sql)) is not refused, reason
