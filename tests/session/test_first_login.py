"""The first upstream: who waits for it, what is tried again, and what is said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from dsqlproxy.channel.channel import Channel
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.errors import (
    DsqlProxyError,
    TokenError,
    UpstreamRejected,
    UpstreamUnavailable,
)
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.messages import NoticeResponse
from dsqlproxy.session.first_login import FirstLogin
from dsqlproxy.session.services import Services
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from dsqlproxy.upstream.crowding import Crowding
from dsqlproxy.upstream.limiter import LoginLimiter
from tests.kit.channels import ScriptedPeer, channel_and_peer
from tests.kit.frames import client
from tests.kit.keeping import PlayedCredentials, Stage, kept_session
from tests.kit.relayed import turns

STARTUP = UpstreamStartup("admin", (("user", "admin"),))


class Waiting:
    """A connector that opens when it is told to."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.asked = asyncio.Event()
        self.may_open = asyncio.Event()

    async def open(self, startup: UpstreamStartup) -> Upstream:
        self.asked.set()
        await self.may_open.wait()
        return await self._stage.cluster.open(startup)

    async def cancel(self, *_: object, **__: object) -> None:
        raise AssertionError("nobody cancels a login")


@asynccontextmanager
async def logging_in() -> AsyncIterator[
    tuple[FirstLogin, Waiting, Services, Channel, ScriptedPeer]
]:
    async with kept_session() as stage, channel_and_peer() as (channel, peer):
        connector = Waiting(stage)
        services = replace(stage.kept.services, connector=connector)
        yield (
            FirstLogin(channel, services, stage.kept.report),
            connector,
            services,
            channel,
            peer,
        )


async def test_a_login_gives_the_upstream() -> None:
    async with logging_in() as (login, connector, *_):
        connector.may_open.set()
        upstream = await login.run(STARTUP)
        assert upstream is not None
        login.abandon()  # too late
        assert upstream.key is not None


async def test_a_login_that_fails_raises() -> None:
    async with logging_in() as (login, connector, *_):
        connector._stage.cluster.refusals.append(UpstreamUnavailable("not there"))
        connector.may_open.set()
        with pytest.raises(UpstreamUnavailable):
            await login.run(STARTUP)


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_client_that_leaves_and_asked_nothing_ends_the_login(end: str) -> None:
    async with logging_in() as (login, connector, _, _, peer):
        async with asyncio.TaskGroup() as group:
            running = group.create_task(login.run(STARTUP))
            await connector.asked.wait()
            getattr(peer, end)()
        assert running.result() is None


async def test_a_client_that_asked_and_closed_may_wait_for_the_answer() -> None:
    async with logging_in() as (login, connector, _, channel, peer):
        async with asyncio.TaskGroup() as group:
            running = group.create_task(login.run(STARTUP))
            await connector.asked.wait()
            await peer.send(client("Q"))
            await turns()
            peer.end_writing()
            while not channel.has_ended:  # noqa: ASYNC110 - turns of the loop
                await asyncio.sleep(0)
            await turns()
            assert not running.done()
            connector.may_open.set()
        assert running.result() is not None


async def test_a_client_that_had_left_before_the_login_ends_it() -> None:
    async with logging_in() as (login, _, _, channel, peer):
        peer.close()
        while not channel.has_ended:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        assert await login.run(STARTUP) is None


async def test_a_login_can_be_abandoned_before_it_began() -> None:
    async with logging_in() as (login, connector, *_):
        login.abandon()
        assert await login.run(STARTUP) is None
        assert not connector.may_open.is_set()


async def test_a_login_can_be_abandoned_twice() -> None:
    async with logging_in() as (login, connector, *_):
        async with asyncio.TaskGroup() as group:
            running = group.create_task(login.run(STARTUP))
            await connector.asked.wait()
            login.abandon()
            login.abandon()
        assert running.result() is None


async def test_a_login_waits_for_its_turn() -> None:
    async with logging_in() as (login, connector, services, *_):
        async with asyncio.TaskGroup() as group:
            connector.may_open.set()
            running = group.create_task(login.run(STARTUP))
        assert running.result() is not None
        assert services.limiter.waiting == 0


