"""psql through the proxy: the bundled one and the system's, scripts and a terminal."""

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import (
    ORIGINS,
    RULES,
    Origin,
    Program,
    Served,
    serve,
    wait_until_running,
)

pytestmark = pytest.mark.usefixtures("filled")

CANCELED = "canceling statement due to user request"


@pytest.fixture(scope="module", params=RULES)
def served(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[Served]:
    with serve(postgres, has_rules=request.param) as served:
        yield served


@pytest.fixture(scope="module")
def filled(served: Served) -> None:
    """Have a table to look at."""
    psql = Program.find("psql", served)
    created = psql.run(
        "-Xqc", "create table shelf (id int primary key, title text not null)"
    )
    assert (created.code, created.err) == (0, "")
    inserted = psql.run("-Xqc", "insert into shelf values (1, 'Ulysses'), (2, 'Emma')")
    assert (inserted.code, inserted.err) == (0, "")


@pytest.fixture(params=ORIGINS)
def psql(request: pytest.FixtureRequest, served: Served) -> Program:
    origin: Origin = request.param
    return Program.find("psql", served, origin)


# -- what psql asks the catalogs -----------------------------------------------------


def test_tables_are_listed_and_described(psql: Program) -> None:
    listed = psql.run("-X", "-c", r"\d", "-c", r"\dt+")
    assert listed.code == 0
    assert re.search(r"public \| shelf +\| table \| admin", listed.out)
    assert "Access method" in listed.out
    described = psql.run("-X", "-c", r"\d shelf")
    assert '"shelf_pkey" PRIMARY KEY, btree (id)' in described.out
    assert re.search(r"title +\| text +\| +\| not null", described.out)


def test_databases_roles_and_schemas_are_listed(psql: Program) -> None:
    for command, found in ((r"\l", "postgres"), (r"\du", "admin"), (r"\dn", "public")):
        done = psql.run("-X", "-c", command)
        assert (done.code, done.err) == (0, ""), command
        assert found in done.out


def test_where_it_is_connected(served: Served, psql: Program) -> None:
    done = psql.run("-X", "-c", r"\conninfo")
    assert 'connected to database "postgres" as user "admin"' in done.out
    assert f'at port "{served.port}"' in done.out


def test_a_missing_table_is_not_found(psql: Program) -> None:
    done = psql.run("-X", "-c", r"\d nowhere")
    assert (done.code, done.err) == (
        1,
        'Did not find any relation named "nowhere".\n',
    )


# -- queries and scripts -------------------------------------------------------------


def test_several_statements_in_one_command(psql: Program) -> None:
    done = psql.run("-XAt", "-c", "select 1; select 2; select 3", "-c", "select 4")
    # psql 14 and older show the last result of a command alone.
    assert (done.code, done.lines) == (0, ["1", "2", "3", "4"])


def test_a_command_that_fails_stops_what_follows_in_it(psql: Program) -> None:
    done = psql.run("-XAt", "-c", "select 1; select 1 / 0; select 3")
    assert (done.code, done.lines) == (1, ["1"])
    assert done.err == "ERROR:  division by zero\n"


@pytest.mark.parametrize(
    ("stops", "code", "lines"), [(True, 3, ["1"]), (False, 0, ["1", "2"])]
)
def test_a_script_with_an_error(
    psql: Program, tmp_path: Path, stops: bool, code: int, lines: list[str]
) -> None:
    script = tmp_path / "script.sql"
    script.write_text("select 1;\nselect * from nowhere;\nselect 2;\n")
    stop = ("-v", "ON_ERROR_STOP=1") if stops else ()
    done = psql.run("-XAt", *stop, "-f", script)
    assert (done.code, done.lines) == (code, lines)
    assert f'{script}:2: ERROR:  relation "nowhere" does not exist' in done.err
    assert "LINE 1: select * from nowhere;" in done.err


def test_a_script_in_a_transaction_is_undone_as_one(psql: Program) -> None:
    script = "insert into shelf values (3, 'Dune');\nselect 1 / 0;\n"
    done = psql.run("-X1", "-v", "ON_ERROR_STOP=1", "-f", "-", said=script)
    assert (done.code, "division by zero" in done.err) == (3, True)
    assert psql.run("-XAtc", "select count(*) from shelf where id = 3").out == "0\n"


def test_statements_are_timed(psql: Program) -> None:
    done = psql.run("-XAt", "-c", r"\timing", "-c", "select 1")
    assert re.search(r"^Time: \d+\.\d+ ms$", done.out, re.MULTILINE)


def test_a_statement_with_parameters_and_one_described(psql: Program) -> None:
    script = "select :'word', :number + 1;\nselect 1 as one, 'x' as two \\gdesc\n"
    done = psql.run("-XAt", "-v", "word=it's", "-v", "number=41", "-f-", said=script)
    assert (done.code, done.lines) == (0, ["it's|42", "one|integer", "two|text"])


def test_a_result_becomes_statements(psql: Program) -> None:
    script = "select 'select ' || n from generate_series(1, 3) as n \\gexec\n"
    done = psql.run("-XAt", "-f-", said=script)
    assert done.lines == ["1", "2", "3"]


def test_the_result_of_a_large_query(psql: Program) -> None:
    query = "select repeat('x', 1000) from generate_series(1, 20000)"
    done = psql.run("-XAtc", query)
    assert (done.code, len(done.out)) == (0, 20_000 * 1001)


def test_notices_are_shown(psql: Program) -> None:
    done = psql.run("-Xqc", "drop table if exists nothing")
    assert (done.code, done.err) == (
        0,
        'NOTICE:  table "nothing" does not exist, skipping\n',
    )


# -- COPY ----------------------------------------------------------------------------


def test_a_file_is_copied_in_and_out(
    psql: Program, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    table = f"copied_{request.node.callspec.id.replace('-', '_')}"
    rows = "".join(f"{number},row {number}\n" for number in range(2500))
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(rows)
    psql.run("-Xqc", f"create table {table} (id int, t text)")
    done = psql.run("-X", "-c", rf"\copy {table} from '{source}' csv")
    assert (done.code, done.out, done.err) == (0, "COPY 2500\n", "")
    done = psql.run("-X", "-c", rf"\copy (table {table}) to '{target}' csv")
    assert (done.code, done.out) == (0, "COPY 2500\n")
    assert target.read_text() == rows


def test_a_copy_in_a_script_takes_its_data_from_it(psql: Program) -> None:
    script = (
        "begin; delete from shelf;\n"
        "copy shelf from stdin;\n1\tUlysses\n2\tEmma\n\\.\n"
        "copy shelf to stdout;\ncommit;\n"
    )
    done = psql.run("-Xq", "-f-", said=script)
    assert (done.code, done.lines, done.err) == (0, ["1\tUlysses", "2\tEmma"], "")


def test_bad_data_says_its_line(psql: Program) -> None:
    script = "copy shelf from stdin;\n8\tA\nnine\tB\n\\.\nselect 'went on';\n"
    done = psql.run("-XAt", "-f-", said=script)
    assert 'CONTEXT:  COPY shelf, line 2, column id: "nine"' in done.err
    assert done.lines == ["went on"]


# -- the session ---------------------------------------------------------------------


def test_the_options_of_the_environment_reach_the_session(psql: Program) -> None:
    options = "-c search_path=elsewhere -c timezone=Asia/Tokyo"
    asked = ("-c", "show search_path", "-c", "show timezone")
    done = psql.run("-XAt", *asked, PGOPTIONS=options)
    assert (done.code, done.lines, done.err) == (0, ["elsewhere", "Asia/Tokyo"], "")


def test_an_option_that_dsql_lacks_is_left_out_with_a_warning(
    served: Served, psql: Program
) -> None:
    done = psql.run("-XAtc", "show work_mem", PGOPTIONS="-c work_mem=8MB")
    if served.has_rules:
        assert done.lines == ["4MB"]
        assert 'not supported by Aurora DSQL were left out: "work_mem"' in done.err
    else:
        assert (done.lines, done.err) == (["8MB"], "")


def test_a_server_that_is_not_there(psql: Program) -> None:
    done = psql.run("-Xc", "select 1", PGPORT="1")
    assert (done.code, "Connection refused" in done.err) == (2, True)


def test_a_role_that_is_not_there(psql: Program) -> None:
    done = psql.run("-Xc", "select 1", PGUSER="nobody")
    assert done.code == 2
    assert "FATAL:  Role nobody does not exist" in done.err
    assert "AWS IAM GRANT" in done.err


def test_the_server_is_ready_for_pg_isready(served: Served) -> None:
    isready = Program.find("pg_isready", served)
    done = isready.run()
    assert (done.code, done.out.endswith("accepting connections\n")) == (0, True)


def test_a_unix_socket_is_a_way_in(postgres: EmbeddedPostgres, served: Served) -> None:
    settings: dict[str, Any] = {"has_rules": served.has_rules, "is_empty": False}
    with (
        # Not pytest's directory: the path of a socket has 107 bytes at most.
        tempfile.TemporaryDirectory(prefix="dsqlproxy-") as directory,
        serve(postgres, listen=f"unix:{directory}:6543", **settings) as other,
    ):
        psql = Program.find("psql", other)
        done = psql.run("-XAt", "-c", "select 1", "-c", r"\conninfo")
        assert done.lines[0] == "1"
        assert f'via socket in "{directory}"' in done.out


# -- Ctrl-C --------------------------------------------------------------------------


def test_an_interrupt_cancels_the_statement(served: Served, psql: Program) -> None:
    with psql.running("-Xc", "select pg_sleep(61.25)", "-c", "select 1") as running:
        wait_until_running(served, "pg_sleep(61.25)")
        pressed = time.monotonic()
        running.interrupt()
        done = running.wait()
        assert time.monotonic() - pressed < 1
    assert (done.code, CANCELED in done.err) == (1, True)


def test_a_session_on_a_terminal(served: Served, psql: Program) -> None:
    with psql.on_terminal("-X") as terminal:
        greeting = terminal.wait_for("postgres=> ")
        assert 'Type "help" for help.' in greeting
        terminal.type("begin;\n")
        terminal.wait_for("postgres=*> ")
        terminal.type("select pg_sleep(61.5);\n")
        wait_until_running(served, "pg_sleep(61.5)")
        pressed = time.monotonic()
        terminal.type("\x03")
        terminal.wait_for(f"ERROR:  {CANCELED}")
        assert time.monotonic() - pressed < 1
        terminal.wait_for("postgres=!> ")
        terminal.type("rollback;\n")
        terminal.wait_for("ROLLBACK")
        terminal.wait_for("postgres=> ")
        terminal.type("table shelf;\n")
        assert "Ulysses" in terminal.wait_for("(2 rows)")
        terminal.type("\\q\n")
        assert terminal.wait() == 0
