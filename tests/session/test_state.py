"""A session's memory: what passes, what it means, and what pins."""

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import FrameScanner
from dsqlproxy.pgproto.messages import ParameterStatus
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS, query_symbol
from dsqlproxy.session.hints import MAX_NAMES
from dsqlproxy.session.pins import NotCarriedOver, PinReason
from dsqlproxy.session.settings import BASE_NAMES, Captured
from dsqlproxy.session.state import MAX_REPORTS, SessionMemory
from dsqlproxy.session.statements import Budget, Environment
from dsqlproxy.session.tracker import Tracker
from tests.kit.frames import (
    SYNC,
    bind,
    close,
    command_complete,
    execute,
    parse,
    query,
    server,
)

REPORTED = (
    ParameterStatus("client_encoding", "UTF8"),
    ParameterStatus("DateStyle", "ISO, MDY"),
    ParameterStatus("TimeZone", "UTC"),
)
CAPTURED = Captured((("a", b"1"),), (b"u", b"u", b"d"))


def new(*parameters: tuple[str, str], budget: Budget | None = None) -> SessionMemory:
    return SessionMemory(
        parameters, REPORTED, budget=budget or Budget(), private_name="n"
    )


class Session:
    """A memory behind scanners and a tracker, as in a relay."""

    def __init__(self, *parameters: tuple[str, str]) -> None:
        self.memory = new(*parameters)
        self.tracker = Tracker()
        self._sent = FrameScanner(
            FRONTEND_SYMBOLS, max_bytes=1 << 20, asked=self.memory.frontend
        )
        self._received = FrameScanner(
            BACKEND_SYMBOLS, max_bytes=1 << 20, asked=self.memory.backend
        )

    def send(self, *frames: bytes) -> None:
        dropped = self.tracker.note_sent(self._sent.scan(b"".join(frames)))
        self.memory.note_dropped(dropped)

    def answer(self, *frames: bytes | str) -> None:
        data = b"".join(server(one) if isinstance(one, str) else one for one in frames)
        effects = self.tracker.note_received(self._received.scan(data))
        self.memory.note_effects(effects)

    def run(self, sql: str, *tags: str, status: str = "Z") -> None:
        """Run a Query."""
        self.send(query(sql))
        self.answer(*map(command_complete, tags), status)


def status(name: str, value: str) -> bytes:
    return ParameterStatus(name, value).encode()


# -- statements ------------------------------------------------------------------------


def test_statements_are_known_by_their_answers() -> None:
    session = Session()
    session.send(parse("select 1", name="a"), parse("bad", name="b"), parse("x"), SYNC)
    session.answer("1EZ")
    session.send(parse("select 2"), close("S", "a"), close("P", "a"), SYNC)
    assert [*session.memory.named] == [b"a"]
    session.answer("133Z")
    assert [*session.memory.named] == []
    found = [session.memory.unnamed]
    session.run("select 1", "SELECT 1")
    found.append(session.memory.unnamed)
    assert [one is None for one in found] == [False, True]
    assert session.memory.statement_bytes == 0


def test_what_the_server_skips_is_dropped() -> None:
    session = Session()
    session.send(parse("bad"))
    session.answer("E")
    session.send(parse("select 1", name="a"), close("S", "a"), SYNC)
    session.send(parse("select 2", name="b"), SYNC)
    session.answer("Z1Z")
    assert [*session.memory.named] == [b"b"]
    assert session.memory.pins == ()


