"""What a statement is to the rules: its kind, its refusal, its other wording. No I/O.

`judge` looks at one statement and answers everything the engine needs, so that the
engine itself never looks at words.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import pairwise
from typing import Final

from dsqlproxy.emulator.parameters import find_setting_refusal
from dsqlproxy.emulator.refusals import Refusal, find_refusal, main_verb
from dsqlproxy.emulator.sql import Statement
from dsqlproxy.emulator.tables import find_table_refusal
from dsqlproxy.emulator.wordings import Edit, edits_of


class Kind(Enum):
    """What the rules of a transaction count a statement as."""

    OTHER = auto()  # transactions, settings, SHOW and what is not known here
    READ = auto()
    WRITE = auto()  # may modify rows
    COPY_IN = auto()  # modifies rows that are sent after it
    DDL = auto()  # GRANT, REVOKE and COMMENT too: they change the schema's version


class Answer(Enum):
    """Where the answer to a statement is not PostgreSQL's own."""

    PLAIN = auto()
    JOB = auto()  # a row with the id of an asynchronous job
    SHOWN = auto()  # a row of SHOW with a version in it
    IAM = auto()  # the tag of AWS IAM GRANT or REVOKE


@dataclass(frozen=True, slots=True)
class IamMapping:
    """AWS IAM GRANT (or REVOKE): which database role for which principal."""

    is_grant: bool
    role: str
    arn: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything the engine needs to know of a statement."""

    kind: Kind
    refusal: Refusal | None = None
    answer: Answer = Answer.PLAIN
    edits: tuple[Edit, ...] = ()
    mapping: IamMapping | None = None
    shown: str = ""
    """What SHOW shows, if it does."""
    job_type: str = ""
    """What sys.jobs calls the job, if there is one."""


_READS: Final = frozenset({"select", "values", "table", "("})
_WRITES: Final = frozenset({"insert", "update", "delete"})
_DDL: Final = frozenset({"create", "alter", "drop", "comment", "grant", "revoke"})
_EXPLAIN_WORDS: Final = frozenset({"analyze", "analyse", "verbose"})


def judge(statement: Statement, *, refuse_set_config: bool = False) -> Verdict:
    """Classify a statement; a refused one is classified all the same."""
    inner, is_executed = _explained(statement)
    mapping = _iam_mapping(statement)
    refusal = (
        find_setting_refusal(statement, refuse_set_config=refuse_set_config)
        or find_refusal(inner)
        or find_table_refusal(inner)
    )
    verdict = Verdict(Kind.DDL if mapping else _kind_of(inner), refusal)
    if inner is not statement and not is_executed:
        verdict = replace(verdict, kind=Kind.OTHER)
    if mapping:
        return replace(verdict, answer=Answer.IAM, mapping=mapping)
    if (edit := _async_word(statement)) is not None:
        is_index = statement.shape[0] == "create"
        job_type = "INDEX_BUILD" if is_index else "VALIDATE_CONSTRAINT"
        return replace(verdict, answer=Answer.JOB, edits=(edit,), job_type=job_type)
    if statement.shape[0] == "show":
        shown = statement.shape[-1]
        verdict = replace(verdict, answer=Answer.SHOWN, shown=shown)
    return replace(verdict, edits=edits_of(statement))


def _kind_of(statement: Statement) -> Kind:
    verb = main_verb(statement)
    if verb in _DDL:
        return Kind.DDL
    if verb == "copy":
        if "from" in statement.shape and statement.shape[1:2] != ("(",):
            return Kind.COPY_IN
        return Kind.WRITE if _writes_inside(statement) else Kind.READ
    if verb in _WRITES or _writes_inside(statement):
        return Kind.WRITE
    return Kind.READ if verb in _READS else Kind.OTHER


def _writes_inside(statement: Statement) -> bool:
    """Whether a part in parentheses writes: ``WITH x AS (DELETE …)``, COPY (…)."""
    shape = statement.shape
    return shape[0] in {"with", "copy"} and any(
        word == "(" and following in _WRITES for word, following in pairwise(shape)
    )


def _explained(statement: Statement) -> tuple[Statement, bool]:
    """Give the statement in EXPLAIN, and whether explaining it executes it."""
    shape = statement.shape
    if shape[0] != "explain":
        return statement, True
    start = 1
    if shape[1:2] == ("(",) and shape[2:3] not in {("select",), ("with",), ("(",)}:
        start = shape.index(")") + 1 if ")" in shape else len(shape)
    while start < len(shape) and shape[start] in _EXPLAIN_WORDS:
        start += 1
    options = set(shape[1:start])
    if start == len(shape):
        return statement, False
    inner = Statement(statement.tokens[start:], shape[start:])
    return inner, bool(options & {"analyze", "analyse"})


def _async_word(statement: Statement) -> Edit | None:
    """Find the ASYNC of CREATE [UNIQUE] INDEX ASYNC and of ALTER TABLE ASYNC."""
    for words in ("create index async", "create unique index async",
                  "alter table async"):  # fmt: skip
        length = len(words.split())
        following = statement.tokens[length : length + 1]
        if statement.starts_with(words) and following:
            token = statement.tokens[length - 1]
            # A table that is called async: ALTER TABLE async ADD COLUMN …
            if words.startswith("alter") and "validate" not in statement.shape:
                return None
            return Edit(token.start, token.end, "")
    return None


def _iam_mapping(statement: Statement) -> IamMapping | None:
    """Read AWS IAM GRANT role TO 'arn' and AWS IAM REVOKE role FROM 'arn'."""
    if len(statement.tokens) != 6 or not statement.starts_with("aws iam"):
        return None
    verb, preposition = statement.shape[2], statement.shape[4]
    role, arn = statement.tokens[3].name, statement.tokens[5].value
    if (verb, preposition) not in {("grant", "to"), ("revoke", "from")} or not role:
        return None
    return IamMapping(verb == "grant", role, arn)
