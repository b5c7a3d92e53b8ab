import socket
import ssl
from collections.abc import Sequence
from urllib.parse import unquote

import pytest

from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.clocks import Clocks, Reading
from dsqlproxy.config.addresses import TcpAddress
from dsqlproxy.config.model import ListenerConfig
from dsqlproxy.errors import (
    ProtocolError,
    TokenError,
    UpstreamRejected,
    UpstreamUnavailable,
)
from dsqlproxy.pgproto.messages import ErrorResponse, NoticeResponse, ParameterStatus
from dsqlproxy.pgproto.startup import CancelRequest
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.upstream.connector import Connector, Target
from dsqlproxy.upstream.resolve import Address
from tests.kit.scripted import (
    Conversation,
    Script,
    listen_but_never_accept,
    scripted_server,
)
from tests.upstream.stage import (
    CLOCKS,
    KEY,
    LOGGER,
    STARTUP,
    TOKEN,
    Make,
    Never,
    Signer,
    answers,
    cluster,
    failure,
    open_and_close,
)
from tests.upstream.wire import (
    CLEARTEXT,
    CLUSTER,
    GREETING,
    OK,
    READY,
    REGION,
    Authority,
    authentication,
    refusal,
)


async def test_session_is_opened_by_direct_tls(
    make: Make, context: ssl.SSLContext
) -> None:
    seen: list[tuple[str | None, str | None]] = []

    async def script(peer: Conversation) -> None:
        await cluster(context)(peer)
        seen.append((peer.server_name, peer.alpn))

    signer = Signer()
    async with scripted_server(script) as server:
        upstream = await open_and_close(make(server, signer=signer))
    assert seen == [(CLUSTER, "postgresql")]
    assert signer.requests == [SigningRequest(CLUSTER, REGION, "admin", 60)]
    assert upstream.parameters == (ParameterStatus("server_version", "16.15"),)
    assert upstream.key == KEY
    assert upstream.notices == ()
    assert upstream.opened_at == CLOCKS.read()
    assert str(upstream.address) == f"{server.host}:{server.port}"
    assert server.connections == 1


async def test_its_age_counts_from_the_beginning_of_the_connect(
    make: Make, context: ssl.SSLContext
) -> None:
    now = [100.0]
    clocks = Clocks(lambda: now[0], lambda: now[0] + 1, lambda: now[0] + 2)

    async def script(peer: Conversation) -> None:
        now[0] = 101.0  # accepting it takes a second
        await cluster(context)(peer)

    async with scripted_server(script) as server:
        upstream = await open_and_close(make(server, clocks=clocks))
    assert upstream.opened_at == Reading(100.0, 101.0, 102.0)


async def test_its_age_is_that_of_the_connection_which_is_kept(
    make: Make, context: ssl.SSLContext
) -> None:
    now = [100.0]

    async def script(peer: Conversation) -> None:
        now[0] += 1.0
        if now[0] == 101.0:
            peer.reset()  # the direct way is refused
        else:
            await cluster(context, by_request=True)(peer)

    async with scripted_server(script) as server:
        clocks = Clocks(lambda: now[0], lambda: now[0], lambda: now[0])
        upstream = await open_and_close(make(server, clocks=clocks))
    assert upstream.opened_at.monotonic == 101.0


async def test_a_token_that_is_taken_is_told_of(
    make: Make, context: ssl.SSLContext
) -> None:
    signer = Signer()
    async with scripted_server(cluster(context)) as server:
        await open_and_close(make(server, signer=signer))
    assert [token.reveal() for token in signer.accepted] == [TOKEN]
    assert signer.refused == []


async def test_what_follows_the_login_is_read_from_the_channel(
    make: Make, context: ssl.SSLContext
) -> None:
    async with scripted_server(answers(context, GREETING, b"more")) as server:
        upstream = await make(server).open(STARTUP)
        assert await upstream.channel.read() == b"more"
        upstream.channel.abort()


async def test_one_family_that_fails_does_not_matter(
    authority: Authority, context: ssl.SSLContext
) -> None:
    async with scripted_server(cluster(context)) as server:
        with socket.socket(socket.AF_INET6) as unused:
            unused.bind(("::1", 0))

            async def both(_host: str, _port: int) -> Sequence[Address]:
                bad = Address(socket.AF_INET6, unused.getsockname())
                return [bad, Address(socket.AF_INET, (server.host, server.port))]

            connector = Connector(
                Target(CLUSTER, REGION, ca_file=authority.ca_file),
                Signer(),
                clocks=CLOCKS,
                logger=LOGGER,
                resolver=both,
            )
            await open_and_close(connector)


