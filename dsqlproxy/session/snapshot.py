"""Small private questions to an upstream: is it there, and what are its settings."""

import asyncio
import contextlib

from dsqlproxy.errors import SwapError
from dsqlproxy.pgproto.messages import SYNC
from dsqlproxy.session.exchange import settled
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.replay import Answers, Replica, Request

PING_SECONDS = 2.0
SNAPSHOT_SECONDS = 2.0


async def ping(kept: Kept) -> bool:
    """Ask the upstream of a quiet session whether it is there.

    A lone Sync: in an idle session it does nothing (measured on PostgreSQL 16, 18).
    The relay is left paused; without an answer its upstream is not to be used.
    """
    relay = kept.relay
    if relay.state is not RelayState.PAUSED:
        relay.pause()
    exchange = relay.ask(SYNC, Answers(Request(SYNC, units=1)))
    with contextlib.suppress(TimeoutError, SwapError):
        async with asyncio.timeout(PING_SECONDS):
            await exchange.wait()
    return exchange.is_answered


async def take_snapshot(kept: Kept) -> None:
    """Ask the upstream of a quiet session for its settings, and remember them.

    The relay is left paused, or with its upstream given up.
    """
    relay = kept.relay
    if relay.state is not RelayState.PAUSED:
        relay.pause()
    replica = Replica(kept.memory)
    request = replica.snapshot()
    answers = Answers(request)
    exchange = relay.ask(request.data, answers)
    with contextlib.suppress(TimeoutError, SwapError):
        async with asyncio.timeout(SNAPSHOT_SECONDS):
            await exchange.wait()
    # It was our own wish: an upstream that is only slow is not given up for it, unless
    # the client waits.
    while relay.state is RelayState.PAUSED and not await settled(exchange):
        if exchange.is_broken or relay.is_client_waiting:
            relay.give_up_upstream()
            break
    if relay.state is not RelayState.PAUSED:
        raise SwapError("the session is ending")
    await exchange.wait()  # it is over: this only raises what became of it
    replica.note_snapshot(answers)
    kept.note_settings_known()
