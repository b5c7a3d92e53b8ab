import asyncio
import gc
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import uvloop

from dsqlproxy.errors import UpstreamUnavailable
from dsqlproxy.upstream.connector import Connector
from dsqlproxy.upstream.securing import channel_of
from tests.kit.scripted import Conversation, listen_but_never_accept, scripted_server
from tests.upstream.stage import STARTUP, Make, Never, failure


@dataclass
class Stuck:
    """An attempt that does not get on in one of its phases."""

    phase: str
    connector: Connector
    reached: asyncio.Event


async def stick(
    where: str,
    make: Make,
    context: ssl.SSLContext,
    act: Callable[[Stuck], Awaitable[None]],
    *,
    timeout_seconds: float = 10.0,
) -> None:
    """Get an attempt stuck, and do something about it."""
    never = Never()

    async def script(peer: Conversation) -> None:
        if where == "beginning TLS":
            await peer.receive(1)
            never.reached.set()
        else:
            await peer.start_tls(context)
            await peer.receive_packet()
            if where == "logging in":
                never.reached.set()
        # The attempt's end must be felt here, so its socket is closed.
        await peer.receive_rest()

    async with scripted_server(script) as server:
        connector = make(server, negotiation="direct", timeout_seconds=timeout_seconds)
        if where == "resolving the host name":
            connector._resolver = never
        elif where == "signing the token":
            connector._tokens = never
        await act(Stuck(where, connector, never.reached))
    gc.collect()  # what was not closed would warn now, and that is an error
    assert len(asyncio.all_tasks()) == 1


PHASES = [
    "resolving the host name",
    "beginning TLS",
    "signing the token",
    "logging in",
]


@pytest.mark.parametrize("phase", PHASES)
async def test_time_limit_names_the_phase(
    make: Make, context: ssl.SSLContext, phase: str
) -> None:
    async def act(stuck: Stuck) -> None:
        error = await failure(stuck.connector)
        assert isinstance(error, UpstreamUnavailable)
        assert "in time" in error.message
        assert error.detail.endswith(f"ended while {stuck.phase}.")
        assert error.hint

    await stick(phase, make, context, act, timeout_seconds=0.3)


async def cancel_when_stuck(stuck: Stuck) -> None:
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(stuck.connector.open(STARTUP))
        await stuck.reached.wait()
        opening.cancel()
    assert opening.cancelled()


@pytest.mark.parametrize("phase", PHASES)
async def test_cancelled_attempt_leaves_nothing(
    make: Make, context: ssl.SSLContext, phase: str
) -> None:
    await stick(phase, make, context, cancel_when_stuck)


@pytest.mark.parametrize("phase", PHASES)
def test_cancelled_attempt_leaves_nothing_on_uvloop(
    make: Make, context: ssl.SSLContext, phase: str
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stick(phase, make, context, cancel_when_stuck))


async def test_deaf_port_meets_the_time_limit(make: Make) -> None:
    with listen_but_never_accept() as deaf:
        error = await failure(make(deaf, timeout_seconds=0.05))
    assert isinstance(error, UpstreamUnavailable)
    assert "0.05 s ended while beginning TLS" in error.detail


async def test_a_socket_that_broke_at_once_is_told() -> None:
    broken = socket.socket()
    broken.close()
    with pytest.raises(UpstreamUnavailable, match="at once"):
        await channel_of(broken, name="cluster")
