import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.startup import (
    MAX_STARTUP_PACKET_BYTES,
    CancelRequest,
    GSSENCRequest,
    ProtocolVersion,
    SSLRequest,
    StartupMessage,
    StartupPacket,
    StartupReader,
    decode_startup_packet,
)

V3_0 = ProtocolVersion(3, 0)

text = st.binary(max_size=40).map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)
versions = st.integers(0, 0xFFFF).map(lambda minor: ProtocolVersion(3, minor))
startup_messages = st.builds(
    StartupMessage,
    versions,
    st.lists(st.tuples(text.filter(bool), text), max_size=8).map(tuple),
)
cancel_requests = st.builds(
    CancelRequest, st.integers(0, 0xFFFFFFFF), st.binary(min_size=4, max_size=256)
)
packets = st.one_of(
    st.just(SSLRequest()), st.just(GSSENCRequest()), cancel_requests, startup_messages
)


def packet(body: bytes) -> bytes:
    return (len(body) + 4).to_bytes(4) + body


@given(packets)
def test_encode_then_decode_is_identity(sent: StartupPacket) -> None:
    encoded = sent.encode()
    assert int.from_bytes(encoded[:4]) == len(encoded)
    assert decode_startup_packet(encoded[4:]) == sent


@given(st.lists(packets, min_size=1, max_size=4), st.integers(1, 7))
def test_reader_gives_the_packets_in_any_chunks(
    sent: list[StartupPacket], size: int
) -> None:
    stream = b"".join(one.encode() for one in sent)
    reader = StartupReader()
    found = []
    for at in range(0, len(stream), size):
        one = reader.feed(stream[at : at + size])
        while one is not None:
            found.append(one)
            one = reader.feed(b"")
    assert found == sent
    assert reader.take_rest() == b""


@given(st.binary(max_size=60))
def test_noise_raises_protocol_error_or_is_a_packet_that_encodes_the_same(
    noise: bytes,
) -> None:
    try:
        decoded = decode_startup_packet(noise)
    except ProtocolError:
        return
    assert decoded.encode() == packet(noise)


@pytest.mark.parametrize("minor", [0, 1, 2, 9_999])
def test_any_minor_version_of_protocol_three(minor: int) -> None:
    body = (3 << 16 | minor).to_bytes(4) + b"user\0admin\0\0"
    decoded = decode_startup_packet(body)
    assert decoded == StartupMessage(ProtocolVersion(3, minor), (("user", "admin"),))


@pytest.mark.parametrize(
    "version", [(2, 0), (1, 0), (4, 0), (0, 0), (1234, 5678 - 100)]
)
def test_another_major_version_is_refused_by_name(version: tuple[int, int]) -> None:
    body = ProtocolVersion(*version).word.to_bytes(4) + b"user\0admin\0\0"
    expected = rf"frontend protocol {version[0]}\.{version[1]}"
    with pytest.raises(ProtocolError, match=expected) as caught:
        decode_startup_packet(body)
    assert "3.0 to 3.2" in caught.value.hint


def test_version_and_word() -> None:
    assert ProtocolVersion.from_word(0x00030002) == (3, 2)
    assert ProtocolVersion(3, 2).word == 0x00030002
    assert ProtocolVersion(3, 10) > ProtocolVersion(3, 2)


@pytest.mark.parametrize("code", [80877103, 80877104], ids=["SSL", "GSSENC"])
def test_a_request_for_encryption_has_no_body(code: int) -> None:
    with pytest.raises(ProtocolError):
        decode_startup_packet(code.to_bytes(4) + b"\0")


@pytest.mark.parametrize("size", [4, 32, 256])
def test_cancel_keys_from_4_to_256_bytes(size: int) -> None:
    key = bytes(range(256))[:size]
    body = (80877102).to_bytes(4) + (42).to_bytes(4) + key
    assert decode_startup_packet(body) == CancelRequest(42, key)


@pytest.mark.parametrize("size", [-4, 0, 3, 257])
def test_a_cancel_key_of_another_length_is_refused(size: int) -> None:
    body = (80877102).to_bytes(4) + bytes(4 + size)
    with pytest.raises(ProtocolError, match="cancel request"):
        decode_startup_packet(body)


