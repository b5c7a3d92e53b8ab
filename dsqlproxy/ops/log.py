"""Events with fields over the standard library's logging.

A component is given an ``EventLog`` and says what happened and to whom::

    log = root.bind(session="7f3a")
    log.info("session opened", client="127.0.0.1:50312", user="admin")

The event is a constant of the code; whatever came from a peer is a field, so a
client can neither forge an event nor, its values being escaped and cut, a line.

Libraries (boto3, asyncio) log to the same place from WARNING up and never below:
at debug level botocore writes canonical requests and signatures.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final, Literal, TextIO

from dsqlproxy.ops.log_format import JsonFormatter, TextFormatter
from dsqlproxy.ops.log_writer import LogWriter

LEVELS: Final = MappingProxyType(
    {
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warning": logging.WARNING,
        "error": logging.ERROR,
    }
)
"""The words of ``log.level``."""


class EventLog:
    """Writes events; ``bind`` gives another one that adds its fields to each.

    A call below the level costs one dictionary of keywords and one look at the
    level, no formatting.
    """

    __slots__ = ("_fields", "_logger")

    def __init__(self, logger: logging.Logger, **fields: object) -> None:
        self._logger = logger
        self._fields = fields

    def bind(self, **fields: object) -> "EventLog":
        """Give a log that adds these fields to every event."""
        return EventLog(self._logger, **{**self._fields, **fields})

    def is_enabled_for(self, level: int) -> bool:
        """Tell whether an event of this level is written at all."""
        return self._logger.isEnabledFor(level)

    def debug(self, event: str, /, **fields: object) -> None:
        """Note a detail that helps somebody who is looking for a fault."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Note an event in the life of the proxy or a session."""
        self._log(logging.INFO, event, fields)

    def warning(
        self, event: str, /, exc_info: BaseException | None = None, **fields: object
    ) -> None:
        """Note something that an operator may mend."""
        self._log(logging.WARNING, event, fields, exc_info)

    def error(
        self, event: str, /, exc_info: BaseException | None = None, **fields: object
    ) -> None:
        """Note a bug of ours, with its traceback."""
        self._log(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, /, **fields: object) -> None:
        """Note a bug of ours, with the traceback of the exception being handled."""
        self._log(logging.ERROR, event, fields, sys.exception())

    def _log(
        self,
        level: int,
        event: str,
        fields: dict[str, object],
        exc_info: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(
                level,
                event,
                exc_info=exc_info,
                extra={"fields": {**self._fields, **fields}},
            )


@contextmanager
def configure_logging(
    *,
    level: str = "info",
    log_format: Literal["auto", "text", "json"] = "auto",
    stream: TextIO,
    name: str = "dsqlproxy",
) -> Iterator[EventLog]:
    """Send the process's log to the stream while the context lasts.

    ``auto`` is text on a terminal and JSON otherwise. The stream stays the caller's;
    what is still queued at the end gets a moment to be written. Nothing that the
    stream does, be it closed, broken or blocked, reaches the caller of an event.
    """
    is_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    writer = LogWriter(stream)
    writer.setFormatter(TextFormatter() if is_text else JsonFormatter())
    root, ours = logging.getLogger(), logging.getLogger(name)
    levels = root.level, ours.level
    root.addHandler(writer)
    root.setLevel(logging.WARNING)
    ours.setLevel(LEVELS[level])
    try:
        yield EventLog(ours)
    finally:
        root.removeHandler(writer)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        writer.close()
