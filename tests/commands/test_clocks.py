"""The clocks of this machine."""

import sys
import time

import pytest

from dsqlproxy.commands.clocks import system_clocks


def test_the_clocks_of_this_machine_go_forward_together() -> None:
    clocks = system_clocks()
    earlier = clocks.read()
    now = clocks.read()
    assert 0.0 <= now.seconds_since(earlier) < 60.0
    assert now.jump_since(earlier) < 1.0


def test_the_wall_clock_shows_the_time_of_day() -> None:
    year_2025 = 1_735_689_600.0
    assert system_clocks().read().wall > year_2025


@pytest.mark.skipif(sys.platform != "linux", reason="the name of the clock is Linux's")
def test_the_boot_clock_counts_time_asleep() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= system_clocks().boot() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_without_a_clock_that_counts_sleep_monotonic_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert system_clocks().boot is time.monotonic


def test_on_macos_the_raw_clock_counts_time_asleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC)
    before = time.monotonic()
    assert before <= system_clocks().boot() <= time.monotonic()
