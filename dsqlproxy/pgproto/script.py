"""Scripts: what passed in one direction, one symbol a frame (no I/O).

A symbol is the frame's type byte, except where someone needs to know more than the
type: those few have letters of their own, none of which is a type in the same
direction.

========== =====================================================================
client     ``P`` Parse of a named statement, ``U`` of the unnamed one;
           ``C`` Close of a statement, ``O`` of a portal;
           ``Q`` Query, ``W`` one that may write, ``K`` one that may commit
server     ``Z``, ``Y``, ``X`` ReadyForQuery: idle, in a transaction, in a failed one;
           ``E`` ErrorResponse, ``F`` a fatal one;
           ``C`` CommandComplete, or by its tag: ``M`` COMMIT, ``a`` DEALLOCATE ALL,
           ``x`` DISCARD ALL, ``e`` SET or RESET, ``l`` LISTEN, ``p`` PREPARE,
           ``r`` DECLARE CURSOR, ``o`` LOAD
========== =====================================================================

DataRow and CopyData from a server are left out: nobody counts them. Each function
that gives a symbol by the body can stand alone, so that a session's own may look at
the body too and then ask it.
"""

from typing import Final

from dsqlproxy.pgproto.codes import BackendType, FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import BODY_BYTES, SILENT, Symbols

QUERY_WRITE: Final = ord("W")  # a Query that may write, and commits by itself
QUERY_COMMIT: Final = ord("K")  # a Query that may be, or contain, a COMMIT
READY_IDLE: Final = ord("Z")
READY_IN_TRANSACTION: Final = ord("Y")
READY_FAILED: Final = ord("X")
ERROR_FATAL: Final = ord("F")  # ErrorResponse of severity FATAL or PANIC
COMMITTED: Final = ord("M")  # CommandComplete with the tag COMMIT

DEALLOCATED_ALL: Final = ord("a")
DISCARDED_ALL: Final = ord("x")
SETTING_CHANGED: Final = ord("e")
LISTENING: Final = ord("l")
PREPARED: Final = ord("p")  # SQL's PREPARE: its text is not on the wire as a Parse
CURSOR_DECLARED: Final = ord("r")
LIBRARY_LOADED: Final = ord("o")

TOLD_BY_TAG: Final = frozenset(
    (
        DEALLOCATED_ALL,
        DISCARDED_ALL,
        SETTING_CHANGED,
        LISTENING,
        PREPARED,
        CURSOR_DECLARED,
        LIBRARY_LOADED,
    )
)
"""CommandComplete with a tag that says that a session has more state than before, or
less. What no tag shows (a SET within a function) is found by asking the server."""

READY_STATUS: Final = {
    READY_IDLE: TransactionStatus.IDLE,
    READY_IN_TRANSACTION: TransactionStatus.IN_TRANSACTION,
    READY_FAILED: TransactionStatus.FAILED,
}
_READY: Final = {
    bytes((status,)): bytes((symbol,)) for symbol, status in READY_STATUS.items()
}

_TAGS: Final = {
    b"COMMIT\0": bytes((COMMITTED,)),
    b"DEALLOCATE ALL\0": bytes((DEALLOCATED_ALL,)),
    b"DISCARD ALL\0": bytes((DISCARDED_ALL,)),
    b"SET\0": bytes((SETTING_CHANGED,)),
    b"RESET\0": bytes((SETTING_CHANGED,)),
    b"LISTEN\0": bytes((LISTENING,)),
    b"PREPARE\0": bytes((PREPARED,)),
    b"DECLARE CURSOR\0": bytes((CURSOR_DECLARED,)),
    b"LOAD\0": bytes((LIBRARY_LOADED,)),
}

_FATAL_FIELDS: Final = frozenset((b"SFATAL", b"VFATAL", b"SPANIC", b"VPANIC"))

