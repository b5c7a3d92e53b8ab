"""Credentials that expire: who is there stays, who comes waits, one renewal mends it.

Issue 4: "credentials expire while 50 sessions are open and 50 clients arrive; nobody is
disconnected; the arriving ones are held; after renewal all are served; one refresh was
made".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dsqlproxy.emulator.server import Emulator
from tests.end_to_end.crowds import KINDS, by_hand, count, crowd
from tests.end_to_end.wire import until
from tests.kit.aws_stand_ins import TemporaryCredentials, role_arn
from tests.kit.aws_stand_ins.home import SSO_SESSION
from tests.kit.aws_stand_ins.sso import sso_role_arn
from tests.kit.stack import RunningProxy, storm
from tests.kit.with_credentials import Machine, MovedClocks, a_machine

pytestmark = pytest.mark.timeout(120)  # much is done, on few cores


CHANGED = "INFO credentials changed"
HELD = "INFO session held"
ROLE = role_arn("app")
SOME = 50
BRIEF = 3.0
"""Seconds that credentials live which are to expire while a test waits."""

NOT_RENEWED = "the AWS credentials have expired and cannot be renewed"
LOGIN = "`aws sso login --profile dev`"


@pytest.fixture
def machine(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    with a_machine(emulator, tmp_path, monkeypatch) as found:
        yield found


@dataclass(frozen=True)
class Person:
    """Somebody who signs in with AWS SSO, and perhaps assumes a role then."""

    machine: Machine
    session: str | None = SSO_SESSION
    """The sso-session of the profile; None for one of the legacy form."""
    assumes_role: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What the listener is told of it."""
        role = {"assume_role": ROLE} if self.assumes_role else {}
        return {"profile": "dev", **role}

    @property
    def given(self) -> list[TemporaryCredentials]:
        """What the proxy was given to sign with, each by one refresh."""
        return self.machine.given_to(ROLE if self.assumes_role else DEVELOPER)

    def sign_in(self) -> None:
        """Do what ``aws sso login`` does."""
        self.machine.home.sso_profile("dev", session=self.session)
        tokens = self.machine.aws.sso.sign_in()
        self.machine.home.sign_in(tokens, session=self.session)

    def will_be_given(self, *, lifetime: float) -> None:
        """Say how long what it is given will live from now on."""
        aws = self.machine.aws
        for operation in (aws.sso.get_role_credentials, aws.sts.assume_role):
            operation.answer(lifetime=lifetime)


DEVELOPER = sso_role_arn("Developer")
PEOPLE = pytest.mark.parametrize(
    ("session", "assumes_role"),
    [
        pytest.param(SSO_SESSION, False, id="sso-session"),
        pytest.param(None, False, id="legacy-sso"),
        pytest.param(SSO_SESSION, True, id="sso-session-and-role"),
        pytest.param(None, True, id="legacy-sso-and-role"),
    ],
)


async def expired(proxy: RunningProxy) -> None:
    """Wait until there is nothing to sign with."""
    (source,) = proxy.proxy._tokens.values()
    await until(lambda: source.failure is not None)


def sessions(proxy: RunningProxy, pattern: str, *, after: int = 0) -> set[str]:
    """Give the sessions of which the log says something, from a place in it on."""
    said = proxy.log.getvalue()[after:].splitlines()
    found = (re.search(rf"{pattern}.*", line) for line in said)
    return {
        re.findall(r"session=([0-9a-f]+)", each.string)[0] for each in found if each
    }


@PEOPLE
async def test_who_comes_is_held_until_somebody_signs_in(
    machine: Machine, session: str | None, assumes_role: bool
) -> None:
    person = Person(machine, session, assumes_role)
    person.sign_in()
    person.will_be_given(lifetime=BRIEF)
    async with (
        machine.running_proxy(**person.settings) as proxy,
        crowd(proxy, SOME) as there,
    ):
        await there.all_served()
        await there.begin_some()
        await there.all_answer()
        machine.aws.sso.revoke()
        await expired(proxy)
        for old in person.given:
            machine.distrust(old)
        async with crowd(proxy, SOME) as coming:
            await until(lambda: count(proxy, f"{HELD}.*aws sso login") == SOME)
            await there.all_answer()
            assert not coming.served
            refreshes, changes = len(person.given), count(proxy, CHANGED)
            person.will_be_given(lifetime=3600)
            person.sign_in()
            await coming.all_served()
            await there.all_answer()
            await coming.all_answer()
            assert len(proxy.proxy._sessions) == 2 * SOME
        for notice in [notice for each in coming.served for notice in each.notices]:
            assert notice.get("M").startswith("dsqlproxy waits for AWS credentials: ")
            assert LOGIN in notice.get("H")
    by_hand_only = len(range(0, SOME, len(KINDS)))  # the drivers keep none of that time
    assert sum(len(each.notices) for each in coming.served) == by_hand_only
    assert len(person.given) == refreshes + 1
    assert count(proxy, CHANGED) == changes + 1
    assert count(proxy, f"{HELD}.*{LOGIN}") == SOME
    assert not count(proxy, "login failed|upstream lost|session recovered")


