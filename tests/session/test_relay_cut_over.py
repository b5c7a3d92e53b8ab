"""Another upstream under a living session: lost ones, new ones, and the cut between."""

import ast
import asyncio
import inspect
import textwrap
from collections.abc import Callable

import pytest

from dsqlproxy.session import relay as relay_module
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay import Relay
from dsqlproxy.session.relay_state import RelayState
from tests.kit.channels import TlsContexts, channel_and_peer, until
from tests.kit.frames import (
    TERMINATE,
    client,
    copy_data,
    data_row,
    server,
)
from tests.kit.relayed import FATAL, TOLD, relayed, turns

pytestmark = pytest.mark.both_loops

KIB = 1024
MIB = 1024 * KIB


# -- cutting over ----------------------------------------------------------------------


async def test_the_client_is_told_what_is_new_and_its_next_request_goes_on(
    perhaps_tls: TlsContexts | None,
) -> None:
    async with (
        relayed(perhaps_tls) as between,
        channel_and_peer(perhaps_tls) as (channel, new),
    ):
        await between.ask(client("Q"), server("CZ"))
        between.relay.pause()
        await between.kept(client("QPB"))
        between.relay.cut_over(channel, TOLD)
        assert await between.client.receive(len(TOLD)) == TOLD
        assert await new.receive(len(client("QPB"))) == client("QPB")
        assert between.relay.upstream is channel
        assert between.relay.state is RelayState.RUNNING
        await between.client.send(client("ES"))
        assert await new.receive(len(client("ES"))) == client("ES")
        await new.send(server("CZ12CZ"))
        assert await between.client.receive(len(server("CZ12CZ"))) == server("CZ12CZ")
        assert between.relay.at_swap_point
        # I7: of the client's nothing more has gone to the old one.
        assert await between.server.receive_rest() == TERMINATE


async def test_what_is_new_is_told_before_any_answer_of_the_new_upstream() -> None:
    async with relayed() as between, channel_and_peer() as (channel, new):
        between.relay.pause()
        await new.send(server("N"))
        await until(lambda: channel.has_unread)
        between.relay.cut_over(channel, TOLD)
        said = TOLD + server("N")
        assert await between.client.receive(len(said)) == said


async def test_bytes_are_counted_over_all_upstreams() -> None:
    async with relayed() as between, channel_and_peer() as (channel, new):
        await between.ask(client("Q"), server("CZ"))
        before = between.relay.bytes_out
        between.relay.pause()
        between.relay.cut_over(channel, b"")
        assert between.relay.bytes_out == before
        await new.send(server("N"))
        await between.client.receive(len(server("N")))
        assert between.relay.bytes_out == before + len(server("N"))


async def test_what_the_old_upstream_still_says_is_not_the_client_s() -> None:
    async with relayed() as between, channel_and_peer() as (channel, new):
        between.relay.pause()
        between.relay.cut_over(channel, b"")
        await between.server.send(server("NSF"))
        assert await between.server.receive_rest() == TERMINATE
        between.server.close()
        await turns()
        await new.send(server("A"))
        assert await between.client.receive(len(server("A"))) == server("A")
        assert between.relay.state is RelayState.RUNNING


async def test_an_old_upstream_that_takes_nothing_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_module, "RETIRE_SECONDS", 0.01)
    said = client("S") * 1_000_000
    async with (
        relayed(buffer_bytes=16 * KIB) as between,
        channel_and_peer() as (channel, _),
    ):
        old = between.relay.upstream
        await between.client.send_what_fits(said)
        assert old.is_writing_paused
        between.relay.tracker.__init__()  # type: ignore[misc] # as if all were answered
        between.relay.pause()
        between.relay.cut_over(channel, b"")
        await old.wait_closed()


