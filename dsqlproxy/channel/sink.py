"""Who takes the bytes of a channel once a relay has begun."""

import asyncio
import contextlib
from typing import Protocol


class Sink(Protocol):
    """What a channel feeds once a relay has taken it over."""

    def received(self, data: bytes) -> None:
        """Take the next bytes of the peer; never empty."""

    def ended(self) -> None:
        """Learn that the peer sends no more; it may still read."""

    def lost(self, error: Exception | None) -> None:
        """Learn that the connection is gone; called once, last."""

    def writing_paused(self) -> None:
        """Learn that the peer does not take what is sent as fast as it comes."""

    def writing_resumed(self) -> None:
        """Learn that what waited has been sent."""


PAUSE_SECONDS = 0.1
"""A peer that has sent nothing for so long waits for an answer."""


class Discard:
    """The sink of a connection to which nobody listens any more."""

    def __init__(self) -> None:
        self._has_received = False

    async def wait_for_pause(self, ended: asyncio.Event) -> None:
        """Return when the peer sends no more for a moment, or for good."""
        self._has_received = True
        while self._has_received and not ended.is_set():
            self._has_received = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await ended.wait()

    def received(self, data: bytes) -> None:
        """Throw it away."""
        self._has_received = bool(data)

    def ended(self) -> None:
        """Nothing to do."""

    def lost(self, error: Exception | None) -> None:
        """Nothing to do."""

    def writing_paused(self) -> None:
        """Nothing to do."""

    def writing_resumed(self) -> None:
        """Nothing to do."""
