"""The writer of the log never stops and never fails whoever logs."""

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dsqlproxy.ops import log_writer
from dsqlproxy.ops.log_format import JsonFormatter
from dsqlproxy.ops.log_writer import LogWriter


class Gate(io.StringIO):
    """A stream that blocks each writer until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.is_entered = threading.Event()
        self.opened = threading.Event()

    def write(self, text: str, /) -> int:
        self.is_entered.set()
        self.opened.wait()
        return super().write(text)


class Broken(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError(len(text))


class AsciiOnly(io.StringIO):
    def write(self, text: str, /) -> int:
        text.encode("ascii")
        return super().write(text)


@contextmanager
def writer_on(stream: io.TextIOBase, *, limit: int = 100) -> Iterator[LogWriter]:
    writer = LogWriter(stream, limit=limit)  # type: ignore[arg-type]
    try:
        yield writer
    finally:
        writer.close()


def note(writer: LogWriter, text: str) -> None:
    writer.handle(logging.makeLogRecord({"msg": text, "levelname": "INFO"}))


def test_lines_come_out_in_order() -> None:
    stream = io.StringIO()
    with writer_on(stream, limit=10_000) as writer:
        for number in range(1_000):
            note(writer, str(number))
        writer.flush()
        assert stream.getvalue().split() == [str(number) for number in range(1_000)]


def test_closing_writes_what_is_queued_and_ends_the_thread() -> None:
    stream = io.StringIO()
    with writer_on(stream) as writer:
        note(writer, "last words")
    assert stream.getvalue() == "last words\n"
    assert "log-writer" not in {thread.name for thread in threading.enumerate()}


def test_a_blocked_stream_costs_lines_and_says_how_many() -> None:
    stream = Gate()
    with writer_on(stream, limit=3) as writer:
        writer.setFormatter(JsonFormatter())
        note(writer, "taken by the blocked write")
        stream.is_entered.wait()
        for number in range(10):
            note(writer, str(number))
        stream.opened.set()
        writer.flush()
        note(writer, "after")
        writer.flush()
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines][1:] == [
        "0",
        "1",
        "2",
        "log lines dropped",
        "after",
    ]
    assert lines[-2]["count"] == 7


def test_closing_does_not_wait_for_ever_on_a_blocked_stream() -> None:
    stream = Gate()
    with writer_on(stream) as writer:
        note(writer, "never seen in time")
        stream.is_entered.wait()
    assert stream.getvalue() == ""
    stream.opened.set()


def test_a_broken_stream_is_silence() -> None:
    with writer_on(Broken()) as writer:
        note(writer, "nobody listens")
        writer.flush()
        note(writer, "still nobody")


def test_a_closed_stream_is_silence() -> None:
    stream = io.StringIO()
    with writer_on(stream) as writer:
        stream.close()
        note(writer, "nobody listens")
        writer.flush()


def test_a_pipe_whose_reader_has_left_is_silence() -> None:
    reader, end = os.pipe()
    stream = os.fdopen(end, "w")
    os.close(reader)
    with writer_on(stream) as writer:
        note(writer, "nobody listens")
        writer.flush()
    # What could not be written is still in the stream's own buffer.
    with suppress(BrokenPipeError):
        stream.close()


def test_a_stream_that_only_takes_ascii_gets_ascii() -> None:
    stream = AsciiOnly()
    with writer_on(stream) as writer:
        note(writer, "größe")
    assert stream.getvalue() == "gr\\xf6\\xdfe\n"


def test_a_line_that_cannot_be_formatted_is_named_and_not_raised() -> None:
    stream = io.StringIO()
    with writer_on(stream) as writer:
        writer.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    assert stream.getvalue() == "a log event could not be formatted: TypeError\n"


def test_events_after_closing_are_dropped() -> None:
    stream = io.StringIO()
    with writer_on(stream) as writer:
        pass
    note(writer, "too late")
    writer.flush()
    writer.close()
    assert stream.getvalue() == ""


def test_many_lines_are_written_at_once() -> None:
    writes = 0

    class Counted(Gate):
        def flush(self) -> None:
            nonlocal writes
            writes += 1

    stream = Counted()
    with writer_on(stream, limit=1_000) as writer:
        note(writer, "first")
        stream.is_entered.wait()
        for number in range(2 * log_writer._BATCH_LINES):
            note(writer, str(number))
        stream.opened.set()
        writer.flush()
    assert writes == 3
