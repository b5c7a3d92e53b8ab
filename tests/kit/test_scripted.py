import ssl
from pathlib import Path

import pytest

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.messages import SYNC
from dsqlproxy.pgproto.startup import SSLRequest
from tests.kit.scripted import Conversation, EndOfStream, scripted_server
from tests.upstream.wire import CLUSTER, Authority


async def test_client_and_server_speak_under_tls(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    seen: list[object] = []

    async def script(peer: Conversation) -> None:
        seen.append(await peer.receive_packet())
        await peer.send(b"S")
        await peer.start_tls(authority.server_context())
        seen.append((await peer.receive_frame()).type)
        seen.append(peer.server_name)
        await peer.send(b"answer")

    context = ssl.create_default_context(cafile=authority.ca_file)
    async with (
        scripted_server(script) as server,
        await Conversation.dial(server.host, server.port) as client,
    ):
        await client.send(SSLRequest().encode())
        assert await client.receive(1) == b"S"
        await client.start_tls(context, server_hostname=CLUSTER)
        await client.send(SYNC)
        assert await client.receive_rest() == b"answer"
    assert seen == [SSLRequest(), FrontendType.SYNC, CLUSTER]


async def test_a_script_that_fails_fails_the_test() -> None:
    async def script(peer: Conversation) -> None:
        await peer.receive(5)

    async def talk() -> None:
        async with (
            scripted_server(script) as server,
            await Conversation.dial(server.host, server.port) as client,
        ):
            await client.send(b"four")

    with pytest.raises(ExceptionGroup) as caught:
        await talk()
    assert caught.group_contains(EndOfStream, match="four")


async def test_each_connection_plays_its_script() -> None:
    async def first(peer: Conversation) -> None:
        await peer.send(b"1")

    async def second(peer: Conversation) -> None:
        await peer.send(b"2")

    said = []
    async with scripted_server(first, second) as server:
        for _ in range(3):
            async with await Conversation.dial(server.host, server.port) as client:
                said.append(await client.receive_rest())
    assert said == [b"1", b"2", b"2"]
    assert server.connections == 3
