"""The statements of a session, by their requests and what became of them."""

from collections.abc import Iterable

import pytest
from hypothesis import assume, given, strategies as st

from dsqlproxy.session.hints import SETS, Mentions
from dsqlproxy.session.statements import (
    AMBIGUOUS,
    MAX_NAME_BYTES,
    MAX_PENDING,
    SMALL_BYTES,
    UNKEPT,
    Budget,
    Environment,
    Statement,
    Statements,
)
from tests.kit.frames import close, parse
from tests.kit.private import raw_parse

GERMAN = Environment(b"UTF8", b"German, DMY", b"postgres", b"UTC", b"on")
ISO = Environment(b"UTF8", b"ISO, MDY", b"postgres", b"UTC", b"on")
LARGE = "x" * 2 * SMALL_BYTES


def new(budget: Budget | None = None, *, max_bytes: int = 1 << 20) -> Statements:
    return Statements(ISO, Mentions(), budget=budget or Budget(), max_bytes=max_bytes)


def send(statements: Statements, *frames: bytes) -> str:
    """Let frames pass; give their symbols."""
    symbols = b""
    for one in frames:
        # Within other bytes, as it comes.
        data = b"....." + one + b"....."
        ask = {ord("P"): statements.parse, ord("C"): statements.close}[one[0]]
        symbols += ask(data, 10, 5 + len(one))
    return symbols.decode()


def done(statements: Statements, *frames: bytes) -> None:
    """Let frames pass and succeed, in a unit of their own."""
    send(statements, *frames)
    for _ in frames:
        statements.commit()
    statements.end_unit()


def texts(statements: Statements) -> dict[bytes, bytes]:
    """Give names and texts of all statements."""
    every = dict(statements.named)
    if statements.unnamed:
        every[b""] = statements.unnamed
    return {name: one.body.split(b"\0")[1] for name, one in every.items()}


def test_symbols_tell_named_from_unnamed_and_statements_from_portals() -> None:
    statements = new()
    frames = [
        parse("select 1", name="a"), parse("select 1"), raw_parse(b"x", types=(23,)),
        close("S", "a"), close("P", "a"), close("S"), parse(LARGE),
    ]  # fmt: skip
    assert send(statements, *frames) == "PUUCOCU"


def test_a_statement_is_there_once_it_succeeded() -> None:
    statements = new()
    send(statements, parse("select 1", name="a"), parse("select 2"))
    assert texts(statements) == {}
    statements.commit()
    assert texts(statements) == {b"a": b"select 1"}
    statements.commit()
    assert texts(statements) == {b"a": b"select 1", b"": b"select 2"}


def test_a_refused_one_never_is() -> None:
    statements = new()
    send(statements, parse("nonsense", name="a"), parse("select 1", name="b"))
    statements.refuse()
    statements.commit()
    assert texts(statements) == {b"b": b"select 1"}


def test_the_frame_is_as_the_client_sent_it() -> None:
    statements = new()
    sent = raw_parse(b"select \xe9, $1", name=b"a", types=(0, 25))
    done(statements, sent)
    assert statements.named[b"a"].frame == sent
    done(statements, raw_parse(b"SELECT \xe9"))
    assert statements.unnamed == Statement(b"\0SELECT \xe9\0\0\0", ISO)


def test_close_takes_statements_away() -> None:
    statements = new()
    done(
        statements, parse("select 1", name="a"), parse("select 2"), parse("x", name="b")
    )
    done(statements, close("S", "a"), close("S", "never"), close("S"))
    assert texts(statements) == {b"b": b"x"}
    statements.forget_named()
    assert texts(statements) == {}


def test_names_are_compared_as_far_as_postgresql_looks() -> None:  # NAMEDATALEN
    statements = new()
    done(statements, parse("select 1", name="n" * 100))
    assert [*statements.named] == [b"n" * MAX_NAME_BYTES]
    done(statements, close("S", "n" * 64))
    assert texts(statements) == {}


