"""Other wordings: what PostgreSQL is asked in place of the client's words. No I/O.

For what PostgreSQL answers otherwise than a cluster: the version that is shown, and
the two settings that a cluster has and PostgreSQL does not know. These two live as
custom settings, whose names need a dot; where a client says the name of the one that
has none, PostgreSQL is told the other. Names that are not in the text (``$1``) are
looked at by functions of ours in the schema ``sys`` when they are called.

Known differences: PostgreSQL takes any text as the value of such a setting, and shows
neither in ``pg_settings``; their defaults are inferred from their names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.emulator.sql import Statement, Token, TokenKind

# Observed on a cluster; the embedded PostgreSQL is another minor version.
SERVER_VERSION: Final = "16.15"
SERVER_VERSION_NUM: Final = "160015"
SHOWN_VERSIONS: Final = {
    "server_version": SERVER_VERSION,
    "server_version_num": SERVER_VERSION_NUM,
}

STAND_INS: Final = {"disable_sync_create_index": "dsql.disable_sync_create_index"}
"""Names that PostgreSQL cannot have, and what it calls these settings here."""

DEFAULT_OPTIONS: Final = (
    "-c dsql.enable_batched_nestloop=on -c dsql.disable_sync_create_index=off"
)
"""Startup options that make the settings of a cluster exist; the client's follow."""

# asyncpg switches it off by set_config() before it reads the catalog for a type that
# it does not know. What a cluster says to that is not known; here asyncpg works.
UNJUDGED_PARAMETERS: Final = frozenset({"jit"})

_LITERALLY_SET: Final = (ACCEPTED_PARAMETERS | UNJUDGED_PARAMETERS) - STAND_INS.keys()
_LITERALLY_SHOWN_ELSEWHERE: Final = SHOWN_VERSIONS.keys() | STAND_INS.keys()
_IN_OPTIONS: Final = re.compile(
    r"(-c\s*|--)(disable[-_]sync[-_]create[-_]index)(?==)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters of the text and what PostgreSQL gets in their place."""

    start: int
    end: int
    text: str


def edits_of(statement: Statement) -> tuple[Edit, ...]:
    """Give the other wording of a statement; empty where it can stay as it is."""
    if statement.shape[0] in {"set", "reset", "show"}:
        return tuple(_named_settings(statement))
    return tuple(_calls(statement))


def stand_in_parameter(name: str) -> str:
    """Give the name by which PostgreSQL knows a startup parameter."""
    return STAND_INS.get(name.lower(), name)


def stand_in_options(options: str) -> str:
    """Give the startup ``options`` for PostgreSQL: the defaults, then the client's."""
    named = _IN_OPTIONS.sub(_switch, options)
    return f"{DEFAULT_OPTIONS} {named}".rstrip()


def _switch(found: re.Match[str]) -> str:
    return found[1] + STAND_INS[found[2].replace("-", "_").lower()]


def _named_settings(statement: Statement) -> Iterator[Edit]:
    """Find the name of the setting behind SET [SESSION | LOCAL], RESET or SHOW."""
    start = 2 if statement.shape[1:2] in {("session",), ("local",)} else 1
    for token in statement.tokens[start : start + 1]:
        if (other := STAND_INS.get(token.name.lower())) is not None:
            yield Edit(token.start, token.end, other)


def _calls(statement: Statement) -> Iterator[Edit]:
    """Point calls of PostgreSQL's functions at ours, where ours know better."""
    shape = statement.shape
    for index, word in enumerate(shape[:-2]):
        if shape[index + 1] != "(" or not _is_ours(word, statement.tokens[index + 2]):
            continue
        first = index
        if shape[index - 1 : index] == (".",):
            if shape[index - 2 : index - 1] != ("pg_catalog",):
                continue
            first = index - 2
        start, end = statement.tokens[first].start, statement.tokens[index].end
        yield Edit(start, end, f"sys.{word}")


def _is_ours(function: str, argument: Token) -> bool:
    """Decide by the first argument; one that is no literal is for us to look at."""
    is_literal = argument.kind is TokenKind.STRING
    match function:
        case "version":
            return argument.text == ")"
        case "current_setting":
            return (
                not is_literal or argument.value.lower() in _LITERALLY_SHOWN_ELSEWHERE
            )
        case "set_config":
            return not is_literal or argument.value.lower() not in _LITERALLY_SET
        case _:
            return False
