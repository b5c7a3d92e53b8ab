from typing import Protocol, Self

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.codes import AuthenticationCode, TransactionStatus
from dsqlproxy.pgproto.framing import FrameReader
from dsqlproxy.pgproto.messages import (
    AUTHENTICATION_OK,
    SYNC,
    TERMINATE,
    Authentication,
    BackendKeyData,
    ErrorResponse,
    NegotiateProtocolVersion,
    NoticeResponse,
    ParameterStatus,
    PasswordMessage,
    ReadyForQuery,
)
from dsqlproxy.pgproto.startup import ProtocolVersion


class Message(Protocol):
    """What every message can do."""

    @classmethod
    def decode(cls, body: bytes) -> Self: ...

    def encode(self) -> bytes: ...


text = st.binary(max_size=40).map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)
words = st.integers(0, 0xFFFFFFFF)
fields = st.lists(st.tuples(st.integers(1, 255).map(chr), text), max_size=10).map(tuple)
messages: list[tuple[type[Message], str, st.SearchStrategy[Message]]] = [
    (Authentication, "R", st.builds(Authentication, words, st.binary(max_size=40))),
    (PasswordMessage, "p", st.builds(PasswordMessage, text)),
    (ParameterStatus, "S", st.builds(ParameterStatus, text, text)),
    (
        BackendKeyData,
        "K",
        st.builds(BackendKeyData, words, st.binary(min_size=4, max_size=256)),
    ),
    (ReadyForQuery, "Z", st.builds(ReadyForQuery, st.sampled_from(TransactionStatus))),
    (
        NegotiateProtocolVersion,
        "v",
        st.builds(
            NegotiateProtocolVersion,
            words.map(ProtocolVersion.from_word),
            st.lists(text, max_size=5).map(tuple),
        ),
    ),
    (ErrorResponse, "E", st.builds(ErrorResponse, fields)),
    (NoticeResponse, "N", st.builds(NoticeResponse, fields)),
]
each_kind = pytest.mark.parametrize(
    ("kind", "letter", "strategy"),
    messages,
    ids=[kind.__name__ for kind, *_ in messages],
)


@each_kind
@given(data=st.data())
def test_encode_then_decode_is_identity(
    kind: type[Message],
    letter: str,
    strategy: st.SearchStrategy[Message],
    data: st.DataObject,
) -> None:
    message = data.draw(strategy)
    (found,) = FrameReader().feed(message.encode())
    assert chr(found.type) == letter
    assert kind.decode(found.body) == message


@each_kind
@given(noise=st.binary(max_size=60))
def test_noise_raises_protocol_error_or_encodes_the_same(
    kind: type[Message], letter: str, strategy: object, noise: bytes
) -> None:
    del letter, strategy
    try:
        message = kind.decode(noise)
    except ProtocolError:
        return
    assert message.encode()[5:] == noise


MALFORMED: list[tuple[type[Message], bytes]] = [
    (Authentication, b"\0\0\0"),
    (PasswordMessage, b"no zero"),
    (PasswordMessage, b""),
    (PasswordMessage, b"two\0words\0"),
    (ParameterStatus, b"name\0value"),
    (ParameterStatus, b"name\0"),
    (ParameterStatus, b"name\0value\0more\0"),
    (BackendKeyData, b"\0\0\0\1key"),
    (BackendKeyData, bytes(261)),
    (ReadyForQuery, b""),
    (ReadyForQuery, b"X"),
    (ReadyForQuery, b"II"),
    (NegotiateProtocolVersion, bytes(7)),
    (NegotiateProtocolVersion, b"\0\3\0\0\0\0\0\1"),
    (NegotiateProtocolVersion, b"\0\3\0\0\xff\xff\xff\xff"),
    (NegotiateProtocolVersion, b"\0\3\0\0\0\0\0\0a\0"),
    (ErrorResponse, b""),
    (ErrorResponse, b"SERROR"),
    # The last field has its zero, and the message has none.
    (ErrorResponse, b"SERROR\0"),
    (ErrorResponse, b"SERROR\0Mtext\0"),
    (ErrorResponse, b"SERROR\0\0Mtext\0\0"),
    (NoticeResponse, b"Mx\0\0\0"),
]


@pytest.mark.parametrize(("kind", "body"), MALFORMED)
def test_a_malformed_body_is_refused(kind: type[Message], body: bytes) -> None:
    with pytest.raises(ProtocolError):
        kind.decode(body)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(PasswordMessage("to\0ken"), id="token"),
        pytest.param(ParameterStatus("na\0me", ""), id="name"),
        pytest.param(ParameterStatus("name", "\0"), id="value"),
        pytest.param(ErrorResponse((("M", "mess\0age"),)), id="error field"),
        pytest.param(
            NegotiateProtocolVersion(ProtocolVersion(3, 0), ("_pq_.\0",)), id="option"
        ),
    ],
)
def test_a_zero_byte_cannot_be_sent(message: Message) -> None:
    with pytest.raises(ProtocolError, match="zero byte"):
        message.encode()


def test_secrets_are_not_in_the_repr() -> None:
    assert "hunter2" not in repr(PasswordMessage("hunter2"))
    shown = repr(BackendKeyData(77, b"hunter2"))
    assert "77" in shown
    assert "hunter2" not in shown


def test_wire_forms() -> None:
    assert AUTHENTICATION_OK.encode() == b"R\0\0\0\x08\0\0\0\0"
    assert PasswordMessage("pw").encode() == b"p\0\0\0\x07pw\0"
    assert ReadyForQuery(TransactionStatus.FAILED).encode() == b"Z\0\0\0\5E"
    assert ParameterStatus("a", "b").encode() == b"S\0\0\0\x08a\0b\0"
    assert BackendKeyData(1, b"keyx").encode() == b"K\0\0\0\x0c\0\0\0\1keyx"
    assert (
        NegotiateProtocolVersion(ProtocolVersion(3, 2), ("_pq_.a",)).encode()
        == b"v\0\0\0\x13\0\3\0\2\0\0\0\1_pq_.a\0"
    )
    assert (SYNC, TERMINATE) == (b"S\0\0\0\4", b"X\0\0\0\4")


def test_an_unknown_authentication_is_a_number() -> None:
    request = Authentication.decode(b"\0\0\0\x63data")
    assert request == Authentication(99, b"data")
    assert (
        Authentication.decode(b"\0\0\0\3").code == AuthenticationCode.CLEARTEXT_PASSWORD
    )


def test_error_fields_by_name() -> None:
    response = ErrorResponse.build("FATAL", "28000", "no", detail="why", hint="what")
    assert response.severity == "FATAL"
    assert response.sqlstate == "28000"
    assert response.message == "no"
    assert response.detail == "why"
    assert response.hint == "what"
    assert response.get("W") == ""
    assert [code for code, _ in response.fields] == ["S", "V", "C", "M", "D", "H"]


def test_empty_fields_are_left_out() -> None:
    notice = NoticeResponse.build("WARNING", "01000", "careful")
    assert [code for code, _ in notice.fields] == ["S", "V", "C", "M"]
    assert notice.detail == ""


def test_severity_is_the_one_that_is_not_translated() -> None:
    localized = ErrorResponse.decode(b"SFEHLER\0VERROR\0\0")
    assert localized.severity == "ERROR"
    assert ErrorResponse.decode(b"SFATAL\0\0").severity == "FATAL"


def test_the_first_field_of_a_code_counts() -> None:
    assert ErrorResponse((("M", "one"), ("M", "two"))).message == "one"


def test_error_and_notice_are_not_the_same() -> None:
    error: object = ErrorResponse(())
    assert error != NoticeResponse(())
