"""What DSQL's rules refuse, as it reaches a client through the proxy."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import RULES, Served, serve

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


def test_a_named_cursor_is_refused_by_the_rules_alone(
    served: Served, connection: Connection
) -> None:
    with connection.transaction(), connection.cursor("named") as cursor:
        if served.has_rules:
            with pytest.raises(errors.FeatureNotSupported) as caught:
                cursor.execute("select 1")
            text = "unsupported statement: DeclareCursor"
            assert caught.value.diag.message_primary == text
            raise psycopg.Rollback
        cursor.itersize = 10
        cursor.execute("select n from generate_series(1, 100) as n")
        assert [number for (number,) in cursor] == list(range(1, 101))


def test_notifications_are_refused_by_the_rules_alone(
    served: Served, connection: Connection
) -> None:
    if served.has_rules:
        for statement in ("listen", "notify", "unlisten"):
            with pytest.raises(errors.FeatureNotSupported) as caught:
                connection.execute(f"{statement} channel".encode())
            text = f"unsupported statement: {statement.capitalize()}"
            assert caught.value.diag.message_primary == text
        return
    connection.execute("listen channel")
    with psycopg.connect(served.dsn, autocommit=True) as other:
        other.execute("notify channel, 'word'")
    (heard,) = connection.notifies(timeout=10, stop_after=1)
    assert (heard.channel, heard.payload) == ("channel", "word")


@pytest.mark.parametrize(
    ("statements", "sqlstate", "text"),
    [
        pytest.param(
            ["set work_mem to '8MB'"],
            "0A000",
            'setting configuration parameter "work_mem" not supported',
            id="a setting",
        ),
        pytest.param(
            ["truncate refused"],
            "0A000",
            "unsupported statement: Truncate",
            id="truncate",
        ),
        pytest.param(
            ["create table refused_1 (a int)", "create table refused_2 (a int)"],
            "0A000",
            "multiple ddl statements not supported in a transaction",
            id="two ddl statements",
        ),
        pytest.param(
            ["insert into refused values (1)", "create table refused_3 (a int)"],
            "0A000",
            "ddl and dml are not supported in the same transaction",
            id="ddl with dml",
        ),
        pytest.param(
            ["insert into refused select generate_series(1, 3001)"],
            "54000",
            "transaction row limit exceeded",
            id="3001 rows",
        ),
        pytest.param(
            ["rollback", "begin isolation level serializable"],
            "0A000",
            "Unsupported isolation level: SERIALIZABLE",
            id="serializable",
        ),
    ],
)
@pytest.mark.parametrize("prepare", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("served", [True], indirect=True, ids=["rules"])
def test_a_refusal_arrives_in_the_clusters_words(
    served: Served, statements: list[str], sqlstate: str, text: str, prepare: bool
) -> None:
    with psycopg.connect(served.dsn) as connection:
        connection.execute("create table if not exists refused (a int)")
        connection.commit()
        *before, last = [statement.encode() for statement in statements]
        for statement in before:
            connection.execute(statement, prepare=prepare)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(last, prepare=prepare)
        assert (caught.value.sqlstate, caught.value.diag.message_primary) == (
            sqlstate,
            text,
        )
        assert caught.value.diag.severity == "ERROR"
        connection.rollback()
        assert connection.execute("select 1").fetchone() == (1,)
