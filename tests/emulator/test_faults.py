from random import SystemRandom

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.emulator.faults import Fault, Faults, SqlFaults, check_fault


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def faults(clock: Clock) -> Faults:
    return Faults(clock, SqlFaults(SystemRandom()))


WORDS = {
    "close-after:1.5s": ("close_after", 1.5),
    "reset-after:0": ("reset_after", 0),
    "stall-after:17": ("stall_after", 17),
    "fatal:57P01": ("fatal", "57P01"),
    "slow-login:250ms": ("slow_login", 0.25),
    "rate-exceeded:3": ("rate_exceeded", 3),
    "too-many-connections:2": ("too_many_connections", 2),
    "expired-credentials": ("expired_credentials", True),
    "access-denied": ("access_denied", True),
    "skew:-60": ("skew", -60.0),
    "no-cancel": ("no_cancel", True),
    "no-key-data": ("no_key_data", True),
}
SQL_WORDS = {
    "refuse-set-config": ("refuse_set_config", True),
    "oc000:0.5": ("oc000", 0.5),
    "oc001:1": ("oc001", 1.0),
}


@pytest.mark.parametrize(("word", "expected"), WORDS.items())
def test_a_word_puts_its_fault_in_force_until_cleared(
    faults: Faults, word: str, expected: tuple[str, object]
) -> None:
    name, value = expected
    before = getattr(faults, name)
    faults.add(word)
    assert getattr(faults, name) == value
    assert faults.words == [word]
    faults.clear()
    assert getattr(faults, name) == before
    assert faults.words == []


@pytest.mark.parametrize(("word", "expected"), SQL_WORDS.items())
def test_a_word_about_sql_reaches_the_object_that_the_rules_hold(
    faults: Faults, word: str, expected: tuple[str, object]
) -> None:
    held = faults.sql
    name, value = expected
    faults.add(word)
    assert getattr(held, name) == value
    faults.clear()
    assert not getattr(held, name)
    assert faults.sql is held


def test_waking_up_ends_by_itself(faults: Faults, clock: Clock) -> None:
    seen = [faults.is_waking_up]
    faults.add("waking-up:30s")
    seen.append(faults.is_waking_up)
    clock.now += 30
    seen.append(faults.is_waking_up)
    assert seen == [False, True, False]


def test_counted_refusals_are_used_up(faults: Faults) -> None:
    faults.add("rate-exceeded:2")
    faults.add("too-many-connections:1")
    assert [faults.take_rate_exceeded() for _ in range(3)] == [True, True, False]
    assert [faults.take_too_many_connections() for _ in range(2)] == [True, False]


def test_every_fault_has_a_word_here() -> None:
    words = {*WORDS, *SQL_WORDS, "waking-up:1"}
    assert {Fault(word.partition(":")[0]) for word in words} == set(Fault)


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("reset", "'reset' is not a fault; accepted: close-after:SECONDS, "),
        ("", "is not a fault"),
        ("reset-after", "accepted is reset-after:BYTES, a number of bytes"),
        ("reset-after:-1", "a number of bytes"),
        ("reset-after:1k", "a number of bytes"),
        ("stall-after:\u0661", "a number of bytes"),
        ("close-after:soon", "500ms, 30s"),
        ("rate-exceeded:", "rate-exceeded:N, a number of logins"),
        ("skew:tomorrow", "skew:SECONDS, a number of seconds"),
        ("oc000:1.1", "a probability from 0 to 1"),
        ("oc001:-0.5", "a probability from 0 to 1"),
        ("fatal:57p01", "an SQLSTATE"),
        ("no-cancel:1", "no-cancel, nothing after the name"),
    ],
)
def test_a_bad_word_is_refused_with_what_is_accepted(
    faults: Faults, word: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match="accepted") as refused:
        faults.add(word)
    assert complaint in str(refused.value)
    assert faults.words == []
    with pytest.raises(ValueError, match="accepted"):
        check_fault(word)


@given(name=st.sampled_from(list(Fault)), argument=st.text(max_size=20))
def test_any_argument_is_taken_or_refused(name: Fault, argument: str) -> None:
    faults = Faults(Clock(), SqlFaults(SystemRandom()))
    try:
        faults.add(f"{name}:{argument}")
    except ValueError:
        assert faults.words == []
