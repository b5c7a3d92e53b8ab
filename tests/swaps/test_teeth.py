"""That wrong ways of swapping are caught: what passes here proves something elsewhere.

Each variant of `broken.py` meets a program that shows what is wrong with it, and the
real thing passes the same. The storm (`test_storm.py`) finds each of them too, within
its first 90 programs, except for the last two: a storm has no clocks and no losses.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.session.lifetime import SwapWindow
from tests.kit.frames import FLUSH, SYNC, bind, execute, parse, query
from tests.kit.storm_programs import Program, Step
from tests.kit.storm_runner import Player, _connect
from tests.kit.swapping import Swapping, swapping
from tests.kit.virtual_clocks import VirtualClocks
from tests.swaps.broken import LOOKING, QUIET, STATE
from tests.swaps.storms import Weather, new_twins

DIFFERENCE = (AssertionError, ConnectionError, TimeoutError)
"""A client that hears nothing, or is hung up on, has met a difference as well."""

SECONDS = 2.0
"""How long a broken variant may take; no program takes a tenth of it, but the one
that sleeps."""

DAYS = "select '01/02/2020'::date - date '2000-01-01'"

PORTAL: Final = [
    Step(
        "open a portal",
        parse("select n from generate_series(1, 7) as n")
        + bind(portal="p")
        + execute("p", rows=3)
        + FLUSH,
    ),
    Step("read the rest of it", execute("p") + SYNC),
]
SKIPPED: Final = [
    Step("fail", parse("select nonsense") + FLUSH),
    Step("skipped", parse("select 'skipped'", name="a") + FLUSH),
    Step("Sync", SYNC),
    Step("use", bind(statement="a") + execute() + SYNC),
]
TWO_UNITS: Final = [
    Step("one", query("select 1")),
    Step("a quick one, a slow one", query("select 2") + query("select pg_sleep(0.3)")),
    Step("one more", query("select 3")),
]
ROLLED_BACK: Final = [
    Step("begin", query("begin")),
    Step("set", query("set DateStyle to 'German'")),
    Step("rollback", query("rollback")),
    Step("look", query("select date '2020-03-04'")),
]
SETTING: Final = [
    Step("set", query("set search_path to two, public")),
    Step("look", query("select id, v from t")),
]
ENVIRONMENT: Final = [
    Step("set", query("set DateStyle to 'SQL, DMY'")),
    Step("prepare", parse(DAYS, name="a") + SYNC),
    Step("reset", query("set DateStyle to 'ISO, MDY'")),
    Step("rest", SYNC),
    Step("rest", SYNC),
    Step("use", bind(statement="a") + execute() + SYNC),
]
UNNAMED: Final = [
    Step("prepare", parse("select 'still there'") + SYNC),
    Step("use", bind() + execute() + SYNC),
]
STALE: Final = [
    Step("prepare", parse("select * from shape", name="a") + SYNC),
    Step("change", elsewhere="alter table shape add column w int default 7"),
    Step("rest", SYNC),
    Step("use", bind(statement="a") + execute() + SYNC),
]

CAUGHT_BY: Final[Mapping[str, Program]] = {
    "last message decides": TWO_UNITS,
    "counting Sync and Query": PORTAL,
    "open portals": PORTAL,
    "while the server skips": SKIPPED,
    "replaying SET texts": ROLLED_BACK,
    "no settings": SETTING,
    "statements before settings": ENVIRONMENT,
    "no parse-time environment": ENVIRONMENT,
    "no unnamed statement": UNNAMED,
    "stale statements parsed again": STALE,
}


@pytest.mark.parametrize("name", [*QUIET, *STATE])
async def test_broken_variant_is_caught(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program = CAUGHT_BY[name]
    in_flight = program is TWO_UNITS
    weather = Weather.IN_FLIGHT if in_flight else Weather.AT_REST
    async with new_twins(postgres) as twins:
        await twins.run(0, program, weather)
        assert len(twins.proxy.tamper.connections) > 1, "no swap was tried"
        {**QUIET, **STATE}[name](monkeypatch)
        with pytest.raises(DIFFERENCE):
            async with asyncio.timeout(SECONDS):
                await twins.run(0, program, weather)


# -- whether the upstream is still there -----------------------------------------------


async def after_a_sleep(
    proxy: Swapping, player: Player, virtual: VirtualClocks
) -> None:
    del player
    virtual.suspend(7200)
    assert not proxy.tamper.connections[0].has_ended, "nobody has closed it"


async def in_the_moment_of_the_end(
    proxy: Swapping, player: Player, virtual: VirtualClocks
) -> None:
    """Let the client's message and the upstream's end come in one turn of the loop."""
    del virtual
    del player
    connection = proxy.tamper.connections[0]
    asyncio.get_running_loop().call_soon(connection._proxy.shutdown, socket.SHUT_WR)


Happening = Callable[[Swapping, Player, VirtualClocks], Awaitable[None]]
HAPPENING: Final[Mapping[str, Happening]] = {
    "monotonic clock only": after_a_sleep,
    "checking after writing": in_the_moment_of_the_end,
}


async def check_first_message(postgres: EmbeddedPostgres, happen: Happening) -> None:
    """Fail if the first message of an idle client goes to an upstream that is gone."""
    virtual = VirtualClocks()
    async with swapping(
        postgres, clocks=virtual.clocks, window=SwapWindow.of(3600, jitter=0.5)
    ) as proxy:
        player = Player(*await _connect(proxy.where))
        await player.log_in()
        await player.perform(Step("one", query("select 1")))
        watch = proxy.services.watch
        for _ in range(2):
            watch.look()  # idle now: its next message is looked at
        problem = await first_message(proxy, player, virtual, happen)
        player._writer.close()
    assert not problem, problem


async def first_message(
    proxy: Swapping, player: Player, virtual: VirtualClocks, happen: Happening
) -> str:
    """Say what is wrong with how the client's first message was taken, if anything."""
    await happen(proxy, player, virtual)
    try:
        async with asyncio.timeout(SECONDS):
            await player.perform(Step("two", query("select 2")))
    except DIFFERENCE as error:
        return f"the client got no answer: {error!r}"
    if proxy.tamper.letters(1, ">") != "Q" or proxy.tamper.letters(2, ">")[-1] != "Q":
        return "the message went to an upstream that was gone"
    return "" if player.transcript.letters == "TDCZ" * 2 else "another answer"


@pytest.mark.parametrize("name", LOOKING)
async def test_broken_look_at_the_upstream_is_caught(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    await check_first_message(postgres, HAPPENING[name])
    LOOKING[name](monkeypatch)
    with pytest.raises(AssertionError):
        await check_first_message(postgres, HAPPENING[name])
