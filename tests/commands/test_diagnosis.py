"""The examination of a listener, against scripts of clusters and a faked AWS."""

import asyncio
import ssl
import threading
from collections.abc import Iterator

import pytest

from dsqlproxy.errors import TokenError
from dsqlproxy.ops.doctor import Outcome, Step
from dsqlproxy.pgproto.startup import StartupMessage
from tests.commands.examining import (
    ALL_WELL,
    CALLER,
    Aws,
    answers,
    cluster,
    examined,
    outcomes,
    playing,
    trouble,
)
from tests.kit.scripted import (
    Conversation,
    Script,
    listen_but_never_accept,
)
from tests.upstream.wire import (
    CLEARTEXT,
    CLUSTER,
    READY,
    Authority,
    refusal,
)


@pytest.fixture
def aws() -> Iterator[Aws]:
    known = Aws()
    yield known
    if known.hanging:
        known.hanging.set()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


# -- the way ---------------------------------------------------------------------------


async def test_all_is_well(aws: Aws, authority: Authority) -> None:
    script = cluster(authority.server_context(CLUSTER), answers)
    async with playing(aws, authority, script) as examine:
        found = await examine()
    assert outcomes(found) == ALL_WELL
    assert found[Step.LOGIN].detail == "role admin, PostgreSQL 16.15"
    assert "direct TLS, certificate of" in found[Step.TLS].detail
    assert CALLER in found[Step.CREDENTIALS].detail
    assert all(each.seconds for each in list(found.values())[1:])


async def test_a_cluster_that_is_asked_for_tls_has_one_line_for_each_step(
    aws: Aws, authority: Authority
) -> None:
    async def refuses(peer: Conversation) -> None:
        await peer.receive(1)

    context = authority.server_context(CLUSTER)
    scripts = refuses, cluster(context, answers, by_request=True)
    async with playing(aws, authority, *scripts) as examine:
        found = await examine()
    assert outcomes(found) == ALL_WELL
    assert "SSLRequest" in found[Step.TLS].detail


async def test_who_does_not_begin_tls_fails_there(
    aws: Aws, authority: Authority
) -> None:
    async def refuses(peer: Conversation) -> None:
        await peer.receive(1)

    async with playing(aws, authority, refuses) as examine:
        assert "could not begin TLS" in trouble(await examine(), Step.TLS)


async def test_who_says_nothing_fails_where_it_was_silent(
    aws: Aws, authority: Authority
) -> None:
    with listen_but_never_accept() as deaf:
        host, port = deaf.getsockname()
        checkup = await examined(
            aws,
            authority,
            f"{host}:{port}",
            connect_timeout="100ms",
            tls_negotiation="direct",
        )
    found = {each.step: each for each in checkup.findings}
    assert "did not answer in time" in trouble(found, Step.TLS)


async def test_a_statement_that_fails_is_told_in_the_clusters_words(
    aws: Aws, authority: Authority
) -> None:
    async def fails(peer: Conversation) -> None:
        await peer.send(refusal("no more", sqlstate="XX000", hint="none") + READY)
        await peer.receive_rest()

    script = cluster(authority.server_context(CLUSTER), fails)
    async with playing(aws, authority, script) as examine:
        found = await examine()
    assert trouble(found, Step.QUERY) == "no more  none"
    assert found[Step.LOGIN].outcome is Outcome.OK


@pytest.mark.parametrize("how", ["closed", "reset", "was silent"])
async def test_a_statement_without_an_answer_fails(
    aws: Aws, authority: Authority, how: str
) -> None:
    async def says_nothing(peer: Conversation) -> None:
        if how == "reset":
            peer.reset()
        elif how == "was silent":
            await peer.receive_rest()

    script = cluster(authority.server_context(CLUSTER), says_nothing)
    async with playing(aws, authority, script) as examine:
        told = trouble(await examine(), Step.QUERY)
    assert ("was silent" if how == "was silent" else "closed") in told


async def test_a_peer_that_is_no_cluster_is_told(
    aws: Aws, authority: Authority
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context(CLUSTER))
        await peer.receive_packet()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.receive_rest()

    async with playing(aws, authority, script) as examine:
        assert "protocol" in trouble(await examine(), Step.LOGIN)


async def test_the_settings_of_the_listener_go_with_it(
    aws: Aws, authority: Authority
) -> None:
    startups = []

    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context(CLUSTER))
        startups.append(await peer.receive_packet())
        await peer.receive_rest()

    async with playing(aws, authority, script) as examine:
        await examine(
            database="client",
            startup_options="-c amzn-cluster-id=x",
            connect_timeout="100ms",
            token_lifetime="5s",
        )
    (startup,) = startups
    assert isinstance(startup, StartupMessage)
    assert startup.get("database") == "postgres"
    assert startup.get("options") == "-c amzn-cluster-id=x"
    (request,) = aws.signed
    assert (request.host, request.region) == (CLUSTER, "us-east-1")
    assert (request.role, request.lifetime_seconds) == ("admin", 5)


