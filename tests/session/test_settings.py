"""Settings: the questions, the answers, and how a value is written."""

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.pgproto.framing import FrameReader, frame
from dsqlproxy.session.pins import NotCarriedOver, PinReason
from dsqlproxy.session.private import Kind, Unit
from dsqlproxy.session.settings import (
    BASE_NAMES,
    Captured,
    assign,
    capture,
    changes,
    is_same,
    read_captured,
    split_path,
)
from tests.kit.frames import data_row, server

WHO = (b"u", b"u", b"d")


def sql(frames: bytes) -> bytes:
    """Give the text of the Parse among frames."""
    (body,) = (one.body for one in FrameReader().feed(frames) if one.type == ord("P"))
    return body.split(b"\0")[1]


def answered(row: bytes) -> Unit:
    return Unit(tuple(FrameReader().feed(server("312") + row + server("C33"))))


def test_the_encoding_comes_first_and_all_that_dsql_accepts() -> None:
    assert BASE_NAMES[0] == "client_encoding"
    assert {*BASE_NAMES} == ACCEPTED_PARAMETERS
    assert len(BASE_NAMES) == 17


def test_a_question_leaves_nothing_behind() -> None:
    item = capture(b"n", ("a", "my.b"), is_generic=False)
    assert item.kind is Kind.CAPTURE
    types = [chr(one.type) for one in FrameReader().feed(item.frames)]
    assert types == [*"CPBECC"]
    assert sql(item.frames) == (
        b"SELECT pg_catalog.current_setting('a', true),"
        b" pg_catalog.current_setting('my.b', true),"
        b" CURRENT_USER::pg_catalog.text, SESSION_USER::pg_catalog.text,"
        b" pg_catalog.current_database()::pg_catalog.text"
    )


def test_an_answer_is_read() -> None:
    item = capture(b"n", ("a", "b"), is_generic=False)
    row = frame(
        ord("D"), b"\0\5" + b"\0\0\0\1x" + b"\xff\xff\xff\xff" + b"\0\0\0\1y" * 3
    )
    captured = read_captured(item, answered(row))
    assert captured == Captured((("a", b"x"), ("b", None)), (b"y", b"y", b"y"))
    assert not captured.has_role
    assert Captured((), (b"a", b"b", b"d")).has_role
    assert read_captured(item, Unit(tuple(FrameReader().feed(server("E"))))) is None


def test_a_generic_answer_tells_obstacles_and_what_was_not_asked() -> None:
    item = capture(b"n", ("a",), is_generic=True)
    row = data_row(b"x", *WHO, b"t", b"f", b"t", b"f", b"f", b"a,TimeZone,my.b")
    captured = read_captured(item, answered(row))
    assert captured is not None
    assert captured.obstacles == (PinReason.TEMPORARY, PinReason.CURSOR)
    assert captured.others == ("my.b", "timezone")


def test_only_what_differs_is_set_and_the_encoding_first() -> None:
    wanted = {
        "a": b"1", "b": b"2", "client_encoding": b"LATIN1", "none": None, "new": b"",
        "role": b"x",
    }  # fmt: skip
    present = {"a": b"1", "b": b"3", "client_encoding": b"UTF8", "none": b"x"}
    assert [*changes(wanted, present)] == [
        ("client_encoding", b"LATIN1"),
        ("b", b"2"),
        ("new", b""),
    ]
    assert [*changes({"a": b"1"}, {})] == [("a", b"1")]
    assert [*changes({"a": b"1"}, {"a": None})] == [("a", b"1")]


def test_a_value_is_set_in_both_ways() -> None:
    set_, exact = assign(b"n", "datestyle", b"it's", is_essential=True)
    assert (set_.kind, set_.setting) == (Kind.SET, "datestyle")
    assert sql(set_.frames) == b"SET datestyle TO 'it''s'"
    assert (exact.kind, exact.setting) == (Kind.SET_CONFIG, "datestyle")
    assert sql(exact.frames) == b"SELECT pg_catalog.set_config($1, $2, false)"
    assert b"\0\0\0\x09datestyle\0\0\0\x04it's\0\0" in exact.frames
    assert (set_.is_essential, exact.is_essential) == (False, True)


