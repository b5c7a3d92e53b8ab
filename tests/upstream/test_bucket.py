import pytest
from hypothesis import given, strategies as st

from dsqlproxy.upstream.bucket import Bucket


def test_it_begins_full_and_fills_up_to_the_burst_only() -> None:
    bucket = Bucket(rate=10.0, burst=3.0)
    assert bucket.seconds_until(3, now=5.0) == 0.0
    bucket.level -= 3
    assert bucket.seconds_until(1, now=5.0) == pytest.approx(0.1)
    assert bucket.seconds_until(2, now=5.05) == pytest.approx(0.15)
    assert bucket.seconds_until(3, now=1000.0) == 0.0
    assert bucket.level == 3.0


def test_more_than_the_burst_takes_as_long_as_the_rate_says() -> None:
    assert Bucket(10.0, 3.0).seconds_until(13, now=0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("tokens", "seconds"),
    [
        pytest.param(2, 0.0, id="there are enough now"),
        pytest.param(7, 0.0, id="there are enough after the pause"),
        pytest.param(9, 0.7, id="the pause, and two more"),
        pytest.param(30, 2.8, id="the pause, and many more"),
    ],
)
def test_a_pause_adds_to_the_wait_and_to_the_tokens(
    tokens: int, seconds: float
) -> None:
    bucket = Bucket(10.0, 20.0)
    bucket.level = 2.0
    assert bucket.seconds_until(tokens, 0.0, pause=0.5) == pytest.approx(seconds)
    assert bucket.level == 2.0


def test_a_pause_fills_no_more_than_the_burst() -> None:
    assert Bucket(10.0, 3.0).seconds_until(4, 0.0, pause=9.0) == pytest.approx(9.1)


def test_what_was_drained_comes_back_at_the_rate() -> None:
    bucket = Bucket(10.0, 100.0)
    bucket.seconds_until(1, now=0.0)
    bucket.drain(now=7.0)
    assert bucket.seconds_until(5, now=7.0) == pytest.approx(0.5)


def test_a_clock_that_goes_back_takes_nothing() -> None:
    bucket = Bucket(10.0, 3.0)
    bucket.drain(now=7.0)
    assert bucket.seconds_until(1, now=6.0) == pytest.approx(0.1)


@given(st.floats(1e-2, 1e5), st.floats(1, 1e5), st.lists(st.floats(0, 10)))
def test_no_window_has_more_than_the_burst_and_the_rate(
    rate: float, burst: float, waits: list[float]
) -> None:
    bucket, now, taken = Bucket(rate, burst), 0.0, 0
    for wait in waits:
        now += wait
        while taken < 500 and bucket.seconds_until(1, now) == 0.0:
            bucket.level -= 1
            taken += 1
        assert taken <= burst + rate * now + 1e-6
