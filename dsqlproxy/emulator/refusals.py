"""What Aurora DSQL says of statements it does not support. No I/O.

The texts are a cluster's own where one was seen to say them; the others follow the
pattern of those (``unsupported statement:`` and the name of PostgreSQL's parse node
without ``Stmt``), for features that the AWS documentation or AWS's linter calls
unsupported. Each table below says which it is. A statement that no rule knows is
PostgreSQL's to judge: refusing too little is a smaller fault than too much.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dsqlproxy.emulator.sql import Statement, Token, TokenKind

FEATURE_NOT_SUPPORTED: Final = "0A000"
UNDEFINED_OBJECT: Final = "42704"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The error that a cluster gives instead of running a statement."""

    message: str
    sqlstate: str = FEATURE_NOT_SUPPORTED


def _unsupported(node: str) -> Refusal:
    return Refusal(f"unsupported statement: {node}")


# First words of a statement. Observed on a cluster: Truncate, Listen, Notify,
# Unlisten, VACUUM, MERGE, Lock, DeclareCursor. The rest are inferred.
_BY_FIRST_WORD: Final[Mapping[str, Refusal]] = {
    "truncate": _unsupported("Truncate"),
    "listen": _unsupported("Listen"),
    "notify": _unsupported("Notify"),
    "unlisten": _unsupported("Unlisten"),
    "vacuum": Refusal("unsupported VACUUM statement"),
    "merge": Refusal("unsupported statement type: MERGE"),
    "lock": _unsupported("Lock"),
    "declare": _unsupported("DeclareCursor"),
    "fetch": _unsupported("Fetch"),
    "move": _unsupported("Fetch"),
    "close": _unsupported("ClosePortal"),
    "execute": _unsupported("Execute"),
    "discard": _unsupported("Discard"),
    "do": _unsupported("Do"),
    "cluster": _unsupported("Cluster"),
    "reindex": _unsupported("Reindex"),
    "checkpoint": _unsupported("CheckPoint"),
    "load": _unsupported("Load"),
    "refresh": _unsupported("RefreshMatView"),
    "reassign": _unsupported("ReassignOwned"),
    "security": _unsupported("SecLabel"),
    "import": _unsupported("ImportForeignSchema"),
}

# What follows CREATE. Observed: extension, trigger, database, tablespace, foreign
# table, materialized view. The rest are inferred.
_CREATE: Final[Mapping[str, Refusal]] = {
    "extension": _unsupported("CreateExtension"),
    "trigger": Refusal("CREATE TRIGGER not supported"),
    "constraint trigger": Refusal("CREATE TRIGGER not supported"),
    "database": _unsupported("Createdb"),
    "tablespace": _unsupported("CreateTableSpace"),
    "foreign table": _unsupported("CreateForeignTable"),
    "materialized view": _unsupported("CreateTableAs"),
    "foreign data": _unsupported("CreateFdw"),
    "server": _unsupported("CreateForeignServer"),
    "user mapping": _unsupported("CreateUserMapping"),
    "event trigger": _unsupported("CreateEventTrig"),
    "rule": _unsupported("Rule"),
    "policy": _unsupported("CreatePolicy"),
    "publication": _unsupported("CreatePublication"),
    "subscription": _unsupported("CreateSubscription"),
    "language": _unsupported("CreatePLang"),
    "trusted": _unsupported("CreatePLang"),
    "procedural": _unsupported("CreatePLang"),
    "cast": _unsupported("CreateCast"),
    "transform": _unsupported("CreateTransform"),
    "conversion": _unsupported("CreateConversion"),
    "default conversion": _unsupported("CreateConversion"),
    "access method": _unsupported("CreateAm"),
    "statistics": _unsupported("CreateStats"),
    "operator class": _unsupported("CreateOpClass"),
    "operator family": _unsupported("CreateOpFamily"),
    "operator": _unsupported("Define"),
    "aggregate": _unsupported("Define"),
    "collation": _unsupported("Define"),
    "text search": _unsupported("Define"),
}

# What follows ALTER. Observed: system, type. The rest are inferred.
_ALTER: Final[Mapping[str, Refusal]] = {
    "system": _unsupported("AlterSystem"),
    "type": Refusal("ALTER TYPE not supported"),
    "database": _unsupported("AlterDatabase"),
    "extension": _unsupported("AlterExtension"),
    "tablespace": _unsupported("AlterTableSpaceOptions"),
    "policy": _unsupported("AlterPolicy"),
    "publication": _unsupported("AlterPublication"),
    "subscription": _unsupported("AlterSubscription"),
    "server": _unsupported("AlterForeignServer"),
    "event trigger": _unsupported("AlterEventTrig"),
}

