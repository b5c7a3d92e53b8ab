"""When the proxy calls itself started and ready."""

from collections.abc import Callable

import pytest

from dsqlproxy.ops.health import REFUSAL_SECONDS, Health


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def health(clock: Callable[[], float] | None = None, *names: str) -> Health:
    found = Health(listeners=names or ("main",), clock=clock or Clock())
    found.note_listening()
    return found


def refuse(found: Health, listener: str = "main") -> None:
    found.note_login_failure(
        listener, sqlstate="08006", message="access denied", is_refusal=True
    )


def fail(found: Health, sqlstate: str) -> None:
    found.note_login_failure(
        "main", sqlstate=sqlstate, message="access denied", is_refusal=False
    )


def test_before_the_listeners_are_bound_nothing_is_ready() -> None:
    starting = Health(listeners=["main"], clock=Clock())
    assert not starting.startup().ok
    assert not starting.readiness().ok
    assert "not bound" in starting.readiness().reason


def test_listening_is_ready_without_any_login() -> None:
    found = health()
    assert found.startup().ok
    assert found.readiness().ok
    assert found.readiness().facts == {
        "phase": "listening",
        "listeners": {"main": {"last_login": None}},
    }


def test_draining_is_started_but_not_ready() -> None:
    found = health()
    found.note_draining("SIGTERM")
    assert found.startup().ok
    assert not found.readiness().ok
    assert found.readiness().reason == "draining: SIGTERM"


@pytest.mark.parametrize("sqlstate", ["08001", "53300", "08006", "57P01"])
def test_a_cluster_that_cannot_be_reached_takes_nobody_out_of_service(
    sqlstate: str,
) -> None:
    found = health()
    fail(found, sqlstate)
    assert found.readiness().ok


def test_credentials_that_never_worked_make_it_unready() -> None:
    found = health()
    refuse(found)
    assert not found.readiness().ok
    assert found.readiness().reason == "no login has worked yet on main"


def test_a_refusal_lapses_so_that_somebody_may_try_again() -> None:
    clock = Clock()
    found = health(clock)
    refuse(found)
    clock.now += REFUSAL_SECONDS
    assert found.readiness().ok


def test_a_login_that_works_makes_it_ready() -> None:
    found = health()
    refuse(found)
    found.note_login("main")
    assert found.readiness().ok


def test_credentials_that_once_worked_never_make_it_unready() -> None:
    found = health()
    found.note_login("main")
    refuse(found)
    refuse(found)
    assert found.readiness().ok


def test_one_refused_listener_of_two_is_named() -> None:
    found = health(None, "a", "b")
    found.note_login("a")
    refuse(found, listener="b")
    assert found.readiness().reason == "no login has worked yet on b"


def test_the_last_login_is_told_whatever_the_verdict() -> None:
    clock = Clock()
    found = health(clock)
    found.note_login("main")
    clock.now += 4.25
    fail(found, "08001")
    clock.now += 1.5
    assert found.readiness().facts["listeners"] == {
        "main": {
            "last_login": "failed",
            "seconds_ago": 1.5,
            "sqlstate": "08001",
            "message": "access denied",
            "has_ever_worked": True,
        }
    }
    found.note_login("main")
    assert found.readiness().facts["listeners"] == {
        "main": {
            "last_login": "ok",
            "seconds_ago": 0.0,
            "sqlstate": "",
            "message": "",
            "has_ever_worked": True,
        }
    }
