"""How a proxy ends in the middle of a result: never in the middle of a frame."""

import asyncio
from pathlib import Path

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import frame
from tests.end_to_end.clusters import log_in, proxy_before
from tests.end_to_end.ending import ends_shutting_down, stopped
from tests.end_to_end.wire import (
    RawClient,
    frames_in,
    logged,
    query,
    until,
)
from tests.kit.scripted import Conversation
from tests.kit.stack import running_emulator, running_proxy
from tests.upstream.wire import READY, Authority

AT_ONCE = 2.0
AT_ONCE = 2.0


async def test_at_the_deadline_the_last_word_follows_a_whole_frame(
    postgres: EmbeddedPostgres,
) -> None:
    rows = query("select repeat('x', 5000) from generate_series(1, 200000)")
    async with (
        running_emulator(postgres, has_rules=False) as emulator,
        running_proxy(emulator, drain_timeout="200ms") as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(rows)
        first = await client.receive(10_000)
        proxy.shutdown.request("SIGTERM")
        await logged(proxy, "draining")
        frames = frames_in(first + await client.receive_rest())
        assert [each.type for each in frames[:2]] == [
            BackendType.ROW_DESCRIPTION,
            BackendType.DATA_ROW,
        ]
        assert {each.type for each in frames[1:-1]} == {BackendType.DATA_ROW}
        ends_shutting_down(frames[-1])


async def test_the_rest_of_a_frame_is_waited_for_before_the_last_word(
    emulator: Emulator, tmp_path: Path
) -> None:
    row = frame(BackendType.DATA_ROW, b"\0\1" + (1000).to_bytes(4) + 1000 * b"x")
    go_on = asyncio.Event()

    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive_frame()
        await peer.send(row[:500])
        await go_on.wait()
        await peer.send(row[500:] + READY)
        await peer.receive_rest()

    async with (
        proxy_before(
            emulator, Authority.make(tmp_path), play, drain_timeout=0
        ) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(query("select 1"))
        assert await client.receive(500) == row[:500]
        proxy.shutdown.request("SIGTERM")
        await logged(proxy, "ending.*57P01")
        go_on.set()
        rest = await client.receive_rest()
        assert rest[:-1].startswith(row[500:])
        (last,) = frames_in(rest.removeprefix(row[500:]))
        ends_shutting_down(last)


async def test_a_frame_that_never_ends_is_not_waited_for(
    emulator: Emulator, tmp_path: Path
) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive_frame()
        await peer.send(b"D\0\0\1\0half")
        await peer.receive_rest()

    async with (
        proxy_before(
            emulator, Authority.make(tmp_path), play, drain_timeout=0
        ) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(query("select 1"))
        await client.receive(9)
        proxy.shutdown.request("SIGTERM")
        assert await client.receive_rest() == b""
        await stopped(proxy)


async def test_a_client_that_reads_nothing_does_not_hold_up_the_end(
    postgres: EmbeddedPostgres,
) -> None:
    rows = query("select repeat('x', 5000) from generate_series(1, 20000)")
    async with (
        running_emulator(postgres, has_rules=False) as emulator,
        running_proxy(emulator, drain_timeout=0) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(rows)
        (session,) = proxy.proxy._sessions
        await until(lambda: session._client.is_writing_paused)
        proxy.shutdown.request("SIGTERM")
        async with asyncio.timeout(5):
            await stopped(proxy)
