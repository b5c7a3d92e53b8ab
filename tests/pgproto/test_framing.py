import tracemalloc

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.pgproto.framing import (
    BODY_BYTES,
    HEADER_BYTES,
    SILENT,
    FrameScanner,
    Symbols,
    frame,
)
from dsqlproxy.pgproto.script import BACKEND_SYMBOLS, FRONTEND_SYMBOLS
from tests.kit.frames import client, close, error, parse, query, server
from tests.kit.scanning import (
    AS_SYMBOLS,
    LIMIT,
    Relayed,
    backend,
    frontend,
    scan_and_collect,
    scan_in_chunks,
    streamed,
)

FRAMES_OF_A_CLIENT = client("PBDESQKdcfHFX") + parse("", name="s") + close("S")
TRANSCRIPTS = [
    pytest.param(FRONTEND_SYMBOLS, FRAMES_OF_A_CLIENT, b"UBDESQKdcfHFXPC", id="client"),
    pytest.param(
        streamed(FRONTEND_SYMBOLS),
        FRAMES_OF_A_CLIENT,
        b"UBDESQKdcfHFXPC",
        id="client, streamed",
    ),
    pytest.param(
        BACKEND_SYMBOLS,
        server("12tTDDDCZ3nIsVEXHddcMYGNSAFW"),
        b"12tTCZ3nIsVEXHcMYGNSAFW",
        id="server, without its rows",
    ),
    pytest.param(
        streamed(BACKEND_SYMBOLS),
        server("12tTDDDCZ3nIsVEXHddcMYGNSAFW"),
        b"12tTCZ3nIsVEXHcMYGNSAFW",
        id="server, streamed",
    ),
    pytest.param(FRONTEND_SYMBOLS, client("SHcSHc"), b"SHcSHc", id="no bodies at all"),
    pytest.param(
        FRONTEND_SYMBOLS,
        query(" " * 70 + "commit") + query("end") + query("select " + "x" * 100),
        b"QKQ",
        id="bodies longer than what is kept of them",
    ),
    pytest.param(
        streamed(FRONTEND_SYMBOLS),
        query(" " * 70 + "commit") + query("end") + query("select " + "x" * 100),
        b"QKQ",
        id="... streamed",
    ),
    pytest.param(
        streamed(BACKEND_SYMBOLS),
        error("x" * 300, severity="PANIC") + error("y" * 300) + server("N"),
        b"FEN",
        id="long errors",
    ),
]


@pytest.mark.parametrize(("symbols", "stream", "script"), TRANSCRIPTS)
class TestFrameScanner:
    def test_all_frames_in_one_chunk(
        self, symbols: Symbols, stream: bytes, script: bytes
    ) -> None:
        scanner = FrameScanner(symbols, max_bytes=LIMIT)
        assert scanner.scan(stream) == script
        assert scanner.cut == len(stream)
        assert scanner.at_boundary

    def test_split_at_every_byte(
        self, symbols: Symbols, stream: bytes, script: bytes
    ) -> None:
        for offset in range(len(stream) + 1):
            scanner = FrameScanner(symbols, max_bytes=LIMIT)
            relayed = scan_in_chunks(scanner, stream[:offset], stream[offset:])
            assert relayed.script == script, offset
            assert relayed.passed == stream
            assert scanner.at_boundary

    def test_one_byte_at_a_time(
        self, symbols: Symbols, stream: bytes, script: bytes
    ) -> None:
        scanner = FrameScanner(symbols, max_bytes=LIMIT)
        bytes_alone = [stream[at : at + 1] for at in range(len(stream))]
        relayed = scan_in_chunks(scanner, *bytes_alone)
        assert (relayed.script, relayed.passed) == (script, stream)
        assert not relayed.held

    def test_two_splits_inside_of_a_frame(
        self, symbols: Symbols, stream: bytes, script: bytes
    ) -> None:
        for offset in range(len(stream)):
            scanner = FrameScanner(symbols, max_bytes=LIMIT)
            end = offset + 7
            relayed = scan_in_chunks(
                scanner, stream[:offset], stream[offset:end], stream[end:]
            )
            assert (relayed.script, relayed.passed) == (script, stream), offset

    def test_boundaries_are_where_frames_end(
        self, symbols: Symbols, stream: bytes, script: bytes
    ) -> None:
        ends = {0}
        while max(ends) < len(stream):
            at = max(ends)
            ends.add(at + 1 + int.from_bytes(stream[at + 1 : at + 5]))
        assert len(ends) > len(script)
        for offset in range(len(stream) + 1):
            scanner = FrameScanner(symbols, max_bytes=LIMIT)
            start = max(end for end in ends if end <= offset)
            length = int.from_bytes(stream[start + 1 : start + 5])
            scanner.scan(stream[:offset])
            # A header that is not whole has not been passed on, nor a small frame.
            is_held = offset - start < HEADER_BYTES or length <= symbols.whole.get(
                stream[start], 0
            )
            assert scanner.at_boundary == is_held
            assert scanner.cut == (start if is_held else offset)