LITERALS = [
    ("application_name", rb"a\b", False, rb"SET application_name TO 'a\b'"),
    ("application_name", rb"a\b", True, rb"SET application_name TO 'a\\b'"),
    ("my.user", b"", False, b'SET "my"."user" TO \'\''),
    ("search_path", b"", False, b"SET search_path TO ''"),
    ("search_path", b'""', False, b"SET search_path TO ''"),
    ("search_path", b'a, "B""c"', False, b"SET search_path TO 'a', 'B\"c'"),
    ("search_path", b'"$user", "it\'s"', False, b"SET search_path TO '$user', 'it''s'"),
]


@pytest.mark.parametrize(("name", "value", "escapes", "expected"), LITERALS)
def test_literals_are_quoted(
    name: str, value: bytes, escapes: bool, expected: bytes
) -> None:
    items = assign(b"n", name, value, escapes=escapes)
    assert sql(items[0].frames) == expected


def test_a_path_that_is_no_list_is_set_in_the_exact_way_only() -> None:
    (only,) = assign(b"n", "search_path", b'"')
    assert only.kind is Kind.SET_CONFIG


PATHS: list[tuple[bytes, list[bytes] | None]] = [
    (b"", []),
    (b"  ", []),
    (b'""', []),
    (b'"", a', [b"", b"a"]),
    (b"a", [b"a"]),
    (b' A , b\t,\n"C" ', [b"a", b"b", b"C"]),
    (b'"a""b","a,b"', [b'a"b', b"a,b"]),
    (b'"$user", public', [b"$user", b"public"]),
    (b"$user,public", [b"$user", b"public"]),
    (b'a"b', [b'a"b']),
    (b"\xc3\xbc", [b"\xc3\xbc"]),
    (b"a b", None),
    (b"a,", None),
    (b",a", None),
    (b"a,,b", None),
    (b'"a', None),
    (b'"a" b', None),
    (b'"a"b', None),
]


@pytest.mark.parametrize(("value", "names"), PATHS)
def test_a_path_is_split_as_postgresql_does(
    value: bytes, names: list[bytes] | None
) -> None:
    assert split_path(value) == names


@given(names=st.lists(st.binary(min_size=1, max_size=5), max_size=4))
def test_quoted_names_are_split_again(names: list[bytes]) -> None:
    value = b", ".join(b'"%b"' % one.replace(b'"', b'""') for one in names)
    assert split_path(value) == names


@given(value=st.binary(max_size=12))
def test_any_value_can_be_split_or_not(value: bytes) -> None:
    names = split_path(value)
    assert names is None or b"" not in names or b'""' in value


@pytest.mark.parametrize(
    ("name", "wanted", "found", "is_exact", "expected"),
    [
        ("a", b"x", b"x", True, True),
        ("a", None, None, True, True),
        ("a", None, b"", True, False),
        ("a", b"x,y", b"x, y", False, False),
        ("search_path", b"x,y", b"x, y", True, False),
        ("search_path", b"x,y", b'"x", y', False, True),
        ("search_path", b"", b'""', False, True),
        ("search_path", b'"', b'"" ', False, False),
        ("search_path", b"x", None, False, False),
        ("search_path", b"X", b'"X"', False, False),
    ],
)
def test_values_are_compared_byte_for_byte_but_for_a_path(
    name: str, wanted: bytes | None, found: bytes | None, is_exact: bool, expected: bool
) -> None:
    assert is_same(name, wanted, found, is_exact=is_exact) is expected


def test_a_row_of_another_length_is_no_answer() -> None:
    item = capture(b"n", ("a",), is_generic=False)
    for row in (data_row(b"x"), data_row(b"x", *WHO, b"more")):
        with pytest.raises(NotCarriedOver, match="instead of 4"):
            read_captured(item, answered(row))
