"""Which settings a statement's text mentions: hints, never the truth (no I/O).

A hint adds names to what the server is asked about, and makes what is known of the
settings stale. It never decides a value: what a SET has come to only the server
knows (a rollback, a function, a default). So a false hint costs a column in a
question, and a missed one only matters for a parameter that DSQL does not have.

Texts come in lower case: PostgreSQL folds the names of settings, and so do we.
"""

import re
from typing import Final, NamedTuple

from dsqlproxy.dsql import ACCEPTED_PARAMETERS

MAX_NAMES: Final = 64
"""Names beside the accepted ones above which a session is no longer followed."""

ENVIRONMENT_NAMES: Final = (
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "timezone",
    "standard_conforming_strings",
)
"""What decides how the literals of a statement are read when it is parsed."""

_MAX_NAME: Final = 128
_LOOKED_AT: Final = 64 << 10
"""How much of a text is read; the patterns take 10 ms for a megabyte."""
_SANE = re.compile(r"[a-z_][a-z0-9_.$]*\Z")
_NO_SETTING: Final = frozenset(
    {
        "all", "constraints", "transaction",
        "transaction_deferrable", "transaction_isolation", "transaction_read_only",
    }
)  # fmt: skip
"""Of one transaction only, or no parameter at all."""


# What is to be remembered of a statement beside its text: bits of one number.
SETS: Final = 1
"""Running it may change settings."""
SETS_ENVIRONMENT: Final = 2
"""... and among them how literals are read."""
INSENSITIVE: Final = 4
"""It means the same however literals are read."""


class Hints(NamedTuple):
    """What a text mentions."""

    names: frozenset[str]
    marks: int


NOTHING: Final = Hints(frozenset(), 0)

# -- texts -----------------------------------------------------------------------------

_PLAIN: Final = (b"select ", b"update ", b"insert ", b"delete ", b"with ")
_PLAIN_BYTES: Final = 7
_COMMENT = re.compile(rb"--[^\n]*|/\*(?:(?!/\*|\*/).)*\*/", re.DOTALL)
_HAS_BODY = re.compile(rb"(?:\A|;)\s*(?:do|create)\b")
_STATEMENT = re.compile(rb"(?:\A|;)\s*(re)?set\b\s*([^;]{0,200})")
_IN_BODY = re.compile(
    rb"(?:['$]|\b(?:begin|then|else|loop)\b)\s*(re)?set\b\s*([^;]{0,200})"
)
_SET_CONFIG = re.compile(
    rb"set_config\"?\s*\("
    rb"(?:\s*\w+\s*(?::=|=>))?"
    rb"\s*(?:[en]|u&)?(?:'([^']*)'|\$(\w*)\$([^$]*)\$)?"
)

_SCOPE = re.compile(rb"(?:session|local)\s+(?!characteristics\b|authorization\b)")
_PHRASES: Final = (
    (re.compile(rb"time\s+zone\b"), ("timezone",)),
    (re.compile(rb"names\b"), ("client_encoding",)),
    (re.compile(rb"schema\b"), ("search_path",)),
    (re.compile(rb"role\b"), ("role",)),
    (re.compile(rb"xml\s+option\b"), ("xmloption",)),
    (re.compile(rb"session\s+authorization\b"), ("session_authorization",)),
    (
        re.compile(rb"session\s+characteristics\b"),
        (
            "default_transaction_isolation",
            "default_transaction_read_only",
            "default_transaction_deferrable",
        ),
    ),
)
_NAME = rb'("?[a-z_][\w$]*"?(?:\s*\.\s*"?[\w$]+"?)*)'
_ASSIGNED = re.compile(_NAME + rb"\s*(?:=|to\b|from\b)")
_BARE = re.compile(_NAME)

# A SET takes its literals as they are, and set_config takes text: neither depends on
# how dates are read. Bytes above 127 and backslashes depend on other settings.
_INSENSITIVE = re.compile(
    rb"\s*(?:(?:re)?set\b[^\\\x80-\xff]*"
    rb"|select\s+(?:(?:pg_catalog\s*\.\s*)?set_config\s*"
    rb"\((?:(?!::)[^()\\\x80-\xff])*\)\s*(?:as\s+\w+\s*)?,?\s*)+;?\s*)\Z"
)


def is_plain(text: bytes) -> bool:
    """Say if a text is one statement that cannot be a SET, as nearly all are.

    `bytes.find` and not ``in``, which first tries a number and takes longer.
    """
    return (
        text.startswith(_PLAIN)
        and text.find(b"set_config") < 0
        and text.find(b";", 0, -2) < 0
    )


