"""Upstreams that are cut after any byte (part F of the catalogue: 74, 77, 78).

Twelve sessions, each played as often as it has bytes in either direction; the upstream
is cut at another byte each time, in order or by a reset. What the client is told must
be the row of the table of losses that is written beside each step, and what is in the
table afterwards must be what clients could conclude. Each row was tried: with its rule
taken out of `last_words.upstream_lost`, `Tracker.may_have_committed`,
`Relay.upstream_lost` or `Kept.may_recover` this test fails.
"""

import os
from contextlib import AsyncExitStack

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.cuts import (
    ID,
    Account,
    Cut,
    Length,
    Play,
    Script,
    Step,
    Verdict,
    insert,
    play_all,
)
from tests.kit.frames import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    copy_data,
    describe,
    execute,
    parse,
    query,
)
from tests.kit.swapping import Swapping, swapping
from tests.kit.tamper_plans import How

_IS_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
_PROXIES = 6

RUNNING, COMMIT = Verdict.RUNNING, Verdict.COMMIT
ROLLED_BACK = Verdict.ROLLED_BACK
DONE = (("C", COMMIT),)
"""After CommandComplete only the implicit commit is open, and it may have been one."""


def _insert(letter: str) -> Step:
    return Step(insert(letter), "CZ", COMMIT, writes=letter)


def _within(data: bytes, answer: str) -> Step:
    """Do something in a transaction that goes on."""
    return Step(data, answer, RUNNING, DONE, at_rest=ROLLED_BACK)


def _extended(sql: str) -> bytes:
    return parse(sql) + bind() + describe() + execute() + SYNC


_BEGIN = _within(query("begin"), "CZ")
_INSERT = f"insert into cut values('x{ID}')"
_FAILED = (("E", RUNNING),)

SCRIPTS: dict[str, Script] = {
    "a simple query": (
        Step(query("select 1"), "TDCZ", RUNNING, DONE),
        _insert("a"),
    ),
    "an extended query": (
        Step(_extended("select 1"), "12TDCZ", COMMIT),
        Step(_extended(_INSERT), "12nCZ", COMMIT, writes="x"),
    ),
    "a prepared statement": (
        Step(parse("select 1", name="s") + SYNC, "1Z", RUNNING),
        Step(bind(statement="s") + execute() + SYNC, "2DCZ", COMMIT),
        # The statement is there on the new upstream too.
        Step(bind(statement="s") + execute() + SYNC, "2DCZ", COMMIT),
    ),
    "77, 78: a transaction": (
        _BEGIN,
        _within(insert("a"), "CZ"),
        Step(
            query("commit"), "CZ", COMMIT, (("C", RUNNING),), writes="a", is_commit=True
        ),
        _insert("b"),
    ),
    "77: a transaction that fails": (
        _BEGIN,
        Step(query("select 1/0"), "EZ", RUNNING, at_rest=ROLLED_BACK),
        Step(query("rollback"), "CZ", RUNNING, DONE),
    ),
    "77: COPY in": (
        Step(query("copy cut from stdin"), "G", COMMIT, at_rest=RUNNING),
        Step(
            copy_data(f"a{ID}\n".encode()) + COPY_DONE, "CZ", COMMIT, writes="a"
        ),
    ),
    "77: COPY out": (Step(query("copy (select 1) to stdout"), "HdcCZ", COMMIT),),
    "SET": (
        Step(
            query("set timezone to 'Asia/Tokyo'"), "CSZ", RUNNING, DONE,
            at_rest=Verdict.NOT_REPLACED,
        ),
    ),
    "a pipeline": (
        Step(
            parse(_INSERT) + bind() + execute() + bind() + execute() + SYNC,
            "12C2CZ", COMMIT,
        ),
    ),
    "a pipeline of two": (
        Step(_extended("select 1") * 2, "12TDCZ" * 2, COMMIT, units=2),
    ),
    "an error": (
        Step(query("select 1/0"), "EZ", RUNNING),
        Step(_extended("select 1/0"), "1EZ", COMMIT, _FAILED),
    ),
    "prepared and flushed": (
        Step(parse("select 1") + describe("S") + FLUSH, "1tT", RUNNING),
        Step(bind() + execute() + SYNC, "2DCZ", COMMIT),
    ),
}  # fmt: skip


async def _measure(proxy: Swapping, script: Script) -> Length:
    play = Play(proxy, script, 0, Account())
    await play.run()
    await proxy.until("session closed", proxy.count("session opened"))
    return play.length


def _cuts(length: Length) -> list[Cut]:
    cuts = []
    for number, (way, byte) in enumerate(length.cuts()):
        hows = How if _IS_DEEP else (list(How)[number % 2],)
        cuts += [Cut(way, byte, how) for how in hows]
    return cuts


@pytest.mark.timeout(120)
async def test_74_an_upstream_that_is_cut_after_any_byte(
    postgres: EmbeddedPostgres,
) -> None:
    await postgres.execute("drop table if exists cut", "create table cut (id text)")
    account = Account()
    jobs: list[tuple[Script, Length, Cut]] = []
    async with swapping(postgres) as proxy:
        for script in SCRIPTS.values():
            length = await _measure(proxy, script)
            jobs += [(script, length, cut) for cut in _cuts(length)]
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(swapping(postgres)) for _ in range(_PROXIES)
        ]
        failures = await play_all(proxies, jobs, account)
        failures += await account.check(proxies[0])
    told = "\n".join(failures[:20])
    assert not failures, f"{len(failures)} of {len(jobs)}:\n{told}"