# -- beside the way --------------------------------------------------------------------


async def test_without_credentials_the_way_ends_after_tls(
    aws: Aws, authority: Authority
) -> None:
    aws.credentials = TokenError("none", hint="get some")
    script = cluster(authority.server_context(CLUSTER), answers)
    async with playing(aws, authority, script) as examine:
        found = await examine()
    assert trouble(found, Step.CREDENTIALS) == "none  get some"
    assert set(outcomes(found)) == {"dns", "tcp", "tls", "credentials", "clock"}
    assert aws.signed == []


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (0.4, Outcome.OK),
        (-4.9, Outcome.OK),
        (5.1, Outcome.WARNING),
        (-239.0, Outcome.WARNING),
        (241.0, Outcome.FAILED),
        (-1200.0, Outcome.FAILED),
    ],
)
async def test_how_far_a_clock_may_be_off(
    aws: Aws, authority: Authority, ahead: float, expected: Outcome
) -> None:
    aws.seconds_ahead = ahead
    script = cluster(authority.server_context(CLUSTER), answers)
    async with playing(aws, authority, script) as examine:
        found = await examine()
    assert found[Step.CLOCK].outcome is expected
    assert (Step.LOGIN.value in outcomes(found)) is (expected is not Outcome.FAILED)


async def test_without_a_date_the_way_goes_on(aws: Aws, authority: Authority) -> None:
    aws.no_date = "it was closed"
    script = cluster(authority.server_context(CLUSTER), answers)
    async with playing(aws, authority, script) as examine:
        found = await examine()
    assert outcomes(found) == {k: v for k, v in ALL_WELL.items() if k != "clock"}
    assert "it was closed" in found[Step.CLOCK].detail


async def test_an_aws_that_hangs_is_not_waited_for(
    aws: Aws, authority: Authority
) -> None:
    aws.hanging = threading.Event()
    script = cluster(authority.server_context(CLUSTER), answers)
    async with playing(aws, authority, script) as examine, asyncio.timeout(5):
        found = await examine()
    assert outcomes(found) == {k: v for k, v in ALL_WELL.items() if k != "clock"}
    assert "did not answer within 0.05 s" in found[Step.CLOCK].detail
    assert CALLER not in found[Step.CREDENTIALS].detail


# -- what mends a refusal --------------------------------------------------------------


def refuses_with(context: ssl.SSLContext, message: str, hint: str) -> Script:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(context)
        await peer.receive_packet()
        await peer.send(CLEARTEXT)
        await peer.receive_frame()
        await peer.send(refusal(message, hint=hint))
        await peer.receive_rest()

    return script


DENIED = "unable to accept connection, access denied"
WAKING_UP = "unable to accept connection, waking up cluster, please retry later"


async def remedy_of(
    aws: Aws, authority: Authority, message: str, hint: str = ""
) -> str:
    script = refuses_with(authority.server_context(CLUSTER), message, hint)
    async with playing(aws, authority, script) as examine:
        found = await examine()
    trouble(found, Step.LOGIN)
    what = found[Step.LOGIN].trouble
    return what.remedy.text if what and what.remedy else ""


async def test_a_grant_names_the_role_of_the_session(
    aws: Aws, authority: Authority
) -> None:
    remedy = await remedy_of(aws, authority, "IAM authentication failed for user x")
    assert remedy.endswith("TO 'arn:aws:iam::111122223333:role/developer';")


async def test_a_grant_leaves_room_where_nobody_said_whose_credentials(
    aws: Aws, authority: Authority
) -> None:
    aws.caller = None
    remedy = await remedy_of(aws, authority, "IAM authentication failed for user x")
    assert "<ARN of the IAM identity>" in remedy


async def test_a_statement_has_a_pattern_where_nobody_said_the_account(
    aws: Aws, authority: Authority
) -> None:
    remedy = await remedy_of(aws, authority, DENIED, "not authorized")
    assert ":us-east-1:*:cluster/" in remedy


async def test_a_clock_that_is_right_is_not_to_be_set(
    aws: Aws, authority: Authority
) -> None:
    assert await remedy_of(aws, authority, DENIED, "Signature expired: x") == ""


async def test_a_clock_that_is_not_known_to_be_right_is(
    aws: Aws, authority: Authority
) -> None:
    aws.no_date = "no"
    remedy = await remedy_of(aws, authority, DENIED, "Signature expired: x")
    assert "timedatectl" in remedy


async def test_what_passes_needs_no_remedy(aws: Aws, authority: Authority) -> None:
    assert await remedy_of(aws, authority, WAKING_UP) == ""