def test_some_of_the_youngest_requests_may_be_discarded() -> None:
    statements = new()
    send(statements, parse("select 1", name="a"))
    send(statements, parse("select 2", name="b"), close("S", "a"), parse("x", name="c"))
    statements.note_fates(b"-+-")
    statements.commit()
    statements.commit()
    assert texts(statements) == {}
    assert statements.used_bytes == 0
    assert not statements.is_lost


# -- environments ----------------------------------------------------------------------


def test_a_statement_keeps_the_environment_of_its_time() -> None:
    statements = new()
    done(statements, parse("select 1", name="a"))
    statements.change_environment(GERMAN)
    statements.end_unit()
    done(statements, parse("select 2", name="b"), parse("select 3"))
    assert statements.named[b"a"].environment == ISO
    assert statements.named[b"b"].environment == GERMAN
    assert statements.unnamed is not None
    assert statements.unnamed.environment == GERMAN
    assert statements.marks == 0
    assert GERMAN.settings()["datestyle"] == b"German, DMY"
    assert Environment(timezone=b"UTC").settings() == {"timezone": b"UTC"}


@pytest.mark.parametrize("name", ["", "s"])
def test_one_parsed_in_the_unit_of_a_change_is_ambiguous_while_it_lives(
    name: str,
) -> None:
    statements = new()
    send(statements, parse("select f()", name="f"), parse("select 1", name=name))
    statements.commit()
    statements.commit()
    statements.change_environment(GERMAN)
    statements.end_unit()
    assert statements.marks == AMBIGUOUS
    done(statements, close("S", "f"))
    assert statements.marks == AMBIGUOUS
    done(statements, close("S", name))
    assert statements.marks == 0


def test_one_that_is_gone_at_the_end_of_the_unit_is_not_ambiguous() -> None:
    statements = new()
    send(statements, parse("select 1", name="a"), parse("select 2"), close("S", "a"))
    for _ in range(3):
        statements.commit()
    statements.forget(b"")
    statements.change_environment(GERMAN)
    statements.end_unit()
    assert statements.marks == 0


def test_one_parsed_after_a_setter_in_its_unit_is_ambiguous() -> None:
    setter = parse("set datestyle to german")
    statements = new()
    send(statements, setter, parse("select 1", name="a"))
    statements.commit()
    statements.commit()
    statements.end_unit()
    assert statements.marks & AMBIGUOUS
    statements = new()
    done(statements, setter)
    done(statements, parse("select 1", name="a"))
    assert not statements.marks & AMBIGUOUS


def test_the_setter_itself_is_not_ambiguous() -> None:
    statements = new()
    send(statements, parse("set timezone to 'UTC'", name="a"))
    statements.commit()
    statements.change_environment(GERMAN)
    statements.end_unit()
    assert statements.marks & SETS
    assert not statements.marks & AMBIGUOUS


# The same bytes mean another name under another client_encoding.
def test_a_name_that_is_not_ascii_is_ambiguous() -> None:
    statements = new()
    done(statements, raw_parse(b"select 1", name=b"\xe9"))
    assert statements.marks == AMBIGUOUS


# -- limits ----------------------------------------------------------------------------


def test_statements_are_counted_and_given_back() -> None:
    budget = Budget()
    statements = new(budget)
    done(statements, parse("select 1", name="a"), parse(LARGE), parse(LARGE, name="b"))
    assert budget.used_bytes == statements.used_bytes > 2 * len(LARGE)
    send(statements, parse(LARGE, name="c"))
    statements.refuse()
    done(statements, close("S", "b"), parse("select 1"))
    assert 0 < statements.used_bytes < 500
    statements.lose()
    assert budget.used_bytes == statements.used_bytes == 0


@pytest.mark.parametrize("name", ["", "s"])
@pytest.mark.parametrize(
    ("session_bytes", "process_bytes"),
    [(SMALL_BYTES, 1 << 20), (1 << 20, SMALL_BYTES)],
    ids=["of a session", "of the process"],
)
def test_one_over_a_limit_is_not_kept_and_is_marked_while_it_lives(
    name: str, session_bytes: int, process_bytes: int
) -> None:
    budget = Budget(process_bytes)
    statements = new(budget, max_bytes=session_bytes)
    done(statements, parse(LARGE, name=name))
    assert texts(statements) == {}
    assert statements.marks == UNKEPT
    assert budget.used_bytes == 0
    done(statements, close("S", name) if name else parse("select 1"))
    assert statements.marks == 0


