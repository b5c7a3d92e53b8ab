from hypothesis import given, strategies as st

from tests.kit.virtual_clocks import VirtualClocks

_SECONDS = st.integers(0, 100_000)


def test_the_clocks_stand_still_by_themselves() -> None:
    clocks = VirtualClocks().clocks
    assert clocks.read() == clocks.read()


def test_each_clock_can_be_moved_alone() -> None:
    virtual = VirtualClocks(monotonic=1.0, boot=2.0, wall=3.0)
    clocks = virtual.clocks
    assert clocks.read() == (1.0, 2.0, 3.0)
    virtual.boot += 5
    assert clocks.read() == (1.0, 7.0, 3.0)
    virtual.set_wall(-2)
    assert clocks.read() == (1.0, 7.0, 1.0)
    virtual.monotonic = 0.5
    assert clocks.read() == (0.5, 7.0, 1.0)


@given(awake=_SECONDS, asleep=_SECONDS, paused=_SECONDS)
def test_what_happens_to_a_machine_happens_to_its_clocks(
    awake: int, asleep: int, paused: int
) -> None:
    virtual = VirtualClocks()
    before = virtual.clocks.read()
    virtual.pass_time(awake)
    virtual.suspend(asleep)
    virtual.pause(paused)
    now = virtual.clocks.read()
    assert now.monotonic - before.monotonic == awake
    assert now.boot - before.boot == awake + asleep
    assert now.wall - before.wall == awake + asleep + paused
    assert now.seconds_since(before) == awake + asleep + paused


def test_a_clock_set_back_makes_nothing_young_again() -> None:
    virtual = VirtualClocks()
    before = virtual.clocks.read()
    virtual.pass_time(60)
    virtual.set_wall(-3600)
    assert virtual.clocks.read().seconds_since(before) == 60
