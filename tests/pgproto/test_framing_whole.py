"""What the relay has of a stream: small frames whole, and functions of its own."""

import pytest

from dsqlproxy.pgproto.framing import (
    HEADER_BYTES,
    SILENT,
    FrameScanner,
    Symbols,
    frame,
)
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS
from tests.kit.frames import client, parse, query, server
from tests.kit.scanning import LIMIT, frontend, scan_and_collect, scan_in_chunks

# -- frames that pass whole -----------------------------------------------------------

TEN_AT_MOST = {ord("Q"): 10}


def test_a_small_frame_is_not_passed_on_before_it_is_whole() -> None:
    scanner = FrameScanner(
        Symbols({ord("Q"): ord("Q")}, whole=TEN_AT_MOST), max_bytes=99
    )
    small = frame(ord("Q"), b"123456")  # its length is 10
    for offset in range(HEADER_BYTES, len(small)):
        assert scanner.scan(small + small[:offset]) == b"Q"
        assert scanner.cut == len(small)
        assert scanner.missing_bytes == len(small) - offset
        assert scanner.at_boundary
        assert scanner.rest_bytes == 0
    assert scanner.scan(small) == b"Q"
    assert scanner.missing_bytes == 0


def test_a_frame_above_what_is_small_passes_as_it_comes() -> None:
    scanner = FrameScanner(
        Symbols({ord("Q"): ord("Q")}, whole=TEN_AT_MOST), max_bytes=99
    )
    large = frame(ord("Q"), b"1234567")
    assert scanner.scan(large[:7]) == b""
    assert (scanner.cut, scanner.missing_bytes, scanner.rest_bytes) == (7, 0, 5)
    assert scanner.scan(large[7:]) == b"Q"


def test_a_header_that_is_not_whole_does_not_say_what_is_missing() -> None:
    scanner = frontend()
    scanner.scan(query("select 1")[:7])
    assert scanner.missing_bytes
    scanner.scan(query("select 1") + b"Q\0\0")
    assert scanner.missing_bytes == 0
    assert scanner.cut == len(query("select 1"))


def test_a_frame_of_impossible_length_is_not_waited_for() -> None:
    scanner = frontend()
    scanner.scan(b"Q\0\0\0\3")
    assert scanner.lost
    assert (scanner.cut, scanner.missing_bytes) == (5, 0)


def test_a_parse_of_2_mib_is_collected_without_being_scanned_again() -> None:
    whole = parse("x" * (2 * 1024 * 1024 - 100), name="s")
    scanner = frontend()
    chunks = [whole[at : at + 65_536] for at in range(0, len(whole), 65_536)]
    assert scanner.scan(chunks[0]) == b""
    assert scanner.missing_bytes == len(whole) - 65_536
    relayed = scan_and_collect(frontend(), *chunks)
    assert (relayed.script, relayed.passed) == (b"P", whole)


# What is seen in parts only, a session cannot keep.
@pytest.mark.parametrize(
    ("small", "large"),
    [
        (query("x" * 60_000), query("x" * 70_000)),
        (parse("x" * 2_000_000), parse("x" * 2_100_000)),
    ],
    ids=["Query", "Parse"],
)
def test_what_a_client_sends_is_whole_up_to_a_limit(small: bytes, large: bytes) -> None:
    for stream, is_whole in ((small, True), (large, False)):
        scanner = frontend()
        scanner.scan(stream[:-1])
        assert (scanner.cut == 0) is is_whole
        assert scanner.at_boundary is is_whole


def test_copy_data_is_never_waited_for() -> None:
    scanner = frontend()
    scanner.scan(client("d")[:6])
    assert scanner.cut == 6


# -- a session's own functions --------------------------------------------------------


def test_a_stream_can_have_functions_of_its_own() -> None:
    seen: list[bytes] = []

    def look(data: bytes, start: int, end: int) -> bytes:
        seen.append(data[start:end])
        return b"!"

    own = FrameScanner(FRONTEND_SYMBOLS, max_bytes=LIMIT, asked={ord("P"): look})
    stream = client("PBP") + parse("select 2", name="s") + client("S")
    assert scan_in_chunks(own, stream[:30], stream[30:]).script == b"!B!!S"
    assert seen == [client("P")[5:], client("P")[5:], b"s\0select 2\0\0\0"]
    assert frontend().scan(stream) == b"UBUPS"


def test_a_function_can_take_the_place_of_a_number() -> None:
    def look(_data: bytes, _start: int, _end: int) -> bytes:
        return b"!"

    symbols = Symbols({ord("S"): ord("S"), ord("C"): ord("C"), ord("Z"): SILENT})
    own = FrameScanner(symbols, max_bytes=LIMIT, asked={ord("S"): look, ord("Z"): look})
    assert own.scan(server("SCZ")) == b"!C!"
    assert FrameScanner(symbols, max_bytes=LIMIT).scan(server("SCZ")) == b"SC"


def test_sessions_with_functions_of_their_own_share_one_table() -> None:
    def look(_data: bytes, _start: int, _end: int) -> bytes:
        return b"S"

    for symbols, kinds in ((FRONTEND_SYMBOLS, b"PCQ"), (BACKEND_SYMBOLS, b"SEZC")):
        own = symbols.asking(dict.fromkeys(kinds, look))
        assert own.table is symbols.table
        assert own.whole is symbols.whole
