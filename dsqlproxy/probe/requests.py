"""What the probe says to a cluster, as bytes (no I/O).

Statements are in the extended protocol where values are bound, and simple queries
elsewhere. All SQL is ASCII: a session may speak any encoding when it is asked.
"""

from typing import Final

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import SYNC

FLUSH: Final = frame(FrontendType.FLUSH)


def query(sql: str) -> bytes:
    """Make a simple Query."""
    return frame(FrontendType.QUERY, _zero(sql))


def parse(sql: str, *, name: str = "") -> bytes:
    """Make a Parse without types of parameters."""
    return frame(FrontendType.PARSE, _zero(name) + _zero(sql) + b"\0\0")


def bind(*values: str, statement: str = "") -> bytes:
    """Make a Bind of text values to the unnamed portal."""
    body = [b"\0", _zero(statement), b"\0\0", len(values).to_bytes(2)]
    for value in values:
        encoded = value.encode("ascii")
        body += (len(encoded).to_bytes(4), encoded)
    return frame(FrontendType.BIND, b"".join((*body, b"\0\0")))


def describe_statement(name: str = "") -> bytes:
    """Make a Describe of a statement."""
    return frame(FrontendType.DESCRIBE, b"S" + _zero(name))


def describe_portal() -> bytes:
    """Make a Describe of the unnamed portal."""
    return frame(FrontendType.DESCRIBE, b"P\0")


def execute(*, rows: int = 0) -> bytes:
    """Make an Execute of the unnamed portal; 0 rows are all."""
    return frame(FrontendType.EXECUTE, b"\0" + rows.to_bytes(4))


def function_call(oid: int, *arguments: int) -> bytes:
    """Make a FunctionCall with binary int4 arguments, for a binary result."""
    body = [oid.to_bytes(4), b"\0\1\0\1", len(arguments).to_bytes(2)]
    body += (b"\0\0\0\4" + value.to_bytes(4) for value in arguments)
    return frame(FrontendType.FUNCTION_CALL, b"".join((*body, b"\0\1")))


def extended(sql: str, *values: str) -> bytes:
    """Make an extended query by the unnamed statement, with its Sync."""
    return parse(sql) + bind(*values) + execute() + SYNC


def _zero(text: str) -> bytes:
    return text.encode("ascii") + b"\0"
