"""What the probe found out, as text for people and as values for programs (no I/O)."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

FORMAT: Final = 1
"""Of `ProbeReport.as_dict`; a new number when a name in it changes its meaning."""

Evidence = str | int | float | bool | None | Sequence[str] | Mapping[str, str]

_WIDTH: Final = 88
_INDENT: Final = "    "
_CLOSING: Final = (
    "Left out: tokens, keys, the cluster's name and addresses, ARNs and account "
    "numbers. Please read it all the same before you send it."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A short value that programs can compare, and what it rests on."""

    value: str
    evidence: Mapping[str, Evidence] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """One question with its answer, or why it could not be asked."""

    key: str
    question: str
    matters: str
    seconds: float
    answer: Answer | None = None
    could_not: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give it as values that JSON knows."""
        return {
            "key": self.key,
            "question": self.question,
            "matters": self.matters,
            "answer": None if self.answer is None else self.answer.value,
            "could_not_be_asked": self.could_not or None,
            "evidence": {} if self.answer is None else dict(self.answer.evidence),
            "seconds": round(self.seconds, 3),
        }

    def as_lines(self) -> Iterator[str]:
        """Give it as lines of a text."""
        if self.answer is None:
            yield from _wrapped(f"{self.key}: could not be asked: {self.could_not}", "")
        else:
            yield f"{self.key}: {self.answer.value}"
        yield from _wrapped(self.question, _INDENT)
        for name, value in (self.answer.evidence if self.answer else {}).items():
            yield from _evidence_lines(name, value)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A question that is open and that the probe does not ask."""

    question: str
    because: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """All answers of one run."""

    program: str
    asked_at: float
    """In seconds since the epoch."""
    region: str
    role: str
    """admin, or that it was another one."""
    is_long: bool
    seconds: float
    answers: tuple[Answered, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def unanswered(self) -> int:
        """How many questions could not be asked."""
        return sum(answered.answer is None for answered in self.answers)

    def answer_to(self, key: str) -> Answer | None:
        """Give the answer to one question; None where it could not be asked."""
        return next((one.answer for one in self.answers if one.key == key), None)

    def as_dict(self) -> dict[str, Any]:
        """Give it as values that JSON knows; names and order stay as they are."""
        return {
            "format": FORMAT,
            "program": self.program,
            "asked_at": self._time,
            "region": self.region,
            "role": self.role,
            "is_long": self.is_long,
            "seconds": round(self.seconds, 3),
            "answers": [answered.as_dict() for answered in self.answers],
            "left_out": [
                {"question": one.question, "because": one.because}
                for one in self.left_out
            ],
        }

    def as_text(self) -> str:
        """Give it as a text to read and to send."""
        asked = len(self.answers)
        lines = [
            f"Probe of an Aurora DSQL cluster by {self.program}",
            f"{self._time}, Region {self.region}, role {self.role}",
            f"{asked - self.unanswered} of {asked} questions answered "
            f"in {self.seconds:.1f} s",
        ]
        for answered in self.answers:
            lines += ("", *answered.as_lines())
        lines += ("", "Not asked:")
        for one in self.left_out:
            lines += _wrapped(f"- {one.question}: {one.because}", "  ", first="")
        lines += ("", *_wrapped(_CLOSING, ""))
        return "\n".join(lines) + "\n"

    @property
    def _time(self) -> str:
        return datetime.fromtimestamp(self.asked_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _evidence_lines(name: str, value: Evidence) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"{_INDENT}{name}:"
        for inner, text in value.items():
            yield from _wrapped(f"{inner}: {text}", _INDENT * 2)
    else:
        text = f"{name}: {_as_text(value)}"
        yield from _wrapped(text, _INDENT * 2, first=_INDENT)


def _as_text(value: Evidence) -> str:
    match value:
        case True:
            return "yes"
        case False:
            return "no"
        case None:
            return "none"
        case str() | int() | float():
            return str(value)
        case _:
            return ", ".join(value) or "none"


def _wrapped(text: str, indent: str, *, first: str | None = None) -> list[str]:
    # Only at spaces: what a cluster said must be found again by searching for it.
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
