"""psycopg 3, blocking, through the proxy; `test_psycopg3_async` has the other half."""

import contextlib
import datetime
import uuid
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import (
    LARGE_RESULT,
    LARGE_ROWS,
    RULES,
    Program,
    Served,
    in_background,
    in_threads,
    serve,
    wait_until_running,
)

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module", params=RULES)
def served(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[Served]:
    with serve(postgres, has_rules=request.param) as served:
        yield served


@pytest.fixture
def connection(served: Served) -> Iterator[Connection]:
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        yield connection


# -- queries -------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_values_come_back_as_they_went(connection: Connection, binary: bool) -> None:
    values = (
        42,
        -(2**40),
        "žluťoučký 🐎",
        b"\x00\xff bytes",
        1.5,
        Decimal("12345678901234567890.12"),
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.UTC),
        uuid.UUID(int=7),
        True,
        [1, None, 3],
        None,
    )
    query = (
        "select %s::int, %s::bigint, %s::text, %s::bytea, %s::float8, %s::numeric,"
        " %s::date, %s::timestamptz, %s::uuid, %s::bool, %s::int[], %s::text"
    )
    cursor = connection.cursor(binary=binary)
    assert cursor.execute(query, values).fetchone() == values
    row = cursor.execute("select %s", (Jsonb({"a": [1, "é"]}),)).fetchone()
    assert row == ({"a": [1, "é"]},)


def test_a_query_of_several_statements_has_several_results(
    connection: Connection,
) -> None:
    cursor = connection.execute("select 1; select 2 where false; select 3")
    results = [cursor.fetchall()]
    while cursor.nextset():
        results.append(cursor.fetchall())
    assert results == [[(1,)], [], [(3,)]]


def test_a_statement_that_is_prepared_is_used_again(connection: Connection) -> None:
    for number in range(20):
        cursor = connection.execute("select %s::int * 2", (number,), prepare=True)
        assert cursor.fetchone() == (number * 2,)
    prepared = connection.execute("select count(*) from pg_prepared_statements")
    assert prepared.fetchone() == (1,)


def test_a_full_cache_of_prepared_statements_forgets_the_oldest(
    connection: Connection,
) -> None:
    connection.prepare_threshold = 0
    connection.prepared_max = 2
    for _ in range(2):
        for number in range(5):
            query = psycopg.sql.SQL("select %s::int + {}").format(number)
            assert connection.execute(query, (1,)).fetchone() == (number + 1,)


def test_executemany_counts_and_returns(connection: Connection) -> None:
    connection.execute("create table many (id int primary key, t text)")
    cursor = connection.cursor()
    rows = [(number, f"row {number}") for number in range(500)]
    cursor.executemany("insert into many values (%s, %s)", rows)
    assert cursor.rowcount == 500
    cursor.executemany(
        "update many set t = 'x' where id = %s returning id",
        [(1,), (2,)],
        returning=True,
    )
    assert [result.fetchall() for result in cursor.results()] == [[(1,)], [(2,)]]


def test_a_large_result_arrives_whole(connection: Connection) -> None:
    rows = connection.execute(LARGE_RESULT).fetchall()
    assert len(rows) == LARGE_ROWS
    assert {len(str(text)) for (text,) in rows} == {1000}


def test_a_large_result_may_come_row_by_row(connection: Connection) -> None:
    query = "select n from generate_series(1, 20000) as n"
    rows = connection.cursor().stream(query)
    assert [number for (number,) in rows] == list(range(1, 20_001))


def test_a_stream_may_be_left_before_its_end(connection: Connection) -> None:
    query = "select n from generate_series(1, 100000) as n"
    with contextlib.closing(connection.cursor().stream(query)) as rows:  # type: ignore[type-var]
        assert next(rows) == (1,)
    assert connection.execute("select 2").fetchone() == (2,)


def test_what_the_server_reports_is_reported(
    served: Served, connection: Connection
) -> None:
    info = connection.info
    assert info.server_version == (160015 if served.has_rules else 160014)
    assert info.encoding == "utf-8"
    assert info.timezone == datetime.UTC
    assert info.parameter_status("is_superuser") == "off"
    assert (info.user, info.dbname) == ("admin", "postgres")
    connection.execute("set timezone to 'Asia/Tokyo'")
    assert str(info.timezone) == "Asia/Tokyo"


def test_another_client_encoding_is_kept(served: Served) -> None:
    with psycopg.connect(served.dsn, client_encoding="latin1") as connection:
        row = connection.execute("select 'é', octet_length('é'), %s", ("ü",)).fetchone()
        assert row == ("é", 2, "ü")
        assert connection.info.encoding == "iso8859-1"


# -- transactions and errors ---------------------------------------------------------


