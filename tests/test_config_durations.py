import pytest
from hypothesis import given, strategies as st

from dsqlproxy.config.durations import (
    ACCEPTED_DURATIONS,
    MAX_SECONDS,
    parse_duration,
    parse_positive_duration,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("55m", 3300.0),
        ("1h", 3600.0),
        ("7d", 604_800.0),
        ("1.5h", 5400.0),
        ("0s", 0.0),
        ("25", 25.0),
        (25, 25.0),
        (0.25, 0.25),
    ],
    ids=repr,
)
def test_every_documented_form_is_read(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "x",
        "s",
        "30 s",
        " 30s",
        "30S",
        "30sec",
        "1h30m",
        "-1s",
        "+1s",
        "1e3",
        ".5s",
        "٣s",
        "8d",
        "inf",
        "nan",
        -1,
        -0.001,
        float("inf"),
        float("-inf"),
        float("nan"),
        10**400,
        MAX_SECONDS + 1,
        True,
        False,
        None,
        [1],
        {},
    ],
    ids=repr,
)
def test_anything_else_is_refused_with_the_accepted_forms(written: object) -> None:
    with pytest.raises(ValueError, match="accepted: ") as refusal:
        parse_duration(written)
    assert ACCEPTED_DURATIONS in str(refusal.value)


@pytest.mark.parametrize("written", ["0s", "0ms", 0, 0.0], ids=repr)
def test_a_time_limit_of_zero_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="above zero"):
        parse_positive_duration(written)


def test_a_time_limit_above_zero_is_read() -> None:
    assert parse_positive_duration("1ms") == 0.001


@given(st.integers(0, 600_000), st.sampled_from(["ms", "s"]))
def test_a_number_and_a_unit_multiply(number: int, unit: str) -> None:
    factor = {"ms": 0.001, "s": 1.0}[unit]
    assert parse_duration(f"{number}{unit}") == number * factor


@given(st.text() | st.floats() | st.integers())
def test_noise_is_a_duration_within_bounds_or_refused(noise: object) -> None:
    try:
        seconds = parse_duration(noise)
    except ValueError as refusal:
        assert "accepted: " in str(refusal)  # noqa: PT017 - noise may be a duration
    else:
        assert 0.0 <= seconds <= MAX_SECONDS
