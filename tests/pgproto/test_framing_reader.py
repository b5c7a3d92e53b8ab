import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.framing import (
    MAX_CONVERSATION_FRAME_BYTES,
    Frame,
    FrameReader,
    frame,
)

FRAMES = [
    Frame(ord("R"), b"\0\0\0\0"),
    Frame(ord("S"), b""),
    Frame(ord("K"), bytes(300)),
    Frame(255, b"any type at all"),
    Frame(ord("Z"), b"I"),
]
STREAM = b"".join(frame(*one) for one in FRAMES)


def test_frame_counts_its_length_and_not_its_type() -> None:
    assert frame(ord("Q"), b"abc") == b"Q\0\0\0\x07abc"
    assert frame(ord("S")) == b"S\0\0\0\x04"


def test_reader_gives_the_frames_of_one_chunk() -> None:
    assert FrameReader().feed(STREAM) == FRAMES


@pytest.mark.parametrize("size", [1, 2, 5, 6, 100])
def test_reader_gives_the_same_frames_in_any_chunks(size: int) -> None:
    reader = FrameReader()
    frames = []
    for at in range(0, len(STREAM), size):
        frames += reader.feed(STREAM[at : at + size])
    assert frames == FRAMES
    assert reader.take_rest() == b""


@pytest.mark.parametrize("offset", range(0, len(STREAM), 3))
def test_reader_hands_over_what_is_not_a_frame_yet(offset: int) -> None:
    reader = FrameReader()
    given_back = reader.feed(STREAM[:offset])
    used = sum(len(frame(*one)) for one in given_back)
    assert reader.take_rest() == STREAM[used:offset]
    assert reader.take_rest() == b""


def test_next_frame_leaves_what_follows() -> None:
    reader = FrameReader()
    assert reader.next_frame(STREAM[:3]) is None
    assert reader.next_frame(STREAM[3:8]) is None
    assert reader.next_frame(STREAM[8:]) == FRAMES[0]
    assert reader.next_frame() == FRAMES[1]
    assert reader.take_rest() == STREAM[9 + 5 :]
    assert reader.next_frame() is None


@pytest.mark.parametrize("length", [-5, -1, 0, 3, 101])
@pytest.mark.parametrize("method", ["feed", "next_frame"])
def test_reader_refuses_a_length_that_cannot_be(length: int, method: str) -> None:
    reader = FrameReader(max_bytes=100)
    header = b"S" + length.to_bytes(4, signed=True)
    with pytest.raises(ProtocolError, match=f"invalid length {length} "):
        getattr(reader, method)(header)


def test_reader_takes_a_frame_of_its_greatest_length() -> None:
    greatest = frame(ord("d"), bytes(96))
    assert FrameReader(max_bytes=100).feed(greatest) == [Frame(ord("d"), bytes(96))]
    assert FrameReader(max_bytes=100).next_frame(greatest) is not None


def test_reader_does_not_wait_for_an_overlong_body() -> None:
    length = MAX_CONVERSATION_FRAME_BYTES + 1
    with pytest.raises(ProtocolError):
        FrameReader().feed(b"E" + length.to_bytes(4))


@given(st.lists(st.binary(max_size=30)))
def test_noise_makes_the_reader_raise_protocol_error_or_nothing(
    chunks: list[bytes],
) -> None:
    whole, in_parts = FrameReader(), FrameReader()
    frames: list[Frame] = []
    try:
        for chunk in chunks:
            frames += in_parts.feed(chunk)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            whole.feed(b"".join(chunks))
    else:
        assert whole.feed(b"".join(chunks)) == frames
