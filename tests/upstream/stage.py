"""A connector on a stage: tokens that cost nothing, and scripts of clusters."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.clocks import Clocks
from dsqlproxy.errors import DsqlProxyError, TokenError
from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, SSLRequest, StartupMessage
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.upstream.connector import Connector, Upstream, UpstreamStartup
from dsqlproxy.upstream.resolve import Address
from tests.kit.scripted import Conversation, Script, ScriptedServer
from tests.upstream.wire import CLEARTEXT, GREETING

TOKEN = "the-token"
STARTUP = UpstreamStartup("admin", (("user", "admin"), ("database", "postgres")))
KEY = BackendKeyData(42, b"key!")
LOGGER = logging.getLogger("test")
CLOCKS = Clocks(monotonic=lambda: 1234.5, boot=lambda: 2345.5, wall=lambda: 3456.5)


@dataclass
class Signer:
    """A token source whose tokens cost nothing."""

    requests: list[SigningRequest] = field(default_factory=list)
    refused: list[tuple[Token, Cause]] = field(default_factory=list)
    accepted: list[Token] = field(default_factory=list)
    trouble: TokenError | None = None
    error: TokenError | None = None
    token: str = TOKEN

    async def sign(self, request: SigningRequest) -> Token:
        self.requests.append(request)
        if self.error:
            raise self.error
        return Token(self.token, role=request.role, lifetime_seconds=60)

    @property
    def failure(self) -> TokenError | None:
        return self.trouble

    def note_refused(self, token: Token, cause: Cause) -> None:
        self.refused.append((token, cause))

    def note_accepted(self, token: Token) -> None:
        self.accepted.append(token)


class Never:
    """Something that is awaited in vain; ``reached`` tells when."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def __call__(self, *_: object) -> list[Address]:
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable because nobody sets the event")

    async def sign(self, _request: SigningRequest) -> Token:
        await self()
        raise AssertionError("unreachable because nobody sets the event")

    @property
    def failure(self) -> None:
        return None

    def note_refused(self, _token: Token, _cause: Cause) -> None:
        raise AssertionError("unreachable because nothing was rejected")

    def note_accepted(self, _token: Token) -> None:
        raise AssertionError("unreachable because nothing was signed")


def at(
    server: ScriptedServer | socket.socket,
) -> Callable[..., Awaitable[list[Address]]]:
    """Make a resolver that knows one address."""
    if isinstance(server, socket.socket):
        host, port = server.getsockname()
    else:
        host, port = server.host, server.port

    async def resolver(_host: str, _port: int) -> list[Address]:
        return [Address(socket.AF_INET, (host, port))]

    return resolver


Make = Callable[..., Connector]
"""The fixture `make`: a connector to a scripted server."""


def cluster(context: ssl.SSLContext, *, by_request: bool = False) -> Script:
    """Play a cluster to the end of a login."""

    async def script(peer: Conversation) -> None:
        if by_request:
            assert await peer.receive_packet() == SSLRequest()
            await peer.send(b"S")
        await peer.start_tls(context)
        assert await peer.receive_packet() == StartupMessage(
            PROTOCOL_3_0, STARTUP.parameters
        )
        await peer.send(CLEARTEXT)
        frame = await peer.receive_frame()
        assert frame == (FrontendType.PASSWORD, TOKEN.encode() + b"\0")
        await peer.send(GREETING)
        await peer.receive_rest()

    return script


def answers(context: ssl.SSLContext, *parts: bytes, reset: bool = False) -> Script:
    """Play a cluster that answers the startup packet with these bytes."""

    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        await peer.receive_packet()
        await peer.send(*parts)
        if reset:
            peer.reset()
        elif parts:
            # Neither token nor anything else may come in answer.
            await peer.receive_end()

    return script


async def open_and_close(connector: Connector) -> Upstream:
    upstream = await connector.open(STARTUP)
    await upstream.channel.close_within(5)
    return upstream


async def failure(connector: Connector) -> DsqlProxyError:
    """Open, and give the error that comes of it; nothing may be left."""
    with pytest.raises(DsqlProxyError) as caught:
        await connector.open(STARTUP)
    return caught.value