# The new one was read on while the client was not, and what it said piled up.
async def test_a_client_that_does_not_read_holds_the_new_upstream_back() -> None:
    rows = data_row(bytes(10_000)) * 4_000  # 40 MB
    async with (
        relayed() as between,
        channel_and_peer(buffer_bytes=16 * KIB) as (channel, new),
    ):
        between.relay.pause()
        between.relay.client.pause_writing()  # as its transport does
        between.relay.cut_over(channel, b"")
        await between.client.send(client("Q"))
        assert await new.receive(len(client("Q"))) == client("Q")
        sent = await new.send_what_fits(rows)
        assert sent < 4 * MIB
        assert between.relay.bytes_out == 0
        between.relay.client.resume_writing()
        async with asyncio.TaskGroup() as group:
            group.create_task(new.send(rows[sent:]))
            assert await between.client.receive(len(rows)) == rows


async def test_a_new_upstream_that_does_not_read_holds_the_client_back() -> None:
    said = copy_data(bytes(10_000)) * 1_000
    async with (
        relayed(buffer_bytes=16 * KIB) as between,
        channel_and_peer(buffer_bytes=16 * KIB) as (channel, new),
    ):
        between.relay.pause()
        between.relay.cut_over(channel, b"")
        async with asyncio.TaskGroup() as group:
            group.create_task(between.client.send(said))
            await until(lambda: channel.is_writing_paused)
            await turns(200)
            assert between.relay.bytes_in < 4 * MIB
            assert await new.receive(len(said)) == said


# SWAP 3.6, ordering 14: at the very moment.
@pytest.mark.parametrize("said", [FATAL, server("N") + FATAL])
async def test_a_new_upstream_that_had_said_it_ends_is_replaced_too(
    said: bytes,
) -> None:
    async with (
        relayed(is_kept=True) as between,
        channel_and_peer() as (second, dying),
        channel_and_peer() as (third, new),
    ):
        between.relay.pause()
        await between.kept(client("Q"))
        await dying.send(said)
        await until(lambda: second.has_unread)
        between.relay.cut_over(second, b"")
        assert between.keeper.told == ["lost"]
        await between.lost()
        assert between.held_bytes == len(client("Q"))
        between.relay.cut_over(third, b"")
        assert await new.receive(len(client("Q"))) == client("Q")


async def test_a_new_upstream_that_was_gone_is_replaced_too() -> None:
    async with (
        relayed(is_kept=True) as between,
        channel_and_peer() as (second, dying),
        channel_and_peer() as (third, new),
    ):
        between.relay.pause()
        await between.kept(client("Q"))
        dying.close()
        await until(lambda: second.has_ended)
        between.relay.cut_over(second, b"")
        await between.lost()
        between.relay.cut_over(third, b"")
        assert await new.receive(len(client("Q"))) == client("Q")


async def test_a_new_upstream_that_was_gone_ends_a_session_without_a_keeper() -> None:
    async with relayed() as between, channel_and_peer() as (channel, dying):
        between.relay.pause()
        await between.kept(client("Q"))
        dying.close()
        await until(lambda: channel.has_ended)
        between.relay.cut_over(channel, b"")
        assert (await between.ending()).reason is CloseReason.UPSTREAM_LOST


@pytest.mark.parametrize("is_closed", [False, True])
async def test_only_a_paused_relay_gets_another_upstream(is_closed: bool) -> None:
    async with relayed() as between, channel_and_peer() as (channel, _):
        if is_closed:
            between.relay.stop()
        state, old = between.relay.state, between.relay.upstream
        with pytest.raises(AssertionError, match="only in a paused relay"):
            between.relay.cut_over(channel, b"")
        assert (between.relay.state, between.relay.upstream) == (state, old)


# SWAP, catalogue 43: one turn of the loop, by construction.
@pytest.mark.parametrize(
    "function",
    [Relay.cut_over, Relay.pause, Relay.release, Relay.withhold, Kept.adopt],
)
def test_the_point_of_no_return_waits_for_nothing(
    function: Callable[..., object],
) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    waiting = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)
    assert isinstance(tree.body[0], ast.FunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, waiting)]
