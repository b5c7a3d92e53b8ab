"""What programs of drivers see through the proxy is what they see around it.

Each program says what it observes: values, tags, notices, errors with SQLSTATE and
fields, settings that the server reports. `test_transcripts` compares the frames.
"""

import asyncio
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pg8000.native
import psycopg
import psycopg2
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import Program, Served, serve

Seen = list[object]

SETTINGS = (
    *("server_version", "server_encoding", "client_encoding", "is_superuser"),
    *("session_authorization", "DateStyle", "IntervalStyle", "TimeZone"),
    *("integer_datetimes", "standard_conforming_strings", "application_name"),
    *("default_transaction_read_only", "in_hot_standby", "scram_iterations"),
)
FAILING = (
    "select 1 / 0",
    "select nope",
    "select * from nowhere",
    "selec 1",
    "insert into books values (1, 'again')",
    "insert into books values (8, null)",
    "select 'x'::int",
    "select repeat('x', 10)::varchar(3)::int",
    "drop schema pg_catalog",
)
STATEMENTS = (
    "insert into books values (7, 'Dune'), (8, 'Emma')",
    "update books set title = upper(title) where id > 6",
    "select * from books order by id",
    "delete from books where id > 6 returning id",
    "create table more (id int)",
    "alter table more add column t text default 'x'",
    "create index on more (t)",
    "explain (costs off) select * from more where id = 1",
    "select n, n::text, n * 1.5, array[n], null from generate_series(1, 5) as n",
    "select '{\"a\": 1}'::jsonb, now() is not null, '1 day'::interval",
    "values (1, 'a'), (2, 'b')",
    "table books",
    "set extra_float_digits to 0",
    "show extra_float_digits",
    "reset all",
    "drop table more",
)


@pytest.fixture(scope="module")
def served(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with serve(postgres) as served:
        yield served


@pytest.fixture(autouse=True)
def books(served: Served) -> Callable[[], None]:
    """Give what makes the tables anew for a program."""

    def create() -> None:
        with psycopg.connect(served.direct_dsn, autocommit=True) as direct:
            direct.execute("drop table if exists books, more")
            direct.execute(
                "create table books (id int primary key, title text not null)"
            )
            direct.execute("insert into books values (1, 'Ulysses'), (2, 'Čapek')")

    return create


# -- psycopg 3 -----------------------------------------------------------------------


def _psycopg_errors(connection: Any, **how: Any) -> Seen:
    seen: Seen = []
    for statement in FAILING:
        try:
            connection.execute(statement, **how)
        except psycopg.Error as error:
            seen.append((error.sqlstate, _fields(error.diag)))
        seen.append(connection.info.transaction_status.name)
        connection.rollback()
    return seen


def _fields(diag: Any) -> dict[str, object]:
    names = [name for name in dir(diag) if not name.startswith("_")]
    return {
        name: value
        for name in names
        if isinstance(value := getattr(diag, name), str | type(None))
    }


def psycopg_statements(dsn: str) -> Seen:
    seen: Seen = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in STATEMENTS:
            for binary in (False, True):
                if binary and not statement.startswith(("select", "values", "table")):
                    continue
                cursor = connection.cursor(binary=binary)
                cursor.execute(statement.encode())
                seen += [cursor.statusmessage, cursor.rowcount]
                if cursor.description:
                    columns = [
                        (each.name, each.type_code) for each in cursor.description
                    ]
                    seen += [columns, cursor.fetchall()]
    return seen


def psycopg_errors(dsn: str) -> Seen:
    with psycopg.connect(dsn) as connection:
        return [
            *_psycopg_errors(connection),
            *_psycopg_errors(connection, prepare=True),
            *_psycopg_errors(connection, binary=True),
        ]


def psycopg_settings(dsn: str) -> Seen:
    options = "-c work_mem=8MB -c search_path=a,public"
    with psycopg.connect(dsn, options=options, application_name="seen") as connection:
        info = connection.info
        reported = [info.parameter_status(name) for name in SETTINGS]
        rows = connection.execute("select name, setting from pg_settings").fetchall()
        # How the client came differs, and what is cached of that.
        return [reported, sorted(rows), info.encoding, info.server_version]


def psycopg_pipeline(dsn: str) -> Seen:
    seen: Seen = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (n,)) for n in range(50)]
            seen += [cursor.fetchall() for cursor in cursors]
        try:
            with connection.pipeline():  # which says so here or at its end
                for number in (1, 0, 2):
                    connection.execute("select 1 / %s::int", (number,))
        except psycopg.errors.DivisionByZero as error:
            seen.append((error.sqlstate, _fields(error.diag)))
        cursor = connection.cursor()
        rows = [(n, f"book {n}") for n in range(10, 60)]
        cursor.executemany("insert into books values (%s, %s)", rows)
        seen.append(cursor.rowcount)
    return seen


