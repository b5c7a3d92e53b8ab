"""SQL as PostgreSQL's lexer sees it: tokens, and the statements they form. No I/O.

The emulator decides about statements by their words, so the one thing that must be
right is which characters are words at all: not those in strings, comments, dollar
quotes or quoted identifiers. The rules are those of PostgreSQL's scan.l and, for
where a statement ends, of psql's psqlscan.l:

* ``standard_conforming_strings`` is on (a cluster accepts no other value): only
  ``E'…'`` knows backslashes;
* a string goes on after white space with a line break, in the way it began;
* comments nest; an operator ends where a comment begins;
* ``;`` ends a statement outside parentheses and outside ``BEGIN ATOMIC … END``.

No text is an error here: what PostgreSQL would refuse becomes tokens like anything
else, and joining the tokens always gives the text back.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class TokenKind(Enum):
    """What a run of characters is to the lexer."""

    SPACE = auto()
    COMMENT = auto()
    WORD = auto()  # a keyword or an unquoted identifier
    QUOTED = auto()  # a quoted identifier
    STRING = auto()
    NUMBER = auto()
    PARAMETER = auto()  # $1
    OPERATOR = auto()
    PUNCTUATION = auto()  # one of ( ) [ ] , ; . :
    OTHER = auto()
    UNTERMINATED = auto()  # a string, quoted identifier or comment without an end


@dataclass(frozen=True, slots=True)
class Token:
    """A run of characters and where it begins in the text."""

    kind: TokenKind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where the next token begins."""
        return self.start + len(self.text)

    @property
    def shape(self) -> str:
        """What rules compare: words folded, other things never equal to a word."""
        if self.kind is TokenKind.WORD:
            return self.text.translate(_FOLD)
        if self.kind is TokenKind.STRING:
            return "'"
        return self.text

    @property
    def name(self) -> str:
        """The name that this token gives, if it can be one; folded if unquoted."""
        if self.kind is TokenKind.WORD:
            return self.text.translate(_FOLD)
        if self.kind is TokenKind.QUOTED:
            return self.text.partition('"')[2].removesuffix('"').replace('""', '"')
        return ""

    @property
    def value(self) -> str:
        """What a plain string literal says (escapes of E'' are not resolved)."""
        if self.kind is not TokenKind.STRING:
            return ""
        if self.text.startswith("$"):
            tag = self.text.index("$", 1) + 1
            return self.text[tag:-tag]
        return self.text.partition("'")[2].removesuffix("'").replace("''", "'")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a text: its tokens without space and comments.

    ``start`` and ``end`` enclose it from its first token to its last.
    """

    tokens: tuple[Token, ...]
    shape: tuple[str, ...]

    @property
    def start(self) -> int:
        """Where the first token begins."""
        return self.tokens[0].start

    @property
    def end(self) -> int:
        """Where the last token ends."""
        return self.tokens[-1].end

    @property
    def is_terminated(self) -> bool:
        """Whether text that is put after it would not become part of it."""
        return self.tokens[-1].kind is not TokenKind.UNTERMINATED

    def starts_with(self, words: str) -> bool:
        """Whether the statement begins with these words."""
        wanted = tuple(words.split())
        return self.shape[: len(wanted)] == wanted


# PostgreSQL folds ASCII only in a multi-byte encoding (downcase_identifier).
_FOLD: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

_SPACE: Final = r"[ \t\n\r\f\v]+"
_WORD_CHARS: Final = r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*"
# After the closing quote: white space with a line break, then the string goes on.
# Possessive, since there is one way to read it: to try all ways in which white space
# can be cut up takes seconds for a line that is indented by 24.
_CONTINUES: Final = re.compile(
    r"(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r])*+'"
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_TOKEN: Final = re.compile(
    rf"""
      (?P<SPACE>{_SPACE})
    | (?P<COMMENT>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<escaped>[eE]')
    | (?P<plain>(?:[bBxXnN]|[uU]&)?')
    | (?P<QUOTED>(?:[uU]&)?"(?:[^"]|"")*+(?:"|\Z))
    | (?P<WORD>{_WORD_CHARS})
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | (?P<PARAMETER>\$[0-9]+)
    | (?P<NUMBER>[0-9][0-9A-Za-z_]*(?:\.[0-9A-Za-z_]*)?(?:(?<=[eE])[+-][0-9]+)?
                |\.[0-9][0-9A-Za-z_]*(?:(?<=[eE])[+-][0-9]+)?)
    | (?P<PUNCTUATION>[()\[\],;.:])
    | (?P<OPERATOR>(?:(?!--|/\*)[-+*/<>=~!@\#%^&|`?])+)
    | (?P<OTHER>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"(?:[^'\\]|\\.|'')*+'", re.DOTALL)
_PLAIN: Final = re.compile(r"(?:[^']|'')*+'")


def tokenize(text: str) -> Iterator[Token]:
    """Take a text apart; every character is in exactly one token."""
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise AssertionError("the last alternative matches any character")
        kind, end = _classify(text, found)
        yield Token(kind, text[position:end], position)
        position = end


def split(text: str) -> list[Statement]:
    """Give the statements of a text; empty ones are none, as for PostgreSQL."""
    statements = []
    current: list[Token] = []
    nesting = _Nesting()
    for token in tokenize(text):
        if token.kind in (TokenKind.SPACE, TokenKind.COMMENT):
            continue
        if token.text == ";" and nesting.is_flat:
            statements.append(current)
            current = []
            nesting = _Nesting()
            continue
        current.append(token)
        nesting.enter(token.shape)
    statements.append(current)
    return [
        Statement(tuple(tokens), tuple(token.shape for token in tokens))
        for tokens in statements
        if tokens
    ]


class _Nesting:
    """Whether a semicolon would end the statement (psqlscan.l, `;`)."""

    __slots__ = ("_blocks", "_parentheses", "_words")

    def __init__(self) -> None:
        self._parentheses = 0
        self._blocks = 0  # BEGIN … END of a routine's body in SQL
        self._words: list[str] = []  # the first words: is it CREATE … FUNCTION?

    @property
    def is_flat(self) -> bool:
        return not self._parentheses and not self._blocks

    def enter(self, shape: str) -> None:
        if len(self._words) < 4:
            self._words.append(shape)
        if shape == "(":
            self._parentheses += 1
        elif shape == ")":
            self._parentheses = max(0, self._parentheses - 1)
        elif not self._parentheses and shape in {"begin", "case", "end"}:
            self._enter_block(shape)

    def _enter_block(self, shape: str) -> None:
        if shape == "end":
            self._blocks = max(0, self._blocks - 1)
        elif self._blocks or (shape == "begin" and self._is_routine()):
            self._blocks += 1

    def _is_routine(self) -> bool:
        rest = self._words[1:]
        if rest[:2] == ["or", "replace"]:
            rest = rest[2:]
        return self._words[0] == "create" and rest[:1] in (["function"], ["procedure"])


def _classify(text: str, found: re.Match[str]) -> tuple[TokenKind, int]:
    group = found.lastgroup or ""
    match group:
        case "block":
            kind, end = TokenKind.COMMENT, _end_of_comment(text, found.end())
        case "escaped":
            kind, end = TokenKind.STRING, _end_of_string(text, found.end(), _ESCAPED)
        case "plain":
            kind, end = TokenKind.STRING, _end_of_string(text, found.end(), _PLAIN)
        case "dollar":
            close = text.find(found.group(), found.end())
            end = close + len(found.group()) if close >= 0 else -1
            kind = TokenKind.STRING
        case "QUOTED" if found.group().count('"') % 2:
            kind, end = TokenKind.QUOTED, -1
        case _:
            kind, end = TokenKind[group], found.end()
    return (kind, end) if end >= 0 else (TokenKind.UNTERMINATED, len(text))


def _end_of_string(text: str, position: int, until: re.Pattern[str]) -> int:
    while True:
        found = until.match(text, position)
        if found is None:
            return -1
        position = found.end()
        following = _CONTINUES.match(text, position)
        if following is None:
            return position
        position = following.end()


def _end_of_comment(text: str, position: int) -> int:
    depth = 1
    while depth:
        found = _COMMENT_EDGE.search(text, position)
        if found is None:
            return -1
        depth += 1 if found.group() == "/*" else -1
        position = found.end()
    return position
