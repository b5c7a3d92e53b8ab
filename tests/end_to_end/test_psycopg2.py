"""psycopg 2 through the proxy: the simple protocol alone, and COPY."""

import io
import select
from collections.abc import Iterator
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import pytest
from psycopg2 import errors

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import (
    LARGE_RESULT,
    LARGE_ROWS,
    RULES,
    Program,
    Served,
    in_threads,
    serve,
)


@pytest.fixture(scope="module", params=RULES)
def served(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[Served]:
    with serve(postgres, has_rules=request.param) as served:
        yield served


@pytest.fixture
def connection(served: Served) -> Iterator[Any]:
    connection = psycopg2.connect(served.dsn)
    connection.autocommit = True
    yield connection
    connection.close()


def _ask(connection: Any, query: str, *values: object) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return cursor.fetchall()


def test_values_come_back_as_they_went(connection: Any) -> None:
    values = (42, "žluťoučký 🐎 '\\", 1.5, True, [1, 2], None)
    query = "select %s, %s, %s, %s, %s, %s"
    assert _ask(connection, query, *values) == [values]
    ((data,),) = _ask(connection, "select %s", psycopg2.Binary(b"\x00\xff"))
    assert bytes(data) == b"\x00\xff"


def test_what_the_server_reports_is_reported(served: Served, connection: Any) -> None:
    assert connection.encoding == "UTF8"
    assert connection.get_parameter_status("TimeZone") == "UTC"
    assert connection.server_version == (160015 if served.has_rules else 160014)
    assert connection.get_backend_pid() > 0


def test_many_rows_go_in_and_come_out(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("create table many (id int, t text)")
        rows = [(number, f"row {number}") for number in range(1000)]
        psycopg2.extras.execute_values(cursor, "insert into many values %s", rows)
        cursor.executemany("insert into many values (%s, %s)", [(-1, "a"), (-2, "b")])
        cursor.execute("select * from many where id >= 0 order by id")
        assert cursor.fetchall() == rows
        cursor.execute("update many set t = null")
        assert (cursor.rowcount, cursor.statusmessage) == (1002, "UPDATE 1002")


def test_rows_are_copied_in_and_out(connection: Any) -> None:
    text = "".join(f"{number}\trow {number}\n" for number in range(3000))
    with connection.cursor() as cursor:
        cursor.execute("create table copied (id int, t text)")
        cursor.copy_expert("copy copied from stdin", io.StringIO(text))
        assert cursor.rowcount == 3000
        out = io.StringIO()
        cursor.copy_expert("copy copied to stdout", out)
        assert out.getvalue() == text
        cursor.copy_expert("copy copied to stdout with csv header", out)
        assert out.getvalue().endswith("2999,row 2999\n")


def test_a_copy_with_bad_data_fails_and_the_session_goes_on(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("create table badly_copied (id int)")
        with pytest.raises(errors.InvalidTextRepresentation, match="nonsense"):
            cursor.copy_expert(
                "copy badly_copied from stdin", io.StringIO("1\nnonsense\n")
            )
    assert _ask(connection, "select count(*) from badly_copied") == [(0,)]


def test_a_reader_that_fails_ends_its_copy(connection: Any) -> None:
    class Broken(io.StringIO):
        def read(self, _: int | None = -1) -> str:
            raise RuntimeError("no more")

    with connection.cursor() as cursor:
        cursor.execute("create table half_copied (id int)")
        with pytest.raises(errors.QueryCanceled, match="no more"):
            cursor.copy_expert("copy half_copied from stdin", Broken())
    assert _ask(connection, "select count(*) from half_copied") == [(0,)]


def test_a_large_result_arrives_whole(connection: Any) -> None:
    rows = _ask(connection, LARGE_RESULT)
    assert (len(rows), {len(text) for (text,) in rows}) == (LARGE_ROWS, {1000})


def test_a_failed_transaction_is_rolled_back(served: Served) -> None:
    connection = psycopg2.connect(served.dsn)
    status = psycopg2.extensions
    with pytest.raises(errors.DivisionByZero):
        _ask(connection, "select 1 / 0")
    transaction = connection.info.transaction_status
    assert transaction == status.TRANSACTION_STATUS_INERROR
    with pytest.raises(errors.InFailedSqlTransaction):
        _ask(connection, "select 1")
    connection.rollback()
    with connection:  # commits at its end
        assert _ask(connection, "select 1") == [(1,)]
    assert connection.info.transaction_status == status.TRANSACTION_STATUS_IDLE
    connection.close()


def test_an_error_has_all_its_fields(connection: Any) -> None:
    with pytest.raises(errors.UndefinedTable) as caught:
        _ask(connection, "select * from nowhere")
    assert caught.value.pgcode == "42P01"
    diag = caught.value.diag
    assert (diag.severity, diag.statement_position) == ("ERROR", "15")
    assert diag.message_primary == 'relation "nowhere" does not exist'


def test_notices_are_collected(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("drop table if exists nothing")
    notice = 'NOTICE:  table "nothing" does not exist, skipping\n'
    assert connection.notices == [notice]


def test_a_running_query_is_cancelled(served: Served) -> None:
    # In a process of its own: psycopg2 holds on to Python's lock in PQcancel, and
    # the proxy of this process could not answer.
    script = """
import psycopg2, sys, threading
connection = psycopg2.connect("")
connection.autocommit = True
cursor = connection.cursor()
threading.Timer(0.2, connection.cancel).start()
try:
    cursor.execute("select pg_sleep(60)")
except psycopg2.errors.QueryCanceled as error:
    cursor.execute("select 1")
    print(error, cursor.fetchone())
"""
    done = Program.python(served).run("-c", script)
    said = "canceling statement due to user request\n (1,)\n"
    assert (done.out, done.err) == (said, "")


def test_sessions_at_the_same_time_do_not_mix(served: Served) -> None:
    def work(name: int) -> Any:
        connection = psycopg2.connect(served.dsn)
        query = "select %s from generate_series(1, 1000)"
        rows = _ask(connection, query, name)
        connection.close()
        return {value for (value,) in rows}

    calls = [lambda name=name: work(name) for name in range(8)]
    assert in_threads(calls) == [{name} for name in range(8)]


def test_a_connection_without_waiting(served: Served) -> None:
    connection = psycopg2.connect(served.dsn, async_=True)
    _wait(connection)
    cursor = connection.cursor()
    cursor.execute("select 6 * 7")
    _wait(connection)
    assert cursor.fetchall() == [(42,)]
    connection.close()


def _wait(connection: Any) -> None:
    wanted = psycopg2.extensions
    while (state := connection.poll()) != wanted.POLL_OK:
        reading = [connection] if state == wanted.POLL_READ else []
        writing = [connection] if state == wanted.POLL_WRITE else []
        assert any(select.select(reading, writing, [], 10))


def test_a_named_cursor_is_refused_by_the_rules_alone(served: Served) -> None:
    connection = psycopg2.connect(served.dsn)
    cursor = connection.cursor("named")
    query = "select n from generate_series(1, 5000) as n"
    if served.has_rules:
        with pytest.raises(errors.FeatureNotSupported) as caught:
            cursor.execute(query)
        assert caught.value.pgcode == "0A000"
        assert "unsupported statement: DeclareCursor" in str(caught.value)
    else:
        cursor.execute(query)
        assert sum(number for (number,) in cursor) == 5000 * 5001 // 2
    connection.close()


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ"])
def test_isolation_levels_are_the_clusters_to_judge(served: Served, level: str) -> None:
    connection = psycopg2.connect(served.dsn)
    connection.set_session(isolation_level=level)
    if served.has_rules and level == "SERIALIZABLE":
        text = "Unsupported isolation level: SERIALIZABLE"
        with pytest.raises(errors.FeatureNotSupported, match=text):
            _ask(connection, "show transaction_isolation")
    else:
        found = _ask(connection, "show transaction_isolation")
        assert found == [(level.lower(),)]
    connection.close()


def test_notifications_arrive_without_rules(served: Served, connection: Any) -> None:
    cursor = connection.cursor()
    if served.has_rules:
        with pytest.raises(errors.FeatureNotSupported, match="Listen"):
            cursor.execute("listen news")
        return
    cursor.execute("listen news")
    cursor.execute("notify news, 'good'")
    connection.poll()
    (heard,) = connection.notifies
    assert (heard.channel, heard.payload) == ("news", "good")
