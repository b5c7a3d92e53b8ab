"""Streams shown to a scanner in chunks, as a relay shows them."""

from copy import copy
from dataclasses import dataclass

from dsqlproxy.pgproto.framing import HEADER_BYTES, FrameScanner, Symbols
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS

LIMIT = 10 * 1024 * 1024


@dataclass
class Relayed:
    """What came of a stream that was scanned in chunks, as the relay does it."""

    script: bytes = b""
    passed: bytes = b""
    held: bytes = b""


def scan_in_chunks(scanner: FrameScanner, *chunks: bytes) -> Relayed:
    relayed = Relayed()
    for chunk in chunks:
        data = relayed.held + chunk
        relayed.script += scanner.scan(data)
        relayed.passed += data[: scanner.cut]
        relayed.held = data[scanner.cut :]
        if scanner.missing_bytes:
            whole = 1 + int.from_bytes(relayed.held[1:5])
            assert len(relayed.held) + scanner.missing_bytes == whole
        else:
            assert len(relayed.held) < HEADER_BYTES or scanner.overlong
    return relayed


def scan_and_collect(scanner: FrameScanner, *chunks: bytes) -> Relayed:
    """Scan as the relay does: not again before a frame is whole."""
    relayed = Relayed()
    for chunk in chunks:
        relayed.held += chunk
        if len(chunk) < scanner.missing_bytes:
            scanner.missing_bytes -= len(chunk)
            continue
        relayed.script += scanner.scan(relayed.held)
        relayed.passed += relayed.held[: scanner.cut]
        relayed.held = relayed.held[scanner.cut :]
    return relayed


def streamed(symbols: Symbols) -> Symbols:
    """Give the same symbols, with nothing that is passed on whole."""
    changed = copy(symbols)
    changed.whole = {}
    return changed


AS_SYMBOLS = str.maketrans("PC", "UO")
"""How the frames of `client` are written: a Parse there is of the unnamed statement,
a Close is of a portal."""


def frontend() -> FrameScanner:
    return FrameScanner(FRONTEND_SYMBOLS, max_bytes=LIMIT)


def backend() -> FrameScanner:
    return FrameScanner(BACKEND_SYMBOLS, max_bytes=LIMIT)
