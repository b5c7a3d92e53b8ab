"""pg8000, written in Python alone, through the proxy."""

import io
from collections.abc import Iterator
from typing import Any

import pg8000.dbapi
import pg8000.native
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import RULES, Served, in_threads, serve


@pytest.fixture(scope="module", params=RULES)
def served(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[Served]:
    with serve(postgres, has_rules=request.param) as served:
        yield served


def _address(served: Served) -> dict[str, Any]:
    place = {"host": served.host, "port": served.port}
    return {**place, "user": "admin", "database": "postgres", "timeout": 20}


@pytest.fixture
def connection(served: Served) -> Iterator[Any]:
    connection = pg8000.native.Connection(**_address(served))
    yield connection
    connection.close()


def _fields(caught: pytest.ExceptionInfo[Any]) -> dict[str, str]:
    fields: dict[str, str] = caught.value.args[0]
    return fields


def test_values_come_back_as_they_went(connection: Any) -> None:
    values = {"i": 42, "t": "žluťoučký 🐎", "b": b"\x00\xff", "f": 1.5, "n": None}
    query = "select :i::int, :t::text, :b::bytea, :f::float8, :n::text"
    assert connection.run(query, **values) == [list(values.values())]
    assert connection.run("select array[1, 2]") == [[[1, 2]]]


def test_a_prepared_statement_runs_again(connection: Any) -> None:
    statement = connection.prepare("select :n::int * 2")
    assert [statement.run(n=n) for n in range(10)] == [[[n * 2]] for n in range(10)]
    statement.close()


def test_what_the_server_reports_is_reported(served: Served, connection: Any) -> None:
    statuses = connection.parameter_statuses
    assert statuses["TimeZone"] == "UTC"
    shown = statuses["server_version"]
    assert shown.startswith("16.15" if served.has_rules else "16.14")


def test_rows_are_copied_in_and_out(connection: Any) -> None:
    connection.run("create table copied (id int, t text)")
    text = "".join(f"{number}\trow {number}\n" for number in range(3000))
    connection.run("copy copied from stdin", stream=io.StringIO(text))
    assert connection.row_count == 3000
    out = io.BytesIO()
    connection.run("copy copied to stdout", stream=out)
    assert out.getvalue().decode() == text


def test_a_transaction_commits_or_rolls_back(served: Served) -> None:
    connection = pg8000.dbapi.connect(**_address(served))
    cursor = connection.cursor()
    cursor.execute("create table kept (id int)")
    connection.commit()
    cursor.executemany("insert into kept values (%s)", [(1,), (2,)])
    connection.commit()
    cursor.execute("insert into kept values (3)")
    with pytest.raises(pg8000.dbapi.DatabaseError) as caught:
        cursor.execute("select 1 / 0")
    assert _fields(caught)["C"] == "22012"
    connection.rollback()
    cursor.execute("select id from kept order by 1")
    assert cursor.fetchall() == ([1], [2])
    connection.close()


def test_an_error_has_all_its_fields(connection: Any) -> None:
    with pytest.raises(pg8000.native.DatabaseError) as caught:
        connection.run("select * from nowhere")
    fields = _fields(caught)
    assert (fields["S"], fields["C"], fields["P"]) == ("ERROR", "42P01", "15")
    assert fields["M"] == 'relation "nowhere" does not exist'
    assert connection.run("select 1") == [[1]]


def test_notices_are_collected(connection: Any) -> None:
    connection.run("drop table if exists nothing")
    (notice,) = connection.notices
    assert notice[b"M"] == b'table "nothing" does not exist, skipping'


def test_a_large_result_arrives_whole(connection: Any) -> None:
    # A fifth of what the other drivers read: this one is slow.
    query = "select repeat('x', 1000) from generate_series(1, 10000)"
    rows = connection.run(query)
    assert (len(rows), {len(text) for (text,) in rows}) == (10_000, {1000})


def test_sessions_at_the_same_time_do_not_mix(served: Served) -> None:
    def work(name: int) -> Any:
        with pg8000.native.Connection(**_address(served)) as connection:
            query = "select :name::int from generate_series(1, 500)"
            return {value for (value,) in connection.run(query, name=name)}

    calls = [lambda name=name: work(name) for name in range(6)]
    assert in_threads(calls) == [{name} for name in range(6)]


@pytest.mark.parametrize("served", [True], indirect=True, ids=["rules"])
@pytest.mark.parametrize("statement", ["truncate t", "listen news", "lock t"])
def test_a_refusal_arrives_in_the_clusters_words(
    connection: Any, statement: str
) -> None:
    with pytest.raises(pg8000.native.DatabaseError) as caught:
        connection.run(statement)
    node = statement.partition(" ")[0].capitalize()
    assert _fields(caught)["M"] == f"unsupported statement: {node}"
    assert _fields(caught)["C"] == "0A000"


@pytest.mark.parametrize("served", [False], indirect=True, ids=["no-rules"])
def test_notifications_arrive_without_rules(connection: Any) -> None:
    connection.run("listen news")
    connection.run("notify news, 'good'")
    connection.run("select 1")
    ((_, channel, payload),) = connection.notifications
    assert (channel, payload) == ("news", "good")
