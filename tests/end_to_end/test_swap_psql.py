"""psql over one upstream after another, beside a psql around the proxy."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.end_to_end.test_differential import SCRIPT as CATALOG_SCRIPT
from tests.end_to_end.test_psql import CANCELED
from tests.kit.clients import (
    ORIGINS,
    Ended,
    Origin,
    Program,
    Served,
    Terminal,
    wait_until_running,
)
from tests.kit.storm import Weather, aging, storming

SCRIPT = r"""
\set VERBOSITY verbose
set search_path to elsewhere, public;
set datestyle to 'SQL, DMY';
select date '03/04/2020' as day, current_setting('search_path') as path \gset
\echo :day :'path'
select $1::date, $2::text \bind '05/06/2020' :path \g
select $1::date \bind '2020-01-02' \gset kept_
\echo :kept_date
insert into books values (:'word_id', 'x');
\set word_id 12
insert into books values (:'word_id', $1) returning * \bind 'it''s' \g
begin;
set local timezone to 'Asia/Tokyo';
insert into books values (1, 'again');
select 1;
rollback;
show timezone;
\set ON_ERROR_ROLLBACK on
begin;
insert into books values (13, 'kept');
insert into books values (13, 'again');
select * from books order by id;
set timezone to 'UTC';
commit;
\set ON_ERROR_ROLLBACK off
show timezone;
\set AUTOCOMMIT off
insert into books values (14, 'gone');
savepoint one;
select 1 / 0;
rollback to one;
rollback;
\set AUTOCOMMIT on
copy books from stdin;
20	Dune
21	Solaris
\.
copy books from stdin;
twenty	bad
\.
\copy (select * from books order by id) to pstdout csv header
select count(*) from books \watch c=3 i=0.01
set client_encoding to latin1;
select 'ý', length('é');
reset client_encoding;
select 'show ' || name from (values ('timezone'), ('datestyle')) as v (name) \gexec
select n from generate_series(1, 25) as n \gdesc
\set FETCH_COUNT 7
select n from generate_series(1, 25) as n;
\unset FETCH_COUNT
do $$ begin raise notice 'look' using detail = 'd'; end $$;
select 1 \; set extra_float_digits to 0 \; select 1.0::float8 / 3;
select 1.0::float8 / 3;
set extra_float_digits to 3 \; select 1 / 0;
show extra_float_digits;
selec;
\errverbose
reset all;
show search_path;
"""

# What is typed, and the prompt that comes when it has been answered.
READY, MORE, IN_BLOCK, FAILED, COPYING = (
    "postgres=> ",
    "postgres-> ",
    "postgres=*> ",
    "postgres=!> ",
    ">> ",
)
TYPED = (
    ("set search_path to elsewhere, public;", READY),
    (r"\set word 'it''s'", READY),
    ("select :'word', current_setting('search_path');", READY),
    ("set datestyle to 'SQL, DMY';", READY),
    ("select date '03/04/2020'", MORE),
    ("as day;", READY),
    (r"select $1::date, $2::int + 1 as n \bind '05/06/2020' 41 \g", READY),
    ("begin;", IN_BLOCK),
    ("insert into books values (10, 'Dune');", IN_BLOCK),
    ("select * from nowhere;", FAILED),
    ("select 1;", FAILED),
    ("rollback;", READY),
    ("table books;", READY),
    ("begin;", IN_BLOCK),
    ("set local timezone to 'Asia/Tokyo';", IN_BLOCK),
    ("savepoint one;", IN_BLOCK),
    ("insert into books values (1, 'again');", FAILED),
    ("rollback to one;", IN_BLOCK),
    ("show timezone;", IN_BLOCK),
    ("commit;", READY),
    ("show timezone;", READY),
    ("copy books from stdin;", COPYING),
    ("11\tEmma", COPYING),
    ("\\.", READY),
    (r"\copy (select * from books order by id) to pstdout", READY),
    ("select max(id) as top from books \\gset", READY),
    (r"\echo :top :word", READY),
    ("selec;", READY),
    (r"\d books", READY),
    ("select count(*) from generate_series(1, 1000);", READY),
    ("set client_encoding to latin1;", READY),
    (r"\encoding", READY),
    ("reset all;", READY),
    ("show datestyle; show search_path;", READY),
    (r"select $1::date \bind '05/06/2020' \g", READY),
)
LIMITS = 20


@pytest.fixture(scope="module")
def storm(postgres: EmbeddedPostgres) -> Iterator[Weather]:
    with storming(postgres) as weather:
        yield weather


@pytest.fixture(params=ORIGINS)
def psql(request: pytest.FixtureRequest, storm: Weather) -> Program:
    origin: Origin = request.param
    return Program.find("psql", storm.served, origin)


def books_anew(served: Served) -> None:
    with psycopg.connect(served.direct_dsn, autocommit=True) as direct:
        direct.execute("drop table if exists books, more")
        direct.execute("create table books (id int primary key, title text not null)")
        direct.execute("insert into books values (1, 'Ulysses'), (2, 'Čapek')")


# -- scripts -------------------------------------------------------------------------


@pytest.mark.parametrize("script", [SCRIPT, CATALOG_SCRIPT], ids=["life", "catalogs"])
def test_a_script_sees_the_same_in_a_storm(
    storm: Weather, script: str, tmp_path: Path
) -> None:
    served = storm.served
    psql = Program.find("psql", served)  # that of the system may lack \\bind
    file = tmp_path / "script.sql"
    file.write_text(script)

    def run(program: Program) -> Ended:
        books_anew(served)
        done = program.run("-X", "-a", "-f", file)
        return Ended(done.code, without_moments(done.out), done.err)

    expected = run(psql.around(served))
    with storm.blowing(at_least=15):
        assert run(psql) == expected
    assert (expected.code, "ERROR" in expected.err) == (0, True)
    assert "08P01" not in expected.err


def test_a_script_in_one_transaction_sees_the_same_in_a_storm(
    storm: Weather, psql: Program
) -> None:
    script = "insert into books values (3, 'x');\nset timezone to 'UTC';\nselect 1/0;\n"
    for program in (psql.around(storm.served), psql):
        books_anew(storm.served)
        done = program.run("-X1", "-v", "ON_ERROR_STOP=1", "-f-", said=script)
        assert (done.code, "division by zero" in done.err) == (3, True)
        assert psql.run("-XAtc", "select max(id) from books").out == "2\n"


def without_moments(text: str) -> str:
    """Take out what \\watch says of the time."""
    return re.sub(r"(?m)^\w{3} .*(?= \(every)", "(a moment)", text)


# -- Ctrl-C (62) -----------------------------------------------------------------------


def test_an_interrupt_cancels_the_statement_after_swaps(
    storm: Weather, psql: Program
) -> None:
    served = storm.served
    words = ("-Xc", "select 1", "-c", "select 2", "-c", "select pg_sleep(62.25)")
    with storm.blowing(at_least=2), psql.running(*words) as running:
        wait_until_running(served, "pg_sleep(62.25)")
        pressed = time.monotonic()
        running.interrupt()
        done = running.wait()
        assert time.monotonic() - pressed < 1
    assert (done.code, CANCELED in done.err) == (1, True)


def test_ctrl_c_on_a_terminal_before_and_after_swaps(
    storm: Weather, psql: Program
) -> None:
    with storm.blowing(at_least=5), psql.on_terminal("-X", "-n") as terminal:
        terminal.wait_for(READY)
        for seconds in ("63.1", "63.2", "63.3"):
            terminal.type(f"select pg_sleep({seconds});\n")
            wait_until_running(storm.served, f"pg_sleep({seconds})")
            terminal.type("\x03")
            terminal.wait_for(f"ERROR:  {CANCELED}")
            terminal.wait_for(READY)
            terminal.type("select 1;\n")
            terminal.wait_for("(1 row)")
            terminal.wait_for(READY)
        terminal.type("\\q\n")
        assert terminal.wait() == 0


# -- a terminal that is left open ------------------------------------------------------


def screens(terminal: Terminal, storm: Weather | None) -> list[str]:
    """Type all lines; give what came after each.

    With a ``storm``, each line outside a transaction waits until the session has
    moved since the last one, by its age alone.
    """
    terminal.wait_for(READY)
    seen = []
    prompt = READY
    for line, next_prompt in TYPED:
        if storm is not None and prompt == READY:
            storm.wait_for_swaps(1)
        terminal.type(line + "\n")
        prompt = next_prompt
        seen.append(terminal.wait_for(prompt))
    terminal.type("\\q\n")
    assert terminal.wait() == 0
    return seen


@pytest.mark.timeout(60)
def test_psql_is_left_open_across_twenty_limits(postgres: EmbeddedPostgres) -> None:
    with aging(postgres, limit=0.4, cluster_limit=1.2) as old_age:
        served = old_age.served
        program = Program.find("psql", served)
        books_anew(served)
        with program.around(served).on_terminal("-X", "-n") as terminal:
            expected = screens(terminal, None)
        books_anew(served)
        with (
            old_age.blowing(at_least=LIMITS),
            program.on_terminal("-X", "-n") as terminal,
        ):
            assert screens(terminal, old_age) == expected
        assert "Emma" in "".join(expected)


def test_ctrl_c_finds_a_session_that_has_moved_by_its_age(
    postgres: EmbeddedPostgres,
) -> None:
    with aging(postgres, limit=0.2) as old_age:
        program = Program.find("psql", old_age.served)
        with program.on_terminal("-X", "-n") as terminal:
            terminal.wait_for(READY)
            old_age.wait_for_swaps(2)
            terminal.type("select pg_sleep(64);\n")
            wait_until_running(old_age.served, "pg_sleep(64)")
            terminal.type("\x03")
            terminal.wait_for(f"ERROR:  {CANCELED}")
            terminal.wait_for(READY)
