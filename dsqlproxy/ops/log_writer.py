"""The one place that writes the log, on a thread of its own.

Standard error is often a pipe, and a pipe whose reader pauses (a container
runtime in trouble, Ctrl-S on a terminal, a pager) blocks the writer. On the event
loop that would stop every session, so the loop only queues lines. The queue is
bounded: when it is full lines are dropped, counted, and the count is written as
soon as there is room again. A stream that is closed or broken swallows the log,
never the proxy.
"""

import contextlib
import logging
import queue
import threading
from typing import Final, TextIO

MAX_QUEUED_LINES: Final = 10_000
FLUSH_SECONDS: Final = 1.0
_BATCH_LINES: Final = 200


class LogWriter(logging.Handler):
    """Queues formatted lines and writes them in order on a daemon thread.

    The stream belongs to the caller and is never closed here. ``close`` writes what
    is queued, waiting at most ``FLUSH_SECONDS`` for a stream that does not move.
    """

    def __init__(self, stream: TextIO, *, limit: int = MAX_QUEUED_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._limit = limit
        self._dropped = 0
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._end = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._write_queued, name="log-writer", daemon=True
        )
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record as a line, or count it as dropped."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a log call must not raise
            line = f"a log event could not be formatted: {type(error).__name__}"
        if self._is_closed or self._lines.qsize() >= self._limit:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._lines.put(self.format(_dropped_record(dropped)))
        self._lines.put(line)

    def flush(self) -> None:
        """Wait until what is queued now is written, or for ``FLUSH_SECONDS``."""
        if self._thread.is_alive():
            reached = threading.Event()
            self._lines.put(reached)
            reached.wait(FLUSH_SECONDS)

    def close(self) -> None:
        """Write what is queued and end the thread; later events are dropped."""
        if not self._is_closed:
            self._is_closed = True
            self._lines.put(self._end)
            self._thread.join(FLUSH_SECONDS)
        super().close()

    def _write_queued(self) -> None:
        while True:
            batch, mark = self._next_batch()
            if batch:
                self._write("".join(batch))
            if mark is not None:
                mark.set()
            if mark is self._end:
                return

    def _next_batch(self) -> tuple[list[str], threading.Event | None]:
        """Take lines up to the next mark; one write for many saves system calls."""
        batch: list[str] = []
        item = self._lines.get()
        while not isinstance(item, threading.Event):
            batch.append(f"{item}\n")
            if len(batch) >= _BATCH_LINES or self._lines.empty():
                return batch, None
            item = self._lines.get()
        return batch, item

    def _write(self, text: str) -> None:
        # Closed, a broken pipe, a full disk: there is nobody left to tell.
        with contextlib.suppress(OSError, ValueError):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode("ascii", "backslashreplace").decode())
            self._stream.flush()


def _dropped_record(count: int) -> logging.LogRecord:
    """Give the event that says how many lines are missing here."""
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log lines dropped",
            "fields": {"count": count},
        }
    )
