"""One goes through in each turn of the loop."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from dsqlproxy.channel.channel import Channel
from dsqlproxy.channel.turnstile import Turnstile
from tests.kit.channels import SERVER_NAME, TlsContexts, two_channels


class Turns:
    """Counts the turns of the loop, and who came in which."""

    def __init__(self) -> None:
        self.number = 0
        self.passed: list[tuple[str, int]] = []
        self._next()

    def _next(self) -> None:
        self.number += 1
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def note(self, name: str) -> None:
        self.passed.append((name, self.number))

    def stop(self) -> None:
        self._handle.cancel()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.passed]

    @property
    def most_in_one(self) -> int:
        return max(Counter(turn for _, turn in self.passed).values())


async def test_who_comes_alone_does_not_wait() -> None:
    turnstile = Turnstile()
    for _ in range(3):
        turns = Turns()
        before = turns.number
        await turnstile.pass_through()
        assert turns.number == before
        turns.stop()
        await asyncio.sleep(0)


async def test_who_come_together_go_one_in_a_turn_as_they_came() -> None:
    turnstile, turns = Turnstile(), Turns()

    async def go(name: str) -> None:
        await turnstile.pass_through()
        turns.note(name)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(go(str(number)))
    turns.stop()
    assert turns.names == [str(number) for number in range(20)]
    assert turns.most_in_one == 1
    # To be woken takes a turn, and the first was not asleep.
    assert turns.passed[-1][1] - turns.passed[0][1] == 20


async def test_who_comes_later_does_not_overtake() -> None:
    turnstile, turns = Turnstile(), Turns()

    async def go(name: str) -> None:
        await turnstile.pass_through()
        turns.note(name)

    async with asyncio.TaskGroup() as group:
        for name in ("first", "second", "third"):
            group.create_task(go(name))
        await asyncio.sleep(0)
        await go("later")
    turns.stop()
    assert turns.names == ["first", "second", "third", "later"]
    assert turns.most_in_one == 1


async def test_who_gives_up_holds_nobody_up() -> None:
    turnstile, turns = Turnstile(), Turns()

    async def go(name: str) -> None:
        await turnstile.pass_through()
        turns.note(name)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(go(str(number))) for number in range(5)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[2].cancel()
        tasks[4].cancel()
    await turnstile.pass_through()
    turns.stop()
    assert turns.names == ["0", "3"]


async def test_handshakes_that_could_go_on_together_take_turns(
    tls: TlsContexts,
) -> None:
    turnstile, turns = Turnstile(), Turns()
    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(two_channels()) for _ in range(10)]

        async def secure(near: Channel) -> None:
            await near.start_tls(
                tls.client, server_hostname=SERVER_NAME, turnstile=turnstile
            )
            turns.note("")

        async with asyncio.TaskGroup() as group:
            for near, far in pairs:
                group.create_task(far.start_tls(tls.server, server_side=True))
                group.create_task(secure(near))
        turns.stop()
    assert len(turns.passed) == 10
    assert turns.most_in_one == 1
