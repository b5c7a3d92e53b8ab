"""The doctor's sheet: what was looked at on the way to a cluster, and how it is.

A `Chart` is filled in step by step by whoever walks the way; what was never begun
stays ``skipped``. Nothing here knows how a step is done, and the clock is given.
"""

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dsqlproxy.ops.log_format import cut, visible
from dsqlproxy.situations.remedies import Trouble

WIDTH: Final = 100
"""Columns of the text, at most; only what cannot be broken is longer."""

_MIN_DETAIL_CHARS: Final = 24
"""With less room beside its front, a detail goes on below it."""

_MAX_TEXT_CHARS: Final = 2_000
"""Of one text that a peer may have written."""

_INDENT: Final = "  "


class Step(StrEnum):
    """What is looked at, in the order in which it is told."""

    CONFIGURATION = "configuration"
    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    CREDENTIALS = "credentials"
    CLOCK = "clock"
    TOKEN = "token"  # noqa: S105 - a step, not a secret
    LOGIN = "login"
    QUERY = "query"

    @property
    def heading(self) -> str:
        """What stands at the beginning of its line."""
        return _TITLES.get(self, self.value)


_TITLES: Final = {
    Step.DNS: "DNS",
    Step.TCP: "TCP",
    Step.TLS: "TLS",
    Step.QUERY: "SELECT 1",
}


class Outcome(StrEnum):
    """How a step is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """How one step is; ``seconds`` is None if it was not begun."""

    step: Step
    outcome: Outcome
    seconds: float | None = None
    detail: str = ""
    trouble: Trouble | None = None

    def as_dict(self) -> dict[str, object]:
        """Give the JSON form."""
        given: dict[str, object] = {
            "step": self.step.value,
            "outcome": self.outcome.value,
            "seconds": None if self.seconds is None else round(self.seconds, 6),
            "detail": self.detail,
        }
        if self.trouble is not None:
            given["error"] = self.trouble.as_dict()
        return given


class Chart:
    """What is known so far. Steps may overlap, and one may be begun several times."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running: dict[Step, float] = {}
        self._seconds: dict[Step, float] = {}
        self._findings: dict[Step, Finding] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All steps in their order."""
        return tuple(
            self._findings.get(step, Finding(step, Outcome.SKIPPED)) for step in Step
        )

    def outcome(self, step: Step) -> Outcome:
        """How a step is, as far as is known."""
        finding = self._findings.get(step)
        return finding.outcome if finding else Outcome.SKIPPED

    def begin(self, step: Step) -> None:
        """Let a step's time run, on top of what it has had."""
        self._running.setdefault(step, self._clock())

    def pause(self, step: Step) -> None:
        """Stop a step's time; it may be begun again."""
        began_at = self._running.pop(step, None)
        if began_at is not None:
            spent = self._clock() - began_at
            self._seconds[step] = self._seconds.get(step, 0.0) + spent

    def passed(self, step: Step, detail: str = "") -> None:
        """Note that all is well."""
        self._settle(step, Outcome.OK, detail)

    def warned(self, step: Step, trouble: Trouble) -> None:
        """Note what may become a trouble."""
        self._settle(step, Outcome.WARNING, trouble.message, trouble)

    def failed(self, step: Step, trouble: Trouble) -> None:
        """Note what stands in the way."""
        self._settle(step, Outcome.FAILED, trouble.message, trouble)

    def skipped(self, step: Step, detail: str) -> None:
        """Note why a step tells nothing, although it was begun."""
        self._settle(step, Outcome.SKIPPED, detail)

    def record(self, finding: Finding) -> None:
        """Take over what was found elsewhere."""
        self._findings[finding.step] = finding

    def _settle(
        self, step: Step, outcome: Outcome, detail: str, trouble: Trouble | None = None
    ) -> None:
        self.pause(step)
        seconds = self._seconds.get(step, 0.0)
        self.record(Finding(step, outcome, seconds, detail, trouble))


@dataclass(frozen=True, slots=True)
class Checkup:
    """All that was found out about one listener."""

    name: str
    cluster: str
    findings: tuple[Finding, ...]
    client: str
    """The command line of a client for which all this was looked at."""

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return all(each.outcome is not Outcome.FAILED for each in self.findings)

    def as_dict(self) -> dict[str, object]:
        """Give the JSON form."""
        return {
            "name": self.name,
            "cluster": self.cluster,
            "ok": self.ok,
            "client": self.client,
            "steps": [each.as_dict() for each in self.findings],
        }


def as_json(checkups: Iterable[Checkup], **more: object) -> str:
    """Give one JSON object of all listeners, in ASCII; ``more`` stands beside them."""
    listeners = [each.as_dict() for each in checkups]
    ok = all(each["ok"] for each in listeners)
    return json.dumps({"ok": ok, "listeners": listeners, **more}, indent=2)


# -- text ------------------------------------------------------------------------------


def as_lines(checkup: Checkup, *, width: int = WIDTH) -> Iterator[str]:
    """Give a listener's sheet in ASCII: a line for each step, then what is wrong."""
    # An arrow: a colon after the name, which may be an address, reads like a port.
    yield f"listener {_plain(checkup.name)} -> {checkup.cluster}"
    yield ""
    for finding in checkup.findings:
        front = _front(finding)
        hang = len(front) if width - len(front) >= _MIN_DETAIL_CHARS else 4
        yield from _wrapped(_plain(finding.detail), width, first=front, hang=hang)
    yield ""
    for finding in checkup.findings:
        if finding.trouble is not None:
            yield from _explained(finding, finding.trouble, width)
            yield ""
    if checkup.ok:
        yield f"{_INDENT}ready: {_plain(checkup.client)}"
    else:
        yield f"{_INDENT}not ready: {_failed_steps(checkup)} failed"


def _front(finding: Finding) -> str:
    """Give what stands before the detail, in columns."""
    step = f"{finding.step.heading:<14}{finding.outcome:<8}"
    return f"{_INDENT}{step}{_time_text(finding.seconds):>8}   "


def _time_text(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _explained(finding: Finding, trouble: Trouble, width: int) -> Iterator[str]:
    """Say what is wrong, why, and what to do."""
    code = f" (SQLSTATE {trouble.code})" if trouble.code else ""
    first = f"{_INDENT}{finding.step.heading}: "
    yield from _wrapped(_plain(trouble.message) + code, width, first=first)
    for text in trouble.explanation:
        yield from _wrapped(_plain(text), width)
    if trouble.remedy is not None:
        yield ""
        yield from _wrapped(_plain(trouble.remedy.purpose), width)
        for line in trouble.remedy.text.splitlines():
            # Not wrapped: it is there to be copied.
            yield f"{' ' * 6}{_plain(line)}"


def _wrapped(
    text: str, width: int, *, first: str = " " * 4, hang: int = 4
) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _failed_steps(checkup: Checkup) -> str:
    failed = [
        each.step.heading for each in checkup.findings if each.outcome is Outcome.FAILED
    ]
    return " and ".join(failed)


def _plain(text: str) -> str:
    """Make a text fit for any terminal: one line, ASCII, nothing that it would obey."""
    shown = visible(cut(text, _MAX_TEXT_CHARS)).replace("…", "...")
    return shown.encode("ascii", "backslashreplace").decode()
