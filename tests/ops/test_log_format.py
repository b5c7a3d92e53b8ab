"""Lines of the log: harmless, bounded, and the same in both forms."""

import json
import logging
import re
from enum import StrEnum

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.ops import log_format
from dsqlproxy.ops.log_format import JsonFormatter, TextFormatter, cut, plain, timestamp


class Reason(StrEnum):
    DONE = "done"


def record(**fields: object) -> logging.LogRecord:
    found = logging.makeLogRecord(
        {"msg": "session opened", "levelname": "INFO", "levelno": 20, "fields": fields}
    )
    found.created = 1_767_225_600.0125
    return found


def foreign(message: str) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"msg": message, "levelname": "ERROR", "name": "asyncio", "created": 0.0}
    )


def failure(text: str) -> logging.LogRecord:
    found = record()
    found.exc_info = (ValueError, ValueError(text), None)
    return found


def as_text(**fields: object) -> str:
    return TextFormatter().format(record(**fields))


def as_json(**fields: object) -> dict[str, object]:
    line = json.loads(JsonFormatter().format(record(**fields)))
    assert isinstance(line, dict)
    return line


def test_json_has_time_level_event_and_then_the_fields() -> None:
    line = as_json(session="7f3a", seconds=0.0234567891, bytes_in=7)
    assert list(line.items()) == [
        ("ts", "2026-01-01T00:00:00.012Z"),
        ("level", "info"),
        ("event", "session opened"),
        ("session", "7f3a"),
        ("seconds", 0.023457),
        ("bytes_in", 7),
    ]


def test_text_says_the_same() -> None:
    assert as_text(session="7f3a", client="127.0.0.1:5", spare=False, x=None) == (
        "2026-01-01T00:00:00.012Z INFO session opened"
        " session=7f3a client=127.0.0.1:5 spare=false x=null"
    )


def test_an_instant_is_utc_with_milliseconds() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("", 'x=""', id="empty"),
        pytest.param("my app", 'x="my app"', id="a space"),
        pytest.param('say "hi"', r'x="say \"hi\""', id="quotes"),
        pytest.param("a=b", 'x="a=b"', id="an equals sign"),
        pytest.param("a\nb", r'x="a\nb"', id="a newline"),
        pytest.param("a\x1b[2Jb", r'x="a\u001b[2Jb"', id="a terminal's escape"),
        pytest.param("a\u202eb", r'x="a\u202eb"', id="a direction mark"),
        pytest.param("a\u2028b", r'x="a\u2028b"', id="a line separator"),
        pytest.param("a\ud800b", r'x="a\ud800b"', id="half a character"),
        pytest.param("größe", "x=größe", id="letters of other alphabets"),
        pytest.param(Reason.DONE, "x=done", id="an enumeration"),
        pytest.param(["a", 1], 'x=["a", 1]', id="a list"),
        pytest.param(float("nan"), "x=nan", id="not a number"),
        pytest.param(ValueError("b c"), 'x="b c"', id="any object"),
    ],
)
def test_values_in_text_are_quoted_when_they_would_be_ambiguous(
    value: object, shown: str
) -> None:
    assert as_text(x=value).split("opened ")[1] == shown


@given(st.text())
def test_no_text_of_a_peer_makes_a_second_line_or_field(text: str) -> None:
    line = TextFormatter().format(record(application_name=text, last=1))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    _, _, fields = line.partition("session opened ")
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"]+)', fields)
    assert [name for name, _ in pairs] == ["application_name", "last"]


@given(st.text())
def test_json_gives_a_short_text_back_unchanged_on_one_ascii_line(text: str) -> None:
    line = JsonFormatter().format(record(x=text[:1000]))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["x"] == text[:1000]


def test_long_values_are_cut_visibly() -> None:
    assert as_json(x="a" * 5_000)["x"] == "a" * 999 + "…"
    assert cut("abc", 3) == "abc"


def test_deep_and_long_collections_are_bounded() -> None:
    deep: object = "end"
    for _ in range(50):
        deep = {"down": [deep]}
    assert len(json.dumps(plain(deep))) < 2_000
    assert plain(list(range(1_000))) == list(range(50))


def test_a_field_cannot_take_the_name_of_a_fixed_one() -> None:
    line = as_json(ts=1, level=2, event=3, exception=4)
    assert (line["event"], line["event_"], line["ts_"]) == ("session opened", 3, 1)


def test_a_library_speaks_with_its_name_and_on_one_line() -> None:
    assert TextFormatter().format(foreign("boom\nINFO forged")) == (
        "1970-01-01T00:00:00.000Z ERROR boom\\nINFO forged logger=asyncio"
    )
    line = json.loads(JsonFormatter().format(foreign("boom")))
    assert (line["event"], line["logger"]) == ("boom", "asyncio")


def test_a_traceback_is_indented_so_that_it_cannot_pass_for_an_event() -> None:
    text = TextFormatter().format(failure("x\n2026-01-01T00:00:00.000Z INFO forged"))
    first, *rest = text.splitlines()
    assert first.endswith("INFO session opened")
    assert rest
    assert all(line.startswith("  | ") for line in rest)


def test_a_traceback_in_json_is_a_field() -> None:
    line = json.loads(JsonFormatter().format(failure("why")))
    assert line["exception"].endswith("ValueError: why")


def test_a_long_traceback_keeps_its_end() -> None:
    line = json.loads(JsonFormatter().format(failure("y" * 50_000 + "end")))
    assert len(line["exception"]) == log_format.MAX_TRACEBACK_CHARS + 1
    assert line["exception"].endswith("yend")


def test_no_traceback_outside_an_exception() -> None:
    nothing = record()
    nothing.exc_info = (None, None, None)
    assert "exception" not in json.loads(JsonFormatter().format(nothing))
