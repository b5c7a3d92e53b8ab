"""Hints: which settings a text mentions, and which texts are passed over quickly."""

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.session.hints import (
    INSENSITIVE,
    MAX_NAMES,
    SETS,
    SETS_ENVIRONMENT,
    Mentions,
    is_plain,
    is_plain_long,
    names_at_startup,
    read_text,
)
from dsqlproxy.upstream.parameters import names_in_options

MENTIONED = {
    "set datestyle to german": {"datestyle"},
    "SET DateStyle = 'ISO'": {"datestyle"},
    "set session x.y to 1": {"x.y"},
    "set local my.own = 1": {"my.own"},
    'set "Search_Path" to a': {"search_path"},
    'set "my" . "own" to 1': {"my.own"},
    "set time zone 'UTC'": {"timezone"},
    "set local time  zone local": {"timezone"},
    "set names 'utf8'": {"client_encoding"},
    "set schema 's'": {"search_path"},
    "set session characteristics as transaction read only": {
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
    },
    "set role x": {"role"},
    "set session authorization x": {"session_authorization"},
    "set xml option document": {"xmloption"},
    "set search_path from current": {"search_path"},
    "reset all": set(),
    "reset time zone": {"timezone"},
    "reset work_mem": {"work_mem"},
    "select 1; set work_mem to '1MB' ; reset geqo;": {"work_mem", "geqo"},
    "/* a */ set /* b /* c */ */ work_mem -- d\n to 1": {"work_mem"},
    "-- why\nset work_mem to 1": {"work_mem"},
    "select '--'; set work_mem to 1": {"work_mem"},
    "select set_config('My.Own', 'x', false)": {"my.own"},
    "select pg_catalog.set_config ( E'a', $1, true), set_config($$b$$, '', false)": {
        "a",
        "b",
    },
    "select set_config(setting_name => 'c', new_value => '', is_local => true)": {"c"},
    "do $$ begin set geqo to off; perform set_config('d', '1', false); end $$": {
        "geqo",
        "d",
    },
    "create function f() returns void language sql as 'set geqo to off'": {"geqo"},
    "set transaction isolation level serializable": set(),
    "set constraints all deferred": set(),
    "set örtlich.x to 1": set(),
    "set work_mem": set(),
}


@pytest.mark.parametrize("text", MENTIONED)
def test_names_that_a_text_sets_are_found(text: str) -> None:
    assert read_text(text.lower().encode()).names == MENTIONED[text]


PLAIN = [
    "update t set a = 1, b = 2",
    "update t\nset a = 1;",
    "update /* c */ t -- d\n set a = 1",
    "insert into t values ('set a to 1') on conflict do update set b = 1",
    "select 'settings', offset_, dataset from t offset 1",
    "insert into t values ('Set of knives')",
    "comment on table t is 'set x to 1'",
    "with a as (select 1) update t set b = 2",
    "delete from t where a in (select 1)",
]


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_set_mentions_nothing(text: str) -> None:
    assert read_text(text.lower().encode()) == (frozenset(), 0)


MARKS = {
    "set work_mem to 1": SETS | INSENSITIVE,
    "set datestyle to german": SETS | SETS_ENVIRONMENT | INSENSITIVE,
    "reset all": SETS | SETS_ENVIRONMENT | INSENSITIVE,
    "select set_config('timezone', '+05:30', false)": SETS
    | SETS_ENVIRONMENT
    | INSENSITIVE,
    "select set_config($1, $2, $3) as a, set_config('a', $1, true);": SETS
    | INSENSITIVE,
    "set application_name to 'ü'": SETS,
    r"set application_name to 'a\b'": SETS,
    "select set_config('a', '1/2/2020'::date::text, false)": SETS,
    "select set_config('a', to_char(now(), 'x'), false)": SETS,
    "select set_config('a', 'b', false), '1/2/2020'::date": SETS,
    "select set_config(lower('DateStyle'), 'ISO', false)": SETS,
}


@pytest.mark.parametrize("text", MARKS)
def test_marks_say_what_a_text_may_do_and_what_it_depends_on(text: str) -> None:
    assert read_text(text.lower().encode()).marks == MARKS[text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1", True),
        ("SELECT 1;", True),
        ("Update t SET a = 1", True),
        ("select 1; set a to 1", False),
        ("select set_config('a', 'b', false)", False),
        ("SELECT SET_CONFIG('a', 'b', false)", False),
        ("set a to 1", False),
        ("/* */ select 1", False),
    ],
)
def test_a_plain_text_is_known_without_reading_it(text: str, expected: bool) -> None:
    body = text.encode() + b"\0"
    assert is_plain(text.lower().encode()) is expected
    assert is_plain_long(b"Q...." + body + b"Q", 5, 5 + len(body)) is expected


@given(text=st.binary(max_size=200))
def test_any_bytes_can_be_read(text: bytes) -> None:
    hints = read_text(text.lower())
    assert bool(hints.marks) >= bool(hints.names)


def test_a_huge_text_is_not_read_to_its_end() -> None:
    far = b"; set work_mem to 1"
    assert read_text(b"create " + far).names
    assert not read_text(b"create " + b"x" * (1 << 20) + far).names


# -- the startup packet ----------------------------------------------------------------


def test_names_of_the_startup_packet_are_found() -> None:
    parameters = (
        ("user", "u"),
        ("database", "d"),
        ("options", "-c a=1"),
        ("replication", "false"),
        ("_pq_.x", "1"),
        ("DateStyle", "ISO"),
        ("geqo", "off"),
    )
    assert names_at_startup(parameters) == {"datestyle", "geqo"}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["-c", "a=1", "-cb=2", "--c-d=3"], {"a", "b", "c_d"}),
        (["-c"], set()),
        (["-c", "a"], set()),
        (["-E", "x", "--", "'=1"], set()),
        (["--My.Own=1"], {"my.own"}),
    ],
)
def test_names_within_options_are_found(words: list[str], names: set[str]) -> None:
    assert names_in_options(words) == names


# -- mentions --------------------------------------------------------------------------


def test_mentions_are_kept_without_those_that_are_asked_about_anyway() -> None:
    mentions = Mentions()
    assert mentions.names == frozenset()
    assert mentions.read(b"set datestyle to iso; set geqo to off") & SETS
    assert mentions.names == {"geqo"}
    assert mentions.has_set
    assert not mentions.is_full
    assert not mentions.has_held
    assert mentions.read(b"declare c cursor with hold for select 1") == 0
    assert mentions.has_held


def test_mentions_are_bounded() -> None:
    mentions = Mentions()
    mentions.add(frozenset(f"my.n{number}" for number in range(MAX_NAMES)))
    was_full = mentions.is_full
    mentions.add(frozenset(("my.n0", "one.too.many", "x" * 200, "no space")))
    assert (was_full, mentions.is_full) == (False, True)
    assert len(mentions.names) == MAX_NAMES
