"""What `test_transcripts` says to a server, frame by frame.

The table ``t`` has the columns ``id`` and ``v`` and three rows, ``late`` has a
constraint that is checked at the end of a transaction. Each play finds them so.
"""

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import frame
from tests.kit.frames import (
    SYNC,
    bind,
    close,
    describe,
    execute,
    function_call,
    parse,
    query,
)
from tests.kit.transcript import Play, Say

TABLES = (
    "drop table if exists t, late",
    "create table t (id int primary key, v text)",
    "create table late (id int unique deferrable initially deferred)",
    "alter table t owner to admin",
    "alter table late owner to admin",
)
ROWS = (
    "truncate t, late",
    "insert into t values (1, 'one'), (2, 'two'), (3, null)",
)

_INT8_ABS = 1230  # the oid of abs(bigint), fixed in PostgreSQL's catalog
_INT4_DIV = 154  # and of int4div
_ONE, _ZERO = (1).to_bytes(4), (0).to_bytes(4)


def _binary_bind(*formats: int) -> bytes:
    """Bind the unnamed statement, asking for results in these formats."""
    codes = b"".join(code.to_bytes(2) for code in formats)
    body = b"\0\0" + bytes(4) + len(formats).to_bytes(2) + codes
    return frame(FrontendType.BIND, body)


def run(sql: str, *parameters: str) -> bytes:
    """Give the messages of one extended query, without Sync."""
    return parse(sql) + bind(*parameters) + describe() + execute()


GREETINGS = [
    Play("no word but the greeting", ""),
    Play(
        "settings asked for at the start",
        "TDC TDC Z",
        Say(query("show search_path; show timezone")),
        application_name="play",
        client_encoding="latin1",
        datestyle="German",
        options="-c search_path=a,b --timezone=Asia/Tokyo -c work_mem=8MB",
    ),
    Play("a setting that is none", "E", no_such_setting="1"),
    Play("a setting of a value that it cannot have", "E", work_mem="much"),
    Play("a database that is none", "E", database="nowhere"),
]

SIMPLE = [
    Play("one query", "TDDDCZ", Say(query("select * from t order by id"))),
    Play("no rows", "TCZ", Say(query("select * from t where false"))),
    Play("no columns", "TDCZ", Say(query("select"))),
    Play("an empty query", "IZ", Say(query(""))),
    Play("nothing but semicolons", "IZ", Say(query(" ; ;; "))),
    Play(
        "several statements",
        "TDC CC TDC Z",
        Say(
            query(
                "select 1; insert into t values (4); delete from t where id = 4;"
                " select count(*) from t"
            )
        ),
    ),
    Play(
        "several statements of which one fails",
        "TDC C E Z",
        Say(query("select 1; delete from t; select 1 / 0; select 2")),
    ),
    Play(
        "several queries at once",
        "TDCZ EZ TDCZ",
        Say(query("select 1") + query("select nope") + query("select 3"), "ZZZ"),
    ),
    Play(
        "a transaction",
        "CZ TDCZ CZ CZ",
        Say(query("begin")),
        Say(query("select 1")),
        Say(query("update t set v = 'x'")),
        Say(query("rollback")),
    ),
    Play(
        "a transaction that fails",
        "CZ EZ EZ CZ TDCZ",
        Say(query("begin")),
        Say(query("select * from nowhere")),
        Say(query("select 1")),
        Say(query("commit")),
        Say(query("select 1")),
    ),
    Play(
        "savepoints",
        "CCCZ EZ CZ TDCZ CZ",
        Say(query("begin; insert into t values (9); savepoint s")),
        Say(query("select 1 / 0")),
        Say(query("rollback to s")),
        Say(query("select count(*) from t")),
        Say(query("rollback")),
    ),
    Play(
        "settings that are reported",
        "CSZ CCSSZ CSZ CZ CSZ CSZ",
        Say(query("set application_name to 'x'")),
        Say(query("set datestyle to German; set timezone to 'Asia/Tokyo'")),
        Say(query("reset timezone")),
        Say(query("begin")),
        Say(query("set local application_name to 'y'")),
        Say(query("rollback")),
    ),
    Play(
        "notices between the answers",
        "NC NC TDC Z",
        Say(
            query(
                "drop table if exists nothing;"
                " do $$ begin raise warning 'look' using hint = 'h', detail = 'd';"
                " end $$; select 1"
            )
        ),
    ),
    Play(
        "a cursor of SQL",
        "CCZ TDDCZ TDCZ CCZ",
        Say(query("begin; declare c cursor for select * from t order by id")),
        Say(query("fetch 2 from c")),
        Say(query("fetch all from c")),
        Say(query("close c; commit")),
    ),
    Play(
        "a notification of one's own",
        "CZ CAZ",
        Say(query("listen play")),
        Say(query("notify play, 'word'")),
    ),
    Play(
        "a statement that takes too long",
        "CZ TEZ",
        Say(query("set statement_timeout to '20ms'")),
        Say(query("select pg_sleep(60)")),
    ),
    Play(
        "large rows and many rows",
        "TDDDCZ TDCZ",
        Say(query("select repeat(n::text, 300000) from generate_series(7, 9) as n")),
        Say(
            query("select string_agg(n::text, ',') from generate_series(1, 50000) as n")
        ),
    ),
    Play(
        "a statement that is itself large",
        "TDCZ",
        Say(query("select length('" + "x" * 3000 + "')")),
    ),
]