# -- held, and told why ----------------------------------------------------------------


def rejected(message: str, hint: str = "") -> UpstreamRejected:
    fields = (("C", "08006"), ("M", message)) + ((("H", hint),) if hint else ())
    return UpstreamRejected(message, fields=fields)


DENIED = "unable to accept connection, access denied"
LATE = rejected(DENIED, "Signature expired: …")
STALE = rejected(DENIED, "The security token included in the request is expired")
SLEEPS = rejected("unable to accept connection, waking up cluster")
NONE = TokenError("no AWS credentials", hint="Run `aws sso login`.")


@dataclass
class Held:
    """A login that may be held, and all that it touches."""

    stage: Stage
    login: FirstLogin
    peer: ScriptedPeer
    credentials: PlayedCredentials

    async def notice(self) -> NoticeResponse:
        kind, body = await self.peer.receive_frame()
        assert kind == BackendType.NOTICE_RESPONSE
        return NoticeResponse.decode(body)

    @property
    def held_now(self) -> int:
        return self.number('dsqlproxy_sessions_held{listener="main"}')

    def number(self, series: str) -> int:
        (line,) = [
            line for line in self.stage.metrics.splitlines() if line.startswith(series)
        ]
        return int(float(line.rpartition(" ")[2]))


@asynccontextmanager
async def holding(
    *refusals: DsqlProxyError, hold_seconds: float = 60.0
) -> AsyncIterator[Held]:
    quick = Crowding(random=lambda: 0.0, pauses_seconds=(0.01,))
    async with kept_session() as stage, channel_and_peer() as (channel, peer):
        stage.cluster.refusals.extend(refusals)
        kept = stage.kept.services
        credentials = PlayedCredentials()
        services = replace(
            kept,
            config=kept.config.model_copy(update={"hold_timeout": hold_seconds}),
            credentials=credentials,
            clocks=system_clocks(),
            limiter=LoginLimiter(1000, crowding=quick),
        )
        login = FirstLogin(channel, services, stage.kept.report)
        yield Held(stage, login, peer, credentials)


async def test_who_comes_without_credentials_goes_on_once_there_are_some() -> None:
    async with holding(NONE) as held, asyncio.TaskGroup() as group:
        held.credentials.take_away(NONE)
        running = group.create_task(held.login.run(STARTUP))
        notice = await held.notice()
        assert notice.get("S") == "NOTICE"
        assert notice.get("M") == (
            "dsqlproxy waits for AWS credentials: no AWS credentials"
        )
        assert notice.get("H") == NONE.hint
        assert held.login.held_for == notice.get("M")
        assert held.held_now == 1
        assert not running.done()
        held.credentials.give()
        assert await running is not None
        assert held.login.held_for == ""
        assert held.held_now == 0
        assert any(line.startswith("session held") for line in held.stage.lines)


async def test_credentials_that_the_cluster_refuses_are_waited_for_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with holding() as held, asyncio.TaskGroup() as group:
        take = held.stage.cluster.open

        async def refuse(_: UpstreamStartup) -> Upstream:
            monkeypatch.setattr(held.stage.cluster, "open", take)
            held.credentials.take_away(NONE)
            raise STALE

        monkeypatch.setattr(held.stage.cluster, "open", refuse)
        running = group.create_task(held.login.run(STARTUP))
        notice = await held.notice()
        assert "the cluster refuses those" in notice.get("M")
        assert "security token" in notice.get("D")
        held.credentials.give()
        assert await running is not None


async def test_a_source_that_does_not_answer_is_waited_for_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dsqlproxy.session.first_login.INSTANT_SECONDS", 0.01)
    async with holding() as held, asyncio.TaskGroup() as group:
        answered = asyncio.Event()
        asked: list[float] = []

        async def ready(*, within: float) -> None:
            asked.append(within)
            await answered.wait()

        monkeypatch.setattr(held.credentials, "ready", ready)
        running = group.create_task(held.login.run(STARTUP))
        assert "does not answer" in (await held.notice()).get("M")
        assert held.stage.cluster.servers[1:] == []
        answered.set()
        assert await running is not None
        assert asked == [pytest.approx(60.0, abs=1.0)]


