"""Which settings a session may change: SET, RESET, BEGIN, startup packet. No I/O.

The accepted names are facts of the cluster (`dsqlproxy.dsql`); of every other one it
says ``setting configuration parameter "x" not supported``. Observed on a cluster: the
text, with the name that PostgreSQL's parser gives to the form (``TRANSACTION``), and
``Unsupported isolation level: SERIALIZABLE``. Names are folded as PostgreSQL does it;
that other forms are named by the parser too is inferred.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.emulator.refusals import Refusal
from dsqlproxy.emulator.sql import Statement, TokenKind
from dsqlproxy.emulator.wordings import UNJUDGED_PARAMETERS

# Documented by AWS (PrivateLink): names the cluster where the host name cannot.
CLUSTER_ID_OPTION: Final = "amzn-cluster-id"

_ACCEPTED_LEVEL: Final = "REPEATABLE READ"
_NOT_SETTINGS: Final = frozenset({"user", "database", "options", "replication"})
_PROTOCOL_OPTION: Final = "_pq_."

# The forms of SET that do not name their parameter.
_SPECIAL_FORMS: Final = {
    ("time", "zone"): "timezone",
    ("names",): "client_encoding",
    ("schema",): "search_path",
    ("xml", "option"): "xmloption",
    ("transaction", "snapshot"): "TRANSACTION SNAPSHOT",
    ("transaction",): "TRANSACTION",
    ("characteristics",): "SESSION CHARACTERISTICS",
}


def unsupported_parameter(name: str) -> Refusal:
    """Give a cluster's answer to a setting that it does not accept."""
    return Refusal(f'setting configuration parameter "{name}" not supported')


def find_setting_refusal(
    statement: Statement, *, refuse_set_config: bool = False
) -> Refusal | None:
    """Say what a cluster would refuse of SET, RESET, transactions, set_config()."""
    match statement.shape[0]:
        case "set":
            return _of_set(statement)
        case "reset":
            return _of_reset(statement)
        case "begin" | "start":
            return _of_level(statement.shape)
        case "savepoint" | "release" as word:
            return _transaction(word.upper())  # observed for the first
        case "rollback" | "abort" | "commit" | "end":
            return _of_ending(statement.shape)
        case _:
            pass
    return _of_set_config(statement, refuse_set_config=refuse_set_config)


def refused_startup_parameter(parameters: Sequence[tuple[str, str]]) -> str | None:
    """Name the first startup parameter that a cluster refuses, if there is one.

    What ``options`` holds is read as PostgreSQL reads it. There the cluster id may
    be given; it is for the cluster's front door and never reaches PostgreSQL.
    """
    for name, value in parameters:
        if name == "options":
            refused = _refused_option(value)
            if refused is not None:
                return refused
        elif name in _NOT_SETTINGS or name.startswith(_PROTOCOL_OPTION):
            continue
        elif name.lower() not in ACCEPTED_PARAMETERS:
            return name
    return None


def split_options(options: str) -> Iterator[tuple[str, str]]:
    """Give name and value of the settings in ``options``; other switches as names.

    The ways of writing one are ``-c a=b``, ``-ca=b`` and ``--a=b``; a backslash
    keeps the next character together with its word (pg_split_opts, postinit.c).
    """
    words = _option_words(options)
    for word in words:
        if word == "-c":
            setting = next(words, "")
        elif word.startswith(("-c", "--")):
            setting = word[2:]
        else:
            yield word, ""
            continue
        name, _, value = setting.partition("=")
        yield name, value


def _refused_option(options: str) -> str | None:
    for name, _ in split_options(options):
        # PostgreSQL reads `-` in these names as `_` (ParseLongOption, guc.c).
        folded = name.replace("-", "_").lower()
        if name != CLUSTER_ID_OPTION and folded not in ACCEPTED_PARAMETERS:
            return name
    return None


def _option_words(options: str) -> Iterator[str]:
    word = ""
    started = False
    characters = iter(options)
    for character in characters:
        if character in " \t\n\r\f\v":
            if started:
                yield word
            word, started = "", False
            continue
        word += next(characters, "") if character == "\\" else character
        started = True
    if started:
        yield word