MALFORMED = [
    pytest.param(b"", id="no terminator"),
    pytest.param(b"user\0admin\0", id="no final zero"),
    pytest.param(b"user\0admin", id="value without its zero"),
    pytest.param(b"user\0\0", id="name without value"),
    pytest.param(b"user\0admin\0\0junk\0", id="bytes after the terminator"),
    pytest.param(b"user\0admin\0\0\0", id="two terminators"),
    pytest.param(b"\0admin\0\0", id="empty name"),
    pytest.param(b"\0\0", id="two zeros"),
    pytest.param(b"\0\0\0", id="empty name and value"),
]


@pytest.mark.parametrize("parameters", MALFORMED)
def test_a_malformed_layout_is_refused(parameters: bytes) -> None:
    with pytest.raises(ProtocolError, match="startup packet"):
        decode_startup_packet(V3_0.word.to_bytes(4) + parameters)


def test_no_parameters_at_all() -> None:
    body = V3_0.word.to_bytes(4) + b"\0"
    assert decode_startup_packet(body) == StartupMessage(V3_0, ())


def test_a_value_may_be_empty() -> None:
    body = V3_0.word.to_bytes(4) + b"options\0\0user\0a\0\0"
    decoded = decode_startup_packet(body)
    assert decoded == StartupMessage(V3_0, (("options", ""), ("user", "a")))


@pytest.mark.parametrize("size", range(4))
def test_a_packet_without_a_whole_code_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match="too short"):
        decode_startup_packet(bytes(size))


def test_bytes_that_are_not_utf8_survive() -> None:
    body = V3_0.word.to_bytes(4) + b"user\0J\xf6rg\xff\0\0"
    decoded = decode_startup_packet(body)
    assert isinstance(decoded, StartupMessage)
    assert decoded.encode() == packet(body)
    assert decoded.get("user") == "J\udcf6rg\udcff"


def test_the_last_value_of_a_parameter_counts() -> None:
    message = StartupMessage(V3_0, (("user", "a"), ("database", "d"), ("user", "b")))
    assert message.get("user") == "b"
    assert message.get("database") == "d"
    assert message.get("User") is None


def test_protocol_options_are_the_names_with_the_prefix() -> None:
    message = StartupMessage(
        V3_0, (("_pq_.b", "1"), ("user", "a"), ("_pq_.a", ""), ("x_pq_.c", "1"))
    )
    assert message.protocol_options == ("_pq_.b", "_pq_.a")


@pytest.mark.parametrize("pair", [("na\0me", "value"), ("name", "val\0ue")])
def test_a_zero_byte_cannot_be_sent(pair: tuple[str, str]) -> None:
    with pytest.raises(ProtocolError, match="zero byte"):
        StartupMessage(V3_0, (pair,)).encode()


def test_a_cancel_key_is_not_in_the_repr() -> None:
    shown = repr(CancelRequest(42, b"very secret key"))
    assert "42" in shown
    assert "secret key" not in shown
    assert "very" not in shown


# -- StartupReader -------------------------------------------------------------------


def test_reader_leaves_what_follows() -> None:
    reader = StartupReader()
    assert reader.feed(SSLRequest().encode() + b"\x16more") == SSLRequest()
    assert reader.received == b"\x16more"
    assert reader.take_rest() == b"\x16more"
    assert reader.take_rest() == b""


def test_reader_tells_its_first_byte() -> None:
    assert StartupReader().first_byte is None
    reader = StartupReader()
    assert reader.feed(b"\x00\x00") is None
    assert reader.first_byte == 0
    assert reader.received == b"\0\0"


@pytest.mark.parametrize("length", [0, 4, 7, MAX_STARTUP_PACKET_BYTES + 1, 0xFFFFFFFF])
def test_reader_refuses_a_length_before_the_body_comes(length: int) -> None:
    reader = StartupReader()
    assert reader.feed(length.to_bytes(4)[:3]) is None
    with pytest.raises(ProtocolError, match=f"invalid length .*{length}") as caught:
        reader.feed(length.to_bytes(4)[3:])
    assert caught.value.hint


def test_reader_takes_a_packet_of_ten_thousand_bytes() -> None:
    value = "x" * (MAX_STARTUP_PACKET_BYTES - 4 - 4 - len("a\0\0\0"))
    message = StartupMessage(V3_0, (("a", value),))
    encoded = message.encode()
    assert len(encoded) == MAX_STARTUP_PACKET_BYTES
    reader = StartupReader()
    assert reader.feed(encoded[:-1]) is None
    assert reader.feed(encoded[-1:]) == message
