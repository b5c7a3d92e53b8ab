"""Our own statements as messages of the extended protocol. No I/O."""

from collections.abc import Iterator
from typing import Final

from dsqlproxy.emulator.outstanding import RequestKind
from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import frame

# Our prepared statement and our portal: a client's unnamed ones are left alone.
_NAME: Final = b"dsql_emulator\0"


def call_messages(call: str) -> Iterator[tuple[RequestKind, bytes]]:
    """Give the messages that run a statement of ours, and what each is.

    After an error PostgreSQL may have skipped any of them, so the names are freed
    before they are used (closing what does not exist is no error).
    """
    text = call.encode("utf-8", "surrogateescape") + b"\0"
    no_parameters, no_formats, all_rows = bytes(2), bytes(6), bytes(4)
    yield RequestKind.CLOSE, frame(FrontendType.CLOSE, b"S" + _NAME)
    yield RequestKind.CLOSE, frame(FrontendType.CLOSE, b"P" + _NAME)
    yield RequestKind.PARSE, frame(FrontendType.PARSE, _NAME + text + no_parameters)
    yield RequestKind.BIND, frame(FrontendType.BIND, _NAME + _NAME + no_formats)
    yield RequestKind.EXECUTE, frame(FrontendType.EXECUTE, _NAME + all_rows)
