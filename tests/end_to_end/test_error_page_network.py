"""docs/errors.md, produced: no way to the cluster, or somebody else at its end."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.messages import ErrorResponse
from dsqlproxy.situations.situation import CLUSTER, Situation
from tests.end_to_end.clusters import log_in, proxy_before, proxy_before_server
from tests.end_to_end.error_rows import Run, produces, psql_of
from tests.kit.scripted import (
    Conversation,
    EndOfStream,
    Script,
    listen_but_never_accept,
)
from tests.kit.stack import running_proxy
from tests.upstream.wire import Authority, authentication

IN_TIME = r"time limit of 0\.\d+ s"
TEN_SECONDS = "time limit of 10 s"


@contextlib.contextmanager
def full_backlog() -> Iterator[socket.socket]:
    """Give a port whose kernel takes no more connections: a SYN has no answer."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


def begins_tls(context: ssl.SSLContext) -> Script:
    """Play a peer on which the proxy hangs up in the TLS handshake."""

    async def script(peer: Conversation) -> None:
        with contextlib.suppress(OSError, EndOfStream):
            await peer.start_tls(context)

    return script


# -- DNS -------------------------------------------------------------------------------


@produces("unknown-host")
async def test_a_name_that_does_not_exist(
    row: Situation,
    emulator: Emulator,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def knows_nothing(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # Not by asking for one: a machine without a network says something else.
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", knows_nothing)
    async with running_proxy(emulator, connect_address="gone.example:5432") as proxy:
        run = Run(row, proxy, emulator, {r"gone\.example": CLUSTER})
        await run.by_psql(psql_of(postgres))


@produces("resolving-too-slow")
async def test_a_name_server_that_does_not_answer(
    row: Situation,
    emulator: Emulator,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never_answers(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never_answers)
    async with running_proxy(
        emulator, connect_address="gone.example:5432", connect_timeout="200ms"
    ) as proxy:
        run = Run(row, proxy, emulator, {IN_TIME: TEN_SECONDS})
        await run.by_psql(psql_of(postgres))


# -- TCP -------------------------------------------------------------------------------


@produces("connection-refused")
async def test_nobody_listens_there(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and it does not listen
        async with running_proxy(emulator, connect_address=address_of(unused)) as proxy:
            await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("connecting-too-slow")
async def test_nobody_answers_to_a_connect(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    with full_backlog() as deaf:
        async with running_proxy(
            emulator, connect_address=address_of(deaf), connect_timeout="400ms"
        ) as proxy:
            run = Run(row, proxy, emulator, {IN_TIME: TEN_SECONDS})
            await run.by_psql(psql_of(postgres))


# -- TLS -------------------------------------------------------------------------------


@produces("tls-too-slow")
async def test_nobody_answers_to_tls(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    with listen_but_never_accept() as deaf:
        async with running_proxy(
            emulator, connect_address=address_of(deaf), connect_timeout="400ms"
        ) as proxy:
            run = Run(row, proxy, emulator, {IN_TIME: TEN_SECONDS})
            await run.by_psql(psql_of(postgres))


@produces("no-tls")
async def test_a_peer_without_tls(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async def without_tls(peer: Conversation) -> None:
        if await peer.receive(1) == b"\0":
            await peer.receive(7)
            await peer.send(b"N")

    async with proxy_before_server(emulator, without_tls) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("error-before-tls")
async def test_an_error_instead_of_tls(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async def complains(peer: Conversation) -> None:
        await peer.receive(8)
        error = ErrorResponse.build("FATAL", "53300", "send your password to mallory")
        await peer.send(error.encode())

    async with proxy_before_server(
        emulator, complains, tls_negotiation="postgres"
    ) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("certificate-of-another-name")
async def test_a_certificate_of_another_name(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator, server_name="other.example.com") as proxy:
        run = Run(row, proxy, emulator, {r"other\.example\.com": CLUSTER})
        await run.by_psql(psql_of(postgres))


@produces("certificate-of-unknown-issuer")
async def test_a_certificate_of_an_unknown_issuer(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    context = Authority.make(tmp_path).server_context(emulator.cluster)
    ca_file = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    async with proxy_before_server(
        emulator, begins_tls(context), ca_file=str(ca_file)
    ) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("certificate-expired")
async def test_a_certificate_that_has_expired(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    authority = Authority.make(tmp_path)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    context = authority.server_context(emulator.cluster, not_after=yesterday)
    async with proxy_before_server(
        emulator, begins_tls(context), ca_file=str(authority.ca_file)
    ) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


# -- the login -------------------------------------------------------------------------


@produces("login-too-slow")
async def test_a_login_that_takes_too_long(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    emulator.add_fault("slow-login:30s")
    async with running_proxy(emulator, connect_timeout="900ms") as proxy:
        run = Run(row, proxy, emulator, {IN_TIME: TEN_SECONDS})
        await run.by_psql(psql_of(postgres))


@produces("closed-during-login")
async def test_a_cluster_that_hangs_up(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer, b"")

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("other-authentication")
async def test_another_authentication(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async def play(peer: Conversation) -> None:
        await peer.receive_packet()
        await peer.send(authentication(5, b"salt"))
        await peer.receive_rest()

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("not-a-cluster")
async def test_what_does_not_belong_into_a_login(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer, b"D\0\0\0\x04")
        await peer.receive_rest()

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))
