"""pg_dump through the proxy, and psql to bring back what it wrote."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import RULES, Program, Served, serve

SCHEMA = """
create schema library;
create table library.author (id int primary key, name text not null);
create table library.book (
    id int primary key, author int references library.author, title text, data bytea
);
create index on library.book (title);
create view library.titles as select title from library.book;
comment on table library.book is 'paper, with ''quotes''';
insert into library.author values (1, 'Čapek'), (2, E'tab\\there');
insert into library.book
    select n, n % 2 + 1, repeat('x', n), decode('00ff', 'hex')
    from generate_series(0, 2000, 2) as n;
"""


@pytest.fixture(scope="module", params=RULES)
def served(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[Served]:
    with serve(postgres, has_rules=request.param) as served:
        with psycopg.connect(served.direct_dsn, autocommit=True) as direct:
            direct.execute(SCHEMA)
        yield served
        with psycopg.connect(served.direct_dsn, autocommit=True) as direct:
            direct.execute("drop schema library cascade")


def test_a_dump_is_the_same_as_around_the_proxy(served: Served) -> None:
    pg_dump = Program.find("pg_dump", served)
    arguments = ("--schema=library", "--restrict-key=same")
    done = pg_dump.run(*arguments)
    if served.has_rules:
        # It begins with settings that a cluster does not have.
        assert done.code == 1
        assert 'setting configuration parameter "' in done.err
        assert '" not supported' in done.err
        return
    assert (done.code, done.err) == (0, "")
    assert "COPY library.book (id, author, title, data) FROM stdin;" in done.out
    assert done.out == pg_dump.around(served).run(*arguments).out


@pytest.mark.parametrize("served", [False], indirect=True, ids=["no-rules"])
@pytest.mark.parametrize("style", ["plain", "custom"])
def test_a_dump_is_brought_back(served: Served, tmp_path: Path, style: str) -> None:
    dump = tmp_path / "dump"
    pg_dump = Program.find("pg_dump", served)
    done = pg_dump.run("--schema=library", f"--format={style}", "-f", dump)
    assert (done.code, done.err) == (0, "")
    before = _content(served)
    psql = Program.find("psql", served)
    psql.run("-Xqc", "drop schema library cascade")
    if style == "plain":
        done = psql.run("-Xq", "-v", "ON_ERROR_STOP=1", "-f", dump)
    else:
        done = Program.find("pg_restore", served).run("-e", "-d", "postgres", dump)
    assert (done.code, done.err) == (0, "")
    assert _content(served) == before


def _content(served: Served) -> object:
    with psycopg.connect(served.direct_dsn) as direct:
        query = "select b.*, a.name from library.book b join library.author a"
        rows = direct.execute(f"{query} on a.id = b.author order by b.id".encode())
        return rows.fetchall()
