from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import TokenError
from tests.aws.keyring_stage import TROUBLE, KeyringStage
from tests.upstream.wire import CLUSTER


@pytest.fixture
def stage() -> KeyringStage:
    return KeyringStage()


# -- what the cluster refuses ----------------------------------------------------------


def test_refused_credentials_are_put_aside(stage: KeyringStage) -> None:
    refused = stage.fetched()
    assert stage.ring.put_aside(refused, stage.now, CLUSTER)
    assert stage.usable(CLUSTER) is None
    assert "the cluster refuses the AWS credentials" in str(stage.failure(CLUSTER))
    assert "AKIA…" in str(stage.failure(CLUSTER))
    assert stage.is_due()


def test_the_same_credentials_stay_aside(stage: KeyringStage) -> None:
    stage.ring.put_aside(stage.fetched(), stage.now, CLUSTER)
    stage.clocks.pass_time(0.9)
    stage.ring.note_begun()
    assert stage.ring.note_fetched(stage.keys(), stage.now)
    assert not stage.ring.end_asides(stage.now)
    assert not stage.is_due()
    assert stage.usable(CLUSTER) is None
    assert "refuses" in str(stage.failure(CLUSTER))


def test_others_are_taken_at_once(stage: KeyringStage) -> None:
    stage.ring.put_aside(stage.fetched("AKIA1"), stage.now, CLUSTER)
    other = stage.fetched("AKIA2")
    assert stage.usable(CLUSTER) == other
    assert stage.failure(CLUSTER) is None


def test_refused_credentials_are_tried_again_ever_more_rarely(
    stage: KeyringStage,
) -> None:
    refused = stage.fetched()
    for aside in (1, 2, 4, 8, 16, 30, 30):
        assert stage.ring.put_aside(refused, stage.now, CLUSTER)
        for _ in range(5):
            stage.ring.note_begun()
            stage.ring.note_fetched(stage.keys(), stage.now)
        stage.clocks.pass_time(aside - 0.1)
        assert stage.usable(CLUSTER) is None
        stage.clocks.pass_time(0.2)
        assert stage.usable(CLUSTER) == refused
        assert stage.ring.end_asides(stage.now)
        assert not stage.ring.end_asides(stage.now), "once for each time"
        assert stage.is_due(), "there may be others by now"
        assert stage.fetched() == refused


def test_a_refusal_of_others_is_the_first_one(stage: KeyringStage) -> None:
    stage.ring.put_aside(stage.fetched("AKIA1"), stage.now, CLUSTER)
    stage.clocks.pass_time(1.1)
    stage.ring.put_aside(stage.fetched("AKIA1"), stage.now, CLUSTER)
    stage.ring.put_aside(stage.fetched("AKIA2"), stage.now, CLUSTER)
    stage.clocks.pass_time(1.1)
    assert stage.usable(CLUSTER) is not None


def test_a_refusal_that_is_told_twice_is_one(stage: KeyringStage) -> None:
    refused = stage.fetched()
    assert stage.ring.put_aside(refused, stage.now, CLUSTER)
    stage.ring.note_begun()
    assert not stage.ring.put_aside(refused, stage.now, CLUSTER)
    assert not stage.is_due()


def test_a_refusal_of_what_is_no_longer_held_changes_nothing(
    stage: KeyringStage,
) -> None:
    old = stage.keys("AKIA0")
    assert not stage.ring.put_aside(old, stage.now, CLUSTER)
    held = stage.fetched("AKIA1")
    assert not stage.ring.put_aside(old, stage.now, CLUSTER)
    assert not stage.ring.ask(old, stage.now)
    assert stage.usable(CLUSTER) == held
    assert not stage.is_due()


def test_a_refusal_by_one_cluster_is_nothing_to_another(stage: KeyringStage) -> None:
    held = stage.fetched()
    assert stage.ring.put_aside(held, stage.now, CLUSTER)
    assert (stage.usable("other"), stage.usable()) == (held, held)
    assert stage.failure("other") is None
    assert not stage.ring.note_accepted(held, "other")
    assert stage.usable(CLUSTER) is None
    failure = stage.failure(CLUSTER)
    assert failure is not None
    assert f"put aside for {CLUSTER}:" in failure.detail


def test_a_fetch_that_finds_the_same_fails_for_the_cluster_that_refuses_them(
    stage: KeyringStage,
) -> None:
    held = stage.fetched()
    stage.ring.put_aside(held, stage.now, CLUSTER)
    stage.fetched()
    assert stage.usable(CLUSTER) is None
    assert stage.usable("other") == held
    assert stage.ring.is_wanting(stage.now)
    assert not stage.is_due(), "it was asked just now"


def test_a_failure_of_the_fetch_says_more_than_the_refusal(
    stage: KeyringStage,
) -> None:
    stage.ring.put_aside(stage.fetched(), stage.now, CLUSTER)
    stage.failed()
    assert str(stage.failure(CLUSTER)) == str(TROUBLE)
    assert stage.failure("other") is None


def test_a_cluster_that_takes_a_token_has_refused_nothing(
    stage: KeyringStage,
) -> None:
    held = stage.fetched()
    for _ in range(3):
        stage.ring.put_aside(held, stage.now, CLUSTER)
        stage.clocks.pass_time(30)
    stage.ring.put_aside(held, stage.now, CLUSTER)
    assert not stage.ring.note_accepted(stage.keys("AKIA2"), CLUSTER)
    assert stage.usable(CLUSTER) is None
    assert stage.ring.note_accepted(held, CLUSTER)
    assert stage.usable(CLUSTER) == held
    stage.ring.put_aside(held, stage.now, CLUSTER)
    stage.clocks.pass_time(1.1)
    assert stage.usable(CLUSTER) == held, "the first refusal again"


def test_a_refusal_for_another_reason_asks_for_a_fetch_now_and_then(
    stage: KeyringStage,
) -> None:
    held = stage.fetched()
    assert stage.ring.ask(held, stage.now)
    assert stage.is_due()
    assert stage.usable(CLUSTER) == held
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
    assert stage.ring.news() == stage.usable(CLUSTER)


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


def test_each_cluster_that_refuses_is_told_of_once(stage: KeyringStage) -> None:
    held = stage.fetched()
    assert stage.ring.news() == held
    for turn in range(5):
        for host in ("one", "other"):
            stage.ring.put_aside(held, stage.now, host)
        stage.fetched()
        told = [stage.ring.bad_news(), stage.ring.bad_news()]
        assert stage.ring.bad_news() is None
        assert stage.ring.news() is None
        if turn == 0:
            for host, trouble in zip(("one", "other"), told, strict=True):
                assert trouble is not None
                assert f"for {host}:" in trouble.detail
        else:
            assert told == [None, None]
        stage.clocks.pass_time(31)
        stage.ring.end_asides(stage.now)
    stage.ring.put_aside(stage.fetched("AKIA2"), stage.now, "one")
    assert stage.ring.bad_news() is not None


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
    return lambda stage: stage.ring.put_aside(stage.keys(name), stage.now, CLUSTER)


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
        usable = stage.usable(CLUSTER)
        assert usable is None or not usable.has_expired(stage.clocks.wall)
        assert usable is None or stage.failure(CLUSTER) is None
    stage.clocks.pass_time(30.0)
    assert stage.usable(CLUSTER) is not None or stage.is_due()