def test_an_error_fails_the_transaction_until_its_end(served: Served) -> None:
    with psycopg.connect(served.dsn) as connection:
        with pytest.raises(errors.DivisionByZero):
            connection.execute("select 1 / 0")
        assert _status(connection) == TransactionStatus.INERROR
        with pytest.raises(errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.rollback()
        assert _status(connection) == TransactionStatus.IDLE
        assert connection.execute("select 1").fetchone() == (1,)
        assert _status(connection) == TransactionStatus.INTRANS


def _status(connection: Connection) -> TransactionStatus:
    return connection.info.transaction_status


def test_an_error_says_where_it_is(connection: Connection) -> None:
    with pytest.raises(errors.UndefinedColumn) as caught:
        connection.execute("select 1, nope")
    diag = caught.value.diag
    assert diag.message_primary == 'column "nope" does not exist'
    assert (diag.severity, diag.statement_position) == ("ERROR", "11")
    assert diag.source_function == "errorMissingColumn"


def test_a_transaction_commits_or_rolls_back(served: Served) -> None:
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        connection.execute("create table kept (id int)")
        with connection.transaction():
            connection.execute("insert into kept values (1)")
        with connection.transaction(force_rollback=True):
            connection.execute("insert into kept values (2)")
    with psycopg.connect(served.dsn) as connection:
        connection.execute("insert into kept values (3)")
        connection.rollback()
        assert connection.execute("select id from kept").fetchall() == [(1,)]


def test_a_transaction_within_another_needs_savepoints(
    served: Served, connection: Connection
) -> None:
    outer = connection.transaction()
    if served.has_rules:
        with pytest.raises(errors.FeatureNotSupported) as caught, outer:
            connection.transaction().__enter__()
        text = "unsupported transaction statement: SAVEPOINT"
        assert caught.value.diag.message_primary == text
        assert connection.info.transaction_status == TransactionStatus.IDLE
        return
    with outer:
        with pytest.raises(errors.DivisionByZero), connection.transaction():
            connection.execute("select 1 / 0")
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_read_only_transaction_refuses_writing(served: Served) -> None:
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        connection.execute("create table unwritten (id int)")
        connection.execute("begin transaction read only")
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("insert into unwritten values (1)")
        connection.execute("rollback")


def test_notices_reach_their_handler(connection: Connection) -> None:
    notices: list[str | None] = []
    connection.add_notice_handler(lambda diag: notices.append(diag.message_primary))
    connection.execute("drop table if exists nothing")
    assert notices == ['table "nothing" does not exist, skipping']


def test_the_end_of_a_session_is_told_in_its_own_words(
    served: Served, connection: Connection
) -> None:
    connection.execute("begin")
    pid = connection.execute("select pg_backend_pid()").fetchone()
    superuser = f"host='{served.postgres.directory}' user=postgres dbname=postgres"
    with psycopg.connect(superuser) as direct:
        direct.execute("select pg_terminate_backend(%s)", pid)
    with pytest.raises(errors.AdminShutdown, match="due to administrator command"):
        connection.execute("select pg_sleep(10)")
    assert connection.broken


# -- cancel and time -----------------------------------------------------------------


def test_a_running_query_is_cancelled(served: Served, connection: Connection) -> None:
    def cancel_soon() -> None:
        wait_until_running(served, "pg_sleep(62)")
        connection.cancel_safe()

    canceled = pytest.raises(errors.QueryCanceled, match="due to user request")
    with in_background(cancel_soon), canceled:
        connection.execute("select pg_sleep(62)")
    assert connection.execute("select 1").fetchone() == (1,)


def test_a_running_query_is_cancelled_by_the_older_function(served: Served) -> None:
    # In a process of its own: psycopg holds on to Python's lock in PQcancel, and
    # the proxy of this process could not answer.
    script = """
import psycopg, sys, threading
connection = psycopg.connect(autocommit=True)
threading.Timer(0.2, connection.cancel).start()
try:
    connection.execute("select pg_sleep(60)")
except psycopg.errors.QueryCanceled as error:
    print(error, connection.execute("select 1").fetchone())
"""
    done = Program.python(served).run("-c", script)
    said = "canceling statement due to user request (1,)\n"
    assert (done.out, done.err) == (said, "")


def test_a_statement_timeout_is_a_setting_that_dsql_lacks(
    served: Served, connection: Connection
) -> None:
    if served.has_rules:
        with pytest.raises(errors.FeatureNotSupported, match='"statement_timeout"'):
            connection.execute("set statement_timeout to '50ms'")
        return
    connection.execute("set statement_timeout to '50ms'")
    with pytest.raises(errors.QueryCanceled, match="due to statement timeout"):
        connection.execute("select pg_sleep(60)")
    assert connection.execute("select 1").fetchone() == (1,)


# -- sessions ------------------------------------------------------------------------


def test_two_sessions_see_what_the_other_committed(served: Served) -> None:
    with (
        psycopg.connect(served.dsn, autocommit=True) as one,
        psycopg.connect(served.dsn, autocommit=True) as two,
    ):
        one.execute("create table seen (id int)")
        with one.transaction():
            one.execute("insert into seen values (1)")
            assert two.execute("select id from seen").fetchall() == []
        assert two.execute("select id from seen").fetchall() == [(1,)]
        one.execute("set application_name to 'one'")
        assert two.execute("show application_name").fetchone() != ("one",)


def test_sessions_at_the_same_time_do_not_mix(served: Served) -> None:
    def work(name: int) -> list[object]:
        with psycopg.connect(served.dsn) as connection:
            query = "select %s::int * 1000 + n from generate_series(1, 200) as n"
            found: list[object] = []
            for _ in range(10):
                found += [value for (value,) in connection.execute(query, (name,))]
            return found

    results = in_threads([lambda name=name: work(name) for name in range(12)])
    for name, found in enumerate(results):
        assert found == [name * 1000 + n for n in range(1, 201)] * 10


def test_an_open_session_that_is_forgotten_ends_with_its_client(
    served: Served,
) -> None:
    connection = psycopg.connect(served.dsn)
    pid = connection.info.backend_pid
    connection.pgconn.finish()
    connection.close()
    with psycopg.connect(served.direct_dsn, autocommit=True) as direct:
        query = "select from pg_stat_activity where pid = %s"
        while direct.execute(query, (pid,)).fetchall():
            pass  # the test's time limit is the limit
