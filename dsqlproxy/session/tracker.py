"""What a session has asked and not yet been answered (no I/O).

The tracker only observes. What it does not understand makes it `desynced`, which
costs a session its right to be swapped, and nothing else. What each frame does is
written in `requests.py`.

Sessions repeat themselves, ``PBDES`` here and ``12TCZ`` there, so the states that
occur are kept as a graph (`_Memo`): in a busy session a whole pipeline costs one
look-up, however many frames it has.
"""

from typing import Final

from dsqlproxy.pgproto.codes import FrontendType, TransactionStatus
from dsqlproxy.pgproto.script import COMMITTED, QUERY_COMMIT, QUERY_WRITE
from dsqlproxy.session.requests import (
    ANSWERED_BY_READY,
    LEAVES_NO_PORTAL,
    MARKERS,
    State,
    after_received,
    after_sent,
)

_COMMITS_ITSELF: Final = frozenset((QUERY_WRITE, int(FrontendType.FUNCTION_CALL)))
_EXECUTE: Final = int(FrontendType.EXECUTE)
_SYNC: Final = int(FrontendType.SYNC)


class _Node:
    """A state, and where scripts lead from it and mean, as far as that was asked."""

    __slots__ = ("received", "sent", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.sent: dict[bytes, tuple[_Node, bytes]] = {}
        self.received: dict[bytes, tuple[_Node, bytes]] = {}


class _Memo:
    """The graph of states that sessions have been in, for all sessions together.

    A cache of the two pure functions of `requests.py`, and so, like any memo of one,
    the only state that lives in a module. Bounded: states with
    long queues do not come again, and are not kept; nor is more than `MAX_NODES`.
    """

    MAX_NODES: Final = 4096
    MAX_LENGTH: Final = 64

    def __init__(self) -> None:
        self._nodes: dict[State, _Node] = {}
        self.idle = self._node(State())
        self.idle_with_unnamed = self._node(State(has_unnamed=True))

    def after_sent(self, node: _Node, script: bytes) -> tuple[_Node, bytes]:
        """Give the node after client frames, and which requests are dropped."""
        state, dropped = after_sent(node.state, script)
        step = (self._node(state), dropped)
        if self._is_kept(node, script) and self._is_kept(step[0], script):
            node.sent[script] = step
        return step

    def after_received(self, node: _Node, script: bytes) -> tuple[_Node, bytes]:
        """Give the node after upstream frames, and their effects."""
        state, effects = after_received(node.state, script)
        step = (self._node(state), effects)
        if self._is_kept(node, script) and self._is_kept(step[0], script):
            node.received[script] = step
        return step

    def _node(self, state: State) -> _Node:
        node = self._nodes.get(state)
        if node is None:
            node = _Node(state)
            is_short = len(state.queue) <= self.MAX_LENGTH
            if is_short and len(self._nodes) < self.MAX_NODES:
                self._nodes[state] = node
        return node

    def _is_kept(self, node: _Node, script: bytes) -> bool:
        paths = len(node.sent) + len(node.received)
        return (
            paths < self.MAX_LENGTH
            and len(script) <= self.MAX_LENGTH
            and self._nodes.get(node.state) is node
        )


class Tracker:
    """The outstanding requests of one session, seen from between the two peers.

    Starts as of a ReadyForQuery: the first one of a session, or, where it may have an
    unnamed statement, that of an upstream which took another's place. `note_sent` takes
    the script of client frames when they have been forwarded, `note_received` that of
    the upstream's.
    """

    __slots__ = ("_node",)

    def __init__(self, *, has_unnamed: bool = False) -> None:
        self._node = _MEMO.idle_with_unnamed if has_unnamed else _MEMO.idle

    @property
    def state(self) -> State:
        """All that is known."""
        return self._node.state

    def note_sent(self, script: bytes) -> bytes:
        """Note frames that went to the upstream.

        Returns which requests about statements the server will discard: nearly always
        ``b""``, for none (`requests.after_sent`).
        """
        node = self._node
        self._node, dropped = node.sent.get(script) or _MEMO.after_sent(node, script)
        return dropped

    def note_received(self, script: bytes) -> bytes:
        """Note frames that came from the upstream.

        Returns what they mean to the session's statements and settings: mostly
        ``b""``, for nothing (`requests.after_received`). A session that is no longer
        understood is told of nothing any more.
        """
        node = self._node
        self._node, effects = node.received.get(script) or _MEMO.after_received(
            node, script
        )
        return effects

    @property
    def desynced(self) -> str:
        """Why the session is no longer understood; empty while it is."""
        return self.state.desynced

    @property
    def client_terminated(self) -> bool:
        """Whether the client sent Terminate."""
        return self.state.client_terminated

    @property
    def upstream_failed(self) -> bool:
        """Whether the upstream sent FATAL or PANIC, which it follows by closing."""
        return self.state.upstream_failed

    @property
    def outstanding(self) -> int:
        """How many requests wait for an answer."""
        return sum(entry not in MARKERS for entry in self.state.queue)

    @property
    def awaits_ready(self) -> bool:
        """Whether a ReadyForQuery is still to come without more from the client."""
        state = self.state
        is_copying = state.in_copy and not state.copy_ended
        return not is_copying and not ANSWERED_BY_READY.isdisjoint(state.queue)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction block is open, or failed and not yet ended."""
        return self.state.status is not TransactionStatus.IDLE

    @property
    def is_quiet(self) -> bool:
        """Whether nothing of the session is under way at the upstream.

        1. every request has been answered, and the server is not discarding;
        2. no COPY is running;
        3. no transaction is open;
        4. since the last Sync, nothing was sent that leaves a portal behind: Parse,
           Describe and Close alone do not (asyncpg's ``prepare`` idles like this);
        5. neither peer has said its last;
        6. nothing was seen that this tracker does not understand.

        Whether both streams are at a frame boundary is the relay's to say.
        """
        state = self.state
        return (
            not (state.queue or state.skipping or state.in_copy)
            and state.status is TransactionStatus.IDLE
            and LEAVES_NO_PORTAL.issuperset(state.since_sync)
            and not (state.client_terminated or state.upstream_failed)
            and not state.desynced
        )

    @property
    def may_have_committed(self) -> bool:
        """Whether work was sent whose commit is not confirmed (SQLSTATE 08007).

        True where a COMMIT is running, or what may be one; where a statement that may
        write runs outside a transaction block; where a statement is done but its
        implicit commit is not confirmed; and for an Execute whose Sync was sent. A tag
        of COMMIT itself settles the matter for what it ends: the server commits before
        it sends it. So does an error: what failed was not committed. And while a server
        waits for the rest of a COPY it does nothing else. A false alarm makes a client
        look; a false all-clear makes it do the work twice.
        """
        state = self.state
        queue = state.queue
        if state.in_copy and not state.copy_ended:
            return False
        if state.done and state.done != COMMITTED:
            return not ANSWERED_BY_READY.isdisjoint(queue)
        if QUERY_COMMIT in queue or (_EXECUTE in queue and _SYNC in queue):
            return True
        return not self.in_transaction and not _COMMITS_ITSELF.isdisjoint(queue)


_MEMO: Final = _Memo()
