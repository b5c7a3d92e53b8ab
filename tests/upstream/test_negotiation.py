import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dsqlproxy.errors import UpstreamUnavailable
from tests.kit.scripted import Conversation, EndOfStream, Script, scripted_server
from tests.upstream.stage import Make, Signer, cluster, failure, open_and_close
from tests.upstream.wire import CLUSTER, GREETING, Authority, refusal


async def closes(peer: Conversation) -> None:
    await peer.receive(1)


async def resets(peer: Conversation) -> None:
    await peer.receive(1)
    peer.reset()


async def speaks_plainly(peer: Conversation) -> None:
    await peer.receive(1)
    await peer.send(refusal("invalid length of startup packet", sqlstate="08P01"))
    await peer.receive_rest()


async def sends_an_alert(peer: Conversation) -> None:
    with suppress(ssl.SSLError):  # no certificate, so no cipher in common
        await peer.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    await peer.receive_rest()


@pytest.mark.parametrize("refuses", [closes, resets, speaks_plainly, sends_an_alert])
async def test_ssl_request_follows_when_direct_tls_is_refused(
    make: Make, context: ssl.SSLContext, refuses: Script
) -> None:
    scripts = (refuses, cluster(context, by_request=True))
    async with scripted_server(*scripts) as server:
        await open_and_close(make(server))
    assert server.connections == 2


async def test_direct_tls_without_alpn_is_a_refusal(
    make: Make, authority: Authority, context: ssl.SSLContext
) -> None:
    async def no_alpn(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context(alpn=False))
        await peer.receive_end()

    scripts = (no_alpn, cluster(context, by_request=True))
    async with scripted_server(*scripts) as server:
        await open_and_close(make(server))
    assert server.connections == 2


async def test_a_peer_that_waits_for_more_leaves_time_for_ssl_request(
    make: Make, context: ssl.SSLContext
) -> None:
    async def waits(peer: Conversation) -> None:
        await peer.receive_rest()

    scripts = (waits, cluster(context, by_request=True))
    async with scripted_server(*scripts) as server:
        await open_and_close(make(server, timeout_seconds=1))
    assert server.connections == 2


async def test_what_worked_is_tried_first_next_time(
    make: Make, context: ssl.SSLContext
) -> None:
    scripts = (closes, cluster(context, by_request=True))
    async with scripted_server(*scripts) as server:
        connector = make(server)
        await open_and_close(connector)
        await open_and_close(connector)
    assert server.connections == 3


async def test_direct_tls_follows_when_ssl_request_works_no_longer(
    make: Make, context: ssl.SSLContext
) -> None:
    by_request = cluster(context, by_request=True)
    scripts = (closes, by_request, closes, cluster(context))
    async with scripted_server(*scripts) as server:
        connector = make(server)
        await open_and_close(connector)
        await open_and_close(connector)
    assert server.connections == 4


async def test_direct_alone_is_not_followed_by_ssl_request(make: Make) -> None:
    async with scripted_server(closes) as server:
        error = await failure(make(server, negotiation="direct"))
    assert server.connections == 1
    assert isinstance(error, UpstreamUnavailable)
    assert error.detail == "direct TLS: the peer closed the connection."


async def test_ssl_request_alone_sends_no_client_hello(
    make: Make, context: ssl.SSLContext
) -> None:
    async with scripted_server(cluster(context, by_request=True)) as server:
        await open_and_close(make(server, negotiation="postgres"))
    assert server.connections == 1


def says(answer: bytes) -> Script:
    """Play a peer that says this to an SSLRequest, and no more."""

    async def script(peer: Conversation) -> None:
        await peer.receive(8)
        await peer.send(answer)

    return script


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"N", "the peer offers no TLS", id="no TLS"),
        # CVE-2021-23222
        pytest.param(b"S" + GREETING, "data ahead of TLS", id="data ahead of TLS"),
        pytest.param(b"HTTP/1.1 400", "not a PostgreSQL answer", id="web server"),
        pytest.param(b"", "closed the connection", id="nothing"),
        pytest.param(b"S", "closed the connection", id="no handshake"),
    ],
)
async def test_other_answers_to_ssl_request_are_refused(
    make: Make, answer: bytes, reason: str
) -> None:
    async with scripted_server(says(answer)) as server:
        error = await failure(make(server, negotiation="postgres"))
    assert isinstance(error, UpstreamUnavailable)
    assert reason in error.detail
    assert CLUSTER in error.message


@pytest.mark.parametrize(
    "sent",
    [
        refusal("evil", sqlstate="53300", detail="evil", hint="evil"),
        b"Eevil",
        b"E\0\0\0",
    ],
    ids=["error", "no message", "half an error"],
)
async def test_error_in_answer_to_ssl_request_is_not_shown(
    make: Make, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    # CVE-2024-10977
    caplog.set_level("DEBUG")
    async with scripted_server(closes, says(sent)) as server:
        error = await failure(make(server))
    assert isinstance(error, UpstreamUnavailable)
    assert CLUSTER in error.message
    assert "not shown because its sender is not verified" in error.detail
    assert "connect_address" in error.hint
    assert "evil" not in str(error)
    assert "evil" not in caplog.text


async def test_both_refusals_are_told(make: Make) -> None:
    async with scripted_server(closes, says(b"N")) as server:
        error = await failure(make(server))
    assert "direct TLS: the peer closed" in error.detail
    assert "SSLRequest: the peer offers no TLS" in error.detail


async def fails_in_the_handshake(peer: Conversation, context: ssl.SSLContext) -> None:
    with suppress(ssl.SSLError, EndOfStream, ConnectionError):
        await peer.start_tls(context)
        await peer.receive_end()


@pytest.mark.parametrize(
    ("problem", "detail", "hint"),
    [
        ("name", "Hostname mismatch", "server_name"),
        ("issuer", "certificate", "ca_file"),
        ("expired", "expired", "clock"),
    ],
)
async def test_a_certificate_that_does_not_verify_is_final(
    make: Make,
    authority: Authority,
    tmp_path: Path,
    problem: str,
    detail: str,
    hint: str,
) -> None:
    server_context = {
        "name": lambda: authority.server_context("other.example"),
        "issuer": lambda: Authority.make(tmp_path).server_context(),
        "expired": lambda: authority.server_context(
            not_before=datetime(2020, 1, 1, tzinfo=UTC),
            not_after=datetime(2021, 1, 1, tzinfo=UTC),
        ),
    }[problem]()

    async def script(peer: Conversation) -> None:
        await fails_in_the_handshake(peer, server_context)

    signer = Signer()
    async with scripted_server(script) as server:
        error = await failure(make(server, signer=signer))
    assert server.connections == 1
    assert isinstance(error, UpstreamUnavailable)
    assert CLUSTER in error.message
    assert detail.lower() in error.detail.lower()
    assert hint in error.hint
    assert signer.requests == []