async def test_a_cluster_that_takes_them_no_longer_is_as_if_they_had_expired(
    machine: Machine,
) -> None:
    person = Person(machine)
    person.sign_in()
    async with (
        machine.running_proxy(**person.settings) as proxy,
        crowd(proxy, SOME) as there,
    ):
        await there.all_served()
        machine.aws.sso.revoke()
        machine.distrust(person.given[-1])
        async with crowd(proxy, SOME) as coming:
            await until(lambda: count(proxy, f"{HELD}.*aws sso login") == SOME)
            person.sign_in()
            await coming.all_served()
            await coming.all_answer()
            await there.all_answer()
            assert len(proxy.proxy._sessions) == 2 * SOME
    assert len(person.given) == 2
    assert count(proxy, CHANGED) == 2
    assert not count(proxy, "login failed|upstream lost")


async def test_who_was_held_in_vain_is_told_what_mends_it(machine: Machine) -> None:
    clocks = MovedClocks()
    person = Person(machine)
    person.sign_in()
    person.will_be_given(lifetime=600)
    async with (
        machine.running_proxy(
            clocks=clocks.clocks, hold_timeout=0.3, **person.settings
        ) as proxy,
        crowd(proxy, SOME) as there,
    ):
        await there.all_served()
        await there.begin_some()
        machine.aws.sso.revoke()
        clocks.set_forward(700)
        async with crowd(proxy, SOME) as coming:
            await coming.all_refused()
        for refused in map(str, coming.refused):
            assert NOT_RENEWED in refused
            assert "the AWS SSO session has expired or was never begun" in refused
            assert re.search(r"The client was held for \S+ s \(hold_timeout\)", refused)
            assert LOGIN in refused
        codes = {str(each)[:5] for each in coming.refused if str(each)[0].isdigit()}
        assert codes == {"28000"}
        failed = "WARNING login failed .*code=28000 .*held for"
        await until(lambda: count(proxy, failed) == SOME)
        await there.all_answer()
        assert len(proxy.proxy._sessions) == SOME
        person.will_be_given(lifetime=3600)
        person.sign_in()
        await until(lambda: count(proxy, CHANGED) == 2)
        async with crowd(proxy, 3) as late:
            await late.all_served()


async def test_a_swap_that_is_due_meanwhile_is_put_off_and_made_up_for(
    machine: Machine,
) -> None:
    person = Person(machine)
    person.sign_in()
    person.will_be_given(lifetime=BRIEF)
    # Without a limit of its own a swap that was put off is tried again by the second.
    async with (
        machine.running_proxy(
            new_window=storm, session_limit="36s", **person.settings
        ) as proxy,
        crowd(proxy, 8, kinds=(by_hand,)) as there,
    ):
        await there.all_served()
        await until(lambda: len(sessions(proxy, "upstream swapped")) == there.number)
        machine.aws.sso.revoke()
        await expired(proxy)
        late = f"swap deferred .*{NOT_RENEWED}"
        await until(lambda: len(sessions(proxy, late)) == there.number)
        old, times = await there.process_ids(), count(proxy, late)
        await until(lambda: count(proxy, late) >= times + there.number)
        assert await there.process_ids() == old
        refreshes, so_far = len(person.given), len(proxy.log.getvalue())
        person.will_be_given(lifetime=3600)
        person.sign_in()
        swapped = "upstream swapped"
        await until(lambda: len(sessions(proxy, swapped, after=so_far)) == there.number)
        assert set(await there.process_ids()).isdisjoint(old)
        assert len(person.given) == refreshes + 1
    assert not count(proxy, "upstream lost|session recovered|login failed")
