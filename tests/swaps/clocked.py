"""A session by clocks that stand still until a test moves them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.session.lifetime import SwapWindow
from tests.kit.swapping import CALM, Swapping, swapping
from tests.kit.virtual_clocks import VirtualClocks
from tests.kit.wire_client import WireClient


@asynccontextmanager
async def clocked_session(
    postgres: EmbeddedPostgres, *, window: SwapWindow = CALM
) -> AsyncIterator[tuple[VirtualClocks, Swapping, WireClient]]:
    """Run a proxy by such clocks, and log a client in."""
    clocks = VirtualClocks()
    async with (
        swapping(postgres, window=window, clocks=clocks.clocks) as proxy,
        WireClient.session(proxy.where) as client,
    ):
        yield clocks, proxy, client


def notice_idleness(proxy: Swapping) -> None:
    """Let the watch see that nobody has said anything since its last look."""
    proxy.services.watch.look()
    proxy.services.watch.look()


def wake(proxy: Swapping) -> None:
    """Let the keeper look at the clock, as a timer would that time had passed for."""
    proxy.keeper()._wake.set()
