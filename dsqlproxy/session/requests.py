"""What each frame does to the requests that are under way (no I/O).

The theory. A server answers requests in order, so a queue with one entry for each
frame that will be answered tells at any time what is outstanding. A bare counter
of Sync and Query against ReadyForQuery is wrong, because

* after an error in Parse, Bind, Describe, Execute or Close a server discards
  everything until the next Sync, Query and FunctionCall included
  (PostgreSQL manual, "Extended Query");
* within COPY IN it ignores Sync and Flush, and once the COPY has failed it ignores
  the CopyData, CopyDone and CopyFail that are still on their way.

Entries are the symbols of client frames (`pgproto.script`). CopyData, CopyDone and
CopyFail leave markers (``d``, ``c``, ``f``) where they were sent: they have no
answer of their own, but their place decides which Syncs were swallowed. A swallowed
Sync ends nothing: what was sent before it still counts as sent since the last Sync.

The same theory tells which prepared statements the server has. A Parse or a Close
takes effect when it is answered, and the answer names nothing. So these stand in a
second queue, the caller's, since it holds names and texts: `after_sent` says which of
them join it, and `after_received` what became of the oldest.

The state is a value, and `after_sent` and `after_received` are pure.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from dsqlproxy.pgproto.codes import BackendType, FrontendType, TransactionStatus
from dsqlproxy.pgproto.script import (
    COMMITTED,
    ERROR_FATAL,
    QUERY_COMMIT,
    QUERY_WRITE,
    READY_STATUS,
    TOLD_BY_TAG,
)

MAX_OUTSTANDING: Final = 16_384
"""Entries above which a pipeline is no longer followed. libpq's longest has 10,000;
the queue is a value that is copied, which at this length takes 20 ms in all."""

_EXTENDED: Final = frozenset(b"PUBDECO")
LEAVES_NO_PORTAL: Final = frozenset(b"PUDCO")
ANSWERED_BY_READY: Final = frozenset(b"SQFKW")
MARKERS: Final = frozenset(b"dcf")
STATEMENT_REQUESTS: Final = frozenset(b"PUC")
_COPY_ENDS: Final = frozenset(b"cf")
_QUERIES: Final = frozenset(b"QKW")
_RUN_STATEMENTS: Final = (b"E", b"Q", b"K", b"W")

_NEEDS_CARE: Final = frozenset((*b"dcf", FrontendType.TERMINATE))

_COPY_DATA: Final = int(FrontendType.COPY_DATA)
_EXECUTE: Final = int(FrontendType.EXECUTE)
_SYNC: Final = int(FrontendType.SYNC)
_UNNAMED_PARSE: Final = ord("U")


class State(NamedTuple):
    """What is under way between two peers."""

    queue: bytes = b""  # what was sent and is not answered, oldest first
    skipping: bool = False  # the server discards until the next Sync
    in_copy: bool = False  # CopyInResponse seen, COPY not over
    copy_data_seen: bool = False
    copy_ended: bool = False  # CopyDone or CopyFail sent in this COPY
    since_sync: bytes = b""  # extended frames since the last Sync, each kind once
    done: int = 0  # the CommandComplete whose ReadyForQuery has not come
    status: TransactionStatus = TransactionStatus.IDLE
    has_unnamed: bool = False  # an unnamed statement, unless it was closed
    has_news: bool = False  # a statement or a parameter, since the last ReadyForQuery
    desynced: str = ""
    client_terminated: bool = False
    upstream_failed: bool = False


# -- client frames, when they have been forwarded ----------------------------------


def after_sent(state: State, script: bytes) -> tuple[State, bytes]:
    """Give the state after client frames that have been forwarded, and what is dropped.

    What is dropped: nothing (``b""``) where the server will look at every request about
    a statement; else a symbol for each one of the script: ``+`` for one that joins the
    pending ones, ``-`` for one that the server discards.
    """
    heard = _heard(state, script)
    fates = bytearray()
    if state.desynced:
        return _after_unread(state, heard), b""
    if not (state.in_copy or state.skipping or _NEEDS_CARE.intersection(heard)):
        state = _queued(state, heard)
    else:
        for position, symbol in enumerate(heard):
            if symbol in STATEMENT_REQUESTS:
                fates += b"-" if state.skipping else b"+"
            state = _sent(state, symbol)
            if state.desynced:
                return _after_unread(state, heard[position + 1 :]), b""
    fates += b"-" * _about_statements(script[len(heard) :])
    return _limited(state), bytes(fates) if b"-" in fates else b""


def _about_statements(symbols: bytes) -> int:
    return sum(map(symbols.count, STATEMENT_REQUESTS))


def _after_unread(state: State, script: bytes) -> State:
    """Note of a session that is not followed any more whether it waits, and ends."""
    if not ANSWERED_BY_READY.isdisjoint(script):
        state = state._replace(queue=b"Q")  # one entry stands for all
    if FrontendType.TERMINATE in script:
        state = state._replace(client_terminated=True)
    return state


def _queued(state: State, script: bytes) -> State:
    """Queue requests as they are: at once, since a script may have 50,000."""
    last_unit = max(script.rfind(end) for end in ANSWERED_BY_READY) + 1
    since_sync = script if last_unit else state.since_sync + script
    return state._replace(
        queue=state.queue + script.replace(b"H", b""),
        since_sync=bytes(sorted({*since_sync[last_unit:]} & _EXTENDED)),
    )


def _sent(state: State, symbol: int) -> State:
    if symbol in _EXTENDED:
        if not state.skipping:
            queue = state.queue + bytes((symbol,))
            kinds = _with(state.since_sync, symbol)
            return state._replace(queue=queue, since_sync=kinds)
    elif symbol == _SYNC:
        return _sync_sent(state)
    elif symbol in ANSWERED_BY_READY:
        if not state.skipping:
            queue = state.queue + bytes((symbol,))
            return state._replace(queue=queue, since_sync=b"")
    elif symbol in MARKERS:
        return _copy_sent(state, symbol)
    elif symbol == FrontendType.TERMINATE:
        return state._replace(client_terminated=True)
    return state


def _limited(state: State) -> State:
    if len(state.queue) > MAX_OUTSTANDING:
        return _desynced(state, "too many outstanding requests")._replace(queue=b"")
    return state


def _heard(state: State, script: bytes) -> bytes:
    """Give what the server will read of it: nothing after Terminate."""
    if state.client_terminated:
        return b""
    end = script.find(FrontendType.TERMINATE)
    return script if end < 0 else script[: end + 1]


def _with(kinds: bytes, kind: int) -> bytes:
    return kinds if kind in kinds else bytes(sorted((*kinds, kind)))


def _sync_sent(state: State) -> State:
    if not state.in_copy or state.copy_ended:
        # The skipping ends here, when it is sent, not at its ReadyForQuery.
        queue = state.queue + b"S"
        return state._replace(queue=queue, since_sync=b"", skipping=False)
    # The server swallows a Sync within COPY IN; but if the COPY fails on the data
    # already sent, the Sync comes after the failure and is answered.
    if state.copy_data_seen:
        return _desynced(state, "Sync after CopyData within COPY")
    return state


def _copy_sent(state: State, symbol: int) -> State:
    if symbol == _COPY_DATA:
        if state.in_copy and not state.copy_ended:
            return state._replace(copy_data_seen=True)
        if not state.queue or state.queue[-1] == _COPY_DATA:
            return state
    elif state.in_copy:
        state = state._replace(copy_ended=True)
    elif not state.queue:
        return state
    return state._replace(queue=state.queue + bytes((symbol,)))


# -- upstream frames ----------------------------------------------------------------


def after_received(state: State, script: bytes) -> tuple[State, bytes]:
    """Give the state after frames that came from the upstream, and their effects.

    Effects are what the answers mean to what the session has at the server, in the
    order of the answers:

    * ``+``: the oldest pending request about a statement has succeeded;
    * ``-``: the oldest pending one was refused, or discarded after an error;
    * ``u``: the unnamed statement is gone. A Query ran; or a Parse of it failed, which
      drops the old one before it looks at the new;
    * ``S`` and the symbols of `TOLD_BY_TAG`: such a frame came here;
    * ``z``: a ReadyForQuery came here, after a ``+`` or an ``S`` since the last one.
    """
    effects = b""
    for position, symbol in enumerate(script):
        if state.desynced:
            return _after_unheard(state, script[position:]), effects
        if symbol not in _ASIDE:
            before = state
            state = _RECEIVED.get(symbol, _unexpected)(state, symbol)
            if state.queue and state.queue[0] in MARKERS:
                # Of a COPY that is over, or of none: the server ignores them.
                state = state._replace(queue=state.queue.lstrip(b"dcf"))
            if not state.desynced:
                effects += _effects(before, symbol, state)
    return state, effects


_TOLD: Final = TOLD_BY_TAG | {BackendType.PARAMETER_STATUS}


def _effects(before: State, symbol: int, after: State) -> bytes:
    if symbol in _TOLD:
        return bytes((symbol,))
    effects = b""
    if symbol in b"13" and before.queue[0] in STATEMENT_REQUESTS:
        effects = b"+"
    elif symbol == BackendType.ERROR_RESPONSE:
        gone = _about_statements(before.queue) - _about_statements(after.queue)
        effects = b"-" * gone
    if before.has_unnamed and not after.has_unnamed:
        effects += b"u"
    if before.has_news and not after.has_news:
        effects += b"z"
    return effects


def _after_unheard(state: State, script: bytes) -> State:
    """Take what is plain even where the requests are no longer followed."""
    last = max(READY_STATUS, key=script.rfind)
    if last in script:
        # Which request it answers is a guess; a stale one would be waited for.
        state = state._replace(
            queue=b"", in_copy=False, skipping=False, done=0, status=READY_STATUS[last]
        )
    failed = state.upstream_failed or ERROR_FATAL in script
    return state._replace(upstream_failed=failed)


_ASIDE: Final = frozenset(b"NA")
"""NoticeResponse and NotificationResponse answer nothing and change nothing."""

_ANSWERS: Final[dict[int, bytes]] = {
    BackendType.PARSE_COMPLETE: b"PU",
    BackendType.BIND_COMPLETE: b"B",
    BackendType.CLOSE_COMPLETE: b"CO",
    BackendType.ROW_DESCRIPTION: b"D",  # or part of a Query's answer
    BackendType.NO_DATA: b"D",
}


def _ready_received(state: State, symbol: int) -> State:
    queue = state.queue
    if not queue or queue[0] not in ANSWERED_BY_READY:
        state = _desynced(state, "unexpected ReadyForQuery")
        # Which request it answers is a guess; a stale one would be waited for.
        state = state._replace(queue=b"", in_copy=False)
    elif queue[0] in _QUERIES:
        state = state._replace(has_unnamed=False)
    return state._replace(
        queue=state.queue[1:],
        status=READY_STATUS[symbol],
        skipping=False,
        done=0,
        has_news=False,
    )


def _answer_received(state: State, symbol: int) -> State:
    if state.queue and state.queue[0] in _ANSWERS[symbol]:
        head, state = state.queue[0], state._replace(queue=state.queue[1:])
        if head not in STATEMENT_REQUESTS:
            return state
        has_unnamed = state.has_unnamed or head == _UNNAMED_PARSE
        return state._replace(has_unnamed=has_unnamed, has_news=True)
    if symbol == BackendType.ROW_DESCRIPTION:
        return state
    return _desynced(state, f"unexpected answer {chr(symbol)!r}")


def _statement_ended(state: State, symbol: int) -> State:
    if state.in_copy:
        state = _copy_over(state)
    if state.queue[:1] not in _RUN_STATEMENTS:
        return _desynced(state, f"unexpected end of a statement {chr(symbol)!r}")
    if symbol == COMMITTED:
        state = _settled(state._replace(done=COMMITTED))
    elif symbol not in b"Is":  # nothing was run, or not to its end
        state = state._replace(done=BackendType.COMMAND_COMPLETE)
    if state.queue[0] == _EXECUTE:
        state = state._replace(queue=state.queue[1:])
    return state


def _settled(state: State) -> State:
    """Note that what the running Query may commit has an outcome."""
    if state.queue[0] not in {QUERY_COMMIT, QUERY_WRITE}:
        return state
    return state._replace(queue=b"Q" + state.queue[1:])


def _error_received(state: State, _symbol: int) -> State:
    if state.in_copy:
        state = _copy_over(state)
    queue = state.queue
    if not queue:
        return _desynced(state, "an error that answers nothing")
    state = state._replace(done=0)
    if queue[0] not in _EXTENDED:
        return _settled(state)  # its ReadyForQuery follows
    if queue[0] == _UNNAMED_PARSE:
        state = state._replace(has_unnamed=False)
    sync = queue.find(_SYNC)
    if sync < 0:
        return state._replace(queue=b"", skipping=True)
    return state._replace(queue=queue[sync:])


def _copy_begun(state: State, _symbol: int) -> State:
    """Take a CopyInResponse: what was sent ahead of it belongs to the COPY, or not."""
    head, rest = state.queue[:1], state.queue[1:]
    if head not in _RUN_STATEMENTS:
        return _desynced(state, "unexpected CopyInResponse")
    data = next((at for at, entry in enumerate(rest) if entry in MARKERS), len(rest))
    # A Sync before the first data was swallowed.
    before, ahead = rest[:data].replace(b"S", b""), rest[data:]
    end = next((at for at, entry in enumerate(ahead) if entry in _COPY_ENDS), None)
    since_sync = state.since_sync
    if head == b"E" and ANSWERED_BY_READY.isdisjoint(ahead):
        since_sync = _with(since_sync, _EXECUTE)  # the swallowed Sync ended nothing
    state = state._replace(
        queue=head + before + ahead,
        since_sync=since_sync,
        in_copy=True,
        copy_data_seen=_COPY_DATA in ahead[:end],
        copy_ended=end is not None,
    )
    if _SYNC in ahead[:end]:
        return _desynced(state, "Sync after CopyData within COPY")
    return state


def _copy_over(state: State) -> State:
    """End a COPY and drop the marker of its end."""
    queue = state.queue
    end = next((at for at, entry in enumerate(queue) if entry in _COPY_ENDS), None)
    if end is not None:
        queue = queue[:end] + queue[end + 1 :]
    return state._replace(queue=queue, in_copy=False)


def _fatal_received(state: State, _symbol: int) -> State:
    return state._replace(upstream_failed=True)


def _parameter_received(state: State, _symbol: int) -> State:
    return state._replace(has_news=True)


def _part_received(state: State, _symbol: int) -> State:
    return state


def _copy_both_begun(state: State, _symbol: int) -> State:
    return _desynced(state, "COPY in both directions (replication)")


def _unexpected(state: State, symbol: int) -> State:
    return _desynced(state, f"unexpected message {chr(symbol)!r}")


def _desynced(state: State, reason: str) -> State:
    return state._replace(desynced=state.desynced or reason)


_RECEIVED: Final[dict[int, Callable[[State, int], State]]] = {
    **dict.fromkeys(READY_STATUS, _ready_received),
    **dict.fromkeys(_ANSWERS, _answer_received),
    **dict.fromkeys((*b"CIs", COMMITTED, *TOLD_BY_TAG), _statement_ended),
    # ParameterDescription, CopyOutResponse, CopyDone, FunctionCallResponse: the
    # frame that completes the answer is still to come.
    **dict.fromkeys(b"tHcV", _part_received),
    BackendType.ERROR_RESPONSE: _error_received,
    ERROR_FATAL: _fatal_received,
    BackendType.COPY_IN_RESPONSE: _copy_begun,
    BackendType.COPY_BOTH_RESPONSE: _copy_both_begun,
    BackendType.PARAMETER_STATUS: _parameter_received,
}
