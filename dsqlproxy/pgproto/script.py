"""Scripts: what passed in one direction, one symbol a frame (no I/O).

A symbol is the frame's type byte, except where the tracker needs to know more than
the type; those few have letters of their own, none of which is a type in the same
direction. DataRow and CopyData from a server are left out: nobody counts them.
"""

from typing import Final

from dsqlproxy.pgproto.codes import BackendType, FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import SILENT, Symbols

QUERY_COMMIT: Final = ord("K")  # a Query that begins with COMMIT or END
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

_LONGEST_COMMIT: Final = 64
"""Bytes of a Query above which it is not looked at: a COMMIT is short."""

_MAY_BEGIN_COMMIT: Final = frozenset(b"cCeE \t\r\n\f\v")


def _query(data: bytes, start: int, end: int) -> bytes:
    if end - start < _LONGEST_COMMIT and data[start] in _MAY_BEGIN_COMMIT:
        first_word = data[start:end].lstrip()[:6].upper()
        if first_word.startswith((b"COMMIT", b"END")):
            return b"K"
    return b"Q"


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
