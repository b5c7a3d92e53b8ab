import pytest

from dsqlproxy.pgproto.codes import BackendType, FrontendType, TransactionStatus
from dsqlproxy.pgproto.framing import FrameScanner, frame
from dsqlproxy.pgproto.script import (
    BACKEND_SYMBOLS,
    FRONTEND_SYMBOLS,
    TOLD_BY_TAG,
    close_symbol,
    parse_symbol,
    query_symbol,
)
from tests.kit.frames import command_complete, error, parse, query, ready, server


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
    body = query(sql)[5:]
    assert query_symbol(body, 0, len(body)) == b"W"


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
    large = frame(BackendType.ERROR_RESPONSE, fields + bytes(1 << 17))  # in parts
    scanner = FrameScanner(BACKEND_SYMBOLS, max_bytes=1 << 20)
    assert scanner.scan(large[:6]) + scanner.scan(large[6:]) == symbol


def test_a_long_message_does_not_hide_the_severity() -> None:
    assert received(error("x" * 500, severity="FATAL")) == b"F"
    assert received(error("VFATAL " * 90)) == b"E"


@pytest.mark.parametrize(
    ("tag", "symbol"),
    [
        ("COMMIT", b"M"),
        ("ROLLBACK", b"C"),
        ("INSERT 0 1", b"C"),
        ("COMMIT X", b"C"),
        ("DEALLOCATE ALL", b"a"),
        ("DEALLOCATE", b"C"),
        ("DISCARD ALL", b"x"),
        ("DISCARD PLANS", b"C"),
        ("SET", b"e"),
        ("RESET", b"e"),
        ("SET CONSTRAINTS", b"C"),
        ("LISTEN", b"l"),
        ("PREPARE", b"p"),
        ("PREPARE TRANSACTION", b"C"),
        ("DECLARE CURSOR", b"r"),
        ("LOAD", b"o"),
        ("", b"C"),
    ],
)
def test_the_end_of_a_statement_by_its_tag(tag: str, symbol: bytes) -> None:
    assert received(command_complete(tag)) == symbol


def test_a_tag_has_a_symbol_that_is_no_type() -> None:
    assert not TOLD_BY_TAG & set(BackendType)
    assert set(b"axelpro") == TOLD_BY_TAG


@pytest.mark.parametrize(
    ("body", "symbol"),
    [
        pytest.param(b"\0select 1\0\0\0", b"U", id="unnamed"),
        pytest.param(b"s\0select 1\0\0\0", b"P", id="named"),
        pytest.param(b"\0\0\0\0", b"U", id="unnamed and empty"),
        pytest.param(b"x" * 300 + b"\0\0\0\0", b"P", id="a long name"),
        # The server refuses it before it looks at any statement.
        pytest.param(b"", b"P", id="no body"),
    ],
)
def test_a_parse_by_its_name(body: bytes, symbol: bytes) -> None:
    one = frame(FrontendType.PARSE, body)
    assert sent(one) == symbol
    assert sent(one + frame(FrontendType.SYNC)) == symbol + b"S"
    assert parse_symbol(body, 0, len(body)) == symbol


@pytest.mark.parametrize(
    ("body", "symbol"),
    [
        pytest.param(b"Ss\0", b"C", id="a statement"),
        pytest.param(b"S\0", b"C", id="the unnamed statement"),
        pytest.param(b"PS\0", b"O", id="a portal"),
        pytest.param(b"?\0", b"O", id="neither"),
        pytest.param(b"", b"O", id="no body"),
    ],
)
def test_a_close_by_what_it_closes(body: bytes, symbol: bytes) -> None:
    one = frame(FrontendType.CLOSE, body)
    assert sent(one) == symbol
    assert sent(one + frame(FrontendType.SYNC)) == symbol + b"S"
    assert close_symbol(body, 0, len(body)) == symbol


def test_a_parse_too_large_to_be_seen_whole_is_still_told_apart() -> None:
    for name, symbol in (("", b"U"), ("s", b"P"), ("s" * 100, b"P")):
        large = parse("x" * (1 << 22), name=name)
        scanner = FrameScanner(FRONTEND_SYMBOLS, max_bytes=1 << 23)
        assert scanner.scan(large[:5]) + scanner.scan(large[5:]) == symbol


def test_rows_are_left_out() -> None:
    assert received(server("TDDDdddC")) == b"TC"


def test_every_other_type_is_its_own_symbol() -> None:
    asked = {FrontendType.QUERY, FrontendType.PARSE, FrontendType.CLOSE}
    plain = [kind for kind in FrontendType if kind not in asked]
    assert sent(b"".join(map(frame, plain))) == bytes(plain)
    silent = {BackendType.DATA_ROW, BackendType.COPY_DATA, BackendType.READY_FOR_QUERY}
    plain_answers = [kind for kind in BackendType if kind not in silent]
    assert received(b"".join(map(frame, plain_answers))) == bytes(plain_answers)