# What follows DROP. Observed for a type; the rest are inferred.
_DROP: Final[Mapping[str, Refusal]] = {
    "database": _unsupported("Dropdb"),
    "tablespace": _unsupported("DropTableSpace"),
    "owned": _unsupported("DropOwned"),
    "subscription": _unsupported("DropSubscription"),
    **dict.fromkeys(
        (
            *("type", "trigger", "extension", "materialized view", "foreign table"),
            *("rule", "policy", "aggregate", "operator", "cast", "collation"),
            *("publication", "server", "statistics", "language", "event trigger"),
        ),
        Refusal("unsupported object in DROP statement"),
    ),
}

# Observed on a cluster.
_LOCKING: Final = Refusal(
    "locking clauses other than FOR UPDATE/FOR KEY SHARE are not supported"
)
_TABLE_SAMPLE: Final = Refusal("TABLESAMPLE clause not supported")
_SYNC_INDEX: Final = Refusal("unsupported mode. please use CREATE INDEX ASYNC.")
_RENAME_TYPE: Final = Refusal("unsupported object in RENAME statement")
CREATE_TABLE_AS: Final = _unsupported("CreateTableAs")
_CACHE: Final = (
    "is not supported without an explicit cache size. please define CACHE greater "
    "than or equal to 65536 or equal to 1"
)
_SEQUENCE_CACHE: Final = Refusal(f"CREATE SEQUENCE {_CACHE}")
IDENTITY_CACHE: Final = Refusal(f"identity column {_CACHE}")
_MIN_CACHE: Final = 65536

# Observed: `function pg_advisory_lock not supported`.
_ADVISORY_PREFIXES: Final = ("pg_advisory_", "pg_try_advisory_")

# AWS documentation (system tables and commands): these views do not apply to a
# cluster. The text is inferred. pg_prepared_statements is named there too, but it was
# seen to answer, so it does here.
_VIEWS: Final = frozenset({"pg_locks", "pg_cursors", "pg_stat_activity"})
_BEFORE_VIEW: Final = frozenset({"from", "join", "table", ",", ".", "("})

_BEFORE_OBJECT: Final = frozenset(
    {"global", "local", "temp", "temporary", "unlogged", "unique", "recursive"}
)
_VERBS: Final = frozenset({"select", "insert", "update", "delete", "merge", "values"})


def find_refusal(statement: Statement) -> Refusal | None:
    """Say what a cluster would refuse of a statement, settings and tables apart."""
    first = statement.shape[0]
    if first in _BY_FIRST_WORD:
        return _BY_FIRST_WORD[first]
    rule = _BY_RULE.get(first)
    return rule(statement) if rule else None


def object_words(shape: tuple[str, ...]) -> tuple[str, ...]:
    """Drop what may stand between CREATE and the kind of object."""
    words = shape[1:]
    if words[:2] == ("or", "replace"):
        words = words[2:]
    while words and words[0] in _BEFORE_OBJECT:
        words = words[1:]
    return words


def is_temporary(shape: tuple[str, ...]) -> bool:
    """Whether TEMP or TEMPORARY stands between CREATE and the kind of object."""
    before = shape[: len(shape) - len(object_words(shape))]
    return "temp" in before or "temporary" in before


def top_level(statement: Statement) -> Iterator[tuple[int, str]]:
    """Give index and shape of the tokens outside parentheses."""
    depth = 0
    for index, shape in enumerate(statement.shape):
        if shape in {"(", "["}:
            depth += 1
        elif shape in {")", "]"}:
            depth -= 1
        elif depth == 0:
            yield index, shape


def main_verb(statement: Statement) -> str:
    """Name what a statement does, common table expressions apart."""
    if statement.shape[0] != "with":
        return statement.shape[0]
    previous = ""
    for _, shape in top_level(statement):
        # The names of the expressions follow one of these; any word may be a name.
        if shape in _VERBS and previous not in {"with", "recursive", ","}:
            return shape
        previous = shape
    return "select"  # ( … ) UNION ( … ) begins with a parenthesis


def has_good_cache(words: tuple[str, ...]) -> bool:
    """Whether CACHE is given, and is 1 or at least 65536 (observed on a cluster)."""
    for index, word in enumerate(words[:-1]):
        if word == "cache" and words[index + 1].isdecimal():
            size = int(words[index + 1])
            return size == 1 or size >= _MIN_CACHE
    return False


def _by_object(words: tuple[str, ...], table: Mapping[str, Refusal]) -> Refusal | None:
    return table.get(" ".join(words[:2])) or table.get(" ".join(words[:1]))


def _of_create(statement: Statement) -> Refusal | None:
    words = object_words(statement.shape)
    match words[:1]:
        case ("type",):
            return _of_create_type(words)
        case ("index",):
            return None if words[1:2] == ("async",) else _SYNC_INDEX
        case ("function" | "procedure" as what,):
            return _of_language(statement, what.upper())
        case ("sequence" | "view" as what,) if is_temporary(statement.shape):
            # Inferred from the text that was observed for tables.
            return Refusal(
                f"TEMPORARY or TEMP {what} not supported for CREATE {what.upper()}"
            )
        case ("sequence",):
            return None if has_good_cache(words) else _SEQUENCE_CACHE
        case _:
            return _by_object(words, _CREATE)


