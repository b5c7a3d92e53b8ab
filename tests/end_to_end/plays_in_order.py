"""More of `plays`: where the order of things matters, or nothing is in order."""

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import frame
from tests.end_to_end.plays import run
from tests.kit.frames import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    copy_data,
    copy_fail,
    describe,
    execute,
    parse,
    query,
)
from tests.kit.transcript import Play, Say

PIPELINES = [
    Play(
        "a pipeline of statements to one Sync",
        "12TDC 12nC 12TDC Z",
        Say(
            run("select 1")
            + run("delete from t where id = 3")
            + run("select count(*) from t")
            + SYNC
        ),
    ),
    Play(
        "a pipeline of many Syncs",
        "12TDCZ" * 5,
        Say((run("select 1") + SYNC) * 5, "ZZZZZ"),
    ),
    Play(
        "an error skips to the next Sync and no further",
        "12TDC 12TE Z 12TDCZ 12TDDDCZ",
        Say(
            run("select 1")
            + run("select 1 / (count(*) - 3) from t")
            + run("select 2")
            + SYNC
            + run("select 3")
            + SYNC
            + run("table t")
            + SYNC,
            "ZZZ",
        ),
    ),
    Play(
        "Flush brings answers without Sync",
        "12TDC 12TDC Z",
        Say(run("select 1") + FLUSH, "C"),
        Say(run("select 2") + FLUSH, "C"),
        Say(SYNC),
    ),
    Play(
        "a statement described between two Flushes",
        "1 tT 2 DC Z",
        Say(parse("select $1::int") + FLUSH, "1"),
        Say(describe("S") + FLUSH, "T"),
        Say(bind("1") + FLUSH, "2"),
        Say(execute() + FLUSH, "C"),
        Say(SYNC),
    ),
    Play(
        "an error, and what is said before its Sync",
        "E Z TDCZ",
        Say(parse("select nope") + FLUSH, "E"),
        Say(bind() + execute() + FLUSH + query("select 'skipped'"), ""),
        Say(SYNC),
        Say(query("select 1")),
    ),
    Play(
        "a simple query before the Sync of an extended one",
        "12TDC TDCZ Z",
        Say(run("select 1") + query("select 2") + SYNC, "ZZ"),
    ),
    Play(
        "a pipeline with a transaction in it",
        "12nC 12nC 12nC Z TDCZ",
        Say(run("begin") + run("delete from t") + run("rollback") + SYNC),
        Say(query("select count(*) from t")),
    ),
    Play(
        "an error that comes with Sync",
        "12nC 12nC E Z TDCZ",
        Say(run("insert into late values (1)") * 2 + SYNC),
        Say(query("select count(*) from late")),
    ),
]

COPIES = [
    Play(
        "rows copied in",
        "GCZ TDCZ",
        Say(query("copy t from stdin"), "G"),
        Say(copy_data(b"4\tfour\n5\t") + copy_data(b"five\n") + COPY_DONE),
        Say(query("select count(*) from t")),
    ),
    Play(
        "rows copied in before anybody asked for them",
        "GCZ",
        Say(query("copy t from stdin") + copy_data(b"4\tfour\n") + COPY_DONE),
    ),
    Play(
        "a copy that the client gives up",
        "GEZ TDCZ",
        Say(query("copy t from stdin"), "G"),
        Say(copy_data(b"4\tfour\n") + copy_fail("no more")),
        Say(query("select 1")),
    ),
    Play(
        "a copy that fails while its data still comes",
        "GEZ TDCZ",
        Say(query("copy t from stdin"), "G"),
        Say(copy_data(b"four\t4\n") + copy_data(b"5\tfive\n") * 200 + COPY_DONE),
        Say(query("select count(*) from t")),
    ),
    Play(
        "a copy between other statements",
        "TDC G C TDC Z",
        Say(query("select 1; copy t from stdin; select count(*) from t"), "G"),
        Say(copy_data(b"4\tfour\n") + COPY_DONE),
    ),
    Play(
        "rows copied out",
        "HdddcCZ TDCZ",
        Say(query("copy t to stdout") + query("select 1"), "ZZ"),
    ),
    Play(
        "rows copied out in binary",
        "HddddcCZ",
        Say(query("copy (table t) to stdout (format binary)")),
    ),
    Play(
        "a copy out that fails on its way",
        "HddEZ",
        Say(query("copy (select 1 / (3 - id) from t order by id) to stdout")),
    ),
    Play(
        "a copy in the extended protocol",
        "12 G C Z",
        Say(parse("copy t from stdin") + bind() + execute() + FLUSH, "G"),
        Say(copy_data(b"4\tfour\n") + COPY_DONE + SYNC),
    ),
    Play(
        "a copy in the extended protocol that is pipelined",
        "12 G C 12TDC Z",
        Say(
            parse("copy t from stdin")
            + bind()
            + execute()
            + copy_data(b"4\tfour\n")
            + COPY_DONE
            + run("select count(*) from t")
            + SYNC
        ),
    ),
    Play(
        "a copy in the extended protocol that fails",
        "12 G E Z TDCZ",
        Say(parse("copy t from stdin") + bind() + execute() + FLUSH, "G"),
        Say(copy_data(b"x\n"), "E"),
        Say(copy_data(b"y\n") + COPY_DONE + SYNC),
        Say(query("select 1")),
    ),
    Play(
        "data of a copy where there is none",
        "TDCZ",
        Say(copy_data(b"1\n") + COPY_DONE + copy_fail() + query("select 1")),
    ),
]

BROKEN = [
    Play("a message of no known type", "E", Say(frame(ord("!"), b"what"), "E")),
    Play(
        "a message that ends too soon",
        "EZ TDCZ",
        Say(frame(FrontendType.PARSE, b"no end") + SYNC),
        Say(query("select 1")),
    ),
    Play("a leave within a transaction", "CCZ", Say(query("begin; delete from t"))),
]

PLAYS = (*PIPELINES, *COPIES, *BROKEN)
