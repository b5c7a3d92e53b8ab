"""What a client is told when its login upstream fails: code, message, detail, hint."""

import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
import trustme

from dsqlproxy.emulator.server import Emulator, EmulatorConfig
from dsqlproxy.pgproto.messages import ErrorResponse
from tests.end_to_end.clusters import log_in, proxy_before, proxy_before_server
from tests.end_to_end.wire import RawClient, all_ended, logged, startup
from tests.kit.scripted import Conversation, listen_but_never_accept
from tests.kit.stack import RunningProxy, running_proxy
from tests.upstream.wire import Authority, authentication, refusal

NOT_AUTHORIZED = re.compile(
    r"User: arn:aws:iam::111122223333:role/dsqlproxy-emulator is not authorized"
    r" to perform: dsql:DbConnectAdmin on resource: .*"
)


@pytest_asyncio.fixture
async def proxy(emulator: Emulator) -> AsyncIterator[RunningProxy]:
    """Run a proxy that holds nobody; what holding does: `test_holding`."""
    async with running_proxy(emulator, hold_timeout=0) as running:
        yield running


async def refused(proxy: RunningProxy, **parameters: str) -> ErrorResponse:
    """Give the FATAL of a login; what it says has to be in the log too."""
    async with RawClient.connect(proxy) as client:
        await client.send(startup(**parameters))
        error = await client.receive_fatal()
    line = await logged(proxy, "WARNING login failed")
    assert f"code={error.sqlstate} " in line
    await logged(proxy, "session closed.*reason=login_failed")
    return error


# -- refused by the cluster, in its words ----------------------------------------------


