"""What Aurora DSQL refuses in CREATE TABLE and ALTER TABLE. No I/O.

Observed on a cluster unless a comment says otherwise: the texts for temporary and
unlogged tables, CREATE TABLE AS, serial, unsupported data types and arrays, identity
columns, and the forms of ALTER TABLE.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dsqlproxy.emulator.refusals import (
    CREATE_TABLE_AS,
    IDENTITY_CACHE,
    UNDEFINED_OBJECT,
    Refusal,
    has_good_cache,
    is_temporary,
    object_words,
    top_level,
)
from dsqlproxy.emulator.sql import Statement

_CONSTRAINT_WORDS: Final = frozenset(
    {"constraint", "primary", "unique", "check", "foreign", "exclude", "like"}
)
_SERIALS: Final = frozenset(
    {
        *("serial", "bigserial", "smallserial"),
        *("serial2", "serial4", "serial8"),
    }
)
# How PostgreSQL displays the types that have another name.
_DISPLAYED: Final[Mapping[str, str]] = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "varchar": "character varying",
    "char": "character",
    "varbit": "bit varying",
    "decimal": "numeric",
    "dec": "numeric",
    "timestamptz": "timestamp with time zone",
    "timetz": "time with time zone",
}
# Seen refused; of the ranges and macaddr8 only relatives were seen (inferred).
_UNSUPPORTED_TYPES: Final = frozenset(
    {
        *("money", "xml", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn"),
        *("point", "line", "lseg", "box", "path", "polygon", "circle"),
        *("tsvector", "tsquery", "bit", "bit varying"),
        *("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"),
    }
)
_TYPE_TAILS: Final = frozenset({"varying", "precision"})

_RETYPE: Final = Refusal(
    "unsupported ALTER TABLE ALTER COLUMN ... SET DATA TYPE statement"
)
_ADD_CONSTRAINT: Final = Refusal("unsupported ALTER TABLE ADD CONSTRAINT statement")
_ADD_COLUMN: Final = Refusal("ALTER TABLE ADD COLUMN with constraint not supported")
_VALIDATE: Final = Refusal("unsupported ALTER TABLE VALIDATE CONSTRAINT statement")
# AWS's linter calls these unsupported; the texts are inferred.
_INFERRED_CLAUSES: Final[Mapping[str, Refusal]] = {
    "inherits": Refusal("INHERITS clause not supported for CREATE TABLE"),
    "partition": Refusal("PARTITION BY clause not supported for CREATE TABLE"),
    "tablespace": Refusal("TABLESPACE clause not supported for CREATE TABLE"),
    "with": Refusal("WITH clause not supported for CREATE TABLE"),
}
_SET_NOT_NULL: Final = Refusal(
    "unsupported ALTER TABLE ALTER COLUMN ... SET NOT NULL statement"
)
_ROW_SECURITY: Final = Refusal("unsupported ALTER TABLE ROW LEVEL SECURITY statement")

_Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column definition: its type as PostgreSQL shows it, and what follows."""

    type_name: str
    is_array: bool
    rest: _Words


def find_table_refusal(statement: Statement) -> Refusal | None:
    """Say what a cluster would refuse of CREATE TABLE or ALTER TABLE."""
    words = object_words(statement.shape)
    if words[:1] != ("table",):
        return None
    if statement.shape[0] == "create":
        return _of_create(statement)
    if statement.shape[0] == "alter":
        return _of_alter(words[1:])
    return None


def _of_create(statement: Statement) -> Refusal | None:
    shape = statement.shape
    if is_temporary(shape):
        return Refusal("TEMPORARY or TEMP table not supported for CREATE TABLE")
    if "unlogged" in shape[:3]:
        return Refusal("UNLOGGED table not supported for CREATE TABLE")
    outside = [word for _, word in top_level(statement)]
    if "as" in outside:
        return CREATE_TABLE_AS
    return _of_elements(shape) or _first(
        _INFERRED_CLAUSES.get(word) for word in outside
    )


def _of_elements(shape: _Words) -> Refusal | None:
    if "(" not in shape:
        return None
    inside = shape[shape.index("(") + 1 :]
    columns = [
        _column(element[1:])
        for element in _elements(inside)
        if element and element[0] not in _CONSTRAINT_WORDS
    ]
    return _first(
        check(column)
        for check in (_serial, _identity_cache, _identity_type, _data_type)
        for column in columns
    )


def _of_alter(words: _Words) -> Refusal | None:
    if words[:2] == ("if", "exists"):
        words = words[2:]
    if words[:1] == ("only",):
        words = words[1:]
    is_async = words[:1] == ("async",) and len(words) > 1
    return _first(_of_action(action, is_async) for action in _actions(words))