EXTENDED = [
    Play("an extended query", "12TDDDCZ", Say(run("table t") + SYNC)),
    Play(
        "parameters, also null ones",
        "12TDCZ",
        Say(run("select $1::int + 1, $2::text", "41", "it's") + SYNC),
    ),
    Play(
        "a statement that is described",
        "1tTZ 1tnZ",
        Say(
            parse("select $1::int as a, v from t", name="s") + describe("S", "s") + SYNC
        ),
        Say(parse("delete from t where id = $1") + describe("S") + SYNC),
    ),
    Play(
        "a named statement again and again",
        "1Z 2DCZ 2DCZ 3Z EZ",
        Say(parse("select $1::text || '!'", name="s") + SYNC),
        Say(bind("a", statement="s") + execute() + SYNC),
        Say(bind("b", statement="s") + execute() + SYNC),
        Say(close("S", "s") + SYNC),
        Say(bind("c", statement="s") + execute() + SYNC),
    ),
    Play(
        "results in binary",
        "12TDDDCZ",
        Say(parse("table t") + _binary_bind(1, 0) + describe() + execute() + SYNC),
    ),
    Play(
        "a portal read in parts",
        "CZ 12DDsZ DCZ CZ",
        Say(query("begin")),
        Say(
            parse("select id from t order by id")
            + bind(portal="p")
            + execute("p", rows=2)
            + SYNC
        ),
        Say(execute("p", rows=2) + SYNC),
        Say(query("commit")),
    ),
    Play(
        "a portal that is gone with its transaction",
        "12DsZ EZ",
        Say(parse("table t") + bind(portal="p") + execute("p", rows=1) + SYNC),
        Say(execute("p") + SYNC),
    ),
    Play("an empty statement", "12nIZ", Say(run("") + SYNC)),
    Play("a statement that is parsed and no more", "1Z", Say(parse("select 1") + SYNC)),
    Play("nothing but Sync", "ZZZ", Say(SYNC * 3, "ZZZ")),
    Play(
        "names that are taken, or not there",
        "1Z EZ EZ EZ 3Z",
        Say(parse("select 1", name="s") + SYNC),
        Say(parse("select 2", name="s") + SYNC),
        Say(bind(statement="other") + SYNC),
        Say(execute("no portal") + SYNC),
        Say(close("S", "never there") + SYNC),
    ),
    Play(
        "all statements forgotten",
        "1Z CZ EZ 1Z CZ EZ",
        Say(parse("select 1", name="s") + SYNC),
        Say(query("deallocate all")),
        Say(bind(statement="s") + SYNC),
        Say(parse("select 1", name="s") + SYNC),
        Say(query("discard all")),
        Say(bind(statement="s") + SYNC),
    ),
    Play(
        "functions called by their number",
        "VZ EZ VZ",
        Say(function_call(_INT8_ABS, (-5).to_bytes(8, signed=True))),
        Say(function_call(_INT4_DIV, _ONE, _ZERO)),
        Say(function_call(_INT4_DIV, _ONE, _ONE)),
    ),
]

PLAYS = (*GREETINGS, *SIMPLE, *EXTENDED)