def _of_create_type(words: tuple[str, ...]) -> Refusal:
    # All observed but for base and shell types, where the last text is inferred.
    for index, word in enumerate(words):
        if word == "as":
            following = words[index + 1 : index + 2]
            if following == ("range",):
                return _unsupported("CreateRange")
            if following == ("(",):
                return _unsupported("CompositeType")
    return Refusal("CREATE TYPE not supported")


def _of_language(statement: Statement, what: str) -> Refusal | None:
    # Observed for a function; the same is inferred for a procedure.
    for index, shape in top_level(statement):
        if shape == "language" and index + 1 < len(statement.tokens):
            token = statement.tokens[index + 1]
            language = token.name or token.value.lower()
            if language != "sql":
                text = f"CREATE {what} with language {language} not supported"
                return Refusal(text)
    return None


def _of_alter(statement: Statement) -> Refusal | None:
    words = statement.shape[1:]
    if words[:1] == ("type",) and "rename" in words:
        return _RENAME_TYPE
    if words[:1] in {("role",), ("user",)}:
        # AWS's linter: ALTER ROLE … SET is not supported; RESET and RENAME are.
        later = words[2:6]  # after a name, or IN DATABASE and its name
        return _unsupported("AlterRoleSet") if "set" in later else None
    return _by_object(words, _ALTER)


def _of_drop(statement: Statement) -> Refusal | None:
    return _by_object(statement.shape[1:], _DROP)


def _of_prepared(statement: Statement) -> Refusal | None:
    shape = statement.shape
    if shape[0] == "prepare":
        if shape[1:2] == ("transaction",):
            return Refusal("unsupported transaction statement: PREPARE TRANSACTION")
        return _unsupported("Prepare")
    # AWS's linter and grammar: DEALLOCATE [PREPARE] ALL is accepted, a name is not.
    return None if shape[-1] == "all" else _unsupported("Deallocate")


def _of_copy(statement: Statement) -> Refusal | None:
    for index, shape in top_level(statement):
        if shape in {"from", "to"}:
            where = statement.shape[index + 1 : index + 2]
            if where not in {("stdin",), ("stdout",)}:
                # AWS's linter: only STDIN and STDOUT; the text is inferred.
                return Refusal("COPY with a file or program not supported")
            break
    return _of_expressions(statement)


def _of_query(statement: Statement) -> Refusal | None:
    if main_verb(statement) == "merge":
        return _BY_FIRST_WORD["merge"]
    previous = ""
    for _, shape in top_level(statement):
        # SELECT … INTO is CREATE TABLE AS; INTO is reserved, so no name but after AS.
        if shape == "into" and previous not in {"as", ".", "insert"}:
            return CREATE_TABLE_AS
        previous = shape
    return _of_expressions(statement)


def _of_expressions(statement: Statement) -> Refusal | None:
    """Look for what no query may contain, at any depth."""
    enclosing: list[str] = []  # the word before each open parenthesis
    shape = statement.shape
    for index, word in enumerate(shape):
        if word == "(":
            enclosing.append(shape[index - 1] if index else "")
        elif word == ")" and enclosing:
            enclosing.pop()
        # substring(x FROM 1 FOR share): the only other place for this word.
        elif word == "for" and enclosing[-1:] not in (["substring"], ["overlay"]):
            following = shape[index + 1 : index + 4]
            if following[:1] == ("share",) or following == ("no", "key", "update"):
                return _LOCKING
        elif word == "tablesample":
            return _TABLE_SAMPLE
        elif word in _VIEWS and shape[index - 1] in _BEFORE_VIEW:
            return Refusal(f"relation {word} not supported")
        elif shape[index + 1 : index + 2] == ("(",) and (
            refusal := _of_function(statement.tokens[index])
        ):
            return refusal
    return None


def _of_function(token: Token) -> Refusal | None:
    if token.kind is TokenKind.WORD and token.shape.startswith(_ADVISORY_PREFIXES):
        return Refusal(f"function {token.shape} not supported")
    return None


_BY_RULE: Final[Mapping[str, Callable[[Statement], Refusal | None]]] = {
    "create": _of_create,
    "alter": _of_alter,
    "drop": _of_drop,
    "prepare": _of_prepared,
    "deallocate": _of_prepared,
    "copy": _of_copy,
    **dict.fromkeys(("select", "with", "values", "table", "("), _of_query),
    **dict.fromkeys(("insert", "update", "delete", "call"), _of_expressions),
}
