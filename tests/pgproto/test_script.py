import pytest

from dsqlproxy.pgproto.codes import BackendType, FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import FrameScanner, frame
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS
from tests.kit.frames import command_complete, error, query, ready, server


def sent(data: bytes) -> bytes:
    return FrameScanner(FRONTEND_SYMBOLS, max_bytes=1 << 20).scan(data)


def received(data: bytes) -> bytes:
    return FrameScanner(BACKEND_SYMBOLS, max_bytes=1 << 20).scan(data)


@pytest.mark.parametrize(
    "sql",
    [
        "commit",
        "COMMIT;",
        "  \n\tCommit and chain",
        "end",
        "END TRANSACTION",
        # sqlcommenter and query logs put comments anywhere.
        "commit /*traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2'*/",
        "/* why */ commit",
        "-- why\ncommit",
        ";commit",
        "select 1; insert into t values (1)",
        "frobnicate",
    ],
)
def test_a_query_that_may_be_a_commit(sql: str) -> None:
    assert sent(query(sql)) == b"K"


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "select 'commit'",
        "begin",
        "rollback",
        "select 1;",
        "SHOW all",
        pytest.param("select " + "x" * 100, id="long"),
    ],
)
def test_a_query_that_commits_nothing(sql: str) -> None:
    assert sent(query(sql)) == b"Q"


@pytest.mark.parametrize(
    "sql", ["insert into t values (1)", "UPDATE t SET a = 1;", "with x as (select 1)"]
)
def test_a_query_that_may_write(sql: str) -> None:
    assert sent(query(sql)) == b"W"


@pytest.mark.parametrize(
    ("status", "symbol"),
    [
        (TransactionStatus.IDLE, b"Z"),
        (TransactionStatus.IN_TRANSACTION, b"Y"),
        (TransactionStatus.FAILED, b"X"),
    ],
)
def test_ready_for_query_by_its_status(
    status: TransactionStatus, symbol: bytes
) -> None:
    assert received(ready(status)) == symbol


@pytest.mark.parametrize("body", [b"", b"Q", b"II"])
def test_ready_for_query_with_anything_else_is_not_understood(body: bytes) -> None:
    scanner = FrameScanner(BACKEND_SYMBOLS, max_bytes=100)
    assert scanner.scan(frame(BackendType.READY_FOR_QUERY, body)) == b""
    assert scanner.lost


@pytest.mark.parametrize(
    ("fields", "symbol"),
    [
        pytest.param(b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0", b"F", id="FATAL"),
        pytest.param(b"SPANIC\0VPANIC\0CXX000\0Mbye\0\0", b"F", id="PANIC"),
        pytest.param(b"SFATALER FEHLER\0VFATAL\0C57P01\0M\0\0", b"F", id="localized"),
        pytest.param(b"SFATAL\0C57P01\0Mbye\0\0", b"F", id="before PostgreSQL 9.6"),
        pytest.param(b"SERROR\0VERROR\0C22012\0Mx\0\0", b"E", id="ERROR"),
        pytest.param(b"SERROR\0C22012\0Mx\0\0", b"E", id="ERROR without V"),
        # RAISE EXCEPTION 'FATAL' must not end the session in our books.
        pytest.param(b"SERROR\0VERROR\0CP0001\0MFATAL\0\0", b"E", id="a message FATAL"),
        pytest.param(b"SERROR\0VERROR\0CP0001\0MVFATAL\0\0", b"E", id="... VFATAL"),
        pytest.param(b"SERROR\0VERROR\0CP0001\0DVFATAL\0\0", b"E", id="in the detail"),
        pytest.param(b"\0", b"E", id="nothing"),
    ],
)
def test_an_error_by_its_severity(fields: bytes, symbol: bytes) -> None:
    whole = frame(BackendType.ERROR_RESPONSE, fields)
    assert received(whole) == symbol
    scanner = FrameScanner(BACKEND_SYMBOLS, max_bytes=1 << 20)
    assert scanner.scan(whole[:6]) + scanner.scan(whole[6:]) == symbol


def test_a_long_message_does_not_hide_the_severity() -> None:
    assert received(error("x" * 500, severity="FATAL")) == b"F"
    assert received(error("VFATAL " * 90)) == b"E"


@pytest.mark.parametrize(
    ("tag", "symbol"),
    [("COMMIT", b"M"), ("ROLLBACK", b"C"), ("INSERT 0 1", b"C"), ("COMMIT X", b"C")],
)
def test_the_tag_commit(tag: str, symbol: bytes) -> None:
    assert received(command_complete(tag)) == symbol


def test_rows_are_left_out() -> None:
    assert received(server("TDDDdddC")) == b"TC"


def test_every_type_has_a_symbol_of_its_own() -> None:
    plain = [kind for kind in FrontendType if kind is not FrontendType.QUERY]
    assert sent(b"".join(map(frame, plain))) == bytes(plain)
