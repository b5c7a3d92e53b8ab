"""The instants of an upstream's life, and the pauses between attempts."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.session.lifetime import Backoff, Phase, SwapWindow

MINUTE = 60.0
HOUR = 3600.0

limits = st.floats(min_value=1e-6, max_value=1e7)
jitters = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
ages = st.floats(min_value=0.0, max_value=2e7)


@pytest.mark.parametrize(
    ("minutes", "jitter", "phase"),
    [
        (0, 0, Phase.YOUNG),
        (47.99, 0, Phase.YOUNG),
        (48, 0, Phase.WARM),
        (49.99, 0.5, Phase.YOUNG),
        (50, 0.5, Phase.WARM),
        (51.9, 0.99, Phase.YOUNG),
        (52, 0.99, Phase.WARM),
        (53.49, 0, Phase.WARM),
        (53.5, 0.99, Phase.INSIST),
        (59.49, 0, Phase.INSIST),
        (59.5, 0, Phase.DEAD),
        (60, 0, Phase.DEAD),
        (600, 0, Phase.DEAD),
    ],
)
def test_the_phases_of_an_hour(minutes: float, jitter: float, phase: Phase) -> None:
    window = SwapWindow.of(HOUR, jitter=jitter)
    assert window.phase(minutes * MINUTE) is phase


@pytest.mark.parametrize(
    ("limit", "warm", "insist", "last_start", "dead", "settle"),
    [
        (HOUR, 2880, 3210, 3540, 3570, 0.25),
        (3.0, 2.4, 2.675, 2.95, 2.975, 0.015),
        (30.0, 24, 26.75, 29.5, 29.75, 0.15),
        (24 * HOUR, 69_120, 77_040, 84_960, 85_680, 0.25),
    ],
)
def test_a_limit_scales_every_instant(
    *,
    limit: float,
    warm: float,
    insist: float,
    last_start: float,
    dead: float,
    settle: float,
) -> None:
    window = SwapWindow.of(limit, jitter=0.0)
    assert window.warm_seconds == pytest.approx(warm)
    assert window.insist_seconds == pytest.approx(insist)
    assert window.last_start_seconds == pytest.approx(last_start)
    assert window.dead_seconds == pytest.approx(dead)
    assert window.settle_seconds == pytest.approx(settle)


def test_a_window_does_not_change() -> None:
    window = SwapWindow.of(HOUR, jitter=0.0)
    with pytest.raises(FrozenInstanceError):
        setattr(window, "warm_seconds", 1.0)  # noqa: B010 - mypy knows already


def test_no_transaction_begins_in_the_last_minute() -> None:
    window = SwapWindow.of(HOUR, jitter=0.0)
    assert window.may_begin(58.99 * MINUTE)
    assert not window.may_begin(59 * MINUTE)


def test_the_time_to_a_swap_runs_down_to_nothing() -> None:
    window = SwapWindow.of(HOUR, jitter=0.5)
    assert window.seconds_to_swap(0.0) == 50 * MINUTE
    assert window.seconds_to_swap(49 * MINUTE) == MINUTE
    assert window.seconds_to_swap(50 * MINUTE) == 0.0
    assert window.seconds_to_swap(55 * MINUTE) == 0.0


def test_insisting_outlasts_the_longest_transaction() -> None:
    # AWS documentation, quotas: a transaction lasts at most 5 minutes.
    window = SwapWindow.of(HOUR, jitter=0.99)
    assert window.last_start_seconds - window.insist_seconds > 5 * MINUTE


@given(limits, jitters)
def test_the_instants_are_in_order_for_every_limit(limit: float, jitter: float) -> None:
    window = SwapWindow.of(limit, jitter=jitter)
    assert (
        0.0
        < window.settle_seconds
        < window.warm_seconds
        < window.insist_seconds
        < window.last_start_seconds
        < window.dead_seconds
        < limit
    )
    # Even a session that begins last can wait for its quiet moment before insisting.
    assert window.settle_seconds < window.insist_seconds - window.warm_seconds


@given(limits, jitters, ages, ages)
def test_the_phase_only_advances_with_age(
    limit: float, jitter: float, one: float, other: float
) -> None:
    window = SwapWindow.of(limit, jitter=jitter)
    order = list(Phase)
    younger, older = sorted((one, other))
    assert order.index(window.phase(younger)) <= order.index(window.phase(older))
    assert window.may_begin(younger) or not window.may_begin(older)
    is_due = window.seconds_to_swap(older) == 0.0
    assert is_due == (window.phase(older) is not Phase.YOUNG)


def delays(limit: float, *, random: float, count: int) -> list[float]:
    backoff = Backoff(limit, random=lambda: random)
    return [backoff.next_delay() for _ in range(count)]


def test_delays_double_up_to_half_a_minute() -> None:
    assert delays(HOUR, random=0.0, count=7) == [1, 2, 4, 8, 16, 30, 30]


def test_chance_takes_off_up_to_half() -> None:
    assert delays(HOUR, random=0.5, count=3) == [0.75, 1.5, 3.0]


def test_a_limit_of_seconds_is_tried_again_within_milliseconds() -> None:
    found = delays(3.0, random=0.0, count=7)
    assert found[0] == pytest.approx(1 / 1200)
    assert found[-1] == pytest.approx(0.025)


def test_a_limit_of_more_than_an_hour_does_not_stretch_the_delays() -> None:
    assert delays(24 * HOUR, random=0.0, count=2) == [1, 2]


def test_after_a_success_the_delays_begin_anew() -> None:
    backoff = Backoff(HOUR, random=lambda: 0.0)
    assert [backoff.next_delay() for _ in range(3)] == [1, 2, 4]
    backoff.reset()
    assert backoff.next_delay() == 1


@given(limits, jitters, st.integers(min_value=1, max_value=12))
def test_every_delay_is_positive_and_fits_into_the_window(
    limit: float, random: float, count: int
) -> None:
    window = SwapWindow.of(limit, jitter=0.99)
    for delay in delays(limit, random=random, count=count):
        assert 0.0 < delay < window.dead_seconds - window.insist_seconds
