"""What a client still gets when nothing passes any more: a frame's rest, last words."""

import asyncio

from dsqlproxy.channel.channel import Channel
from dsqlproxy.pgproto.framing import FrameScanner


class Parting:
    """The end of the stream to one client.

    Where it is in the middle of a frame, last words follow its rest, once the
    upstream has sent it; see `wait_spoken`. A stream that is not understood, or whose
    upstream is gone within a frame, gets none.
    """

    def __init__(self, client: Channel) -> None:
        self._client = client
        self._scanner: FrameScanner | None = None
        self._upstream: Channel | None = None
        self._last_words = b""
        self._spoken = asyncio.Event()

    def begin(self, scanner: FrameScanner, upstream: Channel) -> None:
        """Learn where the client's stream stands, and who has the rest of it."""
        self._scanner = scanner
        self._upstream = upstream

    def say(self, words: bytes) -> None:
        """Send last words, now or after the rest of a frame."""
        scanner, upstream = self._scanner, self._upstream
        if scanner is None or upstream is None or scanner.lost:
            return
        if scanner.at_boundary:
            self._client.write(words)
        elif not upstream.is_closing and not upstream.has_ended:
            self._last_words = words

    def finish_frame(self, data: bytes) -> None:
        """Pass on the rest of a frame, and the last words after it.

        The rest may come before the words are known: it must not be missing then.
        """
        if self._scanner is None:
            return
        part = data[: self._scanner.rest_bytes]
        self._scanner.scan(part)
        self._client.write(part)
        if self._last_words and self._scanner.at_boundary:
            self._client.write(self._last_words)
            self._last_words = b""
            self._spoken.set()

    def give_up(self) -> None:
        """Learn that no rest comes any more."""
        self._spoken.set()

    async def wait_spoken(self) -> None:
        """Wait until the last words are on their way."""
        if self._last_words:
            await self._spoken.wait()
