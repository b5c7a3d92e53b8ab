"""A bad value in words: what was given, what is wrong, what is accepted."""

import json
from collections.abc import Iterable
from difflib import get_close_matches

_MAX_SHOWN = 255
"""Characters: the paths that a container mounts are shown whole."""


def given(value: object) -> str:
    """Show a value as it would stand in the file, on one line and not too long."""
    match value:
        case None:
            return "null"
        case str():
            cut = value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "…"
            # Escaped if a terminal could obey it.
            return json.dumps(cut, ensure_ascii=not cut.isprintable())
        case int() | float():
            return str(value).lower() if isinstance(value, bool) else str(value)
        case dict():
            return "a mapping" if value else "{}"
        case list() | tuple():
            return "a list" if value else "[]"
        case _:
            return f"a {type(value).__name__}"


def refused(value: object, wrong: str, *, accepted: str) -> ValueError:
    """Make the error for a value: ``"x" is too long; accepted: …``."""
    return ValueError(f"{given(value)} {wrong}; accepted: {accepted}")


def not_text(value: object, *, accepted: str) -> ValueError:
    """Make the error for a value that YAML read as something other than text."""
    match value:
        case bool():
            wrong = "is a boolean to YAML, not text"
        case None | dict() | list():
            wrong = "is not text"
        case _:
            wrong = "is not text to YAML; if it is meant, put quotes around it"
    return refused(value, wrong, accepted=accepted)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Give ``; did you mean "x"?`` if a known word is near, else nothing."""
    if not isinstance(word, str):
        return ""
    spelled = word.strip().lower().replace("-", "_")
    names = {name.lower(): name for name in known}
    near = get_close_matches(spelled, list(names), n=1, cutoff=0.75)
    return f'; did you mean "{names[near[0]]}"?' if near else ""