@given(
    name=st.sampled_from(["", "a", "n" * 60, "n" * 70]),
    size=st.integers(0, 64),
    types=st.lists(st.integers(0, 9), max_size=4),
)
def test_a_parse_that_is_cut_off_is_never_taken_for_whole(
    name: str, size: int, types: list[int]
) -> None:
    whole = raw_parse(b"select 'x'", name=name.encode(), types=tuple(types))[5:]
    part = whole[: min(size, len(whole) - 1)]
    # Of these it takes one for whole that ends with a count of types: no frame is so
    # large by its types that it would come in parts.
    assume(not types or len(part) != len(whole) - 4 * len(types))
    statements = new()
    statements.parse(part, 0, len(part))
    statements.commit()
    assert texts(statements) == {}
    assert statements.marks & UNKEPT
    assert statements.has_unknown is (b"\0" not in part)


def test_what_cannot_be_followed_is_given_up() -> None:
    for break_it in (
        lambda one: one.commit(),
        lambda one: one.refuse(),
        lambda one: one.note_fates(b"+"),
        lambda one: send(one, *[close("S", "a")] * (MAX_PENDING + 1)),
        lambda one: send(one, *[parse("a")] * (MAX_PENDING + 1), parse("a", name="b")),
    ):
        budget = Budget()
        statements = new(budget)
        done(statements, parse("select 1", name="a"), parse("select 2"))
        break_it(statements)
        assert statements.is_lost
        assert texts(statements) == {}
        assert budget.used_bytes == 0
        assert send(statements, parse("x"), parse("x", name="x"), close("S")) == "UPC"
        statements.end_unit()
        assert (texts(statements), budget.used_bytes) == ({}, 0)


# The oldest fell out of the queue, and what it was charged was never given back.
@pytest.mark.parametrize("name", ["", "s"])
def test_a_large_one_behind_which_too_many_small_ones_queue_is_given_back(
    name: str,
) -> None:
    budget = Budget()
    statements = new(budget)
    send(statements, parse(LARGE, name=name))
    assert budget.used_bytes > len(LARGE)
    send(statements, *[parse("select 1")] * (MAX_PENDING + 100))
    assert budget.used_bytes > len(LARGE)
    statements.lose()
    assert budget.used_bytes == statements.used_bytes == 0


# -- any course of things --------------------------------------------------------------

_NAMES = st.sampled_from(["", "a", "b"])
_REQUESTS = st.one_of(
    st.builds(lambda name, text: (name, text), _NAMES, st.sampled_from(["x", LARGE])),
    st.builds(lambda name: (name, None), _NAMES),
)


@given(
    course=st.lists(st.tuples(_REQUESTS, st.booleans()), max_size=30),
    at_once=st.integers(1, 5),
)
def test_it_has_what_a_server_would_have(
    course: list[tuple[tuple[str, str | None], bool]], at_once: int
) -> None:
    budget = Budget()
    statements = new(budget)
    model: dict[bytes, bytes] = {}
    for start in range(0, len(course), at_once):
        part = course[start : start + at_once]
        send(statements, *_frames(request for request, _ in part))
        for (name, text), succeeds in part:
            if not succeeds:
                statements.refuse()
                continue
            statements.commit()
            model.pop(name.encode(), None)
            if text is not None:
                model[name.encode()] = text.encode()
        statements.end_unit()
    assert texts(statements) == model
    assert budget.used_bytes == statements.used_bytes
    statements.lose()
    assert budget.used_bytes == 0


def _frames(requests: Iterable[tuple[str, str | None]]) -> list[bytes]:
    return [
        close("S", name) if text is None else parse(text, name=name)
        for name, text in requests
    ]
