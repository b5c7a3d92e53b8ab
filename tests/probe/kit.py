"""A probe of an emulator or of a scripted cluster, at a pace for tests."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.config.addresses import TcpAddress
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.startup import CancelRequest
from dsqlproxy.probe import Pace, ProbeReport, run_probe
from dsqlproxy.probe.catalogue import LONG, QUESTIONS
from dsqlproxy.probe.cluster import Cluster
from dsqlproxy.probe.masking import Masking
from dsqlproxy.probe.report import Answer
from dsqlproxy.upstream.connector import Target, UpstreamStartup
from dsqlproxy.upstream.resolve import resolve
from tests.emulator.kit import sign
from tests.kit.frames import error, ready
from tests.kit.scripted import (
    Conversation,
    EndOfStream,
    Script,
    ScriptedServer,
    scripted_server,
)
from tests.upstream.wire import CLEARTEXT, CLUSTER, GREETING, REGION, Authority

PACE: Final = Pace(
    question_seconds=5.0,
    silence_seconds=0.3,
    sleep_seconds=0.5,
    cancel_after_seconds=0.05,
    expire_seconds=2.1,
    statements=50,
    queries=100,
    watch_seconds=1.0,
    beat_seconds=0.1,
    transaction_after_seconds=0.2,
    pipeline_seconds=0.1,
)
FAST: Final = replace(PACE, expire_seconds=0.01)
"""Where the age of a token does not matter."""
QUICK: Final = replace(FAST, question_seconds=0.6)
"""For clusters that are silent."""
STARTUP: Final = UpstreamStartup("admin", (("user", "admin"), ("database", "postgres")))
TOKEN: Final = (
    f"{CLUSTER}/?Action=DbConnectAdmin&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260101%2Fus-east-1%2Fdsql%2Faws4_request"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
    f"&X-Amz-Security-Token=IQoJ%2B{'k3' * 200}%3D&X-Amz-Signature={'5e' * 32}"
)


@dataclass
class Signer:
    """Signs with the keys of an emulator, as the AWS SDK does."""

    emulator: Emulator
    tokens: list[str] = field(default_factory=list)
    """All that were signed."""

    async def sign(self, request: SigningRequest) -> Token:
        value = sign(
            self.emulator,
            request.role,
            host=request.host,
            expires=request.lifetime_seconds,
        )
        self.tokens.append(value)
        return Token(
            value, role=request.role, lifetime_seconds=request.lifetime_seconds
        )


class FixedSigner:
    """A token source whose tokens cost nothing."""

    def __init__(self, token: str = TOKEN) -> None:
        self._token = token

    async def sign(self, request: SigningRequest) -> Token:
        return Token(
            self._token, role=request.role, lifetime_seconds=request.lifetime_seconds
        )


def target_of(emulator: Emulator, **settings: Any) -> Target:
    """Give the way to an emulator."""
    return Target(
        **{
            "host": emulator.cluster,
            "region": emulator.region,
            "connect_address": TcpAddress(emulator.host, emulator.port),
            "ca_file": emulator.ca_file,
            **settings,
        }
    )


async def probe(
    emulator: Emulator, *, signer: Signer | None = None, **arguments: Any
) -> ProbeReport:
    """Ask an emulator everything."""
    return await run_probe(
        target_of(emulator),
        signer or Signer(emulator),
        arguments.pop("startup", STARTUP),
        **{"clocks": system_clocks(), "pace": PACE, **arguments},
    )


def secrets_of(emulator: Emulator, tokens: list[str]) -> Iterator[str]:
    """Give all that no report may hold."""
    key = emulator.credentials
    yield from (emulator.cluster, emulator.cluster_id, f":{emulator.port}")
    yield from (emulator.host, key.access_key_id, key.secret_access_key)
    yield from (emulator.principal_arn, emulator.principal_arn.split(":")[4])
    if key.session_token:
        yield key.session_token[:40]
    for token in tokens:
        yield from (token, token.partition("X-Amz-Signature=")[2])


# -- scripted clusters ---------------------------------------------------------------

Answering = Callable[[Frame], bytes | None]
"""Gives what is answered to a frame; None ends the connection."""


def plays(
    context: ssl.SSLContext, answer: Answering, *, greeting: bytes = GREETING
) -> Script:
    """Play a cluster that lets everybody in and answers in some way."""

    async def script(peer: Conversation) -> None:
        with contextlib.suppress(EndOfStream, ConnectionError, ssl.SSLError):
            await peer.start_tls(context)
            if isinstance(await peer.receive_packet(), CancelRequest):
                return
            await peer.send(CLEARTEXT)
            await peer.receive_frame()
            await peer.send(greeting)
            while (reply := answer(await peer.receive_frame())) is not None:
                await peer.send(reply)

    return script


def refusing(sqlstate: str = "0A000") -> Answering:
    """Refuse every request, as a server does: once until the next Sync."""
    skipping = False

    def answer(one: Frame) -> bytes | None:
        nonlocal skipping
        refused = error("not supported", sqlstate=sqlstate)
        match one.type:
            case FrontendType.SYNC:
                skipping = False
                return ready()
            case FrontendType.QUERY | FrontendType.FUNCTION_CALL:
                return refused + ready()
            case FrontendType.TERMINATE:
                return None
            case FrontendType.FLUSH:
                return b""
            case _:
                reply = b"" if skipping else refused
                skipping = True
                return reply

    return answer


def always(reply: bytes | None) -> Answering:
    """Answer every frame alike."""
    return lambda _: reply


def cluster_at(
    server: ScriptedServer,
    authority: Authority,
    *,
    pace: Pace = PACE,
    startup: UpstreamStartup = STARTUP,
    **settings: Any,
) -> Cluster:
    """Give what questions are asked of, for a scripted server."""
    return Cluster(
        scripted_target(server, authority, **settings),
        FixedSigner(),
        startup,
        clocks=system_clocks(),
        masking=Masking(),
        pace=pace,
        resolver=resolve,
    )


def scripted_target(
    server: ScriptedServer, authority: Authority, **settings: Any
) -> Target:
    """Give the way to a scripted server."""
    return Target(
        **{
            "host": CLUSTER,
            "region": REGION,
            "connect_address": TcpAddress(server.host, server.port),
            "ca_file": authority.ca_file,
            "negotiation": "direct",
            **settings,
        }
    )


async def answer_of(
    key: str, answering: Answering, authority: Authority, **settings: Any
) -> Answer:
    """Ask one question of a cluster that lets everybody in and answers so."""
    greeting = settings.pop("greeting", GREETING)
    context = authority.server_context(CLUSTER, "*.dsql.us-east-1.on.aws")
    failure: DsqlProxyError | None = None
    async with scripted_server(plays(context, answering, greeting=greeting)) as server:
        try:
            return await ask(key, cluster_at(server, authority, **settings))
        except DsqlProxyError as caught:
            failure = caught
    raise failure  # outside of the server, whose group would wrap it


async def ask(key: str, cluster: Cluster) -> Answer:
    """Ask one question by its key."""
    (question,) = (one for one in (*QUESTIONS, *LONG) if one.key == key)
    return await question.ask(cluster)


@contextlib.asynccontextmanager
async def scripted_cluster(
    script: Script, authority: Authority, **settings: Any
) -> AsyncIterator[Cluster]:
    """Give a cluster that follows a script, the last one for all connections."""
    async with scripted_server(script) as server:
        yield cluster_at(server, authority, **settings)