def psycopg_copy(dsn: str) -> Seen:
    seen: Seen = []
    data = {"text": ("10\ta\n", "x\ty\n"), "csv": ("20,a\n", "x,y\n")}
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.cursor()
        for style, (good, bad) in data.items():
            query = f"copy books from stdin (format {style})".encode()
            with cursor.copy(query) as copy:
                copy.write(good)
            seen.append(cursor.rowcount)
            try:
                with cursor.copy(query) as copy:
                    copy.write(bad)
            except psycopg.Error as error:
                seen.append((error.sqlstate, _fields(error.diag)))
        for style in ("text", "csv", "binary"):
            query = f"copy books to stdout (format {style})".encode()
            with cursor.copy(query) as copy:
                seen.append(b"".join(bytes(data) for data in copy))
    return seen


def psycopg_notices(dsn: str) -> Seen:
    seen: Seen = []
    levels = ("debug", "log", "info", "notice", "warning")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.add_notice_handler(lambda diag: seen.append(_fields(diag)))
        connection.execute("set client_min_messages to debug")
        for level in levels:
            raising = f"raise {level} 'word' using hint = 'h', errcode = 'U0001'"
            connection.execute(f"do $$ begin {raising}; end $$".encode())
        connection.execute("listen words")
        connection.execute("notify words, 'heard'")
        notify = next(connection.notifies(timeout=5, stop_after=1))
        seen.append((notify.channel, notify.payload))
    return seen


# -- psycopg 2 -----------------------------------------------------------------------


def psycopg2_statements(dsn: str) -> Seen:
    seen: Seen = []
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    cursor = connection.cursor()
    for statement in (*STATEMENTS, *FAILING):
        try:
            cursor.execute(statement)
        except psycopg2.Error as error:
            seen += [error.pgcode, error.pgerror, _fields(error.diag)]
            continue
        seen += [cursor.statusmessage, cursor.rowcount]
        if cursor.description:
            seen += [[each[:2] for each in cursor.description], cursor.fetchall()]
    cursor.copy_expert("copy books from stdin csv", io.StringIO("30,x\n31,y\n"))
    out = io.StringIO()
    cursor.copy_expert("copy books to stdout csv header", out)
    seen += [out.getvalue(), cursor.rowcount, connection.notices]
    seen += [connection.get_parameter_status(name) for name in SETTINGS]
    connection.close()
    return seen


# -- asyncpg -------------------------------------------------------------------------


def asyncpg_statements(dsn: str) -> Seen:
    return asyncio.run(_asyncpg_statements(**_places(dsn)))