@pytest.mark.parametrize("tag", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_all_named_ones_go_at_once(tag: str) -> None:
    session = Session()
    session.send(parse("select 1", name="a"), parse("select 2"), SYNC)
    session.answer("11Z")
    session.send(bind(), execute(), parse("select 3", name="b"), SYNC)
    session.answer("2", command_complete(tag), "1Z")
    assert [*session.memory.named] == [b"b"]
    assert session.memory.unnamed is not None


# -- what is reported ------------------------------------------------------------------


def test_a_reported_change_is_a_new_environment() -> None:
    session = Session()
    session.send(parse("select 1", name="a"), SYNC)
    session.answer("1Z")
    session.send(query("set datestyle to german; set timezone to 'CET'"))
    session.answer("CC", status("DateStyle", "German, DMY"))
    session.answer(status("TimeZone", "CET"), "Z")
    session.send(parse("select 1", name="b"), SYNC)
    session.answer("1Z")
    named = session.memory.named
    assert named[b"a"].environment == Environment(b"UTF8", b"ISO, MDY", None, b"UTC")
    assert named[b"b"].environment == Environment(b"UTF8", b"German, DMY", None, b"CET")
    assert session.memory.environment == named[b"b"].environment
    assert session.memory.reported["DateStyle"] == "German, DMY"
    assert session.memory.pins == ()


def test_environments_are_shared() -> None:
    session = Session()
    for name in "abc":
        session.send(parse("select 1", name=name), SYNC)
        session.answer("1Z")
    environments = [one.environment for one in session.memory.named.values()]
    assert environments[0] is environments[1] is environments[2]


def test_a_statement_of_the_unit_of_a_change_pins() -> None:
    session = Session()
    session.send(parse("select f()"), bind(), execute(), parse("select 1", name="a"))
    session.send(SYNC)
    session.answer("12DC1", status("DateStyle", "German, DMY"), "Z")
    assert session.memory.pin == "environment"
    session.send(close("S", "a"), SYNC)
    session.answer("3Z")
    assert session.memory.pin == "environment"  # the unnamed one, too
    session.run("select 1", "SELECT 1")
    assert session.memory.pin == ""


def test_a_reported_name_is_asked_about() -> None:
    session = Session()
    session.send(query("select f()"))
    session.answer("C", status("default_transaction_read_only", "on"), "Z")
    assert session.memory.names == (*BASE_NAMES, "default_transaction_read_only")


def test_reports_that_nobody_takes_are_bounded() -> None:
    memory = new()
    (ask,) = memory.backend.values()
    body = status("TimeZone", "UTC")[5:]
    for _ in range(MAX_REPORTS + 5):
        assert ask(body, 0, len(body)) == b"S"
    memory.note_effects(b"S" * MAX_REPORTS)
    assert memory.pins == ()
    memory.note_effects(b"S")
    assert memory.pin == PinReason.DESYNCED


def test_a_malformed_report_is_not_followed() -> None:
    memory = new()
    (ask,) = memory.backend.values()
    assert ask(b"name only", 0, 9) == b"S"
    assert memory.pins == (PinReason.DESYNCED,)


# -- names -----------------------------------------------------------------------------


def test_names_of_the_startup_packet_are_asked_about() -> None:
    memory = new(("user", "u"), ("geqo", "off"), ("options", r"-c my.own=a\ b --a-b=1"))
    assert memory.names == (*BASE_NAMES, "a_b", "geqo", "my.own")


def test_names_of_texts_are_asked_about() -> None:
    session = Session()
    session.run("SET Work_Mem TO '1MB'", "SET")
    session.send(parse("select set_config('my.own', $1, false)"))
    session.run("select '" + "x" * 2000 + "'; set geqo to off", "SELECT 1", "SET")
    session.memory.mention(["lock_timeout", "datestyle"])
    extra = ("geqo", "lock_timeout", "my.own", "work_mem")
    assert session.memory.names == (*BASE_NAMES, *extra)


@given(
    sql=st.text(st.sampled_from("sStTeElLcChH ;'\"$-/*\nüxk"), max_size=80).map(
        lambda text: text.encode() + b"\0"
    ),
    size=st.integers(0, 3000),
)
def test_a_query_has_the_symbol_that_it_has(sql: bytes, size: int) -> None:
    ask = new().frontend[FrontendType.QUERY]
    body = b"select " + sql + b"x" * size
    assert ask(body, 0, len(body)) == query_symbol(body, 0, len(body))
    assert ask(sql, 0, len(sql)) == query_symbol(sql, 0, len(sql))


def test_a_scanner_asks_it_all() -> None:
    memory = new()
    assert {*memory.frontend} == {
        FrontendType.PARSE, FrontendType.CLOSE, FrontendType.QUERY,
    }  # fmt: skip
    assert {*memory.backend} == {BackendType.PARAMETER_STATUS}


# -- whether the snapshot is good ------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "tag"),
    [
        ("set geqo to off", "SET"),
        ("/* hidden */ call f()", "RESET"),
        ("select set_config('geqo', 'off', false)", "SELECT 1"),
        ("discard all", "DISCARD ALL"),
    ],
)
def test_a_query_that_may_set_makes_the_snapshot_stale(sql: str, tag: str) -> None:
    session = Session()
    session.run(sql, tag)
    was_dirty = session.memory.is_dirty
    session.memory.note_captured(CAPTURED)
    assert (was_dirty, session.memory.is_dirty) == (True, False)
    assert not session.memory.might_be_dirty
    assert session.memory.snapshot is CAPTURED


def test_a_statement_that_may_set_is_a_suspect_while_it_lives() -> None:
    session = Session()
    memory = session.memory
    session.send(parse("select set_config('geqo', $1, false)", name="a"), SYNC)
    session.answer("1Z")
    seen = [(memory.is_dirty, memory.might_be_dirty)]
    memory.note_captured(CAPTURED)
    seen += [(memory.is_dirty, memory.might_be_dirty)]
    session.send(close("S", "a"), SYNC)
    session.answer("3Z")
    seen += [(memory.is_dirty, memory.might_be_dirty)]
    assert seen == [(True, True), (False, True), (False, False)]


