"""What the proxy's log says of a soak (JSON, one event a line)."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Any

_ABOUT_SWAPS = frozenset({"swap deferred", "session pinned"})
"""Warnings that may come without a fault: a swap that was put off is tried again."""


@dataclass(slots=True)
class ProxyLog:
    """The events that count."""

    swaps: Counter[str] = field(default_factory=Counter)
    """By outcome."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why swaps were deferred or failed."""
    pauses_ms: list[float] = field(default_factory=list)
    """How long each completed swap held its client, or would have."""
    recoveries: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    """Sessions that have ended, by reason."""
    tracebacks: Counter[str] = field(default_factory=Counter)
    """Also what the log calls an error, and lines that are no events at all."""
    early_warnings: Counter[str] = field(default_factory=Counter)
    """Warnings of the time before the first fault."""

    @classmethod
    def read(
        cls, lines: Iterable[str], *, faults_began_at: datetime | None = None
    ) -> "ProxyLog":
        """Read a log.

        ``faults_began_at``, a time with its zone, parts the time with faults from
        that before; None: there were no faults.
        """
        log = cls()
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                log.tracebacks[line.strip()[:100]] += 1
                continue
            has_faults = faults_began_at and _time_of(event) >= faults_began_at
            log.note(event, is_early=not has_faults)
        return log

    def note(self, event: dict[str, Any], *, is_early: bool) -> None:
        """Take one event."""
        name = str(event.get("event"))
        level = event.get("level")
        if level == "error" or "exception" in event:
            last = str(event.get("exception", "")).strip().splitlines()[-1:]
            self.tracebacks[": ".join((name, *last))[:100]] += 1
        elif level == "warning" and is_early and name not in _ABOUT_SWAPS:
            words = [str(event[key]) for key in ("code", "message") if key in event]
            self.early_warnings[" ".join((name, *words))[:100]] += 1
        match name:
            case "upstream swapped":
                self.swaps["completed"] += 1
                self.pauses_ms.append(float(event["pause_ms"]))
            case "swap deferred":
                self.swaps[str(event["outcome"])] += 1
                self.reasons[str(event["reason"])[:80]] += 1
            case "session recovered":
                self.recoveries["recovered"] += 1
            case "recovery failed":
                self.recoveries["failed"] += 1
            case "session closed":
                self.closed[str(event["reason"])] += 1
            case _:
                pass


def _time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(str(event["ts"]))


def percentile(values: Iterable[float], percent: float) -> float:
    """Give the value that so many percent are not above; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[max(0, ceil(percent / 100 * len(ordered)) - 1)]