def is_plain_long(data: bytes, start: int, end: int) -> bool:
    """Say the same of data[start:end], in any case, without a copy of it all."""
    return (
        data[start : start + _PLAIN_BYTES].lower().startswith(_PLAIN)
        and data.find(b";", start, end - 3) < 0
        and data.find(b"set_config", start, end) < 0
        and data.find(b"SET_CONFIG", start, end) < 0
    )


def read_text(text: bytes) -> Hints:
    """Say what a text (in lower case) mentions that may change settings."""
    text = text[:_LOOKED_AT]
    if is_plain(text):
        return NOTHING
    names = _names_in(text)
    if b"--" in text or b"/*" in text:
        # Both ways: what looks like a comment may stand in a literal.
        names |= _names_in(_without_comments(text))
    if not names:
        return NOTHING
    marks = SETS
    if "all" in names or not names.isdisjoint(ENVIRONMENT_NAMES):
        marks |= SETS_ENVIRONMENT
    if _INSENSITIVE.match(text):
        marks |= INSENSITIVE
    return Hints(frozenset(filter(_is_sane, names)), marks)


def names_at_startup(parameters: "tuple[tuple[str, str], ...]") -> frozenset[str]:
    """Give the names of settings in startup parameters that are not ``options``."""
    names = {name.lower() for name, _ in parameters if not name.startswith("_pq_.")}
    names -= {"user", "database", "options", "replication"}
    return frozenset(filter(_is_sane, names))


def _without_comments(text: bytes) -> bytes:
    """Put a space for each comment; they nest, so from the inside out."""
    found = 1
    while found:
        text, found = _COMMENT.subn(b" ", text)
    return text


def _names_in(text: bytes) -> set[str]:
    """Give all names: ``all`` for RESET ALL, ``?`` for one that cannot be seen."""
    names: set[str] = set()
    for found in _SET_CONFIG.finditer(text):
        name = found[1] if found[1] is not None else found[3]
        # A name that is bound or computed cannot be seen; the server can be asked.
        names.add("?" if name is None else name.decode("latin-1"))
    statements = [*_STATEMENT.finditer(text)]
    if _HAS_BODY.search(text):
        statements += _IN_BODY.finditer(text)
    for found in statements:
        names |= _targets(found[2], is_reset=found[1] is not None)
    return names


def _targets(rest: bytes, *, is_reset: bool) -> set[str]:
    """Give the names that a SET or RESET is about, by what follows that word."""
    scope = _SCOPE.match(rest)
    if scope:
        rest = rest[scope.end() :]
    for phrase, names in _PHRASES:
        if phrase.match(rest):
            return set(names)
    found = (_BARE if is_reset else _ASSIGNED).match(rest)
    if found is None:
        return set()
    name = b"".join(found[1].replace(b'"', b"").split())
    return {name.decode("latin-1")}


def _is_sane(name: str) -> bool:
    return (
        len(name) <= _MAX_NAME
        and _SANE.match(name) is not None
        and name not in _NO_SETTING
    )


class Mentions:
    """The names that a session has mentioned beside those that DSQL accepts."""

    __slots__ = ("_names", "has_held", "has_set", "is_full")

    def __init__(self) -> None:
        self._names: set[str] | None = None  # few sessions mention any
        self.is_full = False
        """Whether there were more names than are kept."""
        self.has_set = False
        """Whether a text may have changed settings, since this was last put back."""
        self.has_held = False
        """Whether a text had the word of DECLARE CURSOR … WITH HOLD."""

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self._names or ())

    def read(self, text: bytes) -> int:
        """Take a text in lower case; say what it may do."""
        # Drivers write WITHOUT HOLD as well, which is what DECLARE means anyway.
        if text.count(b"hold") > text.count(b"without hold"):
            self.has_held = True
        hints = read_text(text)
        if hints.marks:
            self.has_set = True
            self.add(hints.names)
        return hints.marks

    def add(self, names: frozenset[str]) -> None:
        """Keep names, as far as there is room."""
        names -= ACCEPTED_PARAMETERS
        names = frozenset(filter(_is_sane, names))
        if not names:
            return
        if self._names is None:
            self._names = set()
        self._names |= names
        if len(self._names) > MAX_NAMES:
            self._names = set(sorted(self._names)[:MAX_NAMES])
            self.is_full = True
