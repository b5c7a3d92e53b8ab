"""Credentials that are renewed ahead of their end, and clocks that jump past it.

Nobody waits for a renewal that is made in time; one is made at a time, and while it
fails, what is held goes on signing.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.emulator.sigv4 import AccessKey
from tests.end_to_end.crowds import by_hand, count, crowd
from tests.end_to_end.wire import until
from tests.kit.aws_stand_ins import role_arn
from tests.kit.aws_stand_ins.sso import sso_role_arn
from tests.kit.stack import RunningProxy
from tests.kit.with_credentials import FastClocks, Machine, MovedClocks, a_machine

pytestmark = pytest.mark.timeout(120)  # much is done, on few cores


ROLE = role_arn("app")
DEVELOPER = sso_role_arn("Developer")

HELD = "INFO session held"
CHANGED = "INFO credentials changed"
FAILED = "WARNING credentials failed"

FAST = 20.0
LIFETIME = 120.0
"""Seconds that go by twenty times as fast: six of ours. Renewal is due after 90, so
that a busy machine has a second and a half for it."""

LOOK = 0.05
"""Our seconds between two looks of the proxy at clocks and files: one of the fast."""

ASLEEP = 1200.0
A_NIGHT = 8 * 3600.0


@pytest.fixture
def fast() -> FastClocks:
    return FastClocks(FAST)


@pytest.fixture
def in_a_hurry(
    emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fast: FastClocks,
) -> Iterator[Machine]:
    """Give a machine whose time is fast, and whose keys assume a role."""
    with a_machine(emulator, tmp_path, monkeypatch, clock=fast.wall) as machine:
        # botocore signs what it asks of STS by the true time.
        machine.aws.sts._clock = system_clocks().wall
        assume_role(machine)
        yield machine


@pytest.fixture
def machine(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    with a_machine(emulator, tmp_path, monkeypatch) as found:
        yield found


def assume_role(machine: Machine) -> None:
    machine.home.keys(machine.aws.mint.long_term(), "base")
    machine.home.profile("app", role_arn=ROLE, source_profile="base")


class Alone:
    """Tells the cluster of each key after a while, and notes two at a time.

    It is called while AWS answers, so its answers are slow.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._one = threading.Lock()
        self.was_crowded = False

    def __call__(self, key: AccessKey) -> None:
        if not self._one.acquire(blocking=False):
            self.was_crowded = True
            return
        with contextlib.closing(self):
            threading.Event().wait(2 * LOOK)
            self._emulator.trust(key)

    def close(self) -> None:
        self._one.release()


@asynccontextmanager
async def trickle(proxy: RunningProxy) -> AsyncIterator[list[int]]:
    """Let clients come one after another; give how many were served so far."""
    served = [0]
    is_over = asyncio.Event()

    async def come_and_go() -> None:
        while not is_over.is_set():
            async with by_hand(proxy) as client:
                assert await client.ask("select '1'") == "1"
            served[0] += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(come_and_go())
        yield served
        is_over.set()


# -- ahead of need ---------------------------------------------------------------------


async def test_nobody_waits_for_credentials_that_are_renewed_in_time(
    in_a_hurry: Machine, fast: FastClocks, emulator: Emulator
) -> None:
    aws = in_a_hurry.aws
    alone = aws.mint.on_key = Alone(emulator)
    aws.sts.assume_role.answer(lifetime=LIFETIME)
    async with (
        in_a_hurry.running_proxy(
            clocks=fast.clocks, look_seconds=LOOK, profile="app"
        ) as proxy,
        trickle(proxy) as served,
    ):
        await until(lambda: len(in_a_hurry.given_to(ROLE)) == 3)
        assert served[0] > 50
    made = [each.expires_at for each in in_a_hurry.given_to(ROLE)]
    for earlier, later in pairwise(made):
        assert 0.7 * LIFETIME < later - earlier < LIFETIME
    assert not alone.was_crowded
    assert not emulator.counts.logins_refused
    assert not count(proxy, f"{HELD}|{FAILED}|login failed")


async def test_what_is_held_signs_on_while_a_renewal_hangs(machine: Machine) -> None:
    # However long the logins below take, the one call lasts until they are through.
    machine.monkeypatch.setattr("dsqlproxy.aws.chain.AWS_CALL_SECONDS", 60.0)
    assume_role(machine)
    operation = machine.aws.sts.assume_role
    async with (
        machine.running_proxy(profile="app", look_seconds=LOOK) as proxy,
        trickle(proxy) as served,
    ):
        await until(lambda: served[0])
        operation.hang()
        machine.home.profile("other")  # a file that changes is looked into
        await operation.wait_for_calls(2)
        so_far = served[0]
        await until(lambda: served[0] > so_far + 20)
        async with crowd(proxy, 20) as others:
            await others.all_served()
        assert operation.calls == 2  # however many want to log in
        operation.release()
        await until(lambda: count(proxy, CHANGED) == 2)
        assert not count(proxy, f"{HELD}|{FAILED}")


