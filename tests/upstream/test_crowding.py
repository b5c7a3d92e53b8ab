"""What one login is told holds for all: the pause, the scout, and what is old news."""

import pytest

from dsqlproxy.situations.cluster import Cause
from dsqlproxy.upstream.crowding import MEMORY_SECONDS, PAUSES_SECONDS, Crowding

NOW = 1000.0
WAKING, FULL = Cause.WAKING_UP, Cause.TOO_MANY_CONNECTIONS


@pytest.fixture
def crowding() -> Crowding:
    return Crowding(random=lambda: 0.0)


def scouted(crowding: Crowding, *, pauses: int = 1) -> float:
    """Have so many scouts refused; give the time when the next may go."""
    now = NOW
    for _ in range(pauses):
        crowding.refused(crowding.begin(now), WAKING, now)
        now += crowding.seconds_left(now)
    return now


def test_an_open_cluster_takes_logins_side_by_side(crowding: Crowding) -> None:
    attempts = [crowding.begin(NOW) for _ in range(5)]
    assert crowding.seconds_until_next(NOW) == crowding.seconds_left(NOW) == 0.0
    assert crowding.cause(NOW) is None
    assert not any(crowding.taken(attempt) for attempt in attempts[:3])
    assert not any(crowding.gone(attempt) for attempt in attempts[3:])


def test_a_refusal_is_a_pause_and_then_one_goes_alone(crowding: Crowding) -> None:
    assert crowding.refused(crowding.begin(NOW), WAKING, NOW)
    assert crowding.cause(NOW) is WAKING
    assert crowding.seconds_until_next(NOW) == crowding.seconds_left(NOW) == 0.5
    assert crowding.seconds_left(NOW + 0.2) == pytest.approx(0.3)
    now = NOW + 0.5
    assert crowding.seconds_until_next(now) == crowding.seconds_left(now) == 0.0
    scout = crowding.begin(now)
    assert crowding.seconds_until_next(now) is None
    assert crowding.cause(now) is WAKING
    assert crowding.taken(scout)
    assert crowding.seconds_until_next(now) == 0.0
    assert crowding.cause(now) is None


def test_pauses_grow_until_a_login_is_taken(crowding: Crowding) -> None:
    now, pauses = NOW, []
    for _ in range(7):
        crowding.refused(crowding.begin(now), WAKING, now)
        pauses.append(crowding.seconds_left(now))
        now += pauses[-1]
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 8, 8])
    crowding.taken(crowding.begin(now))
    crowding.refused(crowding.begin(now), WAKING, now)
    assert crowding.seconds_left(now) == pytest.approx(0.5)


@pytest.mark.parametrize(("random", "pause"), [(0.0, 0.5), (0.5, 0.375), (1.0, 0.25)])
def test_a_pause_is_up_to_half_less(random: float, pause: float) -> None:
    crowding = Crowding(random=lambda: random)
    crowding.refused(crowding.begin(NOW), WAKING, NOW)
    assert crowding.seconds_left(NOW) == pytest.approx(pause)


def test_other_pauses_may_be_given() -> None:
    crowding = Crowding(random=lambda: 0.0, pauses_seconds=(0.01,))
    assert scouted(crowding, pauses=3) == pytest.approx(NOW + 0.03)


def test_a_burst_that_is_refused_is_one_step(crowding: Crowding) -> None:
    burst = [crowding.begin(NOW) for _ in range(500)]
    assert crowding.refused(burst[0], WAKING, NOW)
    assert not any(crowding.refused(each, FULL, NOW + 0.1) for each in burst[1:])
    assert crowding.seconds_left(NOW) == 0.5
    assert crowding.cause(NOW) is WAKING


def test_what_began_before_the_pause_neither_ends_nor_extends_it_nor_the_next(
    crowding: Crowding,
) -> None:
    old = [crowding.begin(NOW) for _ in range(5)]
    crowding.refused(old[0], WAKING, NOW)
    assert not crowding.taken(old[1])
    scout = crowding.begin(NOW + 0.5)
    assert not crowding.taken(old[2])
    assert not crowding.gone(old[3])
    assert crowding.seconds_until_next(NOW + 0.5) is None
    crowding.taken(scout)
    assert not crowding.refused(old[4], WAKING, NOW + 0.6)
    assert crowding.cause(NOW + 0.6) is None


def test_those_who_follow_the_scout_are_believed(crowding: Crowding) -> None:
    now = scouted(crowding)
    crowding.taken(crowding.begin(now))
    follower = crowding.begin(now)
    assert crowding.refused(follower, FULL, now)
    assert crowding.cause(now) is FULL


def test_a_scout_that_is_gone_leaves_its_place_to_the_next(crowding: Crowding) -> None:
    now = scouted(crowding)
    assert crowding.gone(crowding.begin(now))
    assert crowding.seconds_until_next(now) == 0.0
    crowding.begin(now)
    assert crowding.seconds_until_next(now) is None


@pytest.mark.parametrize("wait", [0.2, 0.5], ids=["in a pause", "beside the scout"])
def test_no_login_begins_out_of_turn_and_nothing_has_changed(
    crowding: Crowding, wait: float
) -> None:
    crowding.refused(crowding.begin(NOW), WAKING, NOW)
    scout = crowding.begin(NOW + wait) if wait == 0.5 else None
    with pytest.raises(AssertionError, match="because"):
        crowding.begin(NOW + wait)
    assert crowding.cause(NOW + wait) is WAKING
    assert scout is None or crowding.taken(scout)


def test_after_half_a_minute_without_a_scout_nothing_is_known(
    crowding: Crowding,
) -> None:
    now = scouted(crowding, pauses=3)
    assert crowding.cause(now + MEMORY_SECONDS) is WAKING
    now += MEMORY_SECONDS + 0.1
    assert crowding.cause(now) is None
    both = [crowding.begin(now), crowding.begin(now)]
    assert crowding.refused(both[0], FULL, now)
    assert crowding.seconds_left(now) == pytest.approx(PAUSES_SECONDS[0])


def test_while_a_scout_is_under_way_the_cause_is_known(crowding: Crowding) -> None:
    now = scouted(crowding)
    scout = crowding.begin(now)
    now += 2 * MEMORY_SECONDS
    assert crowding.cause(now) is WAKING
    assert crowding.seconds_until_next(now) is None
    crowding.refused(scout, FULL, now)
    assert (crowding.cause(now), crowding.seconds_left(now)) == (FULL, 1.0)
