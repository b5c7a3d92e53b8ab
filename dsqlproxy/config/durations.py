"""Spans of time as users write them."""

import re
from typing import Final

from dsqlproxy.config.refusal import refused

ACCEPTED_DURATIONS: Final = (
    "a duration such as 500ms, 30s, 55m, 1h, 7d, or a number of seconds"
)

# No setting of the proxy outlives a week; a bound keeps timers out of the realm of
# floats that event loops cannot count.
MAX_SECONDS: Final = 7 * 86_400.0

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?")


def parse_duration(value: object) -> float:
    """Read a duration into seconds; ValueError says what is accepted."""
    seconds = _read(value)
    # Written so that a NaN is refused as well.
    if not 0.0 <= seconds <= MAX_SECONDS:
        raise refused(value, "is not between 0s and 7d", accepted=ACCEPTED_DURATIONS)
    return seconds


def parse_positive_duration(value: object) -> float:
    """Read a time limit; a limit of zero would end everything at once."""
    seconds = parse_duration(value)
    if seconds == 0.0:
        raise refused(value, "is zero", accepted=f"{ACCEPTED_DURATIONS}, above zero")
    return seconds


def _read(value: object) -> float:
    match value:
        case bool() | None:
            pass
        case int() | float():
            try:
                return float(value)
            except OverflowError:
                return float("inf")
        case str():
            if found := _DURATION.fullmatch(value):
                number, unit = found.groups()
                return float(number) * _UNITS[unit or "s"]
        case _:
            pass
    raise refused(value, "is not a duration", accepted=ACCEPTED_DURATIONS)
