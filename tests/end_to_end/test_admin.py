"""What an operator sees of a running proxy: pages, metrics, commands."""

import asyncio
import json
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from typing import Any

import pytest
import pytest_asyncio

from dsqlproxy.commands import healthcheck, status, wait
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.errors import DsqlProxyError
from tests.commands.kit import run_command
from tests.end_to_end.wire import (
    RawClient,
    all_ended,
    logged,
    query,
    startup,
    until,
    until_active,
)
from tests.kit.stack import RunningProxy, running_proxy


@pytest_asyncio.fixture
async def watched(emulator: Emulator) -> AsyncIterator[RunningProxy]:
    async with running_proxy(emulator, admin={"listen": "127.0.0.1:0"}) as proxy:
        yield proxy


async def fetch(proxy: RunningProxy, path: str) -> tuple[int, str]:
    """Get a page, from another thread since the proxy is on this one."""
    admin = proxy.started.admin
    assert admin is not None

    def get() -> tuple[int, str]:
        connection = HTTPConnection(admin.host, admin.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(get)


async def rows(proxy: RunningProxy) -> list[dict[str, Any]]:
    code, body = await fetch(proxy, "/sessions")
    assert code == 200
    found: list[dict[str, Any]] = json.loads(body)["sessions"]
    return found


async def metric(proxy: RunningProxy, series: str) -> float:
    _, page = await fetch(proxy, "/metrics")
    for line in page.splitlines():
        if line.startswith(f"{series} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"{series} is not in\n{page}")


def admin_of(proxy: RunningProxy) -> tuple[str, str]:
    return "--admin", str(proxy.started.admin)


@pytest.mark.parametrize("path", ["/startup", "/readiness", "/liveness"])
async def test_a_proxy_that_runs_is_healthy(watched: RunningProxy, path: str) -> None:
    code, body = await fetch(watched, path)
    assert code == 200
    assert json.loads(body)["reason"]


async def test_readiness_dials_nobody_and_ends_with_the_drain(
    watched: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(watched) as busy:
        await busy.ask("begin")
        before = emulator.counts.connections
        assert (await fetch(watched, "/readiness"))[0] == 200
        watched.shutdown.request("SIGTERM")
        await logged(watched, "draining")
        code, body = await fetch(watched, "/readiness")
        assert (code, json.loads(body)["reason"]) == (503, "draining: SIGTERM")
        assert (await fetch(watched, "/liveness"))[0] == 200
        assert emulator.counts.connections == before


@pytest.mark.parametrize(
    ("fault", "sqlstate", "expected"),
    [
        pytest.param("fatal:57P01", "57P01", 200, id="the cluster has trouble"),
        pytest.param("access-denied", "08006", 503, id="the identity has no rights"),
    ],
)
async def test_a_login_that_fails_is_shown_and_only_a_refusal_makes_unready(
    watched: RunningProxy,
    emulator: Emulator,
    fault: str,
    sqlstate: str,
    expected: int,
) -> None:
    emulator.add_fault(fault)
    async with RawClient.connect(watched) as client:
        await client.send(startup())
        await client.receive_fatal()
    code, body = await fetch(watched, "/readiness")
    login = json.loads(body)["listeners"]["main"]
    assert (code, login["last_login"], login["sqlstate"]) == (
        expected,
        "failed",
        sqlstate,
    )
    emulator.clear_faults()
    async with RawClient.session(watched):
        assert (await fetch(watched, "/readiness"))[0] == 200


async def test_sessions_are_shown_with_what_they_do(
    watched: RunningProxy, postgres: EmbeddedPostgres, emulator: Emulator
) -> None:
    async with RawClient.session(watched, application_name="report") as client:
        (row,) = await rows(watched)
        expected = {"user": "admin", "database": "postgres", "listener": "main"}
        assert row.items() >= expected.items()
        assert row["application_name"] == "report"
        assert row["client"].startswith("127.0.0.1:")
        assert row["state"] == "idle"
        assert row["upstream_age_seconds"] <= row["age_seconds"]
        await client.ask("begin")
        (row,) = await rows(watched)
        assert row["state"] == "in_transaction"
        assert row["bytes_in"] == len(query("begin"))
        assert row["bytes_out"] > 0
        await client.send(query("select 1 from pg_sleep(0.5)"))
        await until_active(postgres, "%pg_sleep(0.5)%")
        assert (await rows(watched))[0]["state"] == "active"
        await client.receive_until_ready()
    await all_ended(watched, emulator)
    assert await rows(watched) == []


async def test_a_session_that_logs_in_is_shown_too(
    watched: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("slow-login:5s")
    async with RawClient.connect(watched) as client:
        await client.send(startup())
        await until(lambda: emulator.counts.connections)
        (row,) = await rows(watched)
        assert (row["state"], row["upstream_age_seconds"]) == ("login", None)


async def test_a_probe_is_no_session(watched: RunningProxy) -> None:
    async with RawClient.connect(watched):
        await until(lambda: watched.proxy._sessions)
        assert await rows(watched) == []


async def test_metrics_count_sessions_logins_bytes_and_cancels(
    watched: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.connect(watched) as client:
        await client.send(startup())
        key = (await client.receive_greeting()).cancel_request
        before = await metric(
            watched, 'dsqlproxy_bytes_total{direction="out",listener="main"}'
        )
        await client.ask("select 1")
        open_now = 'dsqlproxy_sessions_open{listener="main"}'
        assert await metric(watched, open_now) == 1
        for request in (key, type(key)(key.process_id, b"none")):
            async with RawClient.connect(watched) as canceller:
                await canceller.send(request.encode())
                await canceller.receive_end()
        await client.send(b"X\0\0\0\4")
        await client.receive_end()
    await all_ended(watched, emulator)
    expected = {
        open_now: 0,
        'dsqlproxy_sessions_total{listener="main",reason="client_terminated"}': 1,
        'dsqlproxy_upstream_connects_total{listener="main",outcome="connected"}': 1,
        'dsqlproxy_upstream_connect_seconds_count{listener="main"}': 1,
        'dsqlproxy_client_ready_seconds_count{listener="main",warm="false"}': 1,
        'dsqlproxy_tokens_signed_total{outcome="signed"}': 1,
        'dsqlproxy_bytes_total{direction="in",listener="main"}': len(query("select 1"))
        + 5,
        'dsqlproxy_cancels_total{outcome="forwarded"}': 1,
        'dsqlproxy_cancels_total{outcome="unknown_key"}': 1,
    }
    for series, value in expected.items():
        assert (series, await metric(watched, series)) == (series, value)
    assert before < await metric(
        watched, 'dsqlproxy_bytes_total{direction="out",listener="main"}'
    )


async def test_every_ending_is_counted_by_its_reason(
    watched: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(watched) as client:
        await client.ask("begin")
        emulator.expire_sessions()
        await all_ended(watched, emulator)
    emulator.add_fault("access-denied")
    async with RawClient.connect(watched) as client:
        await client.send(startup())
        await client.receive_fatal()
    await all_ended(watched, emulator)
    for reason in ("upstream_lost", "login_failed"):
        series = f'dsqlproxy_sessions_total{{listener="main",reason="{reason}"}}'
        assert (reason, await metric(watched, series)) == (reason, 1)


async def test_the_commands_find_it_healthy(
    watched: RunningProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    async with RawClient.session(watched, application_name="report"):
        assert await run_command(healthcheck, *admin_of(watched)) == 0
        assert await run_command(wait, "--timeout", "5s", *admin_of(watched)) == 0
        capsys.readouterr()
        assert await run_command(status, *admin_of(watched)) == 0
        header, row, *_, summary = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["SESSION", "CLIENT"]
    assert " report " in row
    assert summary.endswith("ready, 1 session (1 idle)")


async def test_the_commands_see_it_drain(watched: RunningProxy) -> None:
    async with RawClient.session(watched) as busy:
        await busy.ask("begin")
        watched.shutdown.request("SIGTERM")
        await logged(watched, "draining")
        with pytest.raises(DsqlProxyError, match="not ready: draining: SIGTERM"):
            await run_command(healthcheck, *admin_of(watched))
