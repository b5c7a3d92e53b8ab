"""Keeps out of a report what it must not hold: tokens, keys, names, accounts (no I/O).

Two nets, one behind the other: what is known (this cluster, its addresses, each
token that was signed) is replaced wherever it stands; what is not known, because it
may be in the words of the cluster's errors, is found by its form.

What is left is made fit for a terminal and cut to a length, since whoever answers in
the cluster's place decides what its words are.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final
from urllib.parse import unquote

from dsqlproxy.probe.report import Answer, Evidence

CLUSTER: Final = "<cluster>"
ADDRESS: Final = "<address>"
ROLE: Final = "<role>"
TOKEN: Final = "<token>"  # noqa: S105 - what stands in the place of one

_SECRET_PARAMETERS: Final = frozenset(
    ("X-Amz-Credential", "X-Amz-Signature", "X-Amz-Security-Token")
)
_SHORTEST_SECRET: Final = 8
"""A part of a token shorter than this is no secret, and may be a word."""

_READ_CHARACTERS: Final = 8_000
_SHOWN_CHARACTERS: Final = 1_000
"""Of one text: libpq's errors are a tenth of it."""
_MOST_ENTRIES: Final = 600
"""Of one list: all settings of PostgreSQL are about 400."""

# Each begins where a word begins, or at a mark: no text makes one search for long.
_FORMS: Final = (
    # A token as a whole, and any parameter of one (Signature Version 4, query form).
    (re.compile(r"(?<!\S)\S*X-Amz-[A-Za-z-]+=\S*"), TOKEN),
    (re.compile(r"\barn:[a-z-]+:\S*[^\s.,;:'\")]"), "<arn>"),
    # AWS documentation (IAM identifiers): four letters say what kind an id is of.
    (
        re.compile(
            r"\b(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AIPA|ANPA|ANVA|APKA|AROA|ASCA)"
            r"[A-Z0-9]{12,}"
        ),
        "<key id>",
    ),
    (re.compile(r"(?<![\w.-])[\w.-]+\.(?:on\.aws|amazonaws\.com)\b"), "<host>"),
    (re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{64}(?![0-9A-Za-z])"), "<hash>"),
    (re.compile(r"(?<!\w)(?=[a-z]*[0-9])[a-z0-9]{26}(?!\w)"), "<id>"),
    (re.compile(r"(?<![0-9])(?:[0-9]{12}|[0-9]{4}-[0-9]{4}-[0-9]{4})(?![0-9])"),
     "<account>"),
    (re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.\w)"), ADDRESS),
    # IPv6: in brackets, shortened, or with three colons at least; two are a time.
    (re.compile(r"\[[0-9a-fA-F:]+\]"), ADDRESS),
    (re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:)+:[0-9a-fA-F:]*(?![\w:])"), ADDRESS),
    (re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{0,4}(?![\w:])"),
     ADDRESS),
)  # fmt: skip


class Masking:
    """Replaces what must not be told; learns each secret as it comes up."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, text: str | None, placeholder: str) -> None:
        """Learn a text that must not be told; empty or None is none."""
        if text and self._known.setdefault(text.lower(), placeholder) == placeholder:
            self._pattern = None

    def add_token(self, token: str) -> None:
        """Learn a token, and the parts of it that are secret by themselves."""
        self.add(token, TOKEN)
        for pair in token.partition("?")[2].split("&"):
            name, _, value = pair.partition("=")
            if name in _SECRET_PARAMETERS:
                for part in (value, unquote(value), unquote(value).partition("/")[0]):
                    if len(part) >= _SHORTEST_SECRET:
                        self.add(part, TOKEN)

    def of_text(self, text: str) -> str:
        """Give a text without what must not be told, on one line and printable."""
        if len(text) > _READ_CHARACTERS:
            # Between two words: of a secret that was cut, half might be left.
            text = text[:_READ_CHARACTERS].rpartition(" ")[0]
        if self._known:
            text = self._known_pattern().sub(
                lambda found: self._known.get(found[0].lower(), TOKEN), text
            )
        for form, placeholder in _FORMS:
            text = form.sub(placeholder, text)
        text = "".join(one if one.isprintable() else " " for one in text)
        if len(text) > _SHOWN_CHARACTERS:
            return f"{text[:_SHOWN_CHARACTERS]}…"
        return text

    def of_answer(self, answer: Answer) -> Answer:
        """Give an answer without what must not be told."""
        evidence = {
            self.of_text(name): self._of_evidence(value)
            for name, value in islice(answer.evidence.items(), _MOST_ENTRIES)
        }
        return Answer(self.of_text(answer.value), evidence)

    def _of_evidence(self, value: Evidence) -> Evidence:
        if isinstance(value, str):
            return self.of_text(value)
        if isinstance(value, Mapping):
            entries = islice(value.items(), _MOST_ENTRIES)
            return {self.of_text(name): self.of_text(text) for name, text in entries}
        if isinstance(value, Sequence):
            return [self.of_text(text) for text in value[:_MOST_ENTRIES]]
        return value

    def _known_pattern(self) -> re.Pattern[str]:
        """Match any known text; the longest first, so that no rest of one is left."""
        if self._pattern is None:
            longest_first = sorted(self._known, key=len, reverse=True)
            words = "|".join(map(self._form_of, longest_first))
            self._pattern = re.compile(words, re.IGNORECASE)
        return self._pattern

    def _form_of(self, text: str) -> str:
        """Match a role as a word only: one of the name `app` is in "application"."""
        form = re.escape(text)
        return rf"(?<!\w){form}(?!\w)" if self._known[text] == ROLE else form
