"""Clusters that play a script, behind a real proxy: what a real one will not do."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import FrontendType
from tests.kit.scripted import Conversation, Script, scripted_server
from tests.kit.stack import RunningProxy, running_proxy
from tests.upstream.wire import CLEARTEXT, GREETING, Authority


@asynccontextmanager
async def proxy_before(
    emulator: Emulator,
    authority: Authority,
    play: Callable[[Conversation], Awaitable[None]],
    **settings: Any,
) -> AsyncIterator[RunningProxy]:
    """Run a proxy whose cluster is a script; it begins under TLS.

    The emulator lends its name and credentials only.
    """
    context = authority.server_context(emulator.cluster)

    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        await play(peer)

    async with proxy_before_server(
        emulator, script, ca_file=str(authority.ca_file), **settings
    ) as proxy:
        yield proxy


@asynccontextmanager
async def proxy_before_server(
    emulator: Emulator, script: Script, **settings: Any
) -> AsyncIterator[RunningProxy]:
    """Run a proxy whose cluster is a script from the first byte on."""
    async with scripted_server(script) as server:
        address = f"{server.host}:{server.port}"
        async with running_proxy(
            emulator, **{"connect_address": address, **settings}
        ) as proxy:
            yield proxy


async def log_in(peer: Conversation, greeting: bytes = GREETING) -> bytes:
    """Play the login of a cluster; give the password that was sent."""
    await peer.receive_packet()
    await peer.send(CLEARTEXT)
    kind, body = await peer.receive_frame()
    assert kind == FrontendType.PASSWORD
    await peer.send(greeting)
    return body.removesuffix(b"\0")
