"""Scripts: what passed in one direction, one symbol a frame (no I/O).

A symbol is the frame's type byte, except where the tracker needs to know more than
the type; those few have letters of their own, none of which is a type in the same
direction. DataRow and CopyData from a server are left out: nobody counts them.
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

READY_STATUS: Final = {
    READY_IDLE: TransactionStatus.IDLE,
    READY_IN_TRANSACTION: TransactionStatus.IN_TRANSACTION,
    READY_FAILED: TransactionStatus.FAILED,
}
_READY: Final = {
    bytes((status,)): bytes((symbol,)) for symbol, status in READY_STATUS.items()
}

_FATAL_FIELDS: Final = frozenset((b"SFATAL", b"VFATAL", b"SPANIC", b"VPANIC"))

_READS: Final = frozenset(
    b"SELECT SHOW SET START BEGIN RESET ROLLBACK ABORT EXPLAIN VALUES TABLE".split()
)
_WRITES: Final = frozenset(
    b"INSERT UPDATE DELETE WITH COPY CREATE DROP ALTER GRANT REVOKE CALL".split()
)
_SELECT: Final = frozenset((b"SELECT ", b"select "))
_FIRST_WORD: Final = 12
"""Bytes that hold the first word of a statement, and the character after it."""


def _query(data: bytes, start: int, end: int) -> bytes:
    """Say what a lost answer to a Query may hide, by how its text begins.

    Where that is not sure (a comment before it, a second statement), the worst.
    Only `BODY_BYTES` are looked at: more is not kept of one that came in parts.
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


def _ready(data: bytes, start: int, end: int) -> bytes:
    return _READY[data[start:end]]


def _error(data: bytes, start: int, end: int) -> bytes:
    # The severity comes first, localized (S) and, since PostgreSQL 9.6, then not
    # (V); a message that speaks of FATAL further on must not count.
    first_fields = data[start : min(end, start + 64)].split(b"\0", 2)[:2]
    return b"E" if _FATAL_FIELDS.isdisjoint(first_fields) else b"F"


def _command_complete(data: bytes, start: int, end: int) -> bytes:
    return b"M" if data[start:end] == b"COMMIT\0" else b"C"


FRONTEND_SYMBOLS: Final = Symbols(
    {
        **{kind: int(kind) for kind in FrontendType},
        FrontendType.QUERY: _query,
    }
)
"""What a client may send after its login."""

BACKEND_SYMBOLS: Final = Symbols(
    {
        **{kind: int(kind) for kind in BackendType},
        BackendType.DATA_ROW: SILENT,
        BackendType.COPY_DATA: SILENT,
        BackendType.READY_FOR_QUERY: _ready,
        BackendType.ERROR_RESPONSE: _error,
        BackendType.COMMAND_COMPLETE: _command_complete,
    }
)
"""What a server may send after the login."""