async def test_a_missing_permission_is_told_with_the_action(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("access-denied")
    error = await refused(proxy)
    assert (error.sqlstate, error.message) == (
        "08006",
        "unable to accept connection, access denied",
    )
    assert NOT_AUTHORIZED.match(error.hint)
    assert "allow dsql:DbConnectAdmin" in error.detail


@pytest.mark.parametrize(("skew", "cause"), [(600, "expired"), (-600, "not yet")])
async def test_a_clock_that_is_wrong_is_named_as_the_cause(
    proxy: RunningProxy, emulator: Emulator, skew: int, cause: str
) -> None:
    emulator.add_fault(f"skew:{skew}")
    error = await refused(proxy)
    assert error.sqlstate == "08006"
    assert cause in error.hint
    assert "clock" in error.detail
    assert "NTP" in error.detail


async def test_credentials_that_expired_are_refused_and_put_aside(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    emulator.add_fault("expired-credentials")
    error = await refused(proxy)
    assert error.sqlstate == "08006"
    assert "expired" in error.hint
    assert "not valid any more" in error.detail
    assert "aws sso login" in error.detail
    await logged(proxy, "WARNING credentials failed.*the cluster refuses the AWS")


async def test_a_role_that_does_not_exist_hints_at_the_grant(
    proxy: RunningProxy,
) -> None:
    error = await refused(proxy, user="nobody_here")
    assert (error.sqlstate, error.message) == (
        "08P01",
        "Role nobody_here does not exist",
    )
    assert 'AWS IAM GRANT "nobody_here" TO' in error.hint


async def test_the_superuser_behind_the_emulator_is_no_role(
    proxy: RunningProxy,
) -> None:
    assert (await refused(proxy, user="postgres")).sqlstate == "08P01"


@pytest.mark.parametrize(
    ("fault", "sqlstate", "message"),
    [
        (
            "waking-up:60s",
            "08006",
            "unable to accept connection, waking up cluster, please retry later",
        ),
        ("rate-exceeded:1", "53400", "Unable to accept connection, rate exceeded."),
        (
            "too-many-connections:1",
            "53300",
            "Unable to accept connection, too many open connections.",
        ),
    ],
)
async def test_a_refusal_for_now_is_passed_on_and_a_hint_added(
    proxy: RunningProxy, emulator: Emulator, fault: str, sqlstate: str, message: str
) -> None:
    emulator.add_fault(fault)
    error = await refused(proxy)
    assert error.fields == (
        ("S", "FATAL"),
        ("V", "FATAL"),
        ("C", sqlstate),
        ("M", message),
        ("H", "Try again in some seconds."),
    )
    assert emulator.counts.connections == 1


async def test_fields_of_the_cluster_are_passed_on_whatever_they_are(
    emulator: Emulator, tmp_path: Path
) -> None:
    fields = (
        *(("S", "FATALE"), ("V", "FATAL"), ("C", "ZX999"), ("M", "mañana")),
        *(("D", "its own"), ("H", "own too"), ("W", "somewhere"), ("\xe9", "new")),
    )

    async def play(peer: Conversation) -> None:
        await peer.receive_packet()
        await peer.send(ErrorResponse(fields).encode())
        await peer.receive_rest()

    authority = Authority.make(tmp_path)
    async with proxy_before(emulator, authority, play) as proxy:
        assert (await refused(proxy)).fields == fields


async def test_the_wrong_action_is_told_as_such(
    emulator: Emulator, tmp_path: Path
) -> None:
    hint = "Wrong user to action mapping. user: admin, action: DbConnect"

    async def play(peer: Conversation) -> None:
        await log_in(
            peer, refusal("unable to accept connection, access denied", hint=hint)
        )
        await peer.receive_rest()

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        error = await refused(proxy)
    assert error.hint == hint
    assert "dsql:DbConnectAdmin" in error.detail


async def test_psycopg_shows_all_of_it(proxy: RunningProxy, emulator: Emulator) -> None:
    emulator.add_fault("access-denied")
    with pytest.raises(psycopg.OperationalError) as caught:
        await psycopg.AsyncConnection.connect(proxy.dsn())
    said = str(caught.value)
    assert "FATAL:  unable to accept connection, access denied" in said
    assert "DETAIL:  The cluster refused the token: allow dsql:DbConnectAdmin" in said
    assert "HINT:  User: arn:aws:iam" in said


# -- not reached -----------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_port_where_nobody_listens(emulator: Emulator) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with running_proxy(emulator, connect_address=address) as proxy:
        error = await refused(proxy)
    assert error.sqlstate == "08001"
    assert error.message == f"could not connect to {address} (for {emulator.cluster})"
    assert error.detail == f"{address}: Connection refused"
    assert "security group" in error.hint


async def test_a_peer_that_never_answers(emulator: Emulator) -> None:
    with listen_but_never_accept() as deaf:
        host, port = deaf.getsockname()
        async with running_proxy(
            emulator,
            connect_address=f"{host}:{port}",
            connect_timeout="300ms",
            tls_negotiation="direct",
        ) as proxy:
            error = await refused(proxy)
    assert error.sqlstate == "08001"
    assert "did not answer in time" in error.message
    assert error.detail == "The time limit of 0.3 s ended while beginning TLS."
    assert "firewall" in error.hint


async def test_a_cluster_that_is_slow_to_log_in(emulator: Emulator) -> None:
    emulator.add_fault("slow-login:30s")
    async with running_proxy(emulator, connect_timeout="1s") as proxy:
        error = await refused(proxy)
        await all_ended(proxy, emulator)
    assert error.sqlstate == "08001"
    assert error.detail == "The time limit of 1 s ended while logging in."
    assert "`connect_timeout`" in error.hint


async def test_a_certificate_for_another_name(emulator: Emulator) -> None:
    async with running_proxy(emulator, server_name="other.example.com") as proxy:
        error = await refused(proxy)
    assert error.sqlstate == "08001"
    assert "could not be verified" in error.message
    assert '"other.example.com"' in error.message
    assert "`server_name`" in error.hint
    assert emulator.counts.logins_accepted == 0


async def test_a_certificate_of_an_authority_that_is_not_trusted(
    emulator: Emulator, tmp_path: Path
) -> None:
    ca_file = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    async with running_proxy(emulator, ca_file=str(ca_file)) as proxy:
        error = await refused(proxy)
    assert error.sqlstate == "08001"
    assert "`ca_file`" in error.hint
    assert emulator.counts.logins_accepted == 0


async def test_the_wrong_name_in_sni_is_the_clusters_to_refuse(
    emulator: Emulator,
) -> None:
    name = f"{'a' * 26}.dsql.{EmulatorConfig().region}.on.aws"
    async with running_proxy(emulator, server_name=name) as proxy:
        error = await refused(proxy)
    assert error.sqlstate == "08006"
    assert error.message == "unable to accept connection, access denied"


@pytest.mark.parametrize(
    "answer", [b"", b"N", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\0\x02\2F"]
)
async def test_a_peer_that_is_no_cluster(emulator: Emulator, answer: bytes) -> None:
    async def answers(peer: Conversation) -> None:
        await peer.receive(1)
        await peer.send(answer)

    async with proxy_before_server(emulator, answers) as proxy:
        error = await refused(proxy)
    assert error.sqlstate == "08001"
    assert "could not begin TLS" in error.message
    assert "Is this the address of an Aurora DSQL cluster?" in error.hint


@pytest.mark.parametrize(
    ("code", "name"), [(5, "md5 password"), (10, "sasl"), (77, "number 77")]
)
async def test_another_authentication_is_refused_and_no_token_sent(
    emulator: Emulator, tmp_path: Path, code: int, name: str
) -> None:
    after: list[bytes] = []

    async def play(peer: Conversation) -> None:
        await peer.receive_packet()
        await peer.send(authentication(code, b"salt"))
        after.append(await peer.receive_rest())

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        error = await refused(proxy)
    assert error.sqlstate == "08P01"
    assert name in error.message
    assert after == [b""]


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(authentication(0), id="ok-and-no-more"),
        pytest.param(authentication(0) + b"Z\0\0\0", id="half-a-header"),
    ],
)
async def test_a_cluster_that_hangs_up_in_the_login(
    emulator: Emulator, tmp_path: Path, greeting: bytes
) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer, greeting)

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        error = await refused(proxy)
    assert error.sqlstate == "08001"
    assert "closed the connection during login" in error.message


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\0\0\0\0\0\0\0\0\0\0", id="zeros"),
        pytest.param(b"D\0\0\0\x04", id="a-row"),
        pytest.param(b"S\x7f\xff\xff\xff", id="endless-setting"),
        pytest.param(authentication(0) + b"Z\0\0\0\x05?", id="unknown-status"),
        pytest.param(b"E\0\0\0\x06M!", id="error-without-end"),
    ],
)
async def test_a_cluster_that_speaks_nonsense_in_the_login(
    emulator: Emulator, tmp_path: Path, noise: bytes
) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer, noise)
        await peer.receive_rest()

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        assert (await refused(proxy)).sqlstate == "08P01"
        assert "session failed" not in proxy.log.getvalue()