_READS: Final = frozenset(
    b"SELECT SHOW SET START BEGIN RESET ROLLBACK ABORT EXPLAIN VALUES TABLE".split()
)
_WRITES: Final = frozenset(
    b"INSERT UPDATE DELETE WITH COPY CREATE DROP ALTER GRANT REVOKE CALL".split()
)
_SELECT: Final = frozenset((b"SELECT ", b"select "))
_STATEMENT: Final = ord("S")
_FIRST_WORD: Final = 12
"""Bytes that hold the first word of a statement, and the character after it."""


def query_symbol(data: bytes, start: int, end: int) -> bytes:
    """Say what a lost answer to a Query may hide, by how its text begins.

    Where that is not sure (a comment before it, a second statement), the worst.
    Only `BODY_BYTES` are looked at: more is not kept of a large one that came in
    parts.
    """
    limit = start + BODY_BYTES - 2
    if data[start : start + 7] in _SELECT:  # the usual one, at a third of the cost
        second = data.find(b";", start, min(end - 2, limit))
        return b"Q" if second < 0 else b"K"
    seen = data[start : min(end, limit)].rstrip(b"\0 \n;")
    if b";" in seen:
        return b"K"
    word = seen[:_FIRST_WORD].split(maxsplit=1)[:1]
    if not word or word[0].upper() in _READS:
        return b"Q"
    return b"W" if word[0].upper() in _WRITES else b"K"


def parse_symbol(data: bytes, start: int, end: int) -> bytes:
    """Tell a Parse of the unnamed statement (its name is empty) from any other."""
    return b"U" if start < end and not data[start] else b"P"


def close_symbol(data: bytes, start: int, end: int) -> bytes:
    """Tell a Close of a statement from one of a portal."""
    return b"C" if start < end and data[start] == _STATEMENT else b"O"


def _ready(data: bytes, start: int, end: int) -> bytes:
    return _READY[data[start:end]]


def error_symbol(data: bytes, start: int, end: int) -> bytes:
    """Tell an error that the server ends the session with from any other."""
    # The severity comes first, localized (S) and, since PostgreSQL 9.6, then not
    # (V); a message that speaks of FATAL further on must not count.
    first_fields = data[start : min(end, start + 64)].split(b"\0", 2)[:2]
    return b"E" if _FATAL_FIELDS.isdisjoint(first_fields) else b"F"


def _command_complete(data: bytes, start: int, end: int) -> bytes:
    return _TAGS.get(data[start:end], b"C")


def _parameter_status(_data: bytes, _start: int, _end: int) -> bytes:
    return b"S"  # asked about so that a session's function can take its place


_SMALL: Final = 64 << 10
"""What is passed on whole: more than any value, tag or error that the proxy itself has
to read, and little to keep for a client that is slow to send."""

_SMALL_PARSE: Final = 2 << 20
"""A statement that is to be prepared again elsewhere is kept, and so is seen whole."""

FRONTEND_SYMBOLS: Final = Symbols(
    {
        **{kind: int(kind) for kind in FrontendType},
        FrontendType.QUERY: query_symbol,
        FrontendType.PARSE: parse_symbol,
        FrontendType.CLOSE: close_symbol,
    },
    whole={
        **{kind: _SMALL for kind in FrontendType if kind != FrontendType.COPY_DATA},
        FrontendType.PARSE: _SMALL_PARSE,
    },
)
"""What a client may send after its login."""

BACKEND_SYMBOLS: Final = Symbols(
    {
        **{kind: int(kind) for kind in BackendType},
        BackendType.DATA_ROW: SILENT,
        BackendType.COPY_DATA: SILENT,
        BackendType.READY_FOR_QUERY: _ready,
        BackendType.ERROR_RESPONSE: error_symbol,
        BackendType.COMMAND_COMPLETE: _command_complete,
        BackendType.PARAMETER_STATUS: _parameter_status,
    },
    # Rows pass as they come: keeping back the one that a chunk ends in would cost a
    # copy of the chunk.
    whole={
        kind: _SMALL
        for kind in BackendType
        if kind not in {BackendType.DATA_ROW, BackendType.COPY_DATA}
    },
)
"""What a server may send after the login."""
