"""Keys that are replaced in the credentials file while clients come, stay and go.

Issue 4: "rotating the keys in the credentials file under load loses no session and
needs no restart". A key is replaced as AWS describes it (the new one is there before
the old one is deactivated), in the wrong order, and by an editor that writes in place.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dsqlproxy.emulator.server import Emulator
from dsqlproxy.emulator.sigv4 import AccessKey
from tests.end_to_end.crowds import KINDS, Connect, Crowd, count, crowd
from tests.end_to_end.wire import until
from tests.kit.aws_stand_ins.home import replace
from tests.kit.stack import RunningProxy
from tests.kit.with_credentials import Machine, a_machine

pytestmark = pytest.mark.timeout(120)  # much is done, on few cores


CHANGED = "INFO credentials changed"
FAILED = "WARNING credentials failed"
COMING = 8
STAYING = 20


@pytest.fixture
def machine(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    with a_machine(emulator, tmp_path, monkeypatch) as found:
        yield found


@dataclass
class Load:
    """A proxy at work: clients that stay, and clients that come and go."""

    machine: Machine
    proxy: RunningProxy
    staying: Crowd
    key: AccessKey
    """What is in the credentials file, or was before it was damaged."""
    served: list[int] = field(default_factory=lambda: [0] * COMING)
    """How often each of those who come and go was served so far."""
    is_over: bool = False

    async def come_and_go(self, number: int, connect: Connect) -> None:
        """Connect, ask and leave, over and over; whatever is wrong raises."""
        while not self.is_over:
            async with connect(self.proxy) as client:
                assert await client.ask("select '1'") == "1"
            self.served[number] += 1

    def new_key(self) -> AccessKey:
        """Have AWS make one more key, which the cluster takes at once."""
        self.key = self.machine.aws.mint.long_term()
        return self.key

    def forget(self, key: AccessKey) -> None:
        """Have AWS deactivate a key, which the cluster knows at once."""
        self.machine.emulator.distrust(key.access_key_id)

    def distrust_all_but(self, key: AccessKey) -> None:
        """Have the cluster take nobody's tokens but those of one key."""
        for access_key_id in [*self.machine.emulator._keys]:
            if access_key_id != key.access_key_id:
                self.machine.emulator.distrust(access_key_id)

    @property
    def refused(self) -> int:
        """How many tokens the cluster has refused so far."""
        return self.machine.emulator.counts.logins_refused.total()

    async def taken_up(self) -> None:
        """Wait until the proxy has said that it uses the key of the file."""
        short = f"{self.key.access_key_id[:4]}…{self.key.access_key_id[-4:]}"
        await until(lambda: count(self.proxy, f"{CHANGED}.*{short}"))

    async def failed(self, times: int) -> None:
        """Wait until the proxy has said so often that it found no credentials."""
        await until(lambda: count(self.proxy, FAILED) >= times)

    async def everybody_came_anew(self) -> None:
        """Wait until no login is under way that was begun before this."""
        before = list(self.served)
        await until(
            lambda: all(
                now >= then + 2 for now, then in zip(self.served, before, strict=True)
            )
        )

    async def goes_on(self) -> None:
        """See that clients are served by the key of the file and by no other."""
        self.distrust_all_but(self.key)
        await self.everybody_came_anew()
        await self.staying.all_answer()


@asynccontextmanager
async def load(machine: Machine) -> AsyncIterator[Load]:
    """Run a proxy with a key in the credentials file, under load."""
    key = machine.aws.mint.long_term()
    machine.home.keys(key)
    async with (
        machine.running_proxy() as proxy,
        crowd(proxy, STAYING) as staying,
        asyncio.TaskGroup() as group,
    ):
        await staying.all_served()
        running = Load(machine, proxy, staying, key)
        for number in range(COMING):
            kind = KINDS[number % len(KINDS)]
            group.create_task(running.come_and_go(number, kind))
        yield running
        await running.goes_on()
        await staying.all_answer()
        assert not count(proxy, "login failed|upstream lost|session refused")
        running.is_over = True


