import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dsqlproxy.channel.channel import Channel
from dsqlproxy.config import UnixAddress
from tests.kit.listening import bind, listening, refusal

pytestmark = pytest.mark.both_loops


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".s.PGSQL.5432"


def exists(path: Path) -> bool:
    return path.exists()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def stale_socket(path: Path) -> Iterator[None]:
    """Leave a socket file behind, as a process that was killed does."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    yield


async def test_a_unix_socket_serves_clients(path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with listening(UnixAddress(str(path))) as (listener, accepted):
        assert listener.bound == UnixAddress(str(path))
        _, peer = await loop.create_unix_connection(Channel, str(path))
        peer.write(b"question")
        channel = await accepted.one()
        assert await channel.read() == b"question"
        assert channel.peer_name == "unix"
        for one in (peer, channel):
            one.abort()
            await one.wait_closed()
    assert not exists(path)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
def test_a_unix_socket_has_the_mode_asked_for(path: Path, mode: int) -> None:
    umask = os.umask(0o077)
    try:
        listener = bind(UnixAddress(str(path)), unix_mode=mode)
        assert mode_of(path) == mode
        assert os.umask(0o077) == 0o077  # as it was before
    finally:
        os.umask(umask)
    listener.close()


async def test_a_stale_socket_is_replaced(path: Path) -> None:
    with stale_socket(path):
        async with listening(UnixAddress(str(path))) as (_, accepted):
            loop = asyncio.get_running_loop()
            _, peer = await loop.create_unix_connection(Channel, str(path))
            for one in (peer, await accepted.one()):
                one.abort()
                await one.wait_closed()


def test_a_living_socket_is_kept(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        inode = path.stat().st_ino
        error = refusal(UnixAddress(str(path)))
        assert "taken" in error.message
        assert "another path" in error.hint
        assert "127.0.0.1" not in str(error)
        assert path.stat().st_ino == inode
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


async def test_a_second_listener_does_not_take_the_place_of_the_first(
    path: Path,
) -> None:
    async with listening(UnixAddress(str(path))):
        assert f"unix:{path}" in refusal(UnixAddress(str(path))).message
        assert exists(path)


def test_a_file_that_is_no_socket_is_kept(path: Path) -> None:
    path.write_text("precious")
    assert "taken" in refusal(UnixAddress(str(path))).message
    assert path.read_text() == "precious"


def test_another_s_socket_in_our_place_is_kept(path: Path) -> None:
    first = bind(UnixAddress(str(path)))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        first.close()
        assert path.exists()


def test_a_socket_file_already_gone_is_no_trouble_at_close(path: Path) -> None:
    listener = bind(UnixAddress(str(path)))
    path.unlink()
    listener.close()
    listener.close()


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    error = refusal(UnixAddress(str(tmp_path / "nowhere" / "socket")))
    assert "No such file or directory" in error.message
    assert "directory" in error.hint


def test_a_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    error = refusal(UnixAddress(str(tmp_path / ("x" * 120))))
    assert "too long" in error.message


@pytest.fixture
def not_ours() -> Iterator[Path]:
    """A directory in which we may see and not change anything; we are not root."""
    directory = Path(tempfile.mkdtemp(prefix="dsqlproxy-test-", dir="/tmp"))
    socket_path = directory / "socket"
    with stale_socket(socket_path):
        socket_path.chmod(0o777)
        directory.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield directory
        finally:
            if root:
                os.seteuid(0)
            directory.chmod(0o755)
            socket_path.unlink()
            directory.rmdir()


def test_a_stale_socket_that_cannot_be_removed_is_taken(not_ours: Path) -> None:
    assert "taken" in refusal(UnixAddress(str(not_ours / "socket"))).message


def test_a_directory_that_is_not_ours_is_said(not_ours: Path) -> None:
    error = refusal(UnixAddress(str(not_ours / "another")))
    assert "Permission denied" in error.message
    assert "rights" in error.hint
