"""Frames to build, and scripts to write whole conversations with.

A script is one letter for each frame, ``>`` before what the client sends and ``<``
before what the server answers. It begins with the client::

    "PBES <12CZ"          an extended query and its answer
    "Q <TDCY >Q <EX"      a query in a transaction, and one that fails there

Letters are the type bytes of the protocol. Where the tracker sees more than a type,
they are its own (`pgproto.script`): the client's ``K`` is a Query that says COMMIT,
the server's ``Z``, ``Y`` and ``X`` are ReadyForQuery (idle, in a transaction, in a
failed one), ``F`` is a FATAL error and ``M`` the tag COMMIT.
"""

from collections.abc import Iterator

from dsqlproxy.errors import Peer
from dsqlproxy.pgproto.codes import BackendType, FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import FrameScanner, frame
from dsqlproxy.pgproto.messages import (
    ErrorResponse,
    NoticeResponse,
    ParameterStatus,
    ReadyForQuery,
)
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS
from dsqlproxy.session.tracker import Tracker


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


# -- what a client sends -------------------------------------------------------------


def query(sql: str) -> bytes:
    return frame(FrontendType.QUERY, sql.encode() + b"\0")


def parse(sql: str, *, name: str = "") -> bytes:
    return frame(FrontendType.PARSE, _zero(name) + _zero(sql) + b"\0\0")


def bind(*parameters: str, portal: str = "", statement: str = "") -> bytes:
    body = _zero(portal) + _zero(statement) + b"\0\0" + len(parameters).to_bytes(2)
    for value in parameters:
        body += len(value.encode()).to_bytes(4) + value.encode()
    return frame(FrontendType.BIND, body + b"\0\0")


def describe(kind: str = "P", name: str = "") -> bytes:
    return frame(FrontendType.DESCRIBE, kind.encode() + _zero(name))


def execute(portal: str = "", *, rows: int = 0) -> bytes:
    return frame(FrontendType.EXECUTE, _zero(portal) + rows.to_bytes(4))


def close(kind: str = "P", name: str = "") -> bytes:
    return frame(FrontendType.CLOSE, kind.encode() + _zero(name))


def function_call(oid: int, *arguments: bytes) -> bytes:
    """Call a function with binary arguments; the result is wanted in binary too."""
    body = oid.to_bytes(4) + b"\0\1\0\1" + len(arguments).to_bytes(2)
    for value in arguments:
        body += len(value).to_bytes(4) + value
    return frame(FrontendType.FUNCTION_CALL, body + b"\0\1")


def copy_data(data: bytes) -> bytes:
    return frame(FrontendType.COPY_DATA, data)


def copy_fail(message: str = "not wanted") -> bytes:
    return frame(FrontendType.COPY_FAIL, _zero(message))


SYNC = frame(FrontendType.SYNC)
FLUSH = frame(FrontendType.FLUSH)
COPY_DONE = frame(FrontendType.COPY_DONE)
TERMINATE = frame(FrontendType.TERMINATE)


# -- what a server sends -------------------------------------------------------------


def ready(status: TransactionStatus = TransactionStatus.IDLE) -> bytes:
    return ReadyForQuery(status).encode()


def error(message: str, *, severity: str = "ERROR", sqlstate: str = "22012") -> bytes:
    return ErrorResponse.build(severity, sqlstate, message).encode()


def data_row(*values: bytes) -> bytes:
    body = len(values).to_bytes(2)
    for value in values:
        body += len(value).to_bytes(4) + value
    return frame(BackendType.DATA_ROW, body)


def command_complete(tag: str) -> bytes:
    return frame(BackendType.COMMAND_COMPLETE, _zero(tag))


def _zero(text: str) -> bytes:
    return text.encode() + b"\0"


# -- scripts -------------------------------------------------------------------------

_CLIENT = {
    "P": parse("select 1"),
    "B": bind(),
    "D": describe(),
    "E": execute(),
    "C": close(),
    "S": SYNC,
    "H": FLUSH,
    "Q": query("select 1"),
    "K": query(" commit"),
    "W": query("insert into t values (1)"),
    "F": function_call(1598),
    "d": copy_data(b"1\n"),
    "c": COPY_DONE,
    "f": copy_fail(),
    "X": TERMINATE,
}
_SERVER = {
    "1": frame(BackendType.PARSE_COMPLETE),
    "2": frame(BackendType.BIND_COMPLETE),
    "3": frame(BackendType.CLOSE_COMPLETE),
    "T": frame(BackendType.ROW_DESCRIPTION, b"\0\0"),
    "n": frame(BackendType.NO_DATA),
    "t": frame(BackendType.PARAMETER_DESCRIPTION, b"\0\0"),
    "D": data_row(b"1"),
    "C": command_complete("SELECT 1"),
    "M": command_complete("COMMIT"),
    "I": frame(BackendType.EMPTY_QUERY_RESPONSE),
    "s": frame(BackendType.PORTAL_SUSPENDED),
    "V": frame(BackendType.FUNCTION_CALL_RESPONSE, b"\0\0\0\0"),
    "E": error("division by zero"),
    "F": error("terminating connection", severity="FATAL", sqlstate="57P01"),
    "Z": ready(),
    "Y": ready(TransactionStatus.IN_TRANSACTION),
    "X": ready(TransactionStatus.FAILED),
    "G": frame(BackendType.COPY_IN_RESPONSE, b"\0\0\0"),
    "H": frame(BackendType.COPY_OUT_RESPONSE, b"\0\0\0"),
    "W": frame(BackendType.COPY_BOTH_RESPONSE, b"\0\0\0"),
    "d": frame(BackendType.COPY_DATA, b"1\n"),
    "c": frame(BackendType.COPY_DONE),
    "N": NoticeResponse.build("NOTICE", "00000", "FATAL is not what this is").encode(),
    "S": ParameterStatus("TimeZone", "UTC").encode(),
    "A": frame(BackendType.NOTIFICATION_RESPONSE, b"\0\0\0\1a\0b\0"),
    "R": frame(BackendType.AUTHENTICATION, b"\0\0\0\0"),
}


def steps(script: str) -> Iterator[tuple[Peer, str]]:
    """Split a script into runs of letters from one side."""
    sender = Peer.CLIENT
    for run in script.replace(">", " >").replace("<", " <").split():
        if run[0] in "<>":
            sender = Peer.CLIENT if run[0] == ">" else Peer.UPSTREAM
            run = run[1:]  # noqa: PLW2901 - the arrow is not a letter
        if run:
            yield sender, run


def client(letters: str) -> bytes:
    """Give the frames that a client sends for these letters."""
    return b"".join(_CLIENT[letter] for letter in letters)


def server(letters: str) -> bytes:
    """Give the frames that a server sends for these letters."""
    return b"".join(_SERVER[letter] for letter in letters)


def follow(script: str) -> Tracker:
    """Show a conversation to a tracker, by way of its bytes."""
    tracker = Tracker()
    from_client = FrameScanner(FRONTEND_SYMBOLS, max_bytes=1 << 20)
    from_server = FrameScanner(BACKEND_SYMBOLS, max_bytes=1 << 20)
    for sender, letters in steps(script):
        if sender is Peer.CLIENT:
            tracker.note_sent(from_client.scan(client(letters)))
        else:
            tracker.note_received(from_server.scan(server(letters)))
    return tracker
