"""An upstream that is lost, at any byte: what the client hears, once and no more."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import SYNC, ErrorResponse
from dsqlproxy.session import session
from tests.end_to_end.clusters import log_in, proxy_before
from tests.end_to_end.wire import (
    RawClient,
    all_ended,
    fatal_in,
    frames_in,
    logged,
    query,
    until,
    until_active,
    whole_frames,
)
from tests.kit.scripted import Conversation
from tests.kit.stack import RunningProxy, running_emulator, running_proxy
from tests.upstream.wire import READY, Authority

LOST = "the connection to the Aurora DSQL cluster was lost"
SLEEP = "select pg_sleep(60)"


async def ended_with(client: RawClient) -> ErrorResponse:
    """Give the one FATAL with which the stream ends; frames before it do not count."""
    frames = frames_in(await client.receive_rest())
    errors = [each for each in frames if each.type == BackendType.ERROR_RESPONSE]
    assert errors == frames[-1:], frames
    return fatal_in(errors[0])


def parse(sql: str) -> bytes:
    return frame(FrontendType.PARSE, b"\0" + sql.encode() + b"\0\0\0")


BIND = frame(FrontendType.BIND, b"\0\0\0\0\0\0\0\0")
EXECUTE = frame(FrontendType.EXECUTE, b"\0\0\0\0\0")


# -- a close without a word ------------------------------------------------------------


@pytest_asyncio.fixture
async def unrecovered(emulator: Emulator) -> AsyncIterator[RunningProxy]:
    """Run a proxy whose sessions end with their upstream."""
    async with running_proxy(emulator, recovery="off") as running:
        yield running


async def test_lost_while_idle(unrecovered: RunningProxy, emulator: Emulator) -> None:
    proxy = unrecovered
    async with RawClient.session(proxy) as client:
        emulator.expire_sessions()
        error = await ended_with(client)
        await all_ended(proxy, emulator)
    assert (error.sqlstate, error.message) == ("08006", LOST)
    assert error.detail == (
        "Nothing was running. It could not be replaced: recovery is switched off."
    )
    assert error.hint == "Reconnect."
    await logged(proxy, "WARNING upstream lost.*state=idle.*code=08006")
    await logged(proxy, "session closed.*reason=upstream_lost")


async def test_lost_while_idle_a_session_is_recovered(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(proxy) as client:
        assert await client.ask("select 1") == ["1"]
        emulator.expire_sessions()
        await logged(proxy, "INFO upstream lost.*state=idle")
        await logged(proxy, "INFO session recovered")
        assert await client.ask("select 2") == ["2"]
        assert emulator.open_sessions == 1


async def test_lost_at_the_session_limit(postgres: EmbeddedPostgres) -> None:
    async with (
        running_emulator(postgres, session_limit=0.3) as emulator,
        running_proxy(emulator, recovery="off") as proxy,
        RawClient.session(proxy) as client,
    ):
        assert (await ended_with(client)).sqlstate == "08006"


async def test_lost_in_a_transaction(proxy: RunningProxy, emulator: Emulator) -> None:
    async with RawClient.session(proxy) as client:
        await client.ask("begin")
        emulator.expire_sessions()
        error = await ended_with(client)
    assert (error.sqlstate, error.message) == ("08006", LOST)
    assert error.detail == "The open transaction was rolled back."
    assert error.hint == "Reconnect and repeat the transaction."


async def test_lost_in_a_failed_transaction(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(proxy) as client:
        await client.ask("begin")
        await client.send(query("nonsense"))
        await client.receive_until_ready()
        emulator.expire_sessions()
        error = await ended_with(client)
    assert error.detail == "The open transaction was rolled back."


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(query(SLEEP), id="simple"),
        pytest.param(parse(SLEEP) + BIND + EXECUTE + b"H\0\0\0\4", id="without-sync"),
    ],
)
async def test_lost_in_a_statement(
    proxy: RunningProxy, emulator: Emulator, postgres: EmbeddedPostgres, said: bytes
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(said)
        await until_active(postgres)
        emulator.expire_sessions()
        error = await ended_with(client)
    assert (error.sqlstate, error.message) == ("08006", LOST)
    assert error.detail == "A statement was running; its outcome is unknown."
    assert error.hint.startswith("Reconnect, and check whether it took effect")
    await logged(proxy, "upstream lost.*state=active")


async def test_lost_when_an_implicit_commit_may_have_happened(
    proxy: RunningProxy, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(parse(SLEEP) + BIND + EXECUTE + SYNC)
        await until_active(postgres)
        emulator.expire_sessions()
        error = await ended_with(client)
    assert (error.sqlstate, error.message) == ("08007", LOST)
    assert error.detail == "It is not known whether the transaction was committed."


async def test_lost_in_a_commit(emulator: Emulator, tmp_path: Path) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive_frame()
        await peer.send(frame(ord("C"), b"BEGIN\0"), READY[:-1] + b"T")
        await peer.receive_frame()  # COMMIT, and nothing is ever heard of it

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.ask("begin")
        await client.send(query("commit"))
        error = await ended_with(client)
    assert error.sqlstate == "08007"


async def test_a_client_that_ended_its_side_still_hears_of_the_loss(
    proxy: RunningProxy, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    # It waited for an answer and got an end in order, as if there were none.
    async with RawClient.session(proxy) as client:
        await client.send(query(SLEEP))
        await until_active(postgres)
        client.end_writing()
        (open_session,) = proxy.proxy._sessions
        await until(
            lambda: open_session._kept and open_session._kept.relay.state == "finishing"
        )
        emulator.expire_sessions()
        assert (await ended_with(client)).sqlstate == "08006"


async def test_psycopg_hears_of_it_with_its_next_query(
    unrecovered: RunningProxy, emulator: Emulator
) -> None:
    proxy = unrecovered
    connection = await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True)
    async with connection:
        emulator.expire_sessions()
        await all_ended(proxy, emulator)
        with pytest.raises(psycopg.OperationalError, match=LOST):
            await connection.execute("select 1")
        assert connection.broken


# -- a FATAL of the cluster's own ------------------------------------------------------


@pytest.mark.parametrize("said", [b"", query("begin"), query(SLEEP)])
async def test_a_fatal_of_the_cluster_is_told_once(
    unrecovered: RunningProxy,
    emulator: Emulator,
    postgres: EmbeddedPostgres,
    said: bytes,
) -> None:
    proxy = unrecovered
    async with RawClient.session(proxy) as client:
        await client.send(said)
        if said == query(SLEEP):
            await until_active(postgres)
        elif said:
            await client.receive_until_ready()
        emulator.end_sessions("57P01")
        error = await ended_with(client)
    assert error.sqlstate == "57P01"
    assert error.message == "terminating connection due to administrator command"
    await logged(proxy, "session closed.*reason=upstream_ended")


async def test_a_fatal_of_the_cluster_in_an_idle_session_is_not_told(
    proxy: RunningProxy, emulator: Emulator
) -> None:
    async with RawClient.session(proxy) as client:
        emulator.end_sessions("57P01")
        await logged(proxy, "INFO session recovered")
        assert await client.ask("select 1") == ["1"]


async def test_a_fatal_reaches_a_client_that_is_sending(
    emulator: Emulator, tmp_path: Path
) -> None:
    # Closing at once would reset a connection with unread bytes in it, and the reset
    # can overtake the error.
    fatal = ErrorResponse.build("FATAL", "57P01", "going down").encode()

    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive(1000)
        await peer.send(fatal)
        peer._socket.shutdown(socket.SHUT_WR)
        await peer.receive_rest()

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        sent = 0
        try:
            while sent < 200:
                await client.send(query("x" * 60_000))
                sent += 1
                await asyncio.sleep(0)
        except ConnectionError:
            pytest.fail(f"the connection was reset after {sent} messages")
        client.end_writing()
        assert (await ended_with(client)).sqlstate == "57P01"


# -- in the middle of the stream -------------------------------------------------------


@pytest_asyncio.fixture
async def plain(postgres: EmbeddedPostgres) -> AsyncIterator[Emulator]:
    async with running_emulator(postgres, has_rules=False) as emulator:
        yield emulator


ASKED = query("select 'abc', 12345 from generate_series(1, 3)") + query("begin")


async def asked(client: RawClient) -> bytes:
    await client.send(ASKED)
    frames = await client.receive_until_ready()
    frames += await client.receive_until_ready()
    return b"".join(frame(*each) for each in frames)


async def test_a_reset_at_any_byte_is_told_at_a_boundary_or_not_at_all(
    plain: Emulator,
) -> None:
    async with running_proxy(plain) as proxy:
        async with RawClient.session(proxy) as client:
            expected = await asked(client)
        for cut in range(1, len(expected), 7):
            async with RawClient.session(proxy) as client:
                plain.reset_after(bytes=cut)
                await client.send(ASKED)
                received = await client.receive_rest()
                plain.clear_faults()
            frames, rest = whole_frames(received)
            if rest:  # the beginning of a frame was on its way already
                assert expected.startswith(received)
                assert len(received) <= cut
            else:
                assert fatal_in(frames.pop()).sqlstate in {"08006", "08007"}
                passed = b"".join(frame(*each) for each in frames)
                assert expected.startswith(passed)
        await all_ended(proxy, plain)
        assert " ERROR " not in proxy.log.getvalue()


@pytest.mark.parametrize("cut", [0, 34, 40])  # the first frame has 34
async def test_a_cluster_that_stalls_does_not_hold_a_client_that_leaves(
    plain: Emulator, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEAVE_SECONDS", 0.2)
    async with running_proxy(plain) as proxy:
        async with RawClient.session(proxy) as client:
            plain.stall_after(bytes=cut)
            await client.send(query("select 1"))
            if cut:
                await client.receive(cut)
            client.reset()
        await all_ended(proxy, plain)


async def test_half_a_frame_is_followed_by_nothing(
    emulator: Emulator, tmp_path: Path
) -> None:
    half = b"D\0\0\0\x20half a row"

    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive_frame()
        await peer.send(half)

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(query("select 1"))
        assert await client.receive_rest() == half
        client.close()
        await logged(proxy, "session closed.*reason=upstream_lost")


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\xff\xff\xff\xff\xff\xff", id="unknown-type"),
        pytest.param(b"D\0\0\0\0", id="impossible-length"),
        pytest.param(b"D\x7f\xff\xff\xff", id="endless-row"),
        pytest.param(b"Z\0\0\0\x05?", id="unknown-status"),
    ],
)
async def test_what_the_proxy_does_not_understand_is_the_clients_to_judge(
    emulator: Emulator, tmp_path: Path, noise: bytes
) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive_frame()
        await peer.send(noise + b"and more")

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(query("select 1"))
        assert await client.receive_rest() == noise + b"and more"
        client.close()
        await logged(proxy, "session closed.*reason=upstream_lost")
        assert " ERROR " not in proxy.log.getvalue()
