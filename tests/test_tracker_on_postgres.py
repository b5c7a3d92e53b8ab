"""The tracker beside a real PostgreSQL 16: does it know when nothing is under way?

After each portion of a program the server itself is asked, through another session
(`pg_stat_activity`), once it has read all that was sent and waits for more. Its state
is "idle" from the ReadyForQuery of an ended transaction to the next request.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kit.beside_postgres import Monitor, log_in, monitored, running_postgres
from tests.kit.frames import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="asks the kernel whether all has been read"
)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Where a PostgreSQL of our own has its socket."""
    with running_postgres() as directory:
        yield directory


@pytest.fixture(scope="module")
def monitor(directory: Path) -> Iterator[Monitor]:
    with monitored(directory) as connection:
        yield connection


SELECT = query("select 1")
BAD = query("select 1/0")
PBES = parse("select 1") + bind() + execute() + SYNC
BAD_PARSE = parse("select nonsense")
COPY_IN = query("copy u from stdin")
COPY_OUT = query("copy u to stdout")
EXTENDED_COPY = parse("copy u from stdin") + bind() + execute()
TWO_COPIES = query("copy u from stdin; copy u from stdin")
NEW_ROW = copy_data(b"7\n")
BAD_ROW = copy_data(b"not a number\n")
ROLLBACK = query("rollback")
BEGIN = query("begin")

