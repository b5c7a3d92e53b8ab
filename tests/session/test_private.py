"""Private conversations: what may be an answer, and what is kept apart."""

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.pgproto.framing import FrameReader, frame
from dsqlproxy.pgproto.messages import SYNC
from dsqlproxy.session import private
from dsqlproxy.session.pins import NotCarriedOver
from dsqlproxy.session.private import Answers, Item, Kind, Request
from tests.kit.frames import data_row, error, server

PARSE = Item(Kind.PARSE, private.parse(b"a", b"select 1"))
CAPTURE = Item(Kind.CAPTURE, private.run(b"a"))
DESCRIBE = Item(Kind.DESCRIBE, private.describe(b"a"))
CLOSE = Item(Kind.CLOSE, private.close(b"a"))
PING = Request(SYNC, units=1)


def answers_to(*items: Item) -> Answers:
    return Answers(Request.of(items))


def test_each_item_goes_with_a_sync() -> None:
    request = Request.of([PARSE, CLOSE])
    assert request.units == 2
    assert request.data == PARSE.frames + SYNC + CLOSE.frames + SYNC
    assert Request.of([]) == Request(b"", 0)
    assert answers_to().is_done


def test_answers_come_with_their_items() -> None:
    answers = answers_to(PARSE, DESCRIBE, CLOSE)
    answers.receive(server("1ZtTZE"))
    was_done = answers.is_done
    answers.receive(server("Z"))
    assert (was_done, answers.is_done) == (False, True)
    found = [(item, unit.types) for item, unit in answers]
    assert found == [(PARSE, "1"), (DESCRIBE, "tT"), (CLOSE, "E")]
    assert [unit.sqlstate for unit in answers.units] == ["", "", "22012"]
    assert answers.units[1].content == server("tT")


def test_a_row_is_read_with_its_nulls() -> None:
    row = frame(ord("D"), b"\0\3\0\0\0\1x\xff\xff\xff\xff\0\0\0\0")
    answers = answers_to(CAPTURE)
    answers.receive(server("312") + row + server("C33Z"))
    assert answers.units[0].row == (b"x", None, b"")


def test_a_lone_sync_is_answered() -> None:
    answers = Answers(PING)
    answers.receive(server("Z"))
    assert answers.is_done
    assert answers.units[0].types == ""


def test_asides_are_kept_apart_in_their_order() -> None:
    answers = answers_to(PARSE, CLOSE)
    answers.receive(server("N1SAZN"))
    assert answers.take_asides() == [server(one) for one in "NSAN"]
    answers.receive(server("3Z"))
    assert [unit.types for unit in answers.units] == ["1", "3"]
    assert [(one.name, one.value) for one in answers.reported] == [("TimeZone", "UTC")]


def test_what_follows_the_last_answer_is_left() -> None:
    answers = answers_to(PARSE)
    after = server("N") + server("S")[:7]
    answers.receive(server("1Z") + after)
    assert answers.take_asides() == []
    answers.receive(b"more")
    assert answers.take_rest() == after
    assert answers.is_done


BROKEN = {
    "a fatal error": server("F"),
    "a transaction": server("1Y"),
    "a failed transaction": server("EX"),
    "another kind of answer": server("2Z"),
    "more than was asked": server("11Z"),
    "too little": server("Z"),
    "a COPY": server("GZ"),
    "a message without a length": b"1\0\0\0\1",
    "a malformed error": frame(ord("E"), b"SERROR"),
    "a malformed report": frame(ord("S"), b"name"),
    "a message that is too long": b"T\x7f\0\0\0",
    "a message of no type": b"\0\0\0\0\4" + server("Z"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_no_answer_can_be_is_an_error(name: str) -> None:
    with pytest.raises(NotCarriedOver) as failure:
        answers_to(PARSE).receive(BROKEN[name])
    assert not failure.value.may_retry


@pytest.mark.parametrize("sqlstate", ["40001", "57014"])
def test_an_interrupted_question_may_be_asked_again(sqlstate: str) -> None:
    interrupted = error("no", sqlstate=sqlstate)
    answers = answers_to(CAPTURE, DESCRIBE, CLOSE)
    answers.receive(server("312") + data_row(b"x") + server("C33Z") + interrupted)
    with pytest.raises(NotCarriedOver) as failure:
        answers.receive(server("Z3Z"))
    assert failure.value.may_retry
    assert answers.is_done  # nothing of it is still to come
    answers = answers_to(PARSE)
    answers.receive(interrupted + server("Z"))  # no question: tried again later
    assert answers.units[0].sqlstate == sqlstate


@given(data=st.data())
def test_cutting_changes_nothing(data: st.DataObject) -> None:
    whole = server("N1Z312DC33ZEZ")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    answers, expected = (
        answers_to(PARSE, CAPTURE, CLOSE),
        answers_to(PARSE, CAPTURE, CLOSE),
    )
    expected.receive(whole)
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        answers.receive(whole[start:end])
    assert answers.units == expected.units
    assert answers.take_asides() == expected.take_asides() == [server("N")]


@given(noise=st.binary(max_size=60))
def test_noise_is_an_error_or_nothing(noise: bytes) -> None:
    answers = answers_to(PARSE, CAPTURE)
    try:
        answers.receive(noise)
    except NotCarriedOver:
        return
    assert not answers.is_done


def test_frames_of_ours_can_be_read() -> None:
    frames = [
        private.parse(b"n", b"select $1"),
        private.run(b"n", (b"a", b"")),
        private.close_portal(b"n"),
        private.close(b"n"),
        private.describe(b"s"),
    ]
    read = FrameReader().feed(b"".join(frames))
    assert [(chr(one.type), one.body) for one in read] == [
        ("P", b"n\0select $1\0\0\0"),
        ("B", b"n\0n\0\0\0\0\2\0\0\0\1a\0\0\0\0\0\0"),
        ("E", b"n\0\0\0\0\0"),
        ("C", b"Pn\0"),
        ("C", b"Sn\0"),
        ("D", b"Ss\0"),
    ]
