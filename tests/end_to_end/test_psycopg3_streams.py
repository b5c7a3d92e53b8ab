"""psycopg 3's pipelines and COPY through the proxy."""

import datetime
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import (
    RULES,
    Served,
    serve,
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


# -- pipelines -----------------------------------------------------------------------


def test_a_pipeline_gives_its_results_in_order(connection: Connection) -> None:
    with connection.pipeline():
        cursors = [connection.execute("select %s::int", (n,)) for n in range(500)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(500)]


def test_an_error_in_a_pipeline_skips_to_its_end(connection: Connection) -> None:
    first, skipped = connection.cursor(), connection.cursor()

    def fail() -> None:  # at whichever call takes the results up to the error
        with connection.pipeline() as pipeline:
            first.execute("select 1")
            pipeline.sync()
            connection.execute("select 1 / %s::int", (0,))
            skipped.execute("select 2")

    with pytest.raises(errors.DivisionByZero):
        fail()
    assert first.fetchone() == (1,)
    with pytest.raises(psycopg.ProgrammingError, match="no result"):
        skipped.fetchone()
    assert connection.execute("select 3").fetchone() == (3,)


def test_a_pipeline_holds_a_transaction(connection: Connection) -> None:
    connection.execute("create table piped (id int)")
    with connection.pipeline(), connection.transaction():
        connection.execute("insert into piped values (1)")
        connection.execute("insert into piped values (2)")

    def fail() -> None:
        with connection.pipeline(), connection.transaction():
            connection.execute("insert into piped values (3)")
            connection.execute("select 1 / 0")

    with pytest.raises(errors.DivisionByZero):
        fail()
    rows = connection.execute("select id from piped order by 1").fetchall()
    assert rows == [(1,), (2,)]


# -- COPY ----------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["text", "binary"])
def test_rows_are_copied_in_and_out(connection: Connection, style: str) -> None:
    table = psycopg.sql.Identifier(f"copied_{style}")
    words = {"table": table, "style": psycopg.sql.SQL(style)}
    created = psycopg.sql.SQL("create table {table} (id int, t text, d date)")
    connection.execute(created.format(**words))
    rows = [(n, f"row\t{n}\n\\", datetime.date(2024, 1, 1)) for n in range(2500)]
    rows.append((-1, None, None))  # type: ignore[arg-type]
    into = psycopg.sql.SQL("copy {table} from stdin (format {style})")
    with connection.cursor() as cursor:
        with cursor.copy(into.format(**words)) as copy:
            copy.set_types(["int4", "text", "date"])
            for row in rows:
                copy.write_row(row)
        assert cursor.rowcount == 2501
        out = psycopg.sql.SQL("copy {table} to stdout (format {style})")
        with cursor.copy(out.format(**words)) as copy:
            copy.set_types(["int4", "text", "date"])
            assert list(copy.rows()) == rows
    assert connection.info.transaction_status == TransactionStatus.IDLE


def test_a_copy_with_bad_data_fails_and_the_session_goes_on(
    connection: Connection,
) -> None:
    connection.execute("create table badly_copied (id int)")
    with (
        pytest.raises(errors.InvalidTextRepresentation) as caught,
        connection.cursor().copy("copy badly_copied from stdin") as copy,
    ):
        copy.write("1\nnonsense\n" + "2\n" * 100_000)
    assert caught.value.diag.context == (
        'COPY badly_copied, line 2, column id: "nonsense"'
    )
    assert connection.execute("select count(*) from badly_copied").fetchone() == (0,)


def test_a_copy_that_the_client_gives_up_fails(connection: Connection) -> None:
    connection.execute("create table half_copied (id int)")

    def give_up() -> None:
        with connection.cursor().copy("copy half_copied from stdin") as copy:
            copy.write("1\n")
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        give_up()
    assert connection.execute("select count(*) from half_copied").fetchone() == (0,)


def test_a_large_copy_out_arrives_whole(connection: Connection) -> None:
    query = "copy (select repeat('y', 999) from generate_series(1, 10000)) to stdout"
    with connection.cursor().copy(query) as copy:
        assert sum(len(data) for data in copy) == 10_000_000
