"""The first upstream: as whom, whether there is a place, and who waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from dsqlproxy.channel.channel import Channel
from dsqlproxy.config import Config, ListenerConfig
from dsqlproxy.errors import RoleNotAllowed, TooManyConnections, UpstreamUnavailable
from dsqlproxy.listen.admission import Admitted
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from dsqlproxy.session.opening import FirstLogin, choose_role, refuse_if_full
from dsqlproxy.session.services import Services
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup
from tests.kit.channels import ScriptedPeer, channel_and_peer
from tests.kit.frames import client
from tests.kit.keeping import CLUSTER, Stage, kept_session
from tests.kit.relayed import turns

STARTUP = UpstreamStartup("admin", (("user", "admin"),))


def listener(**settings: Any) -> ListenerConfig:
    one = {"name": "main", "cluster": CLUSTER, **settings}
    return Config.model_validate({"listeners": [one]}).listeners[0]


def asks_for(user: str) -> Admitted:
    parameters = (("user", user),) if user else ()
    return Admitted(StartupMessage(PROTOCOL_3_0, parameters), None)


# -- as whom ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "user", "role"),
    [
        pytest.param({}, "reader", "reader", id="whom the client names"),
        pytest.param({"role": "admin"}, "reader", "admin", id="always the same"),
        pytest.param(
            {"roles": ["admin", "reader"]}, "reader", "reader", id="one of few"
        ),
    ],
)
def test_a_session_logs_in_as(settings: dict[str, Any], user: str, role: str) -> None:
    assert choose_role(asks_for(user), listener(**settings)) == role


@pytest.mark.parametrize(
    ("settings", "user", "hint"),
    [
        pytest.param({}, "", "Set a user name, such as admin.", id="nobody"),
        pytest.param({"role": "admin"}, "", "Connect as admin.", id="nobody, one role"),
        pytest.param(
            {"roles": ["a", "b"]}, "c", "Connect as a or b.", id="none of the few"
        ),
    ],
)
def test_a_session_is_refused_with_who_would_do(
    settings: dict[str, Any], user: str, hint: str
) -> None:
    with pytest.raises(RoleNotAllowed) as caught:
        choose_role(asks_for(user), listener(**settings))
    assert caught.value.hint == hint


# -- whether there is a place ----------------------------------------------------------


async def test_a_listener_takes_no_more_sessions_than_it_may() -> None:
    async with kept_session() as stage:
        services = replace(stage.kept.services, config=listener(max_sessions=1))
        refuse_if_full(services)
        services.admitted.add(None)  # type: ignore[arg-type] # only counted
        with pytest.raises(TooManyConnections) as caught:
            refuse_if_full(services)
        assert caught.value.detail == "The limit is 1."


# -- the login -------------------------------------------------------------------------


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
        yield FirstLogin(channel, services), connector, services, channel, peer


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
