"""An age is the largest that any clock gives."""

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.clocks import Clocks, Reading

START = Reading(monotonic=100.0, boot=5_000.0, wall=1_800_000_000.0)
HOUR = 3600.0

seconds = st.floats(min_value=-1e9, max_value=1e9)
readings = st.builds(Reading, seconds, seconds, seconds)


def later(monotonic: float, boot: float, wall: float) -> Reading:
    """Give a reading so many seconds after the start, by each clock."""
    return Reading(START.monotonic + monotonic, START.boot + boot, START.wall + wall)


def test_clocks_are_read_together() -> None:
    clocks = Clocks(monotonic=lambda: 1.0, boot=lambda: 2.0, wall=lambda: 3.0)
    assert clocks.read() == Reading(monotonic=1.0, boot=2.0, wall=3.0)


def test_clocks_are_independent_and_each_look_is_new() -> None:
    ticks = iter([1.0, 2.0])
    clocks = Clocks(monotonic=lambda: next(ticks), boot=lambda: 7.0, wall=lambda: 9.0)
    assert clocks.read().seconds_since(clocks.read()) == 0.0
    assert list(ticks) == []


@pytest.mark.parametrize(
    ("now", "age", "jump"),
    [
        pytest.param(later(10, 10, 10), 10, 0, id="all agree"),
        pytest.param(later(10, 10 + HOUR, 10 + HOUR), 10 + HOUR, HOUR, id="suspend"),
        pytest.param(later(10, 10, 10 + HOUR), 10 + HOUR, HOUR, id="only wall saw it"),
        pytest.param(later(10, 10 + HOUR, 10), 10 + HOUR, HOUR, id="wall set back too"),
        pytest.param(later(10, 10, 10 - HOUR), 10, 0, id="wall set back"),
        pytest.param(later(0, 0, -5), 0, 0, id="wall set back at once"),
        pytest.param(later(-1, -1, -1), 0, 0, id="read in the wrong order"),
        pytest.param(later(-1, 3, 3), 3, 3, id="a monotonic clock that is not"),
    ],
)
def test_an_age_is_the_largest_and_a_jump_what_monotonic_missed(
    now: Reading, age: float, jump: float
) -> None:
    assert now.seconds_since(START) == age
    assert now.jump_since(START) == jump


@given(readings, readings)
def test_neither_is_ever_negative_and_no_clock_says_more(
    earlier: Reading, now: Reading
) -> None:
    age = now.seconds_since(earlier)
    assert 0.0 <= now.jump_since(earlier) <= age
    assert all(mine - its <= age for mine, its in zip(now, earlier, strict=True))


@given(readings, st.floats(min_value=0, max_value=1e6), st.data())
def test_an_age_never_shrinks_while_any_clock_goes_on(
    earlier: Reading, passed: float, data: st.DataObject
) -> None:
    before = data.draw(readings)
    after = Reading(before.monotonic + passed, before.boot + passed, before.wall)
    assert after.seconds_since(earlier) >= before.seconds_since(earlier)
