"""What keeps a session of a real PostgreSQL 16 from being carried over, and what heals.

Also what happens between the preparation and the swap, recovery without the old
upstream, and what the client is told. Numbers are those of the swap's catalogue.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsqlproxy.pgproto.framing import Frame, FrameReader
from dsqlproxy.pgproto.messages import ParameterStatus
from dsqlproxy.session import private
from dsqlproxy.session.hints import MAX_NAMES
from dsqlproxy.session.pins import NotCarriedOver, PinReason
from dsqlproxy.session.private import Item, Kind, Request
from dsqlproxy.session.replay import Replica
from dsqlproxy.session.settings import Captured
from dsqlproxy.session.statements import Budget
from tests.kit.frames import SYNC, bind, close, execute, parse, query
from tests.kit.private import (
    STATEMENTS,
    Carried,
    Upstream,
    carried,
    compare,
    prepared,
    private_query,
    refused,
    rows,
    use,
)

# -- between the preparation and the swap ----------------------------------------------


def test_what_changes_after_the_preparation_counts(directory: Path) -> None:
    with carried(directory) as session:
        for name in ("stays", "goes", "changes"):
            session.ask(parse("select 1", name=name) + SYNC)
        new, replica = prepared(session)
        session.ask(close("S", "goes") + close("S", "changes") + SYNC)
        session.ask(query("set datestyle to 'SQL, DMY'"))
        session.ask(parse("select '01/02/2020'::date", name="changes") + SYNC)
        session.ask(parse("select 4", name="comes") + parse("select 5") + SYNC)
        session.cut_over(new, replica)
        found = [row[0] for row in session.values(STATEMENTS)]
        assert found == [b"changes", b"comes", b"stays"]
        assert rows(session.ask(use("changes"))) == [[b"01/02/2020"]]
        assert rows(session.ask(use())) == [[b"5"]]


def test_the_settings_of_now_come_after_those_of_a_statement(directory: Path) -> None:
    with carried(directory) as session:
        new, replica = prepared(session)
        session.ask(query("set datestyle to 'SQL, DMY'"))
        session.ask(parse("select '01/02/2020'::date", name="s") + SYNC)
        session.ask(query("set datestyle to 'ISO'"))
        session.cut_over(new, replica)
        assert rows(session.ask(use("s"))) == [[b"2020-02-01"]]


# 54: what was parsed early among other tables is parsed again.
def test_a_search_path_that_changed_since_the_snapshot(directory: Path) -> None:
    with carried(directory) as session:
        session.ask(query('set search_path to "s""2"'))
        session.take_snapshot()
        session.ask(query("set search_path to s1"))
        session.ask(parse("select * from twice", name="t") + SYNC)
        new, replica = prepared(session)
        assert rows(new_statements(new)) == [[b"t"]]
        session.cut_over(new, replica)
        assert [one.type for one in session.ask(use("t"))] == [*b"2TCZ"]


def test_a_snapshot_makes_the_preparation_complete(directory: Path) -> None:
    with carried(directory) as session:
        session.ask(query("set search_path to s1"))
        session.ask(parse("select n from only_here", name="o") + SYNC)
        new, replica = prepared(session)
        assert rows(new_statements(new)) == []
        new.connection.close()
        session.take_snapshot()
        new, replica = prepared(session)
        assert rows(new_statements(new)) == [[b"o"]]
        session.cut_over(new, replica)
        assert rows(session.ask(use("o"))) == [[b"11"]]


def new_statements(new: Upstream) -> list[Frame]:
    sql = (
        "select name from pg_prepared_statements where name <> 'a question of the test'"
    )
    new.connection.sendall(b"".join(private_query(sql)))
    return FrameReader().feed(new.read())


# -- what is refused -------------------------------------------------------------------


@pytest.fixture
def table(directory: Path) -> Iterator[str]:
    with carried(directory) as owner:
        owner.ask(query("create table changing (n int)"))
        yield "changing"
        owner.ask(query("drop table if exists changing"))


@pytest.mark.parametrize(
    "change",
    ["drop table changing", "alter table changing add column more int"],
    ids=["55: another shape", "56: gone"],
)
@pytest.mark.parametrize("name", ["s", ""])
def test_a_stale_statement_waits_and_is_then_dropped(
    name: str, change: str, table: str, directory: Path
) -> None:
    with carried(directory) as session, carried(directory) as other:
        session.ask(parse("select 1", name="fine") + SYNC)
        session.ask(parse(f"table {table}", name=name) + SYNC)
        other.ask(query(change))
        assert refused(session).reason is PinReason.STALE
        assert session.memory.pins == ()  # it may heal
        replica = session.swap(may_drop_stale=True)
        assert replica.dropped == (name.encode(),)
        assert [*session.memory.named] == [b"fine"]
        assert session.memory.unnamed is None
        assert session.ask(use(name))[0].body.find(b"C26000\0") > 0
        assert rows(session.ask(use("fine"))) == [[b"1"]]


def test_a_stale_statement_of_the_preparation_is_closed(
    table: str, directory: Path
) -> None:
    with carried(directory) as session, carried(directory) as other:
        session.ask(parse(f"table {table}", name="s") + SYNC)
        new, replica = prepared(session)
        other.ask(query(f"alter table {table} add column more int"))
        session.cut_over(new, replica, may_drop_stale=True)
        assert session.values(STATEMENTS) == []


# DEALLOCATE of one name is not seen on the wire; the server knows.
def test_a_statement_that_the_old_upstream_has_not_is_not_stale(
    directory: Path,
) -> None:
    with carried(directory) as session:
        session.ask(parse("select 1", name="a") + parse("select 2", name="b") + SYNC)
        session.ask(query("deallocate a"))
        assert session.swap().dropped == (b"a",)
        assert [*session.memory.named] == [b"b"]


PINS: dict[str, tuple[PinReason, str]] = {
    "a temporary table": (PinReason.TEMPORARY, "create temp table tt (n int)"),
    "an advisory lock": (PinReason.ADVISORY_LOCK, "select pg_advisory_lock(1)"),
    "a role": (PinReason.ROLE, "set role plain"),
    "another user": (PinReason.ROLE, "set session authorization plain"),
    "a cursor": (PinReason.CURSOR, "declare c cursor with hold for select 1"),
    "a statement of SQL": (PinReason.PREPARE, "prepare p as select 1"),
    "a channel": (PinReason.LISTEN, "listen here"),
    "a library": (PinReason.LOAD, "load 'plpgsql'"),
    "a channel, in a function": (
        PinReason.LISTEN,
        "do $$ begin execute 'listen here'; end $$",
    ),
    "a cursor, in a function": (
        PinReason.CURSOR,
        "do $$ begin execute 'declare c cursor with hold for select 1'; end $$",
    ),
    "a statement, in a function": (
        PinReason.PREPARE,
        "do $$ begin execute 'prepare p as select 1'; end $$",
    ),
    "more names than are kept": (
        PinReason.SETTINGS,
        ";".join(f"set my.n{number} to 1" for number in range(MAX_NAMES + 1)),
    ),
}


@pytest.mark.parametrize("name", PINS)
def test_what_cannot_be_carried_over_pins(name: str, directory: Path) -> None:
    reason, sql = PINS[name]
    with carried(directory) as session:
        session.swap()
        session.swaps = 0
        session.ask(query(sql))
        assert refused(session).reason is reason


HEALED = [
    ("prepare p as select 1", "deallocate all"),
    ("prepare p as select 1; listen here", "discard all"),
    ("declare c cursor with hold for select 1", "discard all"),
    ("set role plain", "reset role"),
    ("select pg_advisory_lock(1)", "select pg_advisory_unlock(1)"),
    ("begin; declare c cursor for select 1; commit", "select 1"),
]


@pytest.mark.parametrize(("sql", "healing"), HEALED)
def test_a_pin_goes_with_its_reason(sql: str, healing: str, directory: Path) -> None:
    with carried(directory) as session:
        session.ask(query(sql))
        session.ask(query(healing))
        session.swap()


def test_a_statement_parsed_beside_a_change_pins_while_it_lives(
    directory: Path,
) -> None:
    run = bind() + execute()
    with carried(directory) as session:
        session.ask(
            parse("select set_config(lower('DateStyle'), 'German', false)") + run
            + parse("select '01.02.2020'::date", name="s") + SYNC
        )  # fmt: skip
        assert refused(session).reason is PinReason.ENVIRONMENT
        session.ask(close("S", "s") + SYNC)
        session.ask(parse("select 1") + SYNC)
        session.swap()


def test_a_statement_parsed_between_two_changes_pins(directory: Path) -> None:
    run = bind() + execute()
    with carried(directory) as session:
        session.ask(
            parse("set datestyle to german") + run
            + parse("select '01.02.2020'::date", name="s")
            + parse("set datestyle to 'ISO, MDY'") + run + SYNC
        )  # fmt: skip
        assert refused(session).reason is PinReason.ENVIRONMENT


def test_a_set_by_the_extended_protocol_does_not_pin(directory: Path) -> None:
    for sql in (
        "set timezone to 'Asia/Tokyo'",
        "select set_config('TimeZone','CET',false)",
    ):
        compare(
            directory, [parse(sql) + bind() + execute() + SYNC, query("show timezone")]
        )


def test_names_that_were_never_seen_are_asked_about_the_next_time(
    directory: Path,
) -> None:
    with carried(directory) as session:
        session.ask(
            parse("select set_config($1, $2, false)") + bind("work_mem", "7MB")
            + execute() + SYNC
        )  # fmt: skip
        assert refused(session).reason is None
        session.swap()
        assert session.values("show work_mem") == [[b"7MB"]]


# 64
def test_statements_that_are_too_large_pin_while_they_live(directory: Path) -> None:
    with carried(directory, budget=Budget(10_000)) as session:
        session.ask(parse("select 1", name="small") + SYNC)
        session.ask(parse(f"select '{'x' * 20_000}'", name="large") + SYNC)
        assert refused(session).reason is PinReason.MEMORY
        session.ask(close("S", "large") + SYNC)
        session.swap()
        assert [row[0] for row in session.values(STATEMENTS)] == [b"small"]


# -- recovery --------------------------------------------------------------------------


def test_a_lost_session_is_made_again_from_its_snapshot(directory: Path) -> None:  # 76
    with carried(directory) as session:
        session.ask(query("set search_path to s1; set my.own to 'x'"))
        session.ask(query("set datestyle to 'SQL, DMY'"))
        session.ask(
            parse("select n, '01/02/2020'::date from only_here", name="o") + SYNC
        )
        was_dirty = session.memory.is_dirty
        session.take_snapshot()
        assert (was_dirty, session.memory.is_dirty) == (True, False)
        session.ask(query("select 1") + parse("select 2") + SYNC)
        assert session.recover().dropped == ()
        assert rows(session.ask(use("o"))) == [[b"11", b"01/02/2020"]]
        assert rows(session.ask(use())) == [[b"2"]]
        assert session.values("select current_setting('my.own')") == [[b"x"]]


def test_a_lost_session_that_changed_nothing_needs_no_snapshot(
    table: str, directory: Path
) -> None:
    with carried(directory, search_path="s1") as session, carried(directory) as other:
        session.ask(parse("select n from only_here", name="o") + SYNC)
        session.ask(parse(f"table public.{table}", name="t") + SYNC)
        other.ask(query(f"drop table {table}"))
        assert not session.memory.might_be_dirty
        assert session.recover().dropped == (b"t",)
        assert rows(session.ask(use("o"))) == [[b"11"]]
        assert [*session.memory.named] == [b"o"]


# -- what the client is told -----------------------------------------------------------


def test_a_parameter_that_is_new_is_told_once(directory: Path) -> None:  # 63
    with carried(directory) as session:
        known = dict(session.memory.reported)
        session.memory.note_reported(ParameterStatus("server_version", "15.1"))
        session.memory.note_captured(_captured(session))
        session.swap()
        (told,) = session.heard
        assert told.body.startswith(
            b"server_version\0" + known["server_version"].encode()
        )
        session.swap()
        assert session.heard == [told]


def _captured(session: Carried) -> Captured:
    session.take_snapshot()
    assert session.memory.snapshot is not None
    return session.memory.snapshot


def test_a_notice_of_the_old_upstream_is_handed_on(directory: Path) -> None:
    with carried(directory) as session, carried(directory) as other:
        session.ask(query("listen here"))
        other.ask(query("notify here, 'news'"))
        answers = session.upstream.converse(Replica(session.memory).snapshot())
        (aside,) = answers.take_asides()
        assert aside.startswith(b"A")
        assert b"here\0news\0" in aside
        assert answers.take_asides() == []


# A cancel that comes late may hit the question (57014): it may be asked again.
def test_an_interrupted_question_may_be_asked_again(directory: Path) -> None:  # 71
    with carried(directory) as session:
        item = _item(
            b"select pg_catalog.pg_cancel_backend(pg_catalog.pg_backend_pid())"
        )
        with pytest.raises(NotCarriedOver) as failure:
            session.upstream.converse(Request.of([item]))
        assert failure.value.may_retry
        session.swap()
        assert session.values(STATEMENTS) == []


def _item(sql: bytes) -> Item:
    own = b"of the test"
    frames = (private.close(own), private.parse(own, sql), private.run(own))
    return Item(Kind.CAPTURE, b"".join((*frames, private.close(own))))


# 61: whatever fails, nothing of ours stays behind with the old upstream.
def test_a_failed_attempt_leaves_nothing_behind(table: str, directory: Path) -> None:
    with carried(directory) as session, carried(directory) as other:
        session.ask(parse(f"table {table}", name="s") + SYNC)
        other.ask(query(f"drop table {table}"))
        assert refused(session).reason is PinReason.STALE
        assert [row[0] for row in session.values(STATEMENTS)] == [b"s"]
        session.ask(query("set client_encoding to latin1"))
        session.ask(
            query("select set_config('search_path', U&'\\0105', false) is null")
        )
        assert (
            refused(session).reason is PinReason.MISMATCH
        )  # the question fails in the end
        assert [row[0] for row in session.values(STATEMENTS)] == [b"s"]
