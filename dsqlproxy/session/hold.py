"""What a client said and that does not go on yet (no I/O).

Kept as it came, and taken either whole or by the *unit*: the frames up to and with
the next one after which a server answers of itself (Sync, Query, FunctionCall,
Flush), or that ends a COPY or the session. So no half pipeline is ever sent to an
upstream that is about to be replaced.
"""

from typing import Final

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import HEADER, HEADER_BYTES
from dsqlproxy.pgproto.messages import TERMINATE

HOLD_BYTES: Final = 2 * 1024 * 1024 + 64 * 1024
"""Above this the client is not read; a longer unit than this is not waited for. More
than the longest frame that passes only whole (`script.FRONTEND_SYMBOLS`): such a one
could neither be waited for nor be passed."""

_UNIT_ENDS: Final = frozenset(
    (
        FrontendType.SYNC,
        FrontendType.QUERY,
        FrontendType.FUNCTION_CALL,
        FrontendType.FLUSH,
        FrontendType.COPY_DONE,
        FrontendType.COPY_FAIL,
        FrontendType.TERMINATE,
    )
)


class Hold:
    """The kept bytes of one client, in order."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = bytearray()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def is_full(self) -> bool:
        """Whether the client should not be read for now."""
        return len(self._kept) >= HOLD_BYTES

    @property
    def is_leaving(self) -> bool:
        """Whether the client ends its session, and asks nothing before that."""
        return self._kept.startswith(TERMINATE)

    def add(self, data: bytes) -> None:
        """Keep what came."""
        self._kept += data

    def put_back(self, data: bytes) -> None:
        """Keep what was taken and could not go."""
        self._kept[:0] = data

    def take_all(self) -> bytes:
        """Hand over everything."""
        kept = bytes(self._kept)
        self._kept.clear()
        return kept

    def take(self, count: int) -> bytes:
        """Hand over so many bytes, or what there is."""
        taken = bytes(self._kept[:count])
        del self._kept[:count]
        return taken

    def take_unit(self) -> bytes:
        """Hand over the first unit; nothing while it is not whole.

        What cannot be followed, and what is too long to wait for, goes as it is.
        """
        end = self._unit_end()
        if not end and self.is_full:
            return self.take_all()
        return self.take(end)

    def _unit_end(self) -> int:
        kept, size, position = self._kept, len(self._kept), 0
        while position + HEADER_BYTES <= size:
            kind, length = HEADER.unpack_from(kept, position)
            position += 1 + int(length)
            if length < 4:
                return size
            if position > size:
                return 0
            if kind in _UNIT_ENDS:
                return position
        return 0
