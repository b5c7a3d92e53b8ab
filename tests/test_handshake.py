"""The client's side of the first exchange, as transcripts.

Each step is what the client sends and what is to be done about it.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import ProtocolError
from dsqlproxy.listen.handshake import (
    ALPN,
    Cancel,
    ClientHandshake,
    Leave,
    NeedTls,
    Ready,
    Reply,
    Step,
)
from dsqlproxy.pgproto.messages import NegotiateProtocolVersion
from dsqlproxy.pgproto.startup import (
    CancelRequest,
    GSSENCRequest,
    ProtocolVersion,
    SSLRequest,
    StartupMessage,
)

SSL = SSLRequest().encode()
GSS = GSSENCRequest().encode()
STARTUP = StartupMessage(ProtocolVersion(3, 0), (("user", "admin"),))
CANCEL = CancelRequest(42, b"key!")
HELLO = b"\x16\x03\x01\x02\x00"

NO, YES = Reply(b"N"), Reply(b"S")
READY = Ready(STARTUP, None)

TLS_STARTED = "tls started"
"""In a transcript: the handshake of TLS is done, with the ALPN of PostgreSQL."""

Transcript = Sequence[tuple[bytes | str, Sequence[Step]]]


def play(handshake: ClientHandshake, transcript: Transcript) -> None:
    for received, expected in transcript:
        if isinstance(received, str):
            handshake.tls_started(alpn=ALPN)
        else:
            assert handshake.receive(received) == list(expected)


PLAIN: dict[str, Transcript] = {
    "plain": [(STARTUP.encode(), [READY])],
    "SSL declined": [(SSL, [NO]), (STARTUP.encode(), [READY])],
    "GSS declined": [(GSS, [NO]), (STARTUP.encode(), [READY])],
    "GSS, then SSL": [(GSS, [NO]), (SSL, [NO]), (STARTUP.encode(), [READY])],
    "SSL, then GSS": [(SSL, [NO]), (GSS, [NO]), (STARTUP.encode(), [READY])],
    "a cancel": [(CANCEL.encode(), [Cancel(CANCEL)])],
    "a cancel after SSL": [(SSL, [NO]), (CANCEL.encode(), [Cancel(CANCEL)])],
    "a cancel after GSS": [(GSS, [NO]), (CANCEL.encode(), [Cancel(CANCEL)])],
    "byte by byte": [
        *[(SSL[at : at + 1], []) for at in range(len(SSL) - 1)],
        (SSL[-1:], [NO]),
        *[
            (STARTUP.encode()[at : at + 1], [])
            for at in range(len(STARTUP.encode()) - 1)
        ],
        (b"\0", [READY]),
    ],
}
WITH_TLS: dict[str, Transcript] = {
    "plain": [(STARTUP.encode(), [READY])],
    "SSL": [(SSL, [YES, NeedTls()]), (TLS_STARTED, []), (STARTUP.encode(), [READY])],
    "direct": [
        (HELLO, [NeedTls(HELLO)]),
        (TLS_STARTED, []),
        (STARTUP.encode(), [READY]),
    ],
    "GSS, then SSL": [
        (GSS, [NO]),
        (SSL, [YES, NeedTls()]),
        (TLS_STARTED, []),
        (STARTUP.encode(), [READY]),
    ],
    "GSS": [(GSS, [NO]), (STARTUP.encode(), [READY])],
    "a cancel": [(CANCEL.encode(), [Cancel(CANCEL)])],
    "a cancel under TLS": [
        (SSL, [YES, NeedTls()]),
        (TLS_STARTED, []),
        (CANCEL.encode(), [Cancel(CANCEL)]),
    ],
    "a cancel under direct TLS": [
        (HELLO, [NeedTls(HELLO)]),
        (TLS_STARTED, []),
        (CANCEL.encode(), [Cancel(CANCEL)]),
    ],
}


@pytest.mark.parametrize("name", PLAIN)
def test_without_tls(name: str) -> None:
    play(ClientHandshake(offers_tls=False), PLAIN[name])


@pytest.mark.parametrize("name", WITH_TLS)
def test_with_tls(name: str) -> None:
    play(ClientHandshake(offers_tls=True), WITH_TLS[name])


def test_alpn_is_not_needed_after_an_ssl_request() -> None:
    handshake = ClientHandshake(offers_tls=True)
    handshake.receive(SSL)
    handshake.tls_started(alpn=None)
    assert handshake.receive(STARTUP.encode()) == [READY]


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_direct_tls_needs_alpn(alpn: str | None) -> None:
    handshake = ClientHandshake(offers_tls=True)
    handshake.receive(HELLO)
    with pytest.raises(ProtocolError, match="ALPN"):
        handshake.tls_started(alpn=alpn)


@pytest.mark.parametrize("first", [b"", GSS])
def test_direct_tls_where_it_is_not_offered(first: bytes) -> None:
    handshake = ClientHandshake(offers_tls=False)
    if first:
        handshake.receive(first)
    (step,) = handshake.receive(HELLO)
    assert isinstance(step, Leave)
    assert "TLS" in step.reason
    assert "client_tls: auto" in step.hint


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.1\r\n", b"POST", b"HEAD /", b"OPTIONS * ", b"PRI * HTTP/2.0"],
)
@pytest.mark.parametrize("offers_tls", [False, True])
def test_a_web_browser_is_left_alone(words: bytes, *, offers_tls: bool) -> None:
    handshake = ClientHandshake(offers_tls=offers_tls)
    (step,) = handshake.receive(words)
    assert isinstance(step, Leave)
    assert "HTTP" in step.reason


def test_a_slow_web_browser_is_left_alone() -> None:
    handshake = ClientHandshake(offers_tls=False)
    assert handshake.receive(b"GE") == []
    (step,) = handshake.receive(b"T / HTTP/1.1\r\n")
    assert isinstance(step, Leave)


# CVE-2021-23222: who is between the peers could send a startup packet ahead of TLS.
@pytest.mark.parametrize("offers_tls", [False, True])
@pytest.mark.parametrize("request_", [SSL, GSS], ids=["SSL", "GSS"])
@pytest.mark.parametrize("early", [b"\0", STARTUP.encode(), HELLO])
def test_data_ahead_of_the_answer_are_refused(
    request_: bytes, early: bytes, *, offers_tls: bool
) -> None:
    handshake = ClientHandshake(offers_tls=offers_tls)
    with pytest.raises(ProtocolError, match="received unencrypted data") as caught:
        handshake.receive(request_ + early)
    assert "man-in-the-middle" in caught.value.detail


@pytest.mark.parametrize("first", [SSL, GSS], ids=["SSL", "GSS"])
def test_the_same_request_twice_is_refused(first: bytes) -> None:
    handshake = ClientHandshake(offers_tls=False)
    handshake.receive(first)
    with pytest.raises(ProtocolError, match="second"):
        handshake.receive(first)


@pytest.mark.parametrize("inner", [SSL, GSS], ids=["SSL", "GSS"])
@pytest.mark.parametrize("outer", [SSL, HELLO], ids=["by request", "direct"])
def test_no_encryption_within_tls(inner: bytes, outer: bytes) -> None:
    handshake = ClientHandshake(offers_tls=True)
    handshake.receive(outer)
    handshake.tls_started(alpn=ALPN)
    with pytest.raises(ProtocolError, match="second"):
        handshake.receive(inner)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"\0\0\0\x07", id="too short"),
        pytest.param(b"\0\0\x27\x11", id="too long"),
        pytest.param(b"\0\0\0\x09\0\2\0\0\0", id="protocol 2.0"),
        pytest.param(b"\0\0\0\x08\0\3\0\0", id="no terminator"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="SSH"),
    ],
)
def test_a_packet_that_cannot_be_is_refused(packet: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        ClientHandshake(offers_tls=False).receive(packet)
    assert caught.value.sqlstate == "08P01"


def test_what_follows_the_startup_packet_is_handed_over() -> None:
    handshake = ClientHandshake(offers_tls=False)
    assert handshake.receive(STARTUP.encode() + b"Q\0\0\0\5\0") == [READY]
    assert handshake.take_rest() == b"Q\0\0\0\5\0"


V3_2 = ProtocolVersion(3, 2)
NEGOTIATIONS = [
    pytest.param((3, 0), [], None, id="3.0"),
    pytest.param((3, 1), [], None, id="3.1"),
    pytest.param((3, 2), [], None, id="3.2"),
    pytest.param((3, 3), [], NegotiateProtocolVersion(V3_2), id="3.3"),
    pytest.param(
        (3, 9999), [], NegotiateProtocolVersion(V3_2), id="3.9999, libpq's grease"
    ),
    pytest.param(
        (3, 0),
        ["_pq_.a", "_pq_.b"],
        NegotiateProtocolVersion(ProtocolVersion(3, 0), ("_pq_.a", "_pq_.b")),
        id="options",
    ),
    pytest.param(
        (3, 9999), ["_pq_.x"], NegotiateProtocolVersion(V3_2, ("_pq_.x",)), id="both"
    ),
]


@pytest.mark.parametrize(("version", "options", "answer"), NEGOTIATIONS)
def test_what_is_not_known_is_negotiated(
    version: tuple[int, int],
    options: list[str],
    answer: NegotiateProtocolVersion | None,
) -> None:
    parameters = (("user", "admin"), *((option, "1") for option in options))
    startup = StartupMessage(ProtocolVersion(*version), parameters)
    handshake = ClientHandshake(offers_tls=False)
    assert handshake.receive(startup.encode()) == [Ready(startup, answer)]


def test_it_has_not_begun_before_the_first_byte() -> None:
    assert not ClientHandshake(offers_tls=False).has_begun


@pytest.mark.parametrize("first", [SSL[:1], SSL, GSS], ids=["a byte", "SSL", "GSS"])
def test_it_has_begun_with_the_first_byte(first: bytes) -> None:
    handshake = ClientHandshake(offers_tls=False)
    handshake.receive(first)
    assert handshake.has_begun


@pytest.mark.parametrize("last", [STARTUP.encode(), CANCEL.encode(), b"GET "])
def test_after_its_end_nothing_is_received(last: bytes) -> None:
    handshake = ClientHandshake(offers_tls=False)
    handshake.receive(last)
    with pytest.raises(AssertionError, match="because the handshake ended"):
        handshake.receive(b"more")


def test_while_tls_is_set_up_nothing_is_received() -> None:
    handshake = ClientHandshake(offers_tls=True)
    handshake.receive(SSL)
    with pytest.raises(AssertionError, match="because TLS is being set up"):
        handshake.receive(b"plain")


packets = st.sampled_from(
    [SSL, GSS, STARTUP.encode(), CANCEL.encode(), HELLO, b"GET /"]
)


@given(st.lists(st.one_of(packets, st.binary(min_size=1, max_size=30)), max_size=5))
def test_no_bytes_lead_anywhere_but_to_a_step_or_a_protocol_error(
    chunks: list[bytes],
) -> None:
    handshake = ClientHandshake(offers_tls=True)
    for chunk in chunks:
        try:
            steps = handshake.receive(chunk)
        except ProtocolError:
            return
        for step in steps:
            if isinstance(step, NeedTls):
                handshake.tls_started(alpn=ALPN)
            elif not isinstance(step, Reply):
                return