async def test_server_name_is_sent_and_verified(
    make: Make, authority: Authority
) -> None:
    name = "vpce-1.dsql-fnh4.us-east-1.vpce.amazonaws.com"
    seen: list[str | None] = []

    async def script(peer: Conversation) -> None:
        await cluster(authority.server_context(name))(peer)
        seen.append(peer.server_name)

    async with scripted_server(script) as server:
        await open_and_close(make(server, server_name=name))
    assert seen == [name]


async def test_connect_address_is_dialled_and_named(authority: Authority) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        target = Target(
            CLUSTER,
            REGION,
            connect_address=TcpAddress("127.0.0.1", port),
            ca_file=authority.ca_file,
        )
        connector = Connector(target, Signer(), clocks=CLOCKS, logger=LOGGER)
        error = await failure(connector)
    assert f"127.0.0.1:{port} (for {CLUSTER})" in error.message
    assert error.sqlstate == "08001"


def test_target_is_taken_from_the_listener(authority: Authority) -> None:
    listener = ListenerConfig(
        cluster=CLUSTER,
        connect_address=TcpAddress("127.0.0.1", 16000),
        server_name="other.example",
        ca_file=authority.ca_file,
        tls_negotiation="direct",
        connect_timeout=3.0,
        token_lifetime=5,
    )
    target = Target.from_listener(listener)
    assert target == Target(
        host=CLUSTER,
        region=REGION,
        connect_address=TcpAddress("127.0.0.1", 16000),
        server_name="other.example",
        ca_file=authority.ca_file,
        negotiation="direct",
        timeout_seconds=3.0,
        token_lifetime_seconds=5,
    )
    assert str(Target(CLUSTER, REGION)) == f"{CLUSTER}:5432"


@pytest.mark.parametrize("code", [5, 10])
async def test_token_is_not_sent_for_another_authentication(
    make: Make, context: ssl.SSLContext, code: int
) -> None:
    async with scripted_server(answers(context, authentication(code))) as server:
        error = await failure(make(server))
    assert isinstance(error, ProtocolError)


@pytest.mark.parametrize(
    ("message", "refused"),
    [("access denied", [Cause.DENIED]), ("rate exceeded.", [])],
)
async def test_rejection_is_passed_on_with_advice(
    make: Make, context: ssl.SSLContext, message: str, refused: list[Cause]
) -> None:
    signer = Signer()
    sent = refusal(f"unable to accept connection, {message}")
    async with scripted_server(answers(context, sent)) as server:
        error = await failure(make(server, signer=signer))
    assert isinstance(error, UpstreamRejected)
    assert ("M", f"unable to accept connection, {message}") in error.fields
    assert error.hint
    assert [cause for _, cause in signer.refused] == refused
    assert all(token.reveal() == TOKEN for token, _ in signer.refused)
    assert signer.accepted == []


async def test_known_lack_of_credentials_ends_an_attempt_before_it_dials(
    make: Make,
) -> None:
    signer = Signer(trouble=TokenError("no AWS credentials"))
    never = Never()
    with listen_but_never_accept() as deaf:
        connector = make(deaf, signer=signer)
        connector._resolver = never
        assert await failure(connector) is signer.trouble
    assert not never.reached.is_set()


SIGNATURE = "0123456789abcdef" * 4
SIGNED = (
    f"{CLUSTER}/?Action=DbConnectAdmin&X-Amz-Expires=60"
    f"&X-Amz-Security-Token=FwoG%2Fses%2Bsion%3D&X-Amz-Signature={SIGNATURE}"
)
REPEATED = [
    pytest.param(SIGNED, "<token>", id="token"),
    pytest.param(unquote(SIGNED), "<token>", id="token unquoted"),
    pytest.param(f"got {SIGNATURE}!", "got <token>!", id="signature"),
    pytest.param("FwoG%2Fses%2Bsion%3D", "<token>", id="session token"),
    pytest.param("FwoG/ses+sion=", "<token>", id="session token unquoted"),
    pytest.param("FwoG%2fses%2bsion%3d", "<token>", id="session token quoted anew"),
    pytest.param("FwoG%252Fses%252Bsion%253D", "<token>", id="session token in a URL"),
]


