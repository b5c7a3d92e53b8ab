"""Listeners for the time of a block, and what they hand over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dsqlproxy.channel.channel import Channel
from dsqlproxy.config import TcpAddress, UnixAddress
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.listen.listener import Listener


class Accepted:
    """What a listener handed over."""

    def __init__(self) -> None:
        self.channels: asyncio.Queue[Channel] = asyncio.Queue()

    def __call__(self, channel: Channel) -> None:
        self.channels.put_nowait(channel)

    async def one(self) -> Channel:
        async with asyncio.timeout(5):
            return await self.channels.get()


@asynccontextmanager
async def listening(
    address: TcpAddress | UnixAddress, *, unix_mode: int = 0o600
) -> AsyncIterator[tuple[Listener, Accepted]]:
    accepted = Accepted()
    listener = Listener(address, name="main", on_accept=accepted, unix_mode=unix_mode)
    try:
        listener.bind()
        await listener.start()
        yield listener, accepted
    finally:
        listener.close()
        while not accepted.channels.empty():
            channel = accepted.channels.get_nowait()
            channel.abort()
            await channel.wait_closed()


def bind(address: TcpAddress | UnixAddress, *, unix_mode: int = 0o600) -> Listener:
    listener = Listener(
        address, name="main", on_accept=lambda _: None, unix_mode=unix_mode
    )
    listener.bind()
    return listener


def refusal(address: TcpAddress | UnixAddress) -> DsqlProxyError:
    with pytest.raises(DsqlProxyError) as caught:
        bind(address)
    return caught.value