def _of_action(action: _Words, is_async: bool) -> Refusal | None:
    match action:
        case ("add", *_):
            return _of_addition(action)
        case ("validate", "constraint", *_) if not is_async:
            return _VALIDATE
        case ("alter", "column", _, *rest) | ("alter", _, *rest) if rest[:1] == [
            "type"
        ] or rest[:3] == ["set", "data", "type"]:
            return _RETYPE
        case (*_, "set", "not", "null"):
            return _SET_NOT_NULL
        case (*_, "row", "level", "security"):
            return _ROW_SECURITY  # inferred
        case _:
            return None


def _of_addition(action: _Words) -> Refusal | None:
    match action[1:]:
        case (word, *_) if word in _CONSTRAINT_WORDS:
            return _of_new_constraint(action)
        case (
            ("column", "if", "not", "exists", _, *rest)
            | ("column", _, *rest)
            | (_, *rest)
        ):
            return _of_new_column(tuple(rest))
        case _:
            return None


def _of_new_constraint(action: _Words) -> Refusal | None:
    if action[-2:] == ("not", "valid") or ("using", "index") in _pairs(action):
        return None
    return _ADD_CONSTRAINT


def _of_new_column(definition: _Words) -> Refusal | None:
    column = _column(definition)
    refusal = _serial(column) or _data_type(column)
    if refusal is None and _has_constraint(column.rest):
        refusal = _ADD_COLUMN
    return refusal


def _has_constraint(rest: _Words) -> bool:
    # STORAGE and COLLATE are no constraints; NULL alone changes nothing.
    marks = {*("constraint", "not", "default", "check", "unique", "primary")}
    return bool(marks.union({"references", "generated"}).intersection(rest))


def _column(definition: _Words) -> _Column:
    """Read ``type rest`` (what follows a column's name)."""
    words = list(definition)
    name = words.pop(0) if words else ""
    if name == "pg_catalog" and words[:1] == ["."]:
        name = words[1] if len(words) > 1 else ""
        words = words[2:]
    if words and words[0] in _TYPE_TAILS:
        name = f"{name} {words.pop(0)}"
    if words[:1] == ["("]:
        close = words.index(")") + 1 if ")" in words else len(words)
        words = words[close:]
    is_array = words[:1] in (["["], ["array"])
    return _Column(_DISPLAYED.get(name, name), is_array, tuple(words))


def _serial(column: _Column) -> Refusal | None:
    if column.type_name not in _SERIALS:
        return None
    # Observed for serial; that the others are named as written is inferred.
    return Refusal(f'type "{column.type_name}" does not exist', UNDEFINED_OBJECT)


def _data_type(column: _Column) -> Refusal | None:
    if column.is_array:
        return Refusal(f"datatype {column.type_name}[] not supported")
    if column.type_name in _UNSUPPORTED_TYPES:
        return Refusal(f"datatype {column.type_name} not supported")
    return None


def _is_identity(column: _Column) -> bool:
    return ("as", "identity") in _pairs(column.rest)


def _identity_cache(column: _Column) -> Refusal | None:
    if _is_identity(column) and not has_good_cache(column.rest):
        return IDENTITY_CACHE
    return None


def _identity_type(column: _Column) -> Refusal | None:
    if not _is_identity(column) or column.type_name == "bigint":
        return None
    return Refusal(
        f"datatype {column.type_name} not supported, identity column type must be "
        "bigint"
    )


def _elements(words: Iterable[str]) -> Iterator[_Words]:
    """Split at the commas of this level, up to the parenthesis that ends it."""
    depth = 0
    current: list[str] = []
    for word in words:
        if word == ")" and not depth:
            break
        depth += (word in {"(", "["}) - (word in {")", "]"})
        if word == "," and not depth:
            yield tuple(current)
            current = []
        else:
            current.append(word)
    yield tuple(current)


def _actions(words: _Words) -> Iterator[_Words]:
    """Give the actions of ALTER TABLE: what follows the name, split at commas."""
    for number, element in enumerate(_elements(words)):
        if number:
            yield element
            continue
        starts = [
            index
            for index, word in enumerate(element)
            if index and word in {"add", "alter", "validate", "enable", "force"}
        ]
        if starts:
            yield element[starts[0] :]


def _pairs(words: _Words) -> set[tuple[str, str]]:
    return set(pairwise(words))


def _first(refusals: Iterable[Refusal | None]) -> Refusal | None:
    return next((refusal for refusal in refusals if refusal), None)
