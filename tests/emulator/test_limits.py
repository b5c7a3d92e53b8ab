from hypothesis import given, strategies as st

from dsqlproxy.emulator.limits import Slots, TokenBucket


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=2, burst=3, clock=clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.now += 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=100, burst=2, clock=clock)
    clock.now += 1000
    assert [bucket.take() for _ in range(3)] == [True, True, False]


@given(steps=st.lists(st.floats(0, 10), max_size=50))
def test_a_bucket_gives_no_more_than_burst_and_rate_allow(steps: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate=1.5, burst=4, clock=clock)
    taken = 0
    for step in steps:
        clock.now += step
        taken += bucket.take()
    assert taken <= 4 + 1.5 * sum(steps) + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=1, burst=1, clock=clock)
    assert bucket.take()
    clock.now -= 100
    assert not bucket.take()


def test_slots_are_given_back() -> None:
    slots = Slots(1)
    with slots.hold() as first, slots.hold() as second:
        assert (first, second) == (True, False)
        assert slots.taken == 1
    assert slots.taken == 0
    with slots.hold() as again:
        assert again
