import pytest
from hypothesis import given, strategies as st

from dsqlproxy.aws.keyring import delay_seconds, margin_seconds
from dsqlproxy.errors import TokenError
from tests.aws.keyring_stage import HOUR, TROUBLE, KeyringStage


@pytest.fixture
def stage() -> KeyringStage:
    return KeyringStage()


# -- when to fetch ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "margin"),
    [
        pytest.param(12 * HOUR, 900.0, id="a role for long"),
        pytest.param(HOUR, 900.0, id="a role"),
        pytest.param(HOUR / 2, 450.0, id="half an hour"),
        pytest.param(900.0, 225.0, id="the shortest of STS"),
        pytest.param(60.0, 15.0, id="a minute"),
        pytest.param(20.0, 5.0, id="seconds"),
        pytest.param(2.0, 5.0, id="at once"),
    ],
)
def test_a_quarter_of_the_lifetime_is_the_margin(
    lifetime: float, margin: float
) -> None:
    assert margin_seconds(lifetime) == margin


@given(st.floats(0, 1e9))
def test_the_margin_leaves_time_and_is_no_longer_than_a_quarter_of_an_hour(
    lifetime: float,
) -> None:
    assert 5.0 <= margin_seconds(lifetime) <= 900.0


@pytest.mark.parametrize(
    ("failures", "jitter", "delay"),
    [
        (1, 0.0, 1.0),
        (2, 0.0, 2.0),
        (3, 0.0, 4.0),
        (5, 0.0, 16.0),
        (6, 0.0, 30.0),
        (10_000, 0.0, 30.0),
        (1, 0.5, 0.75),
        (6, 0.9, 16.5),
    ],
)
def test_failures_are_followed_by_longer_and_longer_waits(
    failures: int, jitter: float, delay: float
) -> None:
    assert delay_seconds(failures, jitter) == pytest.approx(delay)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_between_half_a_second_and_half_a_minute(
    failures: int, jitter: float
) -> None:
    assert 0.5 <= delay_seconds(failures, jitter) <= 30.0


def test_nothing_was_ever_fetched_so_it_is_time(stage: KeyringStage) -> None:
    assert stage.is_due()
    assert stage.usable() is None
    assert stage.failure() is None


def test_credentials_are_renewed_when_a_quarter_of_their_life_is_left(
    stage: KeyringStage,
) -> None:
    stage.fetched(lifetime=60)
    stage.clocks.pass_time(44.9)
    assert not stage.is_due()
    stage.clocks.pass_time(0.2)
    assert stage.is_due()
    assert stage.usable()


def test_a_source_that_gives_the_same_again_is_asked_ever_more_often(
    stage: KeyringStage,
) -> None:
    expires_at = stage.clocks.wall + HOUR
    asked_at = []
    for _ in range(int(HOUR) - 1):
        if stage.is_due():
            asked_at.append(round(expires_at - stage.clocks.wall))
            stage.fetched(lifetime=expires_at - stage.clocks.wall)
        stage.clocks.pass_time(1)
    assert asked_at[:4] == [3600, 899, 224, 55]
    assert len(asked_at) < 15


def test_between_two_fetches_is_a_second_however_short_the_lifetime(
    stage: KeyringStage,
) -> None:
    stage.fetched(lifetime=3)
    assert not stage.is_due()
    stage.clocks.pass_time(1)
    assert stage.is_due()


def test_credentials_without_an_expiry_are_not_renewed(stage: KeyringStage) -> None:
    stage.fetched()
    stage.clocks.pass_time(1e9)
    assert not stage.is_due()


def test_after_a_failure_the_next_try_waits(stage: KeyringStage) -> None:
    for delay in (1, 2, 4, 8, 16, 30, 30):
        stage.failed()
        stage.clocks.pass_time(delay - 0.1)
        assert not stage.is_due()
        stage.clocks.pass_time(0.2)
        assert stage.is_due()
    stage.fetched()
    stage.failed()
    stage.clocks.pass_time(1)
    assert stage.is_due(), "a success begins the waits anew"


def test_a_file_that_changed_cuts_the_wait_short(stage: KeyringStage) -> None:
    stage.failed()
    stage.ring.hurry()
    assert stage.is_due()
    stage.ring.note_begun()
    assert not stage.is_due()


def test_a_file_that_changes_during_a_fetch_asks_for_another(
    stage: KeyringStage,
) -> None:
    stage.ring.note_begun()
    stage.ring.hurry()
    stage.ring.note_fetched(stage.keys(), stage.now)
    assert stage.is_due()


def test_a_machine_that_wakes_waits_no_more(stage: KeyringStage) -> None:
    for _ in range(6):
        stage.failed()
    stage.clocks.suspend(7200)
    assert not stage.is_due()
    stage.ring.note_jump(stage.now)
    assert stage.is_due()


def test_a_fetch_that_has_just_ended_is_known(stage: KeyringStage) -> None:
    assert not stage.ring.has_tried_since(0)
    stage.failed()
    assert stage.ring.has_tried_since(stage.clocks.monotonic - 1)
    assert not stage.ring.has_tried_since(stage.clocks.monotonic)


# -- what to sign with -----------------------------------------------------------------


def test_what_is_valid_is_used_however_many_fetches_fail(stage: KeyringStage) -> None:
    held = stage.fetched(lifetime=60)
    for _ in range(50):
        stage.clocks.pass_time(1)
        stage.failed()
        assert stage.usable() == held
        assert stage.failure() is None


def test_what_has_expired_is_not_used(stage: KeyringStage) -> None:
    stage.fetched(lifetime=60)
    stage.clocks.pass_time(59.5)
    assert stage.usable() is None
    assert stage.failure() is None, "whether it can be renewed is not known yet"
    stage.failed()
    failure = stage.failure()
    assert failure is not None
    assert failure.message == "the AWS credentials have expired and cannot be renewed"
    assert failure.detail == "The last try: AWS could not be reached. Tried: x."
    assert failure.hint == "Do y."


def test_the_wall_clock_says_when_they_expire(stage: KeyringStage) -> None:
    stage.fetched(lifetime=HOUR)
    stage.clocks.suspend(2 * HOUR)
    assert stage.usable() is None
    stage.clocks.set_wall(-2 * HOUR)
    assert stage.usable()


def test_the_first_failure_is_told_as_it_is(stage: KeyringStage) -> None:
    stage.failed()
    failure = stage.failure()
    assert str(failure) == str(TROUBLE)
    assert failure is not TROUBLE, "each who raises it has a traceback of its own"


def test_whether_waiting_helps_is_told_with_the_failure(stage: KeyringStage) -> None:
    stage.fetched(lifetime=5)
    stage.clocks.pass_time(10)
    stage.failed(TokenError("x", may_pass=False))
    failure = stage.failure()
    assert failure is not None
    assert not failure.may_pass


def test_credentials_that_come_expired_are_a_failure(stage: KeyringStage) -> None:
    assert not stage.ring.note_fetched(stage.keys(lifetime=0.5), stage.now)
    assert stage.usable() is None
    assert "have expired" in str(stage.failure())


def test_an_expiry_that_moves_on_is_believed(stage: KeyringStage) -> None:
    # A credential process may print the keys of a user with an expiry, so as to be
    # asked again.
    stage.fetched(lifetime=60)
    stage.clocks.pass_time(50)
    held = stage.fetched(lifetime=60)
    stage.clocks.pass_time(50)
    assert stage.usable() == held
