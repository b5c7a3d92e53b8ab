"""One conversation with a scripted peer."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dsqlproxy.errors import ConnectionLost, ProtocolError
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.messages import TERMINATE
from dsqlproxy.probe.line import MAX_FRAMES, Line
from dsqlproxy.probe.reply import Ending
from dsqlproxy.probe.requests import query
from tests.kit.frames import error, ready, server
from tests.kit.scripted import Conversation, Script
from tests.probe.kit import QUICK, scripted_cluster
from tests.upstream.wire import Authority

pytestmark = pytest.mark.both_loops

ASKED = query("SELECT 1")


@asynccontextmanager
async def line_to(script: Script, authority: Authority) -> AsyncIterator[Line]:
    """Give a line whose other side follows a script, under TLS."""

    async def secured(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        await script(peer)

    async with (
        scripted_cluster(secured, authority, pace=QUICK) as cluster,
        cluster.secured() as line,
    ):
        yield line


def sends(*parts: bytes, reset: bool = False) -> Script:
    async def script(peer: Conversation) -> None:
        await peer.receive(len(ASKED))
        await peer.send(*parts)
        if reset:
            peer.reset()

    return script


async def test_a_reply_ends_with_the_last_ready_for_query(authority: Authority) -> None:
    async with line_to(sends(server("CZCZC")), authority) as line:
        reply = await line.ask(ASKED, units=2)
        assert (reply.types, reply.is_whole) == ("C Z C Z", True)
        rest = await line.hear()
    assert (rest.types, rest.ending, rest.is_whole) == ("C", Ending.CLOSED, False)


async def test_another_frame_may_be_the_last(authority: Authority) -> None:
    async with line_to(sends(server("1tTDZ")), authority) as line:
        line.send(ASKED)
        reply = await line.hear(
            is_last=lambda one: one.type == BackendType.ROW_DESCRIPTION
        )
    assert (reply.types, reply.is_whole) == ("1 t T", True)


async def test_silence_leaves_what_came(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        await peer.send(server("T"), ready()[:3])
        await peer.receive(len(ASKED))
        await peer.send(ready()[3:])

    async with line_to(script, authority) as line:
        early = await line.hear(seconds=0.1)
        assert (early.types, early.verdict) == ("T", "silence")
        assert (await line.ask(ASKED)).types == "Z"  # half of it was there before


@pytest.mark.parametrize(
    ("parts", "is_reset", "ending"),
    [
        ((), False, Ending.CLOSED),
        ((), True, Ending.RESET),
        ((error("the end", severity="FATAL", sqlstate="57P01"),), False, Ending.CLOSED),
    ],
)
async def test_an_end_is_told_with_what_came_before(
    parts: tuple[bytes, ...], is_reset: bool, ending: Ending, authority: Authority
) -> None:
    async with line_to(sends(*parts, reset=is_reset), authority) as line:
        line.send(ASKED)
        reply = await line.hear(units=None)
        assert (reply.ending, len(reply.frames)) == (ending, len(parts))


async def test_a_goodbye_of_tls_is_told_apart(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        assert peer._tls is not None
        with pytest.raises(ssl.SSLWantReadError):
            peer._tls.unwrap()
        await peer._loop.sock_sendall(peer._socket, peer._outgoing.read())
        await peer.receive_rest()

    async with line_to(script, authority) as line:
        assert (await line.hear()).ending is Ending.GOODBYE


async def test_broken_tls_is_neither_end(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        await peer._loop.sock_sendall(peer._socket, b"\x17\x03\x03\x00\x05noise")
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await peer.receive_rest()

    async with line_to(script, authority) as line:
        assert (await line.hear()).ending is Ending.BROKEN


async def test_who_asks_wants_a_whole_answer(authority: Authority) -> None:
    async with line_to(sends(error("no", severity="FATAL")), authority) as line:
        with pytest.raises(ConnectionLost, match=r"closed \(FIN\), after FATAL 22012"):
            await line.ask(ASKED)
    async with line_to(sends(), authority) as line:
        with pytest.raises(ConnectionLost, match="without a word"):
            await line.run("SELECT 1")


async def test_a_change_of_the_schema_is_worth_another_try(
    authority: Authority,
) -> None:
    conflict = error("schema has been updated (OC001)", sqlstate="40001") + ready()

    async def script(peer: Conversation) -> None:
        await peer.receive(len(ASKED))
        await peer.send(conflict)
        await peer.receive(len(ASKED))
        await peer.send(server("CZ"))
        await peer.receive(len(ASKED))
        await peer.send(server("C"), conflict)  # something was done

    async with line_to(script, authority) as line:
        assert (await line.ask(ASKED)).types == "C Z"
        assert (await line.ask(ASKED)).sqlstate == "40001"


async def test_frames_without_end_are_not_collected(authority: Authority) -> None:
    async with line_to(sends(server("D") * (MAX_FRAMES + 1)), authority) as line:
        with pytest.raises(ProtocolError, match="without end"):
            await line.ask(ASKED)


async def test_closing_says_goodbye(authority: Authority) -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(peer: Conversation) -> None:
        heard.set_result(await peer.receive_rest())

    async with line_to(script, authority) as line:
        await line.close()
        assert await heard == TERMINATE
        assert line.age_seconds >= 0
        assert line.key is None
