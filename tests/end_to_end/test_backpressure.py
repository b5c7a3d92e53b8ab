"""Peers that do not read: memory stays flat, and the session works afterwards."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dsqlproxy.channel.channel import Channel
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import ReadyForQuery
from tests.end_to_end.clusters import log_in, proxy_before
from tests.end_to_end.wire import SOON, RawClient, fatal_in, query, startup, until
from tests.kit.processes import Program, environ_for, flags_for, program
from tests.kit.scripted import Conversation
from tests.kit.stack import RunningProxy, running_emulator
from tests.upstream.wire import READY, Authority

ROWS = 300_000
LARGE = "select repeat('x', 1000) from generate_series(1, 300000)"
FLAT_KIB = 8 * 1024
"""What a session may cost while 300 MB wait for it: buffers, and no more."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def peak_kib(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def upstream_of(proxy: RunningProxy) -> Channel:
    """Give the upstream's channel of the only session."""
    (session,) = proxy.proxy._sessions
    assert session._kept is not None
    return session._kept.upstream.channel


def unsent_bytes(channel: Channel) -> int:
    assert channel._transport is not None
    return channel._transport.get_write_buffer_size()


@asynccontextmanager
async def dial(proxy: Program) -> AsyncIterator[RawClient]:
    async with asyncio.timeout(25), await RawClient.dial(proxy.host, proxy.port) as it:
        await it.send(startup())
        await it.receive_greeting()
        yield it


async def settled(value: Callable[[], int]) -> int:
    """Wait until a value has not changed for a while; give it."""
    async with asyncio.timeout(SOON):
        before = -1
        while before != (before := value()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.3)
    return before


async def drain(client: RawClient, answers: int = 1) -> tuple[int, str]:
    """Read answers to their ReadyForQuery without keeping them; count their rows."""
    rows, others, rest = 0, "", b""
    loop = asyncio.get_running_loop()
    while others.count("Z") < answers:
        rest += await loop.sock_recv(client._socket, 1 << 20)
        start = 0
        while len(rest) - start >= 5:
            end = start + 1 + int.from_bytes(rest[start + 1 : start + 5])
            if end > len(rest):
                break
            if rest[start] == BackendType.DATA_ROW:
                rows += 1
            else:
                others += chr(rest[start])
            start = end
        rest = rest[start:]
    return rows, others


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_client_that_does_not_read_costs_no_memory(
    postgres: EmbeddedPostgres, tmp_path: Path, loop: str
) -> None:
    async with (
        running_emulator(postgres, has_rules=False) as emulator,
        program(
            *flags_for(emulator),
            *("--event-loop", loop),
            directory=tmp_path,
            environ=environ_for(emulator),
        ) as proxy,
        dial(proxy) as client,
    ):
        assert await client.ask("select 1") == ["1"]
        before = peak_kib(proxy.pid)
        await client.send(query(LARGE))
        await settled(lambda: resident_kib(proxy.pid))
        assert await drain(client) == (ROWS, "TCZ")
        assert peak_kib(proxy.pid) - before < FLAT_KIB
        assert await client.ask("select 'well'") == ["well"]


async def test_an_upstream_that_does_not_read_costs_no_memory(
    emulator: Emulator, tmp_path: Path
) -> None:
    """COPY towards a cluster that is busy with something else."""
    size = 100_000_000
    chunk = frame(FrontendType.COPY_DATA, b"x" * 65_531)
    go_on = asyncio.Event()
    taken = 0

    async def play(peer: Conversation) -> None:
        nonlocal taken
        await log_in(peer)
        await peer.receive_frame()
        await peer.send(frame(BackendType.COPY_IN_RESPONSE, b"\0\0\1\0\0"))
        await go_on.wait()
        while (await peer.receive_frame()).type == FrontendType.COPY_DATA:
            taken += 1
        await peer.send(frame(BackendType.COMMAND_COMPLETE, b"COPY 1\0"), READY)
        await peer.receive_rest()

    sent = 0
    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(query("copy t from stdin"))
        assert (await client.receive_frame()).type == BackendType.COPY_IN_RESPONSE

        async def send_all() -> None:
            nonlocal sent
            while sent * len(chunk) < size:
                await client.send(chunk)
                sent += 1
            await client.send(frame(FrontendType.COPY_DONE))

        async with asyncio.TaskGroup() as group:
            group.create_task(send_all())
            upstream = upstream_of(proxy)
            await until(lambda: upstream.is_writing_paused)
            # Sockets of both ways may be full, and nothing between them.
            assert await settled(lambda: sent) * len(chunk) < size / 2
            assert unsent_bytes(upstream) < FLAT_KIB * 1024
            go_on.set()
        frames = await client.receive_until_ready()
        assert [chr(each.type) for each in frames] == ["C", "Z"]
        assert taken == sent


async def test_both_may_stop_reading_at_once(
    emulator: Emulator, tmp_path: Path
) -> None:
    """A pipeline whose answers nobody takes, sent to a cluster that waits for that."""
    row = frame(BackendType.DATA_ROW, b"\0\1\0\0\x27\x10" + b"x" * 10_000)
    count = 3_000

    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive_frame()
        for _ in range(count):  # blocks when the client's side is full
            await peer.send(row)
        await peer.send(READY)
        for _ in range(count):
            await peer.receive_frame()
        await peer.send(READY)
        await peer.receive_rest()

    async with (
        proxy_before(emulator, Authority.make(tmp_path), play) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.send(query("select 1"))
        sync = frame(FrontendType.QUERY, b"select " + b"1" * 10_000 + b"\0")

        async def ask() -> None:
            for _ in range(count):
                await client.send(sync)

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            upstream = upstream_of(proxy)
            await until(lambda: upstream.is_writing_paused)
            (session,) = proxy.proxy._sessions
            await until(lambda: session._client.is_writing_paused)
            assert await drain(client) == (count, "Z")
        ready = frame(*await client.receive_frame())
        assert ready == ReadyForQuery.decode(b"I").encode()


async def test_a_session_goes_on_where_its_client_began_to_read_late(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """With the smallest of buffers every byte waits for its turn."""
    async with (
        running_emulator(postgres, has_rules=False) as emulator,
        program(
            *flags_for(emulator), directory=tmp_path, environ=environ_for(emulator)
        ) as proxy,
    ):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.setblocking(False)
        async with asyncio.timeout(SOON):
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, (proxy.host, proxy.port))
            async with RawClient(connection) as client:
                await client.send(startup())
                await client.receive_greeting()
                sql = "select repeat('x', 1000) from generate_series(1, 3000)"
                await client.send(query(sql) + query(sql))
                await asyncio.sleep(0.2)  # nothing is read; both ways fill up
                assert await drain(client, answers=2) == (6000, "TCZTCZ")


async def test_a_stalled_client_hears_of_the_end_when_it_reads(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with (
        running_emulator(postgres, has_rules=False) as emulator,
        program(
            *flags_for(emulator), directory=tmp_path, environ=environ_for(emulator)
        ) as proxy,
        dial(proxy) as client,
    ):
        await client.send(query("begin"))
        await client.receive_until_ready()
        sql = "select repeat('x', 1000) from generate_series(1, 200)"
        await client.send(query(sql))
        await settled(lambda: resident_kib(proxy.pid))
        emulator.expire_sessions()
        rows, others = 0, ""
        while not others.endswith("Z"):
            kind, _ = await client.receive_frame()
            rows += kind == BackendType.DATA_ROW
            others += chr(kind) if kind != BackendType.DATA_ROW else ""
        assert (rows, others) == (200, "TCZ")
        assert fatal_in(await client.receive_frame()).sqlstate == "08006"
