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
_READY_SYMBOL: Final = {int(status): symbol for symbol, status in READY_STATUS.items()}

_LONGEST_COMMIT: Final = 64
"""Bytes of a Query above which it is not looked at: a COMMIT is short."""


def _query(data: bytes, start: int, end: int) -> int:
    if end - start < _LONGEST_COMMIT:
        first_word = data[start:end].lstrip()[:6].upper()
        if first_word.startswith((b"COMMIT", b"END")):
            return QUERY_COMMIT
    return FrontendType.QUERY


def _ready(data: bytes, start: int, end: int) -> int:
    return _READY_SYMBOL.get(data[start], -1) if end - start == 1 else -1


def _error(data: bytes, start: int, end: int) -> int:
    # The severity comes first, localized (S) and then not (V); a message that
    # speaks of FATAL further on must not count.
    severity = data[start : min(end, start + 64)].partition(b"\0M")[0]
    if b"VFATAL\0" in severity or b"VPANIC\0" in severity:
        return ERROR_FATAL
    return BackendType.ERROR_RESPONSE


def _command_complete(data: bytes, start: int, end: int) -> int:
    if data[start:end] == b"COMMIT\0":
        return COMMITTED
    return BackendType.COMMAND_COMPLETE


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
