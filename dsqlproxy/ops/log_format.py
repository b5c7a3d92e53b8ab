"""A log record as one line: JSON for machines, text for people.

Both say the same: time, level, event, fields. What peers control appears only as
a field's value and is made harmless here, in one place: control characters,
line separators and direction marks are escaped, so that a line stays one line and
means what it seems to mean, and everything long is cut, so that one client cannot
flood the log. The limits leave room for what is honest: PostgreSQL cuts an
application_name at 63 bytes, the longest hints of ours have some 300 characters.
"""

import json
import logging
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

MAX_EVENT_CHARS: Final = 300
MAX_VALUE_CHARS: Final = 1_000
MAX_ITEMS: Final = 50
MAX_DEPTH: Final = 3
MAX_TRACEBACK_CHARS: Final = 16_000

_RESERVED: Final = frozenset({"ts", "level", "event", "logger", "exception"})
_NEEDS_QUOTES: Final = re.compile(r'[\s"=\\]|^$')


def timestamp(seconds: float) -> str:
    """Give an instant as RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cut(text: str, limit: int = MAX_VALUE_CHARS) -> str:
    """Shorten a text that is longer than the limit, visibly."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def plain(value: object, depth: int = 0) -> object:
    """Make a field's value something that JSON can express, and bounded."""
    match value:
        case None | bool() | int():
            return value
        case float():
            # Microseconds are finer than anything here is measured.
            return round(value, 6) if math.isfinite(value) else str(value)
        case str():
            return cut(str(value))
        case Mapping() if depth < MAX_DEPTH:
            items = list(value.items())[:MAX_ITEMS]
            return {cut(str(key)): plain(item, depth + 1) for key, item in items}
        case list() | tuple() if depth < MAX_DEPTH:
            return [plain(item, depth + 1) for item in value[:MAX_ITEMS]]
        case _:
            return cut(str(value))


class _EventFormatter(logging.Formatter):
    """What both forms share: which fields a record has, and its traceback."""

    def fields_of(self, record: logging.LogRecord) -> dict[str, object]:
        """Give the fields of an event; a library's record has only its origin."""
        fields = getattr(record, "fields", None)
        if not isinstance(fields, dict):
            return {"logger": record.name}
        return {
            f"{name}_" if name in _RESERVED else name: plain(value)
            for name, value in fields.items()
        }

    def traceback_of(self, record: logging.LogRecord) -> str:
        """Give the traceback, its end rather than its beginning when it is long."""
        if not record.exc_info or record.exc_info[0] is None:
            return ""
        text = self.formatException(record.exc_info)
        if len(text) <= MAX_TRACEBACK_CHARS:
            return text
        return f"…{text[-MAX_TRACEBACK_CHARS:]}"


class JsonFormatter(_EventFormatter):
    """One JSON object a line; ASCII only, so that any stream can take it."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the record as ``{"ts":…, "level":…, "event":…, fields…}``."""
        line: dict[str, object] = {
            "ts": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": cut(record.getMessage(), MAX_EVENT_CHARS),
            **self.fields_of(record),
        }
        if exception := self.traceback_of(record):
            line["exception"] = exception
        return json.dumps(line)


class TextFormatter(_EventFormatter):
    """``TIME LEVEL event name=value …``, and a traceback as indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the record as one line, or several when there is a traceback."""
        event = visible(cut(record.getMessage(), MAX_EVENT_CHARS))
        words = [timestamp(record.created), record.levelname, event]
        words += [
            f"{name}={text_value(value)}"
            for name, value in self.fields_of(record).items()
        ]
        # The mark at the front of each line keeps an exception's text, which may
        # quote a peer, from looking like an event.
        trace = self.traceback_of(record).splitlines()
        return "\n  | ".join([" ".join(words), *map(visible, trace)])


def visible(text: str) -> str:
    """Escape what does not print: control characters, separators, marks."""
    return text if text.isprintable() else "".join(map(_visible_char, text))


def text_value(value: object) -> str:
    """Give a plain value for a text line, quoted when it would be ambiguous."""
    if (
        isinstance(value, str)
        and value.isprintable()
        and not _NEEDS_QUOTES.search(value)
    ):
        return value
    return visible(json.dumps(value, ensure_ascii=False))


def _visible_char(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode()
