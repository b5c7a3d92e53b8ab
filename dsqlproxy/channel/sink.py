"""Who takes the bytes of a channel once a relay has begun."""

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


class Discard:
    """The sink of a connection to which nobody listens any more."""

    def received(self, data: bytes) -> None:
        """Throw it away."""

    def ended(self) -> None:
        """Nothing to do."""

    def lost(self, error: Exception | None) -> None:
        """Nothing to do."""

    def writing_paused(self) -> None:
        """Nothing to do."""

    def writing_resumed(self) -> None:
        """Nothing to do."""
