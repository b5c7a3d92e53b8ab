"""docs/errors.md, produced: the cluster refuses a login, or one is waited for in vain.

``hold_timeout: 0`` shows the cluster's refusal itself; the rows of clients that are
held come with a short one.
"""

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import PRINCIPAL_ARN, Emulator
from dsqlproxy.session.errors_page import shown
from dsqlproxy.situations.situation import IDENTITY, Situation
from dsqlproxy.upstream import limiter
from tests.end_to_end.clusters import log_in, proxy_before
from tests.end_to_end.error_rows import Run, produces, psql, psql_of, said_by
from tests.end_to_end.wire import RawClient, logged, startup
from tests.kit.scripted import Conversation
from tests.kit.stack import RunningProxy, running_proxy
from tests.upstream.wire import Authority, refusal

A_TIME = r"\d{8}T\d{6}Z"
HELD = {r"(held for|waits for up to) [0-9.]+ s": r"\1 10 s"}
RATE = {
    r"at most [\d.]+ logins": "at most 100 logins",
    r"At most [\d.]+ ": "At most 100 ",
}


# -- it refuses ------------------------------------------------------------------------


@produces("signature-expired", "signature-not-yet-current")
async def test_a_clock_that_is_wrong(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    emulator.add_fault("skew:1200" if "expired" in row.key else "skew:-1200")
    async with running_proxy(emulator) as proxy:
        printed = await said_by(psql_of(postgres), proxy, "-c", "select 1")
        ours, theirs = (re.findall(A_TIME, text) for text in (printed, shown(row)))
        samples = dict(zip(ours, theirs, strict=True))
        await Run(row, proxy, emulator, samples).has(printed)
    assert emulator.counts.connections == 2  # one token was signed anew


@produces("credentials-refused", "not-authorized", "waking-up")
async def test_a_refusal_with_its_cause(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    faults = {
        "credentials-refused": "expired-credentials",
        "not-authorized": "access-denied",
        "waking-up": "waking-up:60s",
    }
    emulator.add_fault(faults[row.key])
    async with running_proxy(emulator, hold_timeout=0) as proxy:
        run = Run(row, proxy, emulator, {re.escape(PRINCIPAL_ARN): IDENTITY})
        await run.by_psql(psql_of(postgres))


@produces("access-key-unknown")
async def test_an_access_key_that_was_deleted(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator, hold_timeout=0) as proxy:
        emulator.distrust(emulator.credentials.access_key_id)
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("secret-key-wrong")
async def test_a_secret_access_key_of_another_access_key(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator, hold_timeout=0) as proxy:
        emulator.trust(replace(emulator.credentials, secret_access_key="another"))
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("unknown-cluster")
async def test_a_cluster_that_does_not_exist(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    another = emulator.cluster.replace(emulator.cluster_id, "z" * 26)
    async with running_proxy(emulator, cluster=another) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))
    assert emulator.counts.connections == 1  # nothing is tried again


@produces("too-many-connections", "rate-exceeded")
async def test_a_refusal_for_the_number_of_logins(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    emulator.add_fault(f"{row.key}:1")
    async with running_proxy(emulator, hold_timeout=0) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("wrong-action", "access-denied")
async def test_a_refusal_that_an_emulator_does_not_make(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    hints = {
        "wrong-action": "Wrong user to action mapping. user: admin, action: DbConnect",
        "access-denied": "",
    }

    async def play(peer: Conversation) -> None:
        message = "unable to accept connection, access denied"
        await log_in(peer, refusal(message, hint=hints[row.key]))
        await peer.receive_rest()

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("unknown-role")
async def test_a_role_that_does_not_exist(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres), PGUSER="reader")


@produces("role-not-granted")
async def test_a_role_that_is_not_granted(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    await postgres.execute("create role reader login")
    try:
        async with running_proxy(emulator) as proxy:
            await Run(row, proxy, emulator).by_psql(psql_of(postgres), PGUSER="reader")
    finally:
        await postgres.execute("drop role reader")


@produces("parameter-refused")
async def test_a_startup_parameter_that_is_passed_on(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator, unsupported_parameters="pass") as proxy:
        run = Run(row, proxy, emulator)
        await run.by_psql(psql_of(postgres), PGOPTIONS="-c work_mem=8MB")


@produces("parameters-left-out")
async def test_a_startup_parameter_that_is_dropped(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator) as proxy:
        run = Run(row, proxy, emulator)
        await run.by_psql(psql_of(postgres), PGOPTIONS="-c work_mem=8MB")


# -- the wait is in vain ---------------------------------------------------------------


@produces(
    "held-for-a-waking-cluster", "held-for-a-free-connection", "held-for-the-rate"
)
async def test_a_client_is_held_for_what_does_not_pass_in_time(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    faults = {
        "held-for-a-waking-cluster": "waking-up:60s",
        "held-for-a-free-connection": "too-many-connections:99",
        "held-for-the-rate": "rate-exceeded:99",
    }
    emulator.add_fault(faults[row.key])
    async with running_proxy(emulator, hold_timeout="600ms") as proxy:
        await Run(row, proxy, emulator, HELD).by_psql(psql_of(postgres))


@produces(
    "no-turn-while-waking-up",
    "no-turn-for-a-free-connection",
    "no-turn-for-the-rate",
)
async def test_a_client_is_held_for_what_another_one_has_met(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    faults = {
        "no-turn-while-waking-up": "waking-up:60s",
        "no-turn-for-a-free-connection": "too-many-connections:99",
        "no-turn-for-the-rate": "rate-exceeded:99",
    }
    emulator.add_fault(faults[row.key])
    async with running_proxy(emulator, hold_timeout="100ms") as proxy:
        limiter_of(proxy)._crowding._pauses_seconds = (60.0,)
        async with RawClient.connect(proxy) as first:
            await first.send(startup())
            await first.receive_rest()
        await logged(proxy, "session closed")
        await Run(row, proxy, emulator, HELD | RATE).by_psql(psql_of(postgres))
    assert emulator.counts.connections == 1


def limiter_of(proxy: RunningProxy) -> limiter.LoginLimiter:
    (found,) = proxy.proxy._limiters.values()
    return found


@produces("no-turn")
async def test_a_turn_that_swaps_take(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(
        emulator, hold_timeout="700ms", max_connect_rate=2, max_connect_burst=1
    ) as proxy:

        async def swap() -> None:
            async with limiter_of(proxy).swap(is_urgent=True):
                pass

        async with RawClient.session(proxy), asyncio.TaskGroup() as group:
            swaps = [group.create_task(swap()) for _ in range(6)]
            await asyncio.sleep(0)  # they are first
            await Run(row, proxy, emulator, HELD | RATE).by_psql(psql_of(postgres))
            for each in swaps:
                each.cancel()


@produces("turn-too-late")
async def test_a_turn_that_would_come_too_late(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    samples = {
        r"\d+ clients wait": "1,001 clients wait",
        r"this one [0-9.]+ s": "this one 10 s",
    }
    async with (
        running_proxy(
            emulator, hold_timeout="300ms", max_connect_rate=0.01, max_connect_burst=1
        ) as proxy,
        RawClient.session(proxy),
    ):
        await Run(row, proxy, emulator, samples | RATE).by_psql(psql_of(postgres))


@produces("queue-full")
async def test_a_queue_that_is_full(
    row: Situation,
    emulator: Emulator,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limiter, "MOST_WAITING", 1)
    async with (
        running_proxy(emulator, max_connect_rate=1, max_connect_burst=1) as proxy,
        RawClient.session(proxy),
        psql(psql_of(postgres), proxy, "-c", "select 1"),
    ):
        await logged(proxy, "session held")
        samples = {"1 wait already": "10,000 wait already"}
        await Run(row, proxy, emulator, samples | RATE).by_psql(psql_of(postgres))