WORDS = st.lists(st.sampled_from("PBDECSHQKFdcfX"))


@given(WORDS, st.data())
def test_chunking_changes_nothing(letters: list[str], data: st.DataObject) -> None:
    stream = client("".join(letters))
    cuts = data.draw(st.lists(st.integers(0, len(stream))).map(sorted))
    chunks = [
        stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)
    ]
    for symbols in (FRONTEND_SYMBOLS, streamed(FRONTEND_SYMBOLS)):
        for scan in (scan_in_chunks, scan_and_collect):
            relayed = scan(FrameScanner(symbols, max_bytes=LIMIT), *chunks)
            expected = "".join(letters).translate(AS_SYMBOLS)
            assert relayed.script == expected.encode()
            assert relayed.passed == stream


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_noise_passes_and_is_at_most_not_understood(chunks: list[bytes]) -> None:
    scanner = backend()
    relayed = Relayed()
    for chunk in chunks:
        if scanner.overlong:
            break
        data = relayed.held + chunk
        scanner.scan(data)
        relayed.passed += data[: scanner.cut]
        relayed.held = data[scanner.cut :]
    assert b"".join(chunks).startswith(relayed.passed + relayed.held)
    if not scanner.missing_bytes:
        assert len(relayed.held) < HEADER_BYTES or scanner.overlong
    if scanner.lost:
        assert not relayed.held
        assert not scanner.at_boundary


@pytest.mark.parametrize("tail", range(1, HEADER_BYTES))
def test_half_a_header_is_held_and_is_not_part_of_a_frame(tail: int) -> None:
    scanner = frontend()
    stream = client("QS")
    assert scanner.scan(stream[: -HEADER_BYTES + tail]) == b"Q"
    assert scanner.cut == len(client("Q"))
    assert scanner.at_boundary
    assert scanner.scan(stream[scanner.cut :]) == b"S"


def test_a_frame_without_body_ends_with_its_header() -> None:
    scanner = frontend()
    assert scanner.scan(client("S")) == b"S"
    assert scanner.at_boundary
    assert scanner.rest_bytes == 0


def test_the_rest_of_a_frame_is_counted() -> None:
    scanner = backend()
    stream = server("T") + frame(ord("D"), bytes(1_000)) + server("CZ")
    assert scanner.scan(stream[: 7 + 5 + 100]) == b"T"
    assert scanner.rest_bytes == 900
    assert not scanner.at_boundary
    assert scanner.scan(bytes(899)) == b""
    assert scanner.rest_bytes == 1
    assert scanner.scan(b"\0" + server("CZ")) == b"CZ"
    assert scanner.at_boundary


@pytest.mark.parametrize(
    "length",
    [0, 1, 3, -1, -(2**31)],
    ids=["zero", "one", "three", "minus one", "least"],
)
def test_an_impossible_length_ends_understanding(length: int) -> None:
    scanner = frontend()
    bad = b"Q" + length.to_bytes(4, signed=True) + b"select"
    stream = client("S") + bad
    assert scanner.scan(stream) == b"S"
    assert "length" in scanner.lost
    assert scanner.cut == len(stream)
    assert not scanner.at_boundary