async def _asyncpg_statements(**place: Any) -> Seen:
    seen: Seen = []
    connection = await asyncpg.connect(**place)
    connection.add_log_listener(lambda _, message: seen.append(message.as_dict()))
    for statement in (*STATEMENTS, *FAILING):
        try:
            prepared = await connection.prepare(statement)
            seen.append([tuple(row) for row in await prepared.fetch()])
            seen.append(prepared.get_statusmsg())
            seen.append([tuple(each) for each in prepared.get_attributes()])
        except asyncpg.PostgresError as error:
            seen.append(error.as_dict())
    async with connection.transaction():
        query = "select n from generate_series(1, 100) as n"
        seen.append([row["n"] async for row in connection.cursor(query, prefetch=7)])
    records = [(n, f"book {n}") for n in range(100, 200)]
    seen.append(await connection.copy_records_to_table("books", records=records))
    out = io.BytesIO()
    seen.append(await connection.copy_from_table("books", output=out, format="binary"))
    seen.append(out.getvalue())
    settings = connection.get_settings()
    seen += [getattr(settings, name) for name in SETTINGS]
    seen.append(tuple(connection.get_server_version()))
    await connection.close()
    return seen


# -- pg8000 --------------------------------------------------------------------------


def pg8000_statements(dsn: str) -> Seen:
    place = _places(dsn)
    if place["host"].startswith("/"):
        place["unix_sock"] = f"{place.pop('host')}/.s.PGSQL.{place.pop('port')}"
    seen: Seen = []
    with pg8000.native.Connection(**place) as connection:
        for statement in (*STATEMENTS, *FAILING):
            try:
                seen.append(connection.run(statement))
                seen += [connection.columns, connection.row_count]
                for column in connection.columns or ():
                    column.pop("table_oid", None)
            except pg8000.native.DatabaseError as error:
                seen.append(error.args[0])
        out = io.BytesIO()
        connection.run("copy books to stdout", stream=out)
        seen += [out.getvalue(), list(connection.notices)]
        seen.append(dict(connection.parameter_statuses))
    return seen


def _places(dsn: str) -> dict[str, Any]:
    """Give the host and so on that a connection string names."""
    words = dict(re.findall(r"(\w+)='([^']*)'", dsn))
    return {
        "host": words["host"],
        "port": int(words.get("port", 5432)),
        "user": words["user"],
        "database": words["dbname"],
    }


@pytest.mark.parametrize(
    "program",
    [
        psycopg_statements,
        psycopg_errors,
        psycopg_settings,
        psycopg_pipeline,
        psycopg_copy,
        psycopg_notices,
        psycopg2_statements,
        asyncpg_statements,
        pg8000_statements,
    ],
)
def test_a_program_sees_the_same(
    served: Served, books: Callable[[], None], program: Callable[[str], Seen]
) -> None:
    books()
    expected = program(served.direct_dsn)
    books()
    assert program(served.dsn) == expected
    assert len(expected) > 3


# -- psql ----------------------------------------------------------------------------


SCRIPT = r"""
\set VERBOSITY verbose
\d
\d books
\d+ pg_class
\dt+ pg_catalog.pg_c*
\df pg_catalog.a*
\du+
\dn+
\dx
\l
\dconfig work_mem
\echo :SERVER_VERSION_NAME :ENCODING :USER :DBNAME
begin;
insert into books values (9, 'x') returning *;
select * from nowhere;
select 1;
rollback;
copy books from stdin;
10	Dune
\.
copy books to stdout;
select 1 as a, 'x' as b \gdesc
select 'select ' || n from generate_series(1, 3) as n \gexec
\x
table books;
\x
select 1 \; select 2 \; select 1 / 0;
\errverbose
do $$ begin raise notice 'look'; end $$;
select $1, $2 \bind a b \g
\watch c=1 i=0.01
\crosstabview
\unset VERBOSITY
selec;
"""


def test_a_script_of_psql_sees_the_same(
    served: Served, books: Callable[[], None], tmp_path: Path
) -> None:
    script = tmp_path / "script.sql"
    script.write_text(SCRIPT)
    psql = Program.find("psql", served)
    books()
    expected = psql.around(served).run("-X", "-a", "-f", script)
    books()
    assert psql.run("-X", "-a", "-f", script) == expected
    assert "postgres" in expected.out
    assert "08P01" not in expected.err
