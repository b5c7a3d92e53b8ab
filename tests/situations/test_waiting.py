import pytest

from dsqlproxy.errors import TooManyConnections
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.situations.waiting import no_turn_in_time, too_many_waiting


def test_who_comes_too_late_in_a_queue_is_told_how_many_and_how_fast() -> None:
    error = too_many_waiting(1234, rate=100.0, within=9.998)
    assert error.sqlstate == "53300"
    assert error.message == "no login to the cluster was possible in time"
    assert error.detail == (
        "1,234 clients wait already; at most 100 logins a second are made"
        " (max_connect_rate), and hold_timeout leaves this one 10 s."
    )
    assert "pool" in error.hint


def test_a_full_queue_is_told_without_a_time() -> None:
    error = too_many_waiting(10_000, rate=2.5)
    assert error.message == "too many clients wait for a login to the cluster"
    assert error.detail == (
        "10,000 wait already; at most 2.5 logins a second are made (max_connect_rate)."
    )


@pytest.mark.parametrize(
    ("cause", "detail", "hint"),
    [
        (None, "At most 100 logins a second", "pool"),
        (Cause.WAKING_UP, "is waking up", "hold_timeout"),
        (Cause.TOO_MANY_CONNECTIONS, "too many open connections", "higher quota"),
        (Cause.RATE_EXCEEDED, "takes no more logins", "max_connect_rate"),
    ],
)
def test_who_waited_in_vain_is_told_for_what(
    cause: Cause | None, detail: str, hint: str
) -> None:
    error = no_turn_in_time(rate=100.0, cause=cause)
    assert isinstance(error, TooManyConnections)
    assert detail in error.detail
    assert "hold_timeout" in error.detail
    assert hint in error.hint


def test_there_are_words_for_every_cause_that_passes() -> None:
    for cause in Cause:
        if cause.is_passing:
            assert no_turn_in_time(rate=1.0, cause=cause).hint