# Each portion is sent when the one before it has been answered as far as it will be.
PROGRAMS: dict[str, Sequence[bytes]] = {
    "a query": [SELECT, BAD, SELECT],
    "several queries at once": [SELECT + SELECT + BAD + SELECT],
    "several statements in a query": [query("select 1; select 2; select 3")],
    "a query that fails in its middle": [query("select 1; select 1/0; select 3")],
    "an empty query": [query(""), query(";;"), query("-- nothing")],
    "a transaction": [BEGIN, SELECT, query("commit")],
    "a failed transaction": [BEGIN, BAD, SELECT, ROLLBACK],
    "a transaction in one go": [BEGIN + SELECT + query("commit")],
    "commit and chain": [BEGIN, query("commit and chain"), ROLLBACK],
    "a transaction left open": [query("begin; select 1"), ROLLBACK],
    "savepoints": [BEGIN, query("savepoint a"), BAD, query("rollback to a"), ROLLBACK],
    "extended": [PBES, PBES + PBES],
    "extended, described": [
        parse("select $1::int")
        + describe("S")
        + bind("1")
        + describe()
        + execute()
        + SYNC
    ],
    "extended, no rows to describe": [
        parse("begin") + describe("S") + bind() + describe() + execute() + SYNC,
        ROLLBACK,
    ],
    "an empty statement, extended": [
        parse("") + bind() + describe() + execute() + SYNC
    ],
    "a portal in portions": [
        BEGIN,
        parse("select generate_series(1, 5)") + bind(portal="p") + SYNC,
        execute("p", rows=2) + FLUSH,
        execute("p", rows=2) + SYNC,
        execute("p", rows=9) + close("P", "p") + SYNC,
        ROLLBACK,
    ],
    "a portal suspended, and a Sync": [
        parse("select generate_series(1, 5)") + bind() + execute(rows=2) + FLUSH,
        execute(rows=1) + SYNC,
    ],
    "executed and flushed, no Sync": [
        parse("select 1") + bind() + execute() + FLUSH,
        bind() + execute() + FLUSH,
        SYNC,
    ],
    "answers that nobody asked to flush": [parse("select 1") + bind(), execute(), SYNC],
    "bound and flushed, no Sync": [parse("select 1") + bind() + FLUSH, SYNC],
    "Sync alone": [SYNC, SYNC + SYNC + SYNC],
    "Flush alone": [FLUSH, SELECT, FLUSH],
    "a bad Parse, then its Sync": [BAD_PARSE, SYNC],
    "a bad Parse, discarded requests, a Sync": [BAD_PARSE, SELECT + FLUSH, SYNC],
    "a bad Parse, Query and Sync at once": [BAD_PARSE + SELECT + SYNC],
    "a bad Parse, FunctionCall, Query, Sync": [
        BAD_PARSE + function_call(1598) + SELECT + SYNC,
        SELECT,
    ],
    "a bad Parse with pipelines behind": [BAD_PARSE + PBES + PBES],
    "an error in Bind": [parse("select $1::int") + bind("x") + execute() + SYNC],
    "an error in Execute": [parse("select 1/0") + bind() + execute() + SYNC + SELECT],
    "an error in Describe": [describe("S", "nothing") + SYNC],
    "Close of what is not": [close("S", "nothing") + SYNC],
    "an error at Sync": [
        parse("insert into t values (1), (1)") + bind() + execute() + SYNC,
        SELECT,
    ],
    "an error at commit": [
        BEGIN,
        query("insert into t values (1), (1)"),
        query("commit"),
    ],
    "a Query ends a pipeline": [parse("select 1") + bind() + execute() + SELECT],
    "a Query after a flushed pipeline": [
        parse("select 1") + bind() + execute() + FLUSH,
        SELECT,
    ],
    "prepared statements": [
        parse("select 1", name="s") + SYNC,
        bind(statement="s") + execute() + SYNC,
        query("deallocate all"),
        bind(statement="s") + SYNC,
    ],
    "a name prepared twice": [
        parse("select 1", name="s") + SYNC + parse("select 2", name="s") + SYNC
    ],
    "DEALLOCATE ALL and a Parse of the name": [
        parse("select 1", name="s") + SYNC,
        query("deallocate all") + parse("select 2", name="s") + SYNC,
    ],
    "discard all": [query("discard all"), SELECT],
    "a function call": [function_call(1598), function_call(1598) + SELECT],
    "a function call that fails": [function_call(1), SELECT],
    "COPY out": [COPY_OUT, COPY_OUT + SELECT],
    "COPY out, extended": [parse("copy u to stdout") + bind() + execute() + SYNC],
    "COPY in": [
        BEGIN,
        COPY_IN,
        NEW_ROW,
        NEW_ROW.replace(b"7", b"8"),
        COPY_DONE,
        ROLLBACK,
    ],
    "COPY in at once": [BEGIN + COPY_IN + NEW_ROW + COPY_DONE + ROLLBACK],
    "COPY in without rows": [COPY_IN + COPY_DONE, COPY_IN, COPY_DONE],
    "COPY in, given up": [COPY_IN, NEW_ROW, copy_fail(), SELECT],
    "COPY in, given up at once": [COPY_IN + NEW_ROW + copy_fail() + SELECT],
    "COPY in, a bad row": [COPY_IN, BAD_ROW + COPY_DONE, SELECT],
    "COPY in, a bad row, and late data": [
        COPY_IN,
        BAD_ROW + FLUSH,
        COPY_DONE,
        NEW_ROW * 100 + COPY_DONE,
        SELECT,
    ],
    "COPY in, a bad row, all at once": [
        COPY_IN + BAD_ROW + NEW_ROW * 9 + COPY_DONE + SELECT
    ],
    "COPY in of nothing that exists": [
        query("copy nothing from stdin") + NEW_ROW + COPY_DONE
    ],
    "COPY in and another statement": [
        query("copy u from stdin; select 1"),
        COPY_DONE,
        SELECT,
    ],
    "COPY twice in a query": [TWO_COPIES, COPY_DONE, COPY_DONE],
    "COPY twice in a query at once": [TWO_COPIES + COPY_DONE + COPY_DONE + SELECT],
    "COPY in, extended": [
        BEGIN,
        EXTENDED_COPY + FLUSH,
        NEW_ROW,
        COPY_DONE + SYNC,
        ROLLBACK,
    ],
    "COPY in, extended, pipelined": [
        BEGIN + EXTENDED_COPY + NEW_ROW + COPY_DONE + SYNC,
        ROLLBACK,
    ],
    "COPY in, extended, as libpq": [
        BEGIN,
        EXTENDED_COPY + SYNC,
        NEW_ROW,
        COPY_DONE + SYNC,
        ROLLBACK,
    ],
    "COPY in, extended, Sync in another portion": [
        EXTENDED_COPY + SYNC,
        COPY_DONE,
        FLUSH,
        SYNC,
    ],
    "COPY in, extended, Syncs swallowed": [
        EXTENDED_COPY + SYNC + SYNC + COPY_DONE,
        FLUSH,
        SYNC,
    ],
    "COPY in, extended, ended by a Query": [EXTENDED_COPY + COPY_DONE + SELECT, SELECT],
    "COPY in, extended, a bad row": [
        EXTENDED_COPY + SYNC,
        BAD_ROW,
        NEW_ROW + COPY_DONE,
        SYNC,
    ],
    "COPY in, extended, a bad row, at once": [
        EXTENDED_COPY + BAD_ROW + COPY_DONE + SYNC + PBES
    ],
    "COPY in, extended, given up": [EXTENDED_COPY + SYNC, copy_fail(), SYNC],
    "notices": [query("do $$ begin raise notice 'FATAL'; end $$")],
    "a message FATAL": [query("do $$ begin raise exception 'FATAL'; end $$"), SELECT],
    "notifications": [query("listen here"), query("notify here, 'you'"), SELECT],
    "settings": [
        query("set timezone to 'UTC'"),
        query("set datestyle to german; select 1"),
    ],
    "stray CopyData": [NEW_ROW + COPY_DONE, SELECT + NEW_ROW, SELECT],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_quiet_exactly_when_the_server_is_idle(
    name: str, directory: Path, monitor: Monitor
) -> None:
    with log_in(directory, monitor) as session:
        for number, portion in enumerate(PROGRAMS[name]):
            session.ask(portion)
            truth = (number, session.answers, session.state == "idle")
            assert truth == (number, session.answers, session.tracker.is_quiet)
            assert not session.tracker.desynced
        assert session.tracker.is_quiet
        session.answers = ""
        session.ask(query("select 1"))
        assert session.answers == "TCZ"


# asyncpg's prepare ends with Flush: the server still calls that active, but all that
# a Sync would do is to end an empty transaction.
def test_a_statement_only_parsed_counts_as_quiet(
    directory: Path, monitor: Monitor
) -> None:
    with log_in(directory, monitor) as session:
        session.ask(parse("select 1", name="s"), describe("S", "s"), FLUSH)
        assert session.answers == "1tT"
        assert session.state == "active"
        assert session.tracker.is_quiet
        session.ask(SYNC)
        assert session.answers == "1tTZ"
        assert session.state == "idle"


ENDINGS: dict[str, Sequence[bytes]] = {
    "a Query within COPY": [COPY_IN, SELECT],
    "a shutdown of the session": [
        query("select pg_terminate_backend(pg_backend_pid())")
    ],
    "a message of no type": [SELECT, b"p\0\0\0\4"],
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_server_that_ends_the_session_is_understood(
    name: str, directory: Path, monitor: Monitor
) -> None:
    with log_in(directory, monitor) as session:
        session.ask(*ENDINGS[name])
        assert session.answers.endswith("F")
        assert session.state == ""
        assert session.tracker.upstream_failed
        assert not session.tracker.is_quiet


def test_terminate_is_understood(directory: Path, monitor: Monitor) -> None:
    with log_in(directory, monitor) as session:
        session.ask(SELECT, TERMINATE)
        assert session.answers == "TCZ"
        assert session.tracker.client_terminated


# SWAP's rule: what cannot be decided costs the right to be quiet, and nothing else.
@pytest.mark.parametrize("row", [NEW_ROW, BAD_ROW], ids=["a good row", "a bad row"])
def test_a_sync_after_copy_data_cannot_be_decided(
    row: bytes, directory: Path, monitor: Monitor
) -> None:
    with log_in(directory, monitor) as session:
        session.ask(BEGIN)
        session.ask(EXTENDED_COPY + row + SYNC + COPY_DONE + SYNC)
        session.ask(ROLLBACK)
        assert session.tracker.desynced
        assert session.answers.endswith("CZ")
        assert session.state == "idle"
        assert not session.tracker.is_quiet
