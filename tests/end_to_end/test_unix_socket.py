"""Clients over a unix socket: who may, what they get, and what is left of the file."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
import pytest_asyncio

from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.startup import SSLRequest
from tests.end_to_end.wire import all_ended, frames_in, logged, query, startup
from tests.kit.stack import RunningProxy, running_proxy


@pytest_asyncio.fixture
async def local(emulator: Emulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    async with running_proxy(emulator, listen=f"unix:{tmp_path}") as proxy:
        yield proxy


async def test_psycopg_names_the_directory(
    local: RunningProxy, emulator: Emulator
) -> None:
    async with await psycopg.AsyncConnection.connect(local.dsn()) as connection:
        cursor = await connection.execute("select current_user")
        assert await cursor.fetchone() == ("admin",)
    await all_ended(local, emulator)
    await logged(local, "session opened.*client=unix")


async def test_asyncpg_names_the_directory(local: RunningProxy) -> None:
    connection = await asyncpg.connect(
        host=local.host, port=local.port, user="admin", database="postgres"
    )
    assert await connection.fetchval("select 1") == 1
    await connection.close()


async def test_libpq_cancels_over_it(local: RunningProxy, emulator: Emulator) -> None:
    async with await psycopg.AsyncConnection.connect(local.dsn()) as connection:
        await connection.execute("select 1")
        await connection.cancel_safe()
    assert emulator.counts.cancels_forwarded == 1


async def test_another_port_names_another_file(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with running_proxy(emulator, listen=f"unix:{tmp_path}:6543") as proxy:
        assert proxy.port == 6543
        assert (tmp_path / ".s.PGSQL.6543").exists()
        async with await psycopg.AsyncConnection.connect(proxy.dsn()) as connection:
            await connection.execute("select 1")


async def test_a_full_path_is_taken_as_it_is(
    emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "proxy.sock"
    async with running_proxy(emulator, listen=f"unix:{path}"):
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
async def test_its_permissions_are_those_of_unix_mode(
    emulator: Emulator, tmp_path: Path, mode: int
) -> None:
    umask = os.umask(0o022)
    try:
        async with running_proxy(
            emulator, listen=f"unix:{tmp_path}", unix_mode=f"{mode:04o}"
        ):
            path = tmp_path / ".s.PGSQL.5432"
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(umask)


async def test_a_file_that_a_dead_proxy_left_is_no_obstacle(
    emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with (
        running_proxy(emulator, listen=f"unix:{tmp_path}") as proxy,
        await psycopg.AsyncConnection.connect(proxy.dsn()) as connection,
    ):
        await connection.execute("select 1")


async def test_a_living_ones_file_is_left_alone(
    local: RunningProxy, emulator: Emulator, tmp_path: Path
) -> None:
    with pytest.raises(ExceptionGroup, match="unhandled") as caught:
        async with running_proxy(emulator, listen=f"unix:{tmp_path}"):
            raise AssertionError("unreachable because the socket is taken")
    assert "the address is taken" in str(caught.value.exceptions[0])
    async with await psycopg.AsyncConnection.connect(local.dsn()) as connection:
        await connection.execute("select 1")


async def test_what_is_no_socket_is_left_alone(
    emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "notes.sock"
    path.write_text("precious")
    with pytest.raises(ExceptionGroup, match="unhandled"):
        async with running_proxy(emulator, listen=f"unix:{path}"):
            raise AssertionError("unreachable because the file is in the way")
    assert path.read_text() == "precious"


async def test_a_file_that_another_put_in_its_place_is_not_removed(
    emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / ".s.PGSQL.5432"
    async with running_proxy(emulator, listen=f"unix:{tmp_path}"):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


async def test_encryption_is_declined_and_an_end_of_stream_respected(
    local: RunningProxy, emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / ".s.PGSQL.5432"
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(SSLRequest().encode())
        assert await reader.readexactly(1) == b"N"
        writer.write(startup() + query("select 1"))
        writer.write_eof()
        frames = frames_in(await reader.read())
        assert "".join(chr(kind) for kind, _ in frames).endswith("ZTDCZ")
        writer.close()
        await all_ended(local, emulator)
