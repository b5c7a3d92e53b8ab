"""The states of a relay and the moves between them: all in one table (no I/O).

* RUNNING: both peers talk.
* INSISTING: both peers talk, but the client's requests go one at a time: the next
  one waits for the answer to the last, so that a quiet moment comes (`hold.py`).
* PAUSED: nothing of the client's goes on. The session was quiet when it began, so
  nothing is owed; what the client says meanwhile is kept. The upstream may be asked
  in private, be replaced, or be gone.
* FINISHING: the client has said its last (Terminate, or the end of its stream), and
  requests of it are still being answered.
* LEAVING: they are answered, and the upstream has got its Terminate. TLS cannot be
  half-closed here, so that message also tells the end of a client's stream. What
  the upstream still sends is passed on. `ended` holds how it came about.
* CLOSED: nothing passes any more, except the rest of a frame before our last
  words. `ended` holds how it came about; the session closes both channels.
"""

from enum import StrEnum


class RelayState(StrEnum):
    """Where a relay is in its life."""

    RUNNING = "running"
    INSISTING = "insisting"
    PAUSED = "paused"
    FINISHING = "finishing"
    LEAVING = "leaving"
    CLOSED = "closed"


_ENDS = frozenset((RelayState.FINISHING, RelayState.LEAVING, RelayState.CLOSED))

MOVES: dict[RelayState, frozenset[RelayState]] = {
    RelayState.RUNNING: _ENDS | {RelayState.INSISTING, RelayState.PAUSED},
    RelayState.INSISTING: _ENDS | {RelayState.RUNNING, RelayState.PAUSED},
    RelayState.PAUSED: _ENDS | {RelayState.RUNNING},
    RelayState.FINISHING: frozenset((RelayState.LEAVING, RelayState.CLOSED)),
    RelayState.LEAVING: frozenset((RelayState.CLOSED,)),
    RelayState.CLOSED: frozenset(),
}

LIVING = frozenset((RelayState.RUNNING, RelayState.INSISTING, RelayState.PAUSED))
"""The client has not said its last."""

HOLDING = frozenset((RelayState.INSISTING, RelayState.PAUSED))
"""What the client says does not go on at once."""


def move(state: RelayState, to: RelayState) -> RelayState:
    """Give the new state; an illegal move raises, and changes nothing."""
    if to not in MOVES[state]:
        msg = f"a relay cannot go from {state} to {to} because that is not a move"
        raise AssertionError(msg)
    return to
