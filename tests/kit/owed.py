"""What a server still owes a client, by what was sent and what has come.

So that a player knows when to go on: whoever waits for more than is owed waits for
ever, and whoever waits for less sees two runs of the same program as different ones.
"""

from collections import deque
from collections.abc import Sequence

from dsqlproxy.pgproto.framing import Frame

_EXTENDED = frozenset("PBDEC")
_READY = frozenset("SQF")


class Owed:
    """What the server still has to answer, by what was sent and what has come."""

    def __init__(self) -> None:
        self._queue: deque[str] = deque()
        self._flushed = 0  # so many of them are answered without further ado
        self._is_skipping = False
        self._is_copying = False
        self._copy_is_ended = False
        self._is_open = False  # extended requests since the last Sync or Query
        self.status = "I"

    @property
    def is_something(self) -> bool:
        """Whether an answer is still to come."""
        waits_for_data = self._is_copying and not self._copy_is_ended
        return self._flushed > 0 and not waits_for_data

    @property
    def is_all_answered(self) -> bool:
        """Whether no answer is to come any more, whatever is open."""
        return not self._queue

    @property
    def is_nothing_open(self) -> bool:
        """Whether the session is at rest: idle, and no pipeline is open."""
        is_busy = self._queue or self._is_skipping or self._is_copying or self._is_open
        return self.status == "I" and not is_busy

    def sent(self, frames: Sequence[Frame]) -> None:
        """Note what the client sends."""
        for kind in (chr(kind) for kind, _ in frames):
            if kind in "cf":
                self._copy_ended()
            elif kind == "H":
                self._flushed = len(self._queue)
            elif kind == "S":
                self._sync()
            elif kind != "d" and not self._is_skipping:
                self._queue.append(kind)
                self._is_open = kind in _EXTENDED
                if kind in _READY:
                    self._flushed = len(self._queue)

    def received(self, frame: Frame) -> None:
        """Note what the server answers."""
        kind = chr(frame.type)
        while self._queue and self._queue[0] == "c":
            self._pop()  # has no answer of its own
        head = self._queue[0] if self._queue else ""
        if kind == "E":
            self._error(head)
        elif kind == "G":
            self._copy_begins()
        elif kind in "CIs":
            self._is_copying = self._copy_is_ended = False
            self._pop_if(head, "E")
        elif kind in "123":
            self._pop_if(head, "PBC")
        elif kind in "Tn":
            self._pop_if(head, "D")
        elif kind == "Z":
            assert head in _READY, f"a ReadyForQuery for {head!r}"
            self._pop()
            self.status = frame.body.decode()

    def _sync(self) -> None:
        if self._is_copying and not self._copy_is_ended:
            return  # read and ignored within a COPY
        self._is_skipping = self._is_open = False
        self._queue.append("S")
        self._flushed = len(self._queue)

    def _copy_ended(self) -> None:
        if self._is_copying:
            self._copy_is_ended = True
            if self._queue[0] == "E":
                self._flushed = 0  # what it answers waits for a Sync or a Flush
        elif self._queue:
            self._queue.append("c")

    def _copy_begins(self) -> None:
        """Take out the end of the data if it was sent, and each Sync before it."""
        self._is_copying = True
        head, *rest = self._queue
        self._copy_is_ended = "c" in rest
        end = rest.index("c") if self._copy_is_ended else len(rest)
        kept = [kind for kind in rest[:end] if kind != "S"] + rest[end + 1 :]
        self._flushed = min(self._flushed, 1 + len(kept))
        if head == "E" and self._copy_is_ended and _READY.isdisjoint(kept):
            self._flushed = 0
        self._queue = deque([head, *kept])

    def _error(self, head: str) -> None:
        self._is_copying = self._copy_is_ended = False
        if head not in _EXTENDED:
            return  # ReadyForQuery follows
        while self._queue and self._queue[0] != "S":
            self._pop()
        self._is_skipping = not self._queue

    def _pop_if(self, head: str, kinds: str) -> None:
        if head and head in kinds:
            self._pop()

    def _pop(self) -> None:
        self._queue.popleft()
        self._flushed = max(0, self._flushed - 1)
