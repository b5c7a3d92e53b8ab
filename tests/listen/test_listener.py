import errno
import socket

import pytest

from dsqlproxy.channel.channel import Channel
from dsqlproxy.config import TcpAddress
from dsqlproxy.listen.listener import Listener
from tests.kit.listening import Accepted, bind, listening, refusal
from tests.kit.scripted import Conversation

pytestmark = pytest.mark.both_loops


def port_of(listener: Listener) -> int:
    assert isinstance(listener.bound, TcpAddress)
    return listener.bound.port


async def talk(channel: Channel, peer: Conversation) -> None:
    """Show that the two are connected."""
    await peer.send(b"question")
    assert await channel.read() == b"question"
    channel.write(b"answer")
    assert await peer.receive(6) == b"answer"
    channel.abort()
    await channel.wait_closed()


# -- TCP -------------------------------------------------------------------------------


async def test_port_zero_is_any_free_port() -> None:
    async with listening(TcpAddress("127.0.0.1", 0)) as (listener, accepted):
        assert port_of(listener) > 0
        async with await Conversation.dial("127.0.0.1", port_of(listener)) as peer:
            await talk(await accepted.one(), peer)


async def test_several_connections_are_several_channels() -> None:
    async with listening(TcpAddress("127.0.0.1", 0)) as (listener, accepted):
        port = port_of(listener)
        async with (
            await Conversation.dial("127.0.0.1", port) as first,
            await Conversation.dial("127.0.0.1", port) as second,
        ):
            one, two = await accepted.one(), await accepted.one()
            assert one is not two
            await talk(one, first)
            await talk(two, second)


def _has(host: str) -> bool:
    try:
        with socket.create_server((host, 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not _has("::1"), reason="no ::1 here")


@needs_ipv6
async def test_localhost_is_both_families_on_one_port() -> None:
    async with listening(TcpAddress("localhost", 0)) as (listener, accepted):
        found = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
        hosts = {str(address[4][0]) for address in found}
        for host in sorted(hosts):
            async with await Conversation.dial(host, port_of(listener)) as peer:
                await talk(await accepted.one(), peer)


@needs_ipv6
async def test_both_families_of_a_name_are_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _resolve(monkeypatch, "127.0.0.1", "::1", "127.0.0.1")
    async with listening(TcpAddress("both.example", 0)) as (listener, accepted):
        monkeypatch.undo()
        for host in ("127.0.0.1", "::1"):
            async with await Conversation.dial(host, port_of(listener)) as peer:
                await talk(await accepted.one(), peer)


@needs_ipv6
async def test_an_ipv6_address_alone() -> None:
    async with listening(TcpAddress("::1", 0)) as (listener, accepted):
        async with await Conversation.dial("::1", port_of(listener)) as peer:
            await talk(await accepted.one(), peer)
        with pytest.raises(ConnectionRefusedError):
            await Conversation.dial("127.0.0.1", port_of(listener))


# A container without ::1 has a localhost that names it all the same.
async def test_an_address_that_is_not_here_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _resolve(monkeypatch, "2001:db8::1", "127.0.0.1")
    async with listening(TcpAddress("both.example", 0)) as (listener, accepted):
        monkeypatch.undo()
        async with await Conversation.dial("127.0.0.1", port_of(listener)) as peer:
            await talk(await accepted.one(), peer)


# The port that the kernel chose for one family may be taken in the other.
@needs_ipv6
async def test_a_port_that_is_free_in_one_family_only_is_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _resolve(monkeypatch, "127.0.0.1", "::1")
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        drawn = iter([port])
        original = socket.socket.bind

        def draw(self: socket.socket, address: tuple[str, int]) -> None:
            if address[1] == 0:  # the kernel's choice, made for it once
                address = (address[0], next(drawn, 0), *address[2:])
            original(self, address)

        monkeypatch.setattr(socket.socket, "bind", draw)
        listener = bind(TcpAddress("both.example", 0))
        assert port_of(listener) not in {0, port}
        assert len(listener._sockets) == 2
        listener.close()


def _resolve(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let every name have these addresses."""
    original = socket.getaddrinfo

    def answer(_name: str, port: int, *rest: int, **hints: int) -> list[object]:
        found = [original(host, port, *rest, **hints) for host in hosts]
        return [address for addresses in found for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


async def test_only_addresses_that_are_not_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _resolve(monkeypatch, "192.0.2.1", "2001:db8::1")
    error = refusal(TcpAddress("far.example", 1))
    assert "cannot listen on far.example:1" in error.message
    assert "address of this machine" in error.hint


async def test_an_address_of_another_machine() -> None:
    error = refusal(TcpAddress("192.0.2.1", 5432))
    assert "cannot listen on 192.0.2.1:5432" in error.message
    assert "address of this machine" in error.hint


async def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "Name or service" in refusal(TcpAddress("nowhere.example", 5432)).message


async def test_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve(monkeypatch, "::1", "127.0.0.1")
    original = socket.socket

    def without_ipv6(family: int = -1, *rest: int, **named: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported")
        return original(family, *rest, **named)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    listener = bind(TcpAddress("localhost", 0))
    assert [bound.family for bound in listener._sockets] == [socket.AF_INET]
    listener.close()


async def test_a_taken_port_is_said_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refusal(TcpAddress("127.0.0.1", port))
    assert f"127.0.0.1:{port}" in error.message
    assert "taken" in error.message
    assert "--listen 127.0.0.1:0" in error.hint


@needs_ipv6
async def test_a_port_taken_in_one_family_is_not_bound_in_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _resolve(monkeypatch, "127.0.0.1", "::1")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        assert "taken" in refusal(TcpAddress("both.example", port)).message
        socket.create_server(("127.0.0.1", port)).close()


async def test_a_port_can_be_bound_again_at_once() -> None:
    async with listening(TcpAddress("127.0.0.1", 0)) as (listener, accepted):
        port = port_of(listener)
        async with await Conversation.dial("127.0.0.1", port):
            (await accepted.one()).close()
    async with listening(TcpAddress("127.0.0.1", port)) as (listener, _):
        assert port_of(listener) == port


async def test_close_stops_accepting_and_keeps_what_was_accepted() -> None:
    async with listening(TcpAddress("127.0.0.1", 0)) as (listener, accepted):
        port = port_of(listener)
        async with await Conversation.dial("127.0.0.1", port) as peer:
            channel = await accepted.one()
            listener.close()
            listener.close()
            with pytest.raises(ConnectionRefusedError):
                await Conversation.dial("127.0.0.1", port)
            await talk(channel, peer)


async def test_a_connection_that_was_reset_before_it_was_accepted() -> None:
    accepted = Accepted()
    listener = Listener(TcpAddress("127.0.0.1", 0), name="main", on_accept=accepted)
    listener.bind()
    (await Conversation.dial("127.0.0.1", port_of(listener))).reset()
    await listener.start()
    channel = await accepted.one()
    assert channel.peer_name
    with pytest.raises(ConnectionError):
        await channel.read()
    await channel.wait_closed()
    listener.close()
