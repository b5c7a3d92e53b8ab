import contextlib

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import ProtocolError, UpstreamRejected
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, FrameReader, frame
from dsqlproxy.pgproto.messages import ErrorResponse, ParameterStatus
from dsqlproxy.probe.reply import (
    Ending,
    Reply,
    parameters_of,
    rejection_said,
    said,
    types_of,
)
from tests.kit.frames import command_complete, data_row, error, ready, server

NULL = b"\0\1\xff\xff\xff\xff"


def reply(*parts: bytes, **settings: object) -> Reply:
    return Reply(tuple(FrameReader().feed(b"".join(parts))), 0.1, **settings)  # type: ignore[arg-type]


def test_types_are_told_in_order_and_counted() -> None:
    assert reply(server("12DDDDDCZ")).types == "1 2 D*5 C Z"
    assert types_of(()) == ""


def test_rows_are_texts_and_null() -> None:
    answer = reply(data_row(b"1", b"\xff"), frame(BackendType.DATA_ROW, NULL), ready())
    assert answer.rows == (("1", "\N{REPLACEMENT CHARACTER}"), (None,))


def test_one_value_is_the_one_of_one_row() -> None:
    assert reply(data_row(b"on"), ready()).value() == "on"
    for parts in ([], [data_row(b"1", b"2")], [data_row(b"1"), data_row(b"2")]):
        with pytest.raises(ProtocolError, match="not one value"):
            reply(*parts, ready()).value()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (reply(server("CZ")), "ok"),
        (reply(server("EZ")), "ERROR 22012"),
        (reply(ending=Ending.RESET, is_whole=False), "connection reset (RST)"),
        (reply(is_whole=False), "silence"),
    ],
)
def test_a_verdict_is_a_word(answer: Reply, verdict: str) -> None:
    assert answer.verdict == verdict


def test_what_was_done_is_in_the_tags() -> None:
    answer = reply(command_complete("SET"), command_complete("SELECT 1"), ready())
    assert answer.tags == ("SET", "SELECT 1")
    assert (answer.status, answer.sqlstate, answer.error) == ("I", "", None)
    assert answer.count(BackendType.COMMAND_COMPLETE) == 2
    assert reply(server("C")).status == ""


def test_the_first_error_counts() -> None:
    answer = reply(error("one", sqlstate="0A000"), error("two"), ready())
    assert answer.error is not None
    assert answer.error.message == "one"
    assert answer.sqlstate == "0A000"


def test_an_error_is_told_whole() -> None:
    told = ErrorResponse.build("FATAL", "08006", "no", detail="of it", hint="do it")
    assert said(told) == "FATAL 08006: no. DETAIL: of it. HINT: do it"
    assert rejection_said(UpstreamRejected("no", fields=told.fields)) == said(told)


def test_reported_settings_keep_their_order() -> None:
    parts = [ParameterStatus(name, "x").encode() for name in ("b", "a")]
    assert list(parameters_of(reply(*parts, ready()).frames)) == ["b", "a"]


@given(st.binary())
def test_noise_in_a_row_is_a_protocol_error_or_nothing(body: bytes) -> None:
    answer = Reply((Frame(BackendType.DATA_ROW, body),), 0.0)
    with contextlib.suppress(ProtocolError):
        assert len(answer.rows) == 1