async def test_who_is_told_to_wait_is_told_for_how_long() -> None:
    async with holding(NONE, hold_seconds=30.0) as held, asyncio.TaskGroup() as group:
        held.credentials.take_away(NONE)
        running = group.create_task(held.login.run(STARTUP))
        detail = (await held.notice()).get("D")
        assert detail.endswith("It waits for up to 30 s (hold_timeout).")
        held.credentials.give()
        await running


async def test_others_that_are_there_already_are_tried_at_once() -> None:
    async with holding(STALE, STALE) as held:
        assert await held.login.run(STARTUP) is not None


async def test_when_the_time_is_over_the_cause_is_the_error() -> None:
    async with holding(NONE, NONE, hold_seconds=0.05) as held:
        held.credentials.take_away(NONE)
        with pytest.raises(TokenError) as caught:
            await held.login.run(STARTUP)
        assert caught.value.message == NONE.message
        assert "held for" in caught.value.detail
        assert NONE.detail == ""  # it belongs to all
        assert held.held_now == 0
        assert held.credentials.waiting == 0


async def test_a_cluster_that_wakes_up_is_waited_for() -> None:
    async with holding(SLEEPS, SLEEPS) as held, asyncio.TaskGroup() as group:
        running = group.create_task(held.login.run(STARTUP))
        assert "to wake up" in (await held.notice()).get("M")
        assert await running is not None
        assert sum("session held" in line for line in held.stage.lines) == 1


async def test_a_cluster_that_does_not_wake_up_in_time_is_told_in_its_words() -> None:
    async with holding(*[SLEEPS] * 50, hold_seconds=0.1) as held:
        with pytest.raises(UpstreamRejected) as caught:
            await held.login.run(STARTUP)
        assert caught.value.fields == SLEEPS.fields
        assert "held for" in caught.value.detail


async def test_a_client_that_is_not_to_be_held_hears_it_at_once() -> None:
    for refusal in (NONE, STALE, SLEEPS):
        async with holding(refusal, hold_seconds=0.0) as held:
            if refusal is NONE:
                held.credentials.take_away(NONE)
            with pytest.raises(type(refusal)) as caught:
                await held.login.run(STARTUP)
            assert caught.value is refusal
            assert not any("session held" in line for line in held.stage.lines)


async def test_a_signature_that_is_too_old_gets_one_new_token() -> None:
    async with holding(LATE, hold_seconds=0.0) as held:
        assert await held.login.run(STARTUP) is not None
    async with holding(LATE, LATE) as held:
        with pytest.raises(UpstreamRejected) as caught:
            await held.login.run(STARTUP)
        assert caught.value is LATE


async def test_what_nothing_mends_is_final() -> None:
    forbidden = rejected(DENIED, "User: arn:… is not authorized")
    for refusal in (forbidden, TokenError("a bad Region", may_pass=False)):
        async with holding(refusal) as held:
            with pytest.raises(type(refusal)) as caught:
                await held.login.run(STARTUP)
            assert caught.value is refusal


async def test_a_client_that_is_held_and_leaves_is_let_go() -> None:
    async with holding(NONE) as held, asyncio.TaskGroup() as group:
        held.credentials.take_away(NONE)
        running = group.create_task(held.login.run(STARTUP))
        await held.notice()
        held.peer.close()
        assert await running is None
        assert any(line.startswith("client gave up") for line in held.stage.lines)
        assert held.held_now == 0
        assert held.credentials.waiting == 0


async def test_a_client_that_is_held_can_be_sent_away() -> None:
    async with holding(NONE) as held, asyncio.TaskGroup() as group:
        held.credentials.take_away(NONE)
        running = group.create_task(held.login.run(STARTUP))
        await held.notice()
        held.login.abandon()
        assert await running is None


async def test_each_attempt_is_counted() -> None:
    async with holding(SLEEPS, SLEEPS) as held:
        await held.login.run(STARTUP)
        series = "dsqlproxy_upstream_connects_total"
        assert held.number(f'{series}{{listener="main",outcome="rejected"}}') == 2