def test_a_suspect_that_is_gone_may_have_been_run() -> None:
    session = Session()
    for sql in ("select set_config('geqo', $1, false)", "select 1"):
        session.send(parse(sql), bind(), execute(), SYNC)
        session.answer("12DCZ")
    assert session.memory.is_dirty
    assert session.memory.might_be_dirty


def test_an_ordinary_query_is_no_reason_to_ask_again() -> None:
    session = Session()
    session.run("update t set a = 1", "UPDATE 1")
    session.send(parse("select 1"), bind(), execute(), SYNC)
    session.answer("12DCZ")
    assert not session.memory.might_be_dirty


# -- pins ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "tag", "pins"),
    [
        ("listen a", "LISTEN", [PinReason.LISTEN]),
        ("prepare p as select 1", "PREPARE", [PinReason.PREPARE]),
        ("load 'x'", "LOAD", [PinReason.LOAD]),
        ("Declare c cursor With Hold for x", "DECLARE CURSOR", [PinReason.CURSOR]),
        ("declare c cursor for x", "DECLARE CURSOR", []),
        ("select 1", "SELECT 1", []),
    ],
)
def test_tags_pin(sql: str, tag: str, pins: list[PinReason]) -> None:
    session = Session()
    session.run(sql, tag)
    assert session.memory.pins == tuple(pins)
    if pins:
        with pytest.raises(NotCarriedOver, match=pins[0].sentence) as failure:
            session.memory.refuse_if_pinned()
        assert failure.value.reason is pins[0]
    else:
        session.memory.refuse_if_pinned()


def test_pins_go_with_what_ends_them() -> None:
    session = Session()
    session.send(parse("declare c cursor with hold for select 1"), bind(), execute())
    session.send(SYNC)
    session.answer("12", command_complete("DECLARE CURSOR"), "Z")
    for tag in ("LISTEN", "PREPARE", "LOAD"):
        session.run("x", tag)
    found = [" ".join(session.memory.pins)]
    session.run("deallocate all", "DEALLOCATE ALL")
    found.append(" ".join(session.memory.pins))
    session.run("discard all", "DISCARD ALL")
    found.append(" ".join(session.memory.pins))
    assert found == ["cursor listen load prepare", "cursor listen load", "load"]


def test_too_many_names_pin() -> None:
    session = Session()
    for number in range(MAX_NAMES + 1):
        session.run(f"set my.n{number} to 1", "SET")
    assert session.memory.pin == "settings"


def test_a_large_statement_pins_while_it_lives() -> None:
    session = Session()
    memory = SessionMemory((), (), budget=Budget(2000), private_name="n")
    session.memory = memory
    ask = memory.frontend[FrontendType.PARSE]
    body = parse("x" * 3000, name="a")[5:]
    ask(body, 0, len(body))
    memory.note_effects(b"+z")
    assert memory.pin == "memory"
    memory.note_effects(b"a")
    assert memory.pin == ""
    ask(b"a name without an end", 0, 21)
    assert memory.pin == "memory"


def test_a_session_that_is_not_followed_is_pinned_and_costs_nothing() -> None:
    budget = Budget()
    memory = new(budget=budget)
    ask = memory.frontend[FrontendType.PARSE]
    body = parse("select 1", name="a")[5:]
    ask(body, 0, len(body))
    memory.note_effects(b"+z")
    assert budget.used_bytes
    memory.note_desynced()
    assert memory.pins == (PinReason.DESYNCED,)
    assert budget.used_bytes == 0
    ask(body, 0, len(body))
    memory.note_effects(b"+-uzS")
    assert memory.pins == (PinReason.DESYNCED,)
    assert budget.used_bytes == 0


def test_a_closed_memory_gives_all_back() -> None:
    budget = Budget()
    memory = new(budget=budget)
    ask = memory.frontend[FrontendType.PARSE]
    body = parse("select 1", name="a")[5:]
    ask(body, 0, len(body))
    assert budget.used_bytes == memory.statement_bytes > 0
    memory.close()
    assert budget.used_bytes == 0


# -- another upstream ------------------------------------------------------------------


def test_after_the_cut_over_what_the_new_upstream_says_counts() -> None:
    session = Session()
    session.send(parse("select 1", name="a"), parse("select 2", name="b"), SYNC)
    session.answer("11Z")
    session.run("set geqo to off", "SET")
    memory = session.memory
    reported = [ParameterStatus("TimeZone", "CET"), ParameterStatus("server", "17")]
    memory.note_carried_over(CAPTURED, reported, [b"a", b"never"])
    assert [*memory.named] == [b"b"]
    assert memory.reported == {"TimeZone": "CET", "server": "17"}
    assert memory.environment == Environment(timezone=b"CET")
    assert memory.snapshot is CAPTURED
    assert not memory.is_dirty