@pytest.mark.parametrize("kind", [0, ord("z"), ord("R"), 255])
@pytest.mark.parametrize(
    "body", [b"", b"whole", None], ids=["empty", "whole", "partial"]
)
def test_an_unknown_type_ends_understanding_and_everything_passes(
    kind: int, body: bytes | None
) -> None:
    scanner = frontend()
    bad = frame(kind, bytes(100))[:50] if body is None else frame(kind, body)
    stream = client("QS") + bad
    assert scanner.scan(stream) == b"QS"
    assert "type" in scanner.lost
    assert scanner.cut == len(stream)
    assert scanner.scan(client("Q")) == b""
    assert scanner.cut == len(client("Q"))
    assert not scanner.at_boundary


@pytest.mark.parametrize("split", [False, True], ids=["whole", "in two chunks"])
def test_a_body_that_its_function_refuses_ends_understanding(*, split: bool) -> None:
    scanner = FrameScanner(streamed(BACKEND_SYMBOLS), max_bytes=LIMIT)
    stream = server("C") + frame(ord("Z"), b"?") + server("Z")
    if split:
        scan_in_chunks(scanner, stream[: -len(server("Z")) - 1])
        assert not scanner.lost
        assert scanner.scan(b"?" + server("Z")) == b""
    else:
        scanner.scan(stream)
    assert scanner.lost
    assert not scanner.at_boundary


def test_an_overlong_frame_is_cut_off_before_its_header() -> None:
    scanner = FrameScanner(FRONTEND_SYMBOLS, max_bytes=1_000)
    overlong = query("x" * 1_000)
    stream = client("PS") + overlong[:500]
    assert scanner.scan(stream) == b"US"
    assert scanner.cut == len(client("PS"))
    assert scanner.missing_bytes == 0  # nobody is to wait for them
    assert scanner.overlong == (ord("Q"), len(overlong) - 1)
    assert scanner.at_boundary
    assert not scanner.lost


def test_a_frame_of_the_greatest_length_passes() -> None:
    scanner = FrameScanner(FRONTEND_SYMBOLS, max_bytes=1_000)
    greatest = query("x" * (1_000 - 5))
    assert len(greatest) == 1_001  # the length counts itself and not the type
    relayed = scan_in_chunks(scanner, greatest[:400], greatest[400:])
    assert relayed.script == b"K"
    assert scanner.overlong is None


def test_the_largest_length_of_all_is_overlong() -> None:
    scanner = frontend()
    scanner.scan(b"d\x7f\xff\xff\xff")
    assert scanner.overlong == (ord("d"), 0x7FFFFFFF)
    assert scanner.cut == 0


def test_a_large_body_is_never_copied() -> None:
    body = frame(ord("d"), bytes(9 * 1024 * 1024))
    chunks = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    scanner = frontend()
    tracemalloc.start()
    try:
        scripts = [scanner.scan(chunk) for chunk in chunks]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert b"".join(scripts) == b"d"
    assert peak < 32_768


def test_a_silent_type_is_left_out_whole_or_split() -> None:
    symbols = Symbols({ord("D"): SILENT, ord("C"): ord("C")})
    stream = (frame(ord("D"), b"row") + frame(ord("C"))) * 3
    for size in (1, 3, 7, len(stream)):
        scanner = FrameScanner(symbols, max_bytes=100)
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert scan_in_chunks(scanner, *chunks).script == b"CCC"


def test_a_function_sees_the_same_of_a_long_body_however_it_came() -> None:
    seen: list[bytes] = []

    def look(data: bytes, start: int, end: int) -> bytes:
        seen.append(data[start : min(end, start + BODY_BYTES)])
        return b"q"

    stream = query("select " + "abcdefghij" * 20) * 2
    for size in (1, 9, 64, 70, len(stream)):
        scanner = FrameScanner(Symbols({ord("Q"): look}), max_bytes=LIMIT)
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert scan_in_chunks(scanner, *chunks).script == b"qq"
    assert set(seen) == {stream[5 : 5 + BODY_BYTES]}