def _of_set(statement: Statement) -> Refusal | None:
    words = statement.shape[1:]
    is_local = words[:1] == ("local",)
    if words[:1] in {("local",), ("session",)} and words[1:2] not in {("=",), ("to",)}:
        if words[1:2] == ("authorization",):
            return _of_authorization(words[2:])
        words = words[1:]
    if words[:1] == ("constraints",):
        return None  # observed: accepted
    if words[:1] == ("role",):
        return None if is_local else unsupported_parameter("role")
    name = next((known for form, known in _SPECIAL_FORMS.items()
                 if words[: len(form)] == form and _is_form(words)), "")  # fmt: skip
    if name in {"TRANSACTION", "SESSION CHARACTERISTICS"}:
        return _of_level(words) or unsupported_parameter(name)
    return _of_name(name or _named(statement, len(statement.shape) - len(words)))


def _is_form(words: tuple[str, ...]) -> bool:
    return words[1:2] not in {("=",), ("to",), (".",)}


def _named(statement: Statement, start: int) -> str:
    """Read a parameter's name, dots included: ``dsql.enable_batched_nestloop``."""
    parts: list[str] = []
    for token in statement.tokens[start:]:
        if token.kind not in {TokenKind.WORD, TokenKind.QUOTED} and token.text != ".":
            break
        if parts and parts[-1] != "." and token.text != ".":
            break
        parts.append(token.name or token.text)
    return "".join(parts)


def _of_name(name: str) -> Refusal | None:
    if not name or name.lower() in ACCEPTED_PARAMETERS:
        return None
    return unsupported_parameter(name)


def _of_authorization(words: tuple[str, ...]) -> Refusal | None:
    # AWS's grammar of the cluster: SET SESSION AUTHORIZATION DEFAULT and no other.
    return None if words == ("default",) else unsupported_parameter(
        "session_authorization"
    )  # fmt: skip


def _of_reset(statement: Statement) -> Refusal | None:
    words = statement.shape[1:]
    if words in {("all",), ("role",), ("session", "authorization"), ("time", "zone")}:
        return None
    if words[:1] == ("transaction",):
        return unsupported_parameter("transaction_isolation")
    return _of_name(_named(statement, 1))


def _transaction(what: str) -> Refusal:
    return Refusal(f"unsupported transaction statement: {what}")


def _of_level(words: tuple[str, ...]) -> Refusal | None:
    """Refuse the isolation levels other than the one that a cluster has.

    Observed for SERIALIZABLE. AWS's linter says the same of READ COMMITTED; for READ
    UNCOMMITTED it is inferred.
    """
    for index, word in enumerate(words):
        if word == "level" and words[index - 1] == "isolation":
            level = " ".join(words[index + 1 : index + 3]).upper()
            level = level.split(",")[0].strip()
            if level.startswith("SERIALIZABLE"):
                level = "SERIALIZABLE"
            if level != _ACCEPTED_LEVEL:
                return Refusal(f"Unsupported isolation level: {level}")
    return None


def _of_ending(words: tuple[str, ...]) -> Refusal | None:
    if "to" in words[:3]:
        return _transaction("ROLLBACK TO")  # observed
    # AWS's grammar of the cluster knows AND NO CHAIN only; the texts are inferred.
    if words[1:2] == ("prepared",):
        return _transaction(f"{words[0].upper()} PREPARED")
    if words[-2:] == ("and", "chain"):
        return _transaction(f"{words[0].upper()} AND CHAIN")
    return None


def _of_set_config(statement: Statement, *, refuse_set_config: bool) -> Refusal | None:
    """Judge calls of set_config() whose first argument is a literal.

    Others are judged when they are called (`ledger`).

    AWS's proxy for pg_dump says that a cluster rejects the function, AWS's dsql-cli
    uses it: so it works here, for accepted parameters, until a fault is switched on.
    """
    tokens = statement.tokens
    for index, shape in enumerate(statement.shape[:-2]):
        if shape != "set_config" or tokens[index + 1].text != "(":
            continue
        if refuse_set_config:
            return Refusal("function set_config not supported")
        name = tokens[index + 2].value
        if name and name.lower() not in ACCEPTED_PARAMETERS | UNJUDGED_PARAMETERS:
            return unsupported_parameter(name)
    return None
