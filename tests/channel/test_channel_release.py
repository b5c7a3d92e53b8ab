"""What a channel keeps of a connection that is gone: nothing large, nothing cyclic."""

import gc
import weakref

import pytest

from dsqlproxy.channel.channel import Channel
from tests.kit.channels import TlsContexts, two_channels

pytestmark = pytest.mark.both_loops


class _Session:
    """A sink that knows its channel, as the pumps of a relay do."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def received(self, data: bytes) -> None: ...

    def ended(self) -> None: ...

    def lost(self, error: Exception | None) -> None: ...

    def writing_paused(self) -> None: ...

    def writing_resumed(self) -> None: ...


# Found by the soak: each session was a cycle that kept its TLS buffers. Those who had
# lived for a while waited for the next full collection, thousands of sessions later.
async def test_a_session_that_ended_is_freed_without_a_collection(
    perhaps_tls: TlsContexts | None,
) -> None:
    gc.disable()
    try:
        async with two_channels(perhaps_tls) as (near, _):
            session = _Session(near)
            near.attach(session)
            is_alive = weakref.ref(session)
            del session
            near.abort()
            await near.wait_closed()
            assert is_alive() is None
            assert near._tls is None
    finally:
        gc.enable()
