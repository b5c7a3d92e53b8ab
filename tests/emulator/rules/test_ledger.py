"""What PostgreSQL keeps account of: transactions, jobs, mappings, conflicts."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import errors as pg_errors

from dsqlproxy.pgproto.messages import SYNC
from tests.kit.ruled import (
    FAILED,
    FRESH,
    MIXED,
    ROW_LIMIT,
    TWO_DDL,
    RawClient,
    RuledServer,
    bind,
    errors,
    execute,
    extended,
    faults_with,
    insert_rows,
    parse,
    query,
    run_directly,
    serve_rules,
    status,
    tags,
    the_error,
    types,
)

# -- one DDL, no DDL with DML, 3,000 rows -----------------------------------------


async def test_each_transaction_may_have_its_ddl(client: RawClient) -> None:
    sql = "BEGIN; CREATE TABLE x (a int); {}; BEGIN; CREATE TABLE y (a int); {}"
    for ending in ("ROLLBACK", "COMMIT"):
        received = await client.ask(query(sql.format(ending, "ROLLBACK")))
        assert not errors(received)
    for name in ("a", "b"):
        assert not errors(await client.ask(query(f"CREATE TABLE {name} (x int)")))


async def test_reading_goes_with_ddl_and_with_dml(client: RawClient) -> None:
    sql = "BEGIN; SELECT 1; {}; SELECT 2; COMMIT"
    for work in ("CREATE TABLE x (a int)", "INSERT INTO t VALUES (1)"):
        assert not errors(await client.ask(query(sql.format(work))))


async def test_dml_and_then_ddl_is_refused_and_undone(client: RawClient) -> None:
    received = await client.ask(
        query("BEGIN"),
        query("INSERT INTO t VALUES (1)"),
        query("COMMENT ON TABLE t IS 'x'"),
    )
    received += await client.until_ready() + await client.until_ready()
    assert errors(received) == [MIXED]
    assert status(received) == "E"
    assert tags(await client.ask(query("COMMIT"))) == ["ROLLBACK"]
    assert await client.count() == 0


async def test_a_pipeline_is_one_transaction_until_sync(client: RawClient) -> None:
    two = extended("CREATE TABLE x (a int)") + extended("CREATE TABLE y (a int)")
    received = await client.ask(two + SYNC)
    assert types(received) == "12nC12nEZ"
    assert errors(received) == [TWO_DDL]
    received = await client.ask(extended("CREATE TABLE x (a int)") + SYNC)
    assert not errors(received)
    mixed = extended("INSERT INTO t VALUES (1)") + extended("DROP TABLE x")
    assert errors(await client.ask(mixed + SYNC)) == [MIXED]
    assert await client.count() == 0


@pytest.mark.parametrize(
    "wrap", [query, lambda sql: extended(sql) + SYNC], ids=["simple", "extended"]
)
async def test_rows_are_counted_over_a_transaction(
    client: RawClient, wrap: Callable[[str], bytes]
) -> None:
    steps = [
        ("BEGIN", []),
        (insert_rows(2000), []),
        ("UPDATE t SET a = -a WHERE a <= 999", []),
        ("WITH x AS (DELETE FROM t WHERE a = 1500 RETURNING a) SELECT * FROM x", []),
        ("DELETE FROM t WHERE a = 1600", [ROW_LIMIT]),
        ("SELECT 1", [FAILED]),
    ]
    for sql, expected in steps:
        assert errors(await client.ask(wrap(sql))) == expected
    assert tags(await client.ask(wrap("ROLLBACK"))) == ["ROLLBACK"]
    assert await client.count() == 0


async def test_rows_of_earlier_transactions_do_not_count(client: RawClient) -> None:
    one = f"BEGIN; {insert_rows(2000)}; {{}}"
    sql = "; ".join([one.format("ROLLBACK"), one.format("COMMIT"), insert_rows(2999)])
    assert not errors(await client.ask(query(sql)))
    assert await client.count() == 4999
    pipeline = extended(insert_rows(1500)) + SYNC
    received = await client.ask(pipeline, pipeline, pipeline)
    received += await client.until_ready() + await client.until_ready()
    assert not errors(received)


async def test_the_rows_of_a_query_and_of_a_pipeline_count_together(
    client: RawClient,
) -> None:
    received = await client.ask(
        query(f"{insert_rows(2000)}; {insert_rows(1001)}; SELECT 1")
    )
    assert (tags(received), errors(received)) == (["INSERT 0 2000"], [ROW_LIMIT])
    received = await client.ask(
        extended(insert_rows(2000)) + extended(insert_rows(1001)) + SYNC
    )
    assert (tags(received), errors(received)) == (["INSERT 0 2000"], [ROW_LIMIT])
    assert await client.count() == 0


async def test_rows_that_a_foreign_key_deletes_count(client: RawClient) -> None:
    for sql in (
        "CREATE TABLE p (id int PRIMARY KEY)",
        "CREATE TABLE c (p int REFERENCES p (id) ON DELETE CASCADE)",
        "INSERT INTO p VALUES (1)",
        "INSERT INTO c SELECT 1 FROM generate_series(1, 3000)",
    ):
        assert not errors(await client.ask(query(sql)))
    assert errors(await client.ask(query("DELETE FROM p"))) == [ROW_LIMIT]
    assert await client.count("c") == 3000


async def test_explaining_a_statement_modifies_nothing_unless_it_runs(
    client: RawClient,
) -> None:
    assert not errors(await client.ask(query(f"EXPLAIN {insert_rows(5000)}")))
    received = await client.ask(query(f"EXPLAIN ANALYZE {insert_rows(5000)}"))
    assert errors(received) == [ROW_LIMIT]


async def test_a_suspended_portal_has_modified_all_its_rows(client: RawClient) -> None:
    sql = insert_rows(3001) + " RETURNING a"
    received = await client.ask(parse(sql) + bind() + execute(rows=2) + SYNC)
    assert types(received) == "12DDEZ"
    received = await client.ask(
        parse(insert_rows(3) + " RETURNING a")
        + bind()
        + execute(rows=2)
        + execute()
        + SYNC
    )
    assert types(received) == "12DDsDCZ"


async def test_an_asynchronous_index_is_a_job(server: RuledServer) -> None:
    async with await server.connect() as connection:
        cursor = await connection.execute("CREATE UNIQUE INDEX ASYNC i ON t (a)")
        row = await cursor.fetchone()
        assert row is not None
        job_id = str(row[0])
        assert re.fullmatch("[a-z2-7]{26}", job_id)
        cursor = await connection.execute(
            "SELECT status, job_type, object_name FROM sys.jobs WHERE job_id = %s",
            [job_id],
        )
        assert await cursor.fetchone() == ("completed", "INDEX_BUILD", "public.i")
        cursor = await connection.execute("CALL sys.wait_for_job(%s)", [job_id])
        assert await cursor.fetchone() == (True,)
        with pytest.raises(pg_errors.UndefinedObject):
            await connection.execute("CALL sys.wait_for_job('none')")


async def test_a_constraint_is_validated_by_a_job(client: RawClient) -> None:
    added = "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID"
    assert not errors(await client.ask(query(added)))
    received = await client.ask(query("ALTER TABLE ASYNC t VALIDATE CONSTRAINT c"))
    assert (types(received), tags(received)) == ("TDCZ", ["ALTER TABLE"])


async def test_a_rolled_back_job_never_was(client: RawClient) -> None:
    before = await client.count("sys.jobs")
    await client.ask(query("BEGIN; CREATE INDEX ASYNC ON t (a); ROLLBACK"))
    assert await client.count("sys.jobs") == before


async def test_iam_mappings_come_and_go_with_their_transactions(
    client: RawClient,
) -> None:
    mappings = "sys.iam_pg_role_mappings WHERE pg_role_name = 'reader'"
    grant = "AWS IAM GRANT reader TO 'arn:aws:iam::1:role/x'"
    assert [code for code, _ in errors(await client.ask(query(grant)))] == ["42704"]
    await client.ask(query("CREATE ROLE reader LOGIN"))
    assert tags(await client.ask(query(f"BEGIN; {grant}; ROLLBACK")))[1] == "GRANT"
    assert await client.count(mappings) == 0
    assert tags(await client.ask(extended(grant) + SYNC)) == ["GRANT"]
    assert await client.count(mappings) == 1
    revoke = "AWS IAM REVOKE reader FROM 'arn:aws:iam::1:role/x'"
    assert errors(await client.ask(query(f"{revoke}; {grant}"))) == [TWO_DDL]
    assert tags(await client.ask(query(revoke))) == ["REVOKE"]
    assert await client.count(mappings) == 0
    await client.ask(query("DROP ROLE reader"))


# -- faults

_CONFLICT = ("40001", "change conflicts with another transaction (OC000)")
_SCHEMA = ("40001", "schema has been updated by another transaction (OC001)")


async def test_a_conflict_rolls_the_transaction_back_at_commit(database: Path) -> None:
    await run_directly(database, FRESH, user="postgres")
    faults = faults_with(oc000=1.0)
    async with serve_rules(database, faults) as server, server.raw() as client:
        for message in (query(insert_rows(1)), extended(insert_rows(1)) + SYNC):
            received = await client.ask(message)
            assert (errors(received), status(received)) == ([_CONFLICT], "I")
        await client.ask(query("BEGIN"))
        for _ in range(2):
            assert not errors(await client.ask(query(insert_rows(1))))
        received = await client.ask(query("COMMIT"))
        assert (errors(received), status(received)) == ([_CONFLICT], "I")
        assert "sys." not in the_error(received).get("W")
        assert not errors(await client.ask(query(f"BEGIN; {insert_rows(1)}; ROLLBACK")))
        assert not errors(await client.ask(query("SELECT 1")))
        assert await client.count() == 0


async def test_a_changed_schema_fails_any_statement(database: Path) -> None:
    faults = faults_with(oc001=1.0)
    async with serve_rules(database, faults) as server, server.raw() as client:
        for sql in ("SELECT 1", "CREATE TABLE x (a int)", "DELETE FROM nothing"):
            received = await client.ask(query(sql))
            assert (errors(received), status(received)) == ([_SCHEMA], "I")
        assert errors(await client.ask(extended("SELECT 1") + SYNC)) == [_SCHEMA]
        assert not errors(await client.ask(query("BEGIN")))
        assert status(await client.ask(query("SELECT 1"))) == "E"
        assert tags(await client.ask(query("COMMIT"))) == ["ROLLBACK"]


async def test_a_fault_happens_as_often_as_its_probability_says(
    database: Path,
) -> None:
    faults = faults_with(oc001=0.5)
    async with serve_rules(database, faults) as server, server.raw() as client:
        failed = [bool(errors(await client.ask(query("SELECT 1")))) for _ in range(40)]
    assert 10 < sum(failed) < 30


async def test_set_config_may_be_refused(database: Path) -> None:
    faults = faults_with()
    faults.refuse_set_config = True
    sql = "SELECT set_config('search_path', 'public', false)"
    async with serve_rules(database, faults) as server, server.raw() as client:
        refused = [("0A000", "function set_config not supported")]
        assert errors(await client.ask(query(sql))) == refused
        faults.refuse_set_config = False
        assert not errors(await client.ask(query(sql)))