async def test_what_is_held_signs_on_while_renewals_fail(machine: Machine) -> None:
    assume_role(machine)
    operation = machine.aws.sts.assume_role
    async with (
        machine.running_proxy(profile="app", look_seconds=LOOK) as proxy,
        trickle(proxy) as served,
    ):
        await until(lambda: served[0])
        operation.fail(500)
        machine.home.profile("other")
        await until(lambda: count(proxy, FAILED))
        so_far, calls = served[0], operation.calls
        await operation.wait_for_calls(calls + 1)  # it is tried again, after a while
        await until(lambda: served[0] > so_far + 20)
        operation.answer()
        await until(lambda: count(proxy, CHANGED) == 2)
        assert count(proxy, FAILED) == 1
        assert not count(proxy, HELD)


# -- clocks that jump ------------------------------------------------------------------


def sign_in(machine: Machine, *, lifetime: float) -> None:
    machine.home.sso_profile("dev")
    machine.home.sign_in(machine.aws.sso.sign_in(lifetime=2 * A_NIGHT))
    machine.aws.sso.get_role_credentials.answer(lifetime=lifetime)


def fall_idle(proxy: RunningProxy) -> None:
    """Let the proxy see that nobody has said anything since it looked last."""
    proxy.proxy._watch.look()
    proxy.proxy._watch.look()


async def test_after_a_short_sleep_the_next_login_works_and_sessions_are_the_same(
    machine: Machine,
) -> None:
    clocks = MovedClocks()
    sign_in(machine, lifetime=ASLEEP / 2)
    async with (
        machine.running_proxy(clocks=clocks.clocks, profile="dev") as proxy,
        crowd(proxy, 12) as there,
    ):
        await there.all_served()
        before = await there.process_ids()
        machine.aws.sso.get_role_credentials.answer(lifetime=ASLEEP + 3600)
        machine.distrust(machine.given_to(DEVELOPER)[-1])
        fall_idle(proxy)
        clocks.set_forward(ASLEEP)
        async with crowd(proxy, 12) as coming:
            await coming.all_served()
            await coming.all_answer()
            assert await there.process_ids() == before
    assert len(machine.given_to(DEVELOPER)) == 2
    assert not count(proxy, f"{HELD}|login failed|upstream lost")


async def test_after_a_night_every_session_has_a_new_upstream(machine: Machine) -> None:
    clocks = MovedClocks()
    sign_in(machine, lifetime=3600)
    async with (
        machine.running_proxy(clocks=clocks.clocks, profile="dev") as proxy,
        crowd(proxy, 12) as there,
    ):
        await there.all_served()
        before = await there.process_ids()
        machine.aws.sso.get_role_credentials.answer(lifetime=A_NIGHT + 3600)
        machine.distrust(machine.given_to(DEVELOPER)[-1])
        fall_idle(proxy)
        clocks.set_forward(A_NIGHT)
        async with crowd(proxy, 12) as coming:
            await coming.all_served()
            assert set(await there.process_ids()).isdisjoint(before)
            assert len(proxy.proxy._sessions) == 24
    assert count(proxy, "INFO session recovered") == 12
    assert len(machine.given_to(DEVELOPER)) == 2
    assert not count(proxy, f"{HELD}|login failed")


async def test_who_wakes_without_a_network_is_served_once_it_is_there(
    machine: Machine,
) -> None:
    clocks = MovedClocks()
    operation = machine.aws.sso.get_role_credentials
    sign_in(machine, lifetime=3600)
    async with (
        machine.running_proxy(clocks=clocks.clocks, profile="dev") as proxy,
        crowd(proxy, 12) as there,
    ):
        await there.all_served()
        machine.distrust(machine.given_to(DEVELOPER)[-1])
        operation.fail(503)
        fall_idle(proxy)
        clocks.set_forward(A_NIGHT)
        async with crowd(proxy, 12) as coming:
            await until(lambda: count(proxy, HELD) >= coming.number)
            assert not coming.served
            operation.answer(lifetime=A_NIGHT + 3600)
            await coming.all_served()
            await there.all_answer()
            assert len(proxy.proxy._sessions) == 24
    assert len(machine.given_to(DEVELOPER)) == 2
    assert not count(proxy, "login failed|recovery failed")
