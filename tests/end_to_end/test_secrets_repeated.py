"""A cluster that repeats the token: what comes before a session is told without it."""

import contextlib
import signal
import ssl
from dataclasses import dataclass

import pytest

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import ErrorResponse, NoticeResponse
from tests.end_to_end.talkative import World, authority, aws, emulator, tokens, world
from tests.end_to_end.wire import RawClient, query, startup
from tests.kit.scripted import (
    Conversation,
    EndOfStream,
    ScriptedServer,
    scripted_server,
)
from tests.upstream.wire import CLEARTEXT, GREETING, KEY, OK, READY, Authority

__all__ = ("authority", "aws", "emulator", "tokens", "world")  # borrowed fixtures


def error_with(token: str) -> ErrorResponse:
    words = f"the password {token!r} is wrong"
    return ErrorResponse.build("FATAL", "28P01", words, detail=token, hint=token)


def notice_with(token: str) -> bytes:
    fields = (("S", "NOTICE"), ("C", "00000"), ("M", token), ("D", f"was: {token}"))
    return NoticeResponse(fields).encode()


def status_with(token: str) -> bytes:
    return frame(BackendType.PARAMETER_STATUS, f"application_name\0{token}\0".encode())


@dataclass(frozen=True, slots=True)
class Parrot:
    """A cluster that repeats the token it was sent, each time in another message."""

    context: ssl.SSLContext
    tokens: list[str]

    async def take_token(self, peer: Conversation) -> str:
        await peer.start_tls(self.context)
        await peer.receive_packet()
        await peer.send(CLEARTEXT)
        _, body = await peer.receive_frame()
        self.tokens.append(body.removesuffix(b"\0").decode())
        return self.tokens[-1]

    async def refuse(self, peer: Conversation) -> None:
        with contextlib.suppress(EndOfStream, ssl.SSLError):  # `check` looks first
            await peer.send(error_with(await self.take_token(peer)).encode())

    async def greet(self, peer: Conversation) -> None:
        token = await self.take_token(peer)
        await peer.send(OK, notice_with(token), KEY, READY)
        await peer.receive_frame()

    async def report(self, peer: Conversation) -> None:
        token = await self.take_token(peer)
        await peer.send(OK, status_with(token), KEY, READY)
        await peer.receive_frame()

    async def end(self, peer: Conversation) -> None:
        token = await self.take_token(peer)
        await peer.send(GREETING)
        await peer.receive_frame()
        await peer.send(notice_with(token), error_with(token).encode())

    async def babble(self, peer: Conversation) -> None:
        await peer.send((await self.take_token(peer)).encode())
        await peer.receive_rest()


@pytest.fixture
def parrot(world: World, authority: Authority) -> Parrot:
    return Parrot(authority.server_context(world.emulator.cluster), world.tokens)


def before(
    server: ScriptedServer, world: World, authority: Authority
) -> tuple[str, str]:
    """Give the flags of a configuration with this server as the cluster."""
    address, ca_file = f"{server.host}:{server.port}", str(authority.ca_file)
    # Nobody is held here but for the first fetch of credentials, which may take long.
    settings = {"connect_address": address, "ca_file": ca_file, "hold_timeout": "30s"}
    return "--config", str(world.config(**settings))


async def test_a_cluster_that_repeats_the_token_is_not_quoted(
    world: World, parrot: Parrot, authority: Authority
) -> None:
    # Of a session that is open, what the cluster says is for its client. None of it is
    # for the log.
    scripts = {
        parrot.refuse: True,
        parrot.greet: True,
        parrot.report: True,
        parrot.end: False,
        parrot.babble: True,
    }
    async with scripted_server(*scripts) as server:
        flags = before(server, world, authority)
        async with world.program("proxy", *flags, is_ready=True) as proxy:
            for is_said in scripts.values():
                async with await RawClient.dial(proxy.host, proxy.port) as client:
                    await client.send(startup(), query("select 1"))
                    client.end_writing()
                    heard = (await client.receive_rest()).decode(errors="replace")
                    world.said += [heard] * is_said
            await world.look_at(proxy)
            proxy.send(signal.SIGTERM)
            await proxy.wait()
    assert len(world.tokens) == len(scripts)
    assert "<token>" in proxy.errors
    assert world.leaks() == set()


async def test_the_doctor_does_not_quote_it_either(
    world: World, parrot: Parrot, authority: Authority
) -> None:
    async with scripted_server(parrot.refuse) as server:
        flags = before(server, world, authority)
        for name, *more in (("check",), ("check-json", "--json")):
            done = await world.run(name, "check", *flags, *more)
            assert "28P01" in done.output
    assert world.leaks() == set()
