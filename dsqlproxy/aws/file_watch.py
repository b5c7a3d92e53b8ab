"""Looks at the AWS files from the event loop, on a thread that may hang."""

import asyncio
from collections.abc import Callable

from dsqlproxy.aws.files import FileMemory, Fingerprint
from dsqlproxy.aws.workers import Workers


class FileWatch:
    """Says whether the files have changed; one look at a time.

    A home directory on a network file system may be slow, or hang: whoever asks waits
    for ``seconds``, and a look that takes longer counts when it comes. Whoever makes
    it calls `close`.
    """

    def __init__(self, look: Callable[[], Fingerprint], *, seconds: float) -> None:
        self._look = look
        self._seconds = seconds
        self._memory = FileMemory()
        self._workers = Workers(1, name="aws-files")
        self._looking: asyncio.Future[Fingerprint] | None = None
        self._is_outdated = False

    async def has_changed(self) -> bool:
        """Look, or wait for the look that is under way; True if there is news.

        Raises whatever the look raised.
        """
        looking = self._looking
        if looking is None:
            self._is_outdated = False
            looking = asyncio.wrap_future(self._workers.submit(self._look))
            self._looking = looking
        await asyncio.wait([looking], timeout=self._seconds)
        if not looking.done() or looking.cancelled():  # or `close` was called
            return False
        self._looking = None
        found = looking.result()
        return not self._is_outdated and self._memory.note_look(found)

    def note_fetch_begun(self) -> None:
        """Learn of a fetch: it looks at the files itself, and later than this look."""
        self._is_outdated = True

    def note_fetch(
        self, before: Fingerprint, after: Fingerprint, *, has_found: bool
    ) -> None:
        """Take how the files were when a fetch began and ended."""
        self._memory.note_fetch(before, after, has_found=has_found)

    def close(self) -> None:
        """Let the thread end; does not wait for it."""
        self._workers.close()
        if self._looking is not None:
            self._looking.cancel()