async def test_keys_are_replaced_before_the_old_ones_are_deactivated(
    machine: Machine,
) -> None:
    async with load(machine) as running:
        for _ in range(3):
            machine.home.keys(running.new_key())
            await running.taken_up()
            await running.everybody_came_anew()
            await running.goes_on()
        assert not running.refused
        assert count(running.proxy, CHANGED) == 4


async def test_keys_are_replaced_at_the_moment_when_the_old_ones_are_deactivated(
    machine: Machine,
) -> None:
    async with load(machine) as running:
        for _ in range(3):
            machine.home.keys(running.new_key())
            await running.goes_on()  # the old one is distrusted at once
        assert running.refused
        assert count(running.proxy, CHANGED) == 4


async def test_keys_are_replaced_after_the_old_ones_were_deactivated(
    machine: Machine,
) -> None:
    async with load(machine) as running:
        for rotation in range(1, 4):
            running.forget(running.key)
            await running.failed(rotation)
            await running.staying.all_answer()
            machine.home.keys(running.new_key())
            await running.goes_on()
        assert count(running.proxy, "INFO session held") >= COMING


@pytest.mark.parametrize("is_deactivated", [False, True])
async def test_the_file_is_written_in_place_and_piece_by_piece(
    machine: Machine, is_deactivated: bool
) -> None:
    file = machine.home.credentials_file
    async with load(machine) as running:
        old = running.key
        changes = count(running.proxy, CHANGED)
        new = running.new_key()
        text = file.read_text().replace(old.access_key_id, new.access_key_id)
        text = text.replace(old.secret_access_key, new.secret_access_key)
        pieces = [
            "",
            text[: text.index("aws_secret_access_key")],  # an id without a secret
            text[: text.index(new.secret_access_key) + 20],  # half of the secret
            text,
        ]
        if is_deactivated:
            running.forget(old)
        for piece in pieces[:2]:
            failures = count(running.proxy, FAILED)
            file.write_text(piece)
            await running.failed(failures + 1)
        file.write_text(pieces[2])
        await until(lambda: count(running.proxy, CHANGED) > changes)
        await until(lambda: count(running.proxy, "put aside"))
        await running.staying.all_answer()
        file.write_text(pieces[3])


async def test_the_file_is_written_in_place_while_nobody_looks_twice(
    machine: Machine,
) -> None:
    file = machine.home.credentials_file
    async with load(machine) as running:
        for _ in range(2):
            old, new = running.key, running.new_key()
            text = file.read_text().replace(old.access_key_id, new.access_key_id)
            text = text.replace(old.secret_access_key, new.secret_access_key)
            with file.open("w") as stream:
                for start in range(0, len(text), 10):
                    stream.write(text[start : start + 10])
                    stream.flush()
                    await asyncio.sleep(0)  # let others run, and look
            await running.goes_on()


async def test_wrong_keys_are_held_against_nobody_once_the_right_ones_are_there(
    machine: Machine,
) -> None:
    async with load(machine) as running:
        right = running.key
        wrong = running.new_key()
        running.forget(wrong)
        machine.home.keys(wrong)
        await until(lambda: count(running.proxy, "put aside"))
        await until(lambda: count(running.proxy, "INFO session held") >= COMING)
        await running.staying.all_answer()
        machine.home.keys(right)
        running.key = right
        await running.goes_on()


async def test_a_file_that_is_lost_ends_nothing(machine: Machine) -> None:
    # What is held goes on signing until the cluster refuses it.
    async with load(machine) as running:
        text = machine.home.credentials_file.read_text()
        machine.home.credentials_file.unlink()
        await until(lambda: count(running.proxy, FAILED))
        await running.goes_on()
        replace(machine.home.credentials_file, text)
        await until(lambda: count(running.proxy, CHANGED) == 2)
        assert not count(running.proxy, "INFO session held")
