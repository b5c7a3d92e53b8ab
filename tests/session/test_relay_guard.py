"""The first message after a while: the keeper is asked before it goes on."""

import pytest

from dsqlproxy.session.relay_state import RelayState
from tests.kit.channels import until
from tests.kit.frames import (
    client,
    query,
    server,
)
from tests.kit.relayed import relayed, turns

pytestmark = pytest.mark.both_loops

KIB = 1024
MIB = 1024 * KIB
LARGE = query("x" * (3 * MIB))
"""Passed on in parts, being over 64 KiB; and more than a hold takes."""


# -- before the first message after a while --------------------------------------------


async def test_only_the_first_message_is_looked_at() -> None:
    async with relayed(is_kept=True) as between:
        between.relay.guard()
        await between.ask(client("Q"), server("CZ"))
        await between.ask(client("Q"), server("CZ"))
        assert between.keeper.told == ["first message"]


async def test_the_first_message_is_kept_where_the_keeper_pauses() -> None:
    async with relayed(is_kept=True) as between:
        between.keeper.on_first_message = between.relay.pause
        between.relay.guard()
        await between.kept(client("Q"))
        assert between.relay.state is RelayState.PAUSED
        between.relay.release()
        await between.hears(client("Q"))
        assert between.keeper.told == ["first message"]


async def test_the_first_message_goes_on_where_the_keeper_pauses_and_releases() -> None:
    async with relayed(is_kept=True) as between:

        def look() -> None:
            between.relay.pause()
            between.relay.release()

        between.keeper.on_first_message = look
        between.relay.guard()
        await between.ask(client("Q"), server("CZ"))
        assert between.relay.at_swap_point


async def test_half_a_first_message_is_looked_at_and_joined() -> None:
    said = query("select 'whole'")
    async with relayed(is_kept=True) as between:
        between.keeper.on_first_message = between.relay.pause
        await between.client.send(said[:7])
        await turns()
        between.relay.guard()
        await between.client.send(said[7:])
        await until(lambda: between.held_bytes == len(said))
        between.relay.release()
        await between.hears(said)


# The end of a pause was taken for a message of the client's.
async def test_a_pause_without_a_message_is_no_first_message() -> None:
    async with relayed(is_kept=True) as between:
        between.relay.guard()
        between.relay.pause()
        between.relay.release()
        assert between.keeper.told == []
        await between.ask(client("Q"))
        assert between.keeper.told == ["first message"]


async def test_a_guard_without_a_keeper_lets_everything_pass() -> None:
    async with relayed() as between:
        between.relay.guard()
        await between.ask(client("Q"), server("CZ"))
