"""Events with fields reach the stream, and only at their level."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dsqlproxy.ops.log import LEVELS, EventLog, configure_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Unspeakable:
    def __str__(self) -> str:
        raise AssertionError("formatted although nobody looks")


@contextmanager
def logging_to(stream: io.StringIO, level: str = "info") -> Iterator[EventLog]:
    with configure_logging(level=level, stream=stream, name="dsqlproxy.test") as log:
        yield log


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_level_has_its_verb() -> None:
    stream = io.StringIO()
    with logging_to(stream, "debug") as log:
        log.debug("a", x=1)
        log.info("b", x=2)
        log.warning("c", x=3)
        log.error("d", x=4)
    found = [(line["level"], line["event"], line["x"]) for line in events(stream)]
    assert found == [
        ("debug", "a", 1),
        ("info", "b", 2),
        ("warning", "c", 3),
        ("error", "d", 4),
    ]


def test_bound_fields_are_on_every_event_and_later_ones_win() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        bound = log.bind(session="7f3a", user="a").bind(user="b")
        bound.info("session opened")
        bound.info("session closed", user="c")
        log.info("stopped")
    first, second, third = events(stream)
    assert (first["session"], first["user"]) == ("7f3a", "b")
    assert (second["session"], second["user"]) == ("7f3a", "c")
    assert "session" not in third


def test_a_field_may_be_called_event() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        log.info("stopped", event="mine")
    assert events(stream)[0]["event_"] == "mine"


def test_percent_signs_are_only_characters() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        log.info("100% %s", x="%d")
    assert (events(stream)[0]["event"], events(stream)[0]["x"]) == ("100% %s", "%d")


def test_below_the_level_nothing_is_formatted() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        log.debug("token signed", x=Unspeakable())
        assert not log.is_enabled_for(logging.DEBUG)
        assert log.is_enabled_for(logging.INFO)
    assert stream.getvalue() == ""


def test_an_error_carries_the_traceback_it_is_given() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        log.error("a bug", exc_info=KeyError("gone"))
    assert events(stream)[0]["exception"] == "KeyError: 'gone'"


def test_an_exception_carries_the_traceback_of_the_moment() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        try:
            events(stream)[0]["gone"]
        except IndexError:
            log.exception("a bug", session="7f3a")
    (line,) = events(stream)
    assert (line["level"], line["session"]) == ("error", "7f3a")
    assert str(line["exception"]).startswith("Traceback")


@pytest.mark.parametrize(
    ("stream", "log_format", "is_json"),
    [
        pytest.param(io.StringIO(), "auto", True, id="json where nobody reads along"),
        pytest.param(Terminal(), "auto", False, id="text on a terminal"),
        pytest.param(io.StringIO(), "text", False, id="text when asked for"),
        pytest.param(Terminal(), "json", True, id="json when asked for"),
    ],
)
def test_the_form_follows_the_stream_unless_it_is_chosen(
    stream: io.StringIO, log_format: str, is_json: bool
) -> None:
    with configure_logging(
        log_format=log_format,  # type: ignore[arg-type]
        stream=stream,
        name="dsqlproxy.test",
    ) as log:
        log.info("listening")
    assert stream.getvalue().startswith("{") is is_json


def test_libraries_are_heard_from_warning_up_whatever_our_level() -> None:
    stream = io.StringIO()
    with logging_to(stream, "debug"):
        library = logging.getLogger("some.library")
        library.debug("a signature")
        library.info("noise")
        library.warning("slow")
    assert [line["event"] for line in events(stream)] == ["slow"]


def test_nothing_is_left_behind() -> None:
    root = logging.getLogger()
    before = root.level, tuple(root.handlers)
    with logging_to(io.StringIO()):
        assert root.level == LEVELS["warning"]
    assert (root.level, tuple(root.handlers)) == before