def repeats(context: ssl.SSLContext, answer: bytes) -> Script:
    """Play a peer that takes the token and gives this answer."""

    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        await peer.receive_packet()
        await peer.send(CLEARTEXT)
        await peer.receive_frame()
        await peer.send(answer)
        await peer.receive_rest()

    return script


@pytest.mark.parametrize(("said", "shown"), REPEATED)
async def test_token_in_an_error_is_not_shown(
    make: Make, context: ssl.SSLContext, said: str, shown: str
) -> None:
    fields = (("S", "FATAL"), ("C", "08006"), *((code, said) for code in "MDHW"))
    answer = ErrorResponse(fields).encode()
    async with scripted_server(repeats(context, answer)) as server:
        error = await failure(make(server, signer=Signer(token=SIGNED)))
    assert isinstance(error, UpstreamRejected)
    assert error.message == shown
    assert error.fields == (*fields[:2], *((code, shown) for code in "MDHW"))
    assert said not in str(error)


@pytest.mark.parametrize(("said", "shown"), REPEATED)
async def test_token_in_a_notice_is_not_shown(
    make: Make, context: ssl.SSLContext, said: str, shown: str
) -> None:
    notice = NoticeResponse((("S", "NOTICE"), ("M", said), ("D", said)))
    answer = notice.encode() + GREETING
    async with scripted_server(repeats(context, answer)) as server:
        upstream = await open_and_close(make(server, signer=Signer(token=SIGNED)))
    shown_fields = (("S", "NOTICE"), ("M", shown), ("D", shown))
    assert upstream.notices == (NoticeResponse(shown_fields),)


@pytest.mark.parametrize(("said", "shown"), REPEATED)
async def test_token_in_a_setting_is_not_shown(
    make: Make, context: ssl.SSLContext, said: str, shown: str
) -> None:
    answer = OK + ParameterStatus("motd", said).encode() + READY
    async with scripted_server(repeats(context, answer)) as server:
        upstream = await open_and_close(make(server, signer=Signer(token=SIGNED)))
    assert upstream.parameters[0] == ParameterStatus("motd", shown)


async def test_token_error_ends_the_attempt(
    make: Make, context: ssl.SSLContext
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        await peer.receive_packet()
        await peer.receive_end()

    signer = Signer(error=TokenError("no AWS credentials"))
    async with scripted_server(script) as server:
        assert await failure(make(server, signer=signer)) is signer.error


@pytest.mark.parametrize("reset", [False, True])
async def test_end_during_login_is_told(
    make: Make, context: ssl.SSLContext, reset: bool
) -> None:
    async with scripted_server(answers(context, reset=reset)) as server:
        error = await failure(make(server))
    assert isinstance(error, UpstreamUnavailable)
    assert "closed the connection during login" in error.message


async def test_cancel_request_goes_under_tls_to_the_same_address(
    make: Make, context: ssl.SSLContext
) -> None:
    got: list[object] = []

    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        got.append(await peer.receive_packet())
        got.append(peer.server_name)

    never = Never()
    async with scripted_server(script) as server:
        connector = make(server)
        connector._resolver = never
        address = Address(socket.AF_INET, (server.host, server.port))
        await connector.cancel(KEY, address=address)
    assert got == [CancelRequest(42, b"key!"), CLUSTER]
    assert not never.reached.is_set()


async def test_cancel_request_finds_the_cluster_by_itself(
    make: Make, context: ssl.SSLContext
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        await peer.receive_packet()
        await peer.send(b"whatever")
        peer.reset()

    async with scripted_server(script) as server:
        await make(server).cancel(KEY)


async def test_cancel_request_meets_a_time_limit(
    make: Make, context: ssl.SSLContext
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        await peer.receive_packet()
        await peer.receive_rest()

    async with scripted_server(script) as server:
        with pytest.raises(UpstreamUnavailable, match="while cancelling"):
            await make(server, timeout_seconds=0.3).cancel(KEY)


def test_nothing_secret_prints() -> None:
    assert "key!" not in repr(KEY)
    assert TOKEN not in repr(Token(TOKEN, role="admin", lifetime_seconds=60))
