from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import TokenError
from tests.aws.keyring_stage import TROUBLE, KeyringStage


@pytest.fixture
def stage() -> KeyringStage:
    return KeyringStage()


# -- what the cluster refuses ----------------------------------------------------------


def test_refused_credentials_are_put_aside(stage: KeyringStage) -> None:
    refused = stage.fetched()
    assert stage.ring.put_aside(refused, stage.now)
    assert stage.usable() is None
    assert "the cluster refuses the AWS credentials" in str(stage.failure())
    assert "AKIA…" in str(stage.failure())
    assert stage.is_due()


def test_the_same_credentials_stay_aside(stage: KeyringStage) -> None:
    stage.ring.put_aside(stage.fetched(), stage.now)
    stage.clocks.pass_time(0.9)
    stage.ring.note_begun()
    assert not stage.ring.note_fetched(stage.keys(), stage.now)
    assert stage.usable() is None
    assert "refuses" in str(stage.failure())


def test_others_are_taken_at_once(stage: KeyringStage) -> None:
    stage.ring.put_aside(stage.fetched("AKIA1"), stage.now)
    other = stage.fetched("AKIA2")
    assert stage.usable() == other
    assert stage.failure() is None


def test_refused_credentials_are_tried_again_ever_more_rarely(
    stage: KeyringStage,
) -> None:
    refused = stage.fetched()
    for aside in (1, 2, 4, 8, 16, 30, 30):
        assert stage.ring.put_aside(refused, stage.now)
        for _ in range(5):
            stage.ring.note_begun()
            stage.ring.note_fetched(stage.keys(), stage.now)
        stage.clocks.pass_time(aside - 0.1)
        assert stage.usable() is None
        stage.clocks.pass_time(0.2)
        assert stage.usable() == refused
        assert stage.is_due(), "who waits learns of it by a fetch"
        assert stage.fetched() == refused


def test_a_refusal_of_others_is_the_first_one(stage: KeyringStage) -> None:
    stage.ring.put_aside(stage.fetched("AKIA1"), stage.now)
    stage.clocks.pass_time(1.1)
    stage.ring.put_aside(stage.fetched("AKIA1"), stage.now)
    stage.ring.put_aside(stage.fetched("AKIA2"), stage.now)
    stage.clocks.pass_time(1.1)
    assert stage.usable() is not None


def test_a_refusal_that_is_told_twice_is_one(stage: KeyringStage) -> None:
    refused = stage.fetched()
    assert stage.ring.put_aside(refused, stage.now)
    stage.ring.note_begun()
    assert not stage.ring.put_aside(refused, stage.now)
    assert not stage.is_due()


def test_a_refusal_of_what_is_no_longer_held_changes_nothing(
    stage: KeyringStage,
) -> None:
    old = stage.keys("AKIA0")
    assert not stage.ring.put_aside(old, stage.now)
    held = stage.fetched("AKIA1")
    assert not stage.ring.put_aside(old, stage.now)
    assert not stage.ring.ask(old, stage.now)
    assert stage.usable() == held
    assert not stage.is_due()


def test_a_refusal_for_another_reason_asks_for_a_fetch_now_and_then(
    stage: KeyringStage,
) -> None:
    held = stage.fetched()
    assert stage.ring.ask(held, stage.now)
    assert stage.is_due()
    assert stage.usable() == held
    stage.fetched()
    stage.clocks.pass_time(9)
    assert not stage.ring.ask(held, stage.now)
    assert not stage.is_due()
    stage.clocks.pass_time(1)
    assert stage.ring.ask(held, stage.now)


# -- what is told ----------------------------------------------------------------------


def test_the_first_credentials_are_news_and_the_same_ones_are_not(
    stage: KeyringStage,
) -> None:
    assert stage.ring.news() is None
    held = stage.fetched()
    assert stage.ring.news() == held
    stage.fetched()
    assert stage.ring.news() is None


def test_other_credentials_are_news(stage: KeyringStage) -> None:
    stage.fetched("AKIA1", lifetime=60)
    stage.ring.news()
    stage.fetched("AKIA2", lifetime=60)
    assert stage.ring.news() == stage.usable()


def test_each_distinct_trouble_is_told_once(stage: KeyringStage) -> None:
    assert stage.ring.bad_news() is None
    stage.failed()
    assert stage.ring.bad_news() == TROUBLE
    stage.failed()
    assert stage.ring.bad_news() is None
    other = TokenError("something else")
    stage.failed(other)
    assert stage.ring.bad_news() == other
    stage.failed()
    assert stage.ring.bad_news() == TROUBLE


def test_after_trouble_the_same_credentials_are_news(stage: KeyringStage) -> None:
    held = stage.fetched()
    stage.ring.news()
    stage.failed()
    assert stage.ring.news() is None
    stage.ring.bad_news()
    stage.fetched()
    assert stage.ring.news() == held
    stage.failed()
    assert stage.ring.bad_news() == TROUBLE


seconds = st.floats(0, 10_000)
names = st.sampled_from(["AKIA1", "AKIA2"])


def passing(seconds: float) -> Callable[[KeyringStage], object]:
    return lambda stage: stage.clocks.pass_time(seconds)


def waking(seconds: float) -> Callable[[KeyringStage], object]:
    def happen(stage: KeyringStage) -> None:
        stage.clocks.suspend(seconds)
        stage.ring.note_jump(stage.now)

    return happen


def fetching(name: str, lifetime: float | None) -> Callable[[KeyringStage], object]:
    def happen(stage: KeyringStage) -> None:
        stage.ring.note_begun()
        stage.ring.note_fetched(stage.keys(name, lifetime=lifetime), stage.now)

    return happen


def refusing(name: str) -> Callable[[KeyringStage], object]:
    return lambda stage: stage.ring.put_aside(stage.keys(name), stage.now)


def asking(name: str) -> Callable[[KeyringStage], object]:
    return lambda stage: stage.ring.ask(stage.keys(name), stage.now)


happenings = st.one_of(
    seconds.map(passing),
    seconds.map(waking),
    st.builds(fetching, names, st.none() | st.floats(-10, 5000)),
    st.just(KeyringStage.failed),
    names.map(refusing),
    names.map(asking),
    st.just(lambda stage: stage.ring.hurry()),
)


@given(st.lists(happenings, max_size=40))
def test_whatever_happens_there_is_something_to_sign_with_or_a_way_on(
    story: list[Callable[[KeyringStage], object]],
) -> None:
    stage = KeyringStage()
    for happen in story:
        happen(stage)
        usable = stage.usable()
        assert usable is None or not usable.has_expired(stage.clocks.wall)
        assert usable is None or stage.failure() is None
    stage.clocks.pass_time(30.0)
    assert stage.usable() is not None or stage.is_due()
