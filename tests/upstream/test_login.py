import contextlib

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import ProtocolError, UpstreamRejected
from dsqlproxy.pgproto.codes import BackendType, TransactionStatus
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import (
    BackendKeyData,
    NegotiateProtocolVersion,
    NoticeResponse,
    ParameterStatus,
)
from dsqlproxy.pgproto.startup import ProtocolVersion
from dsqlproxy.upstream.login import (
    MAX_FRAME_BYTES,
    MAX_NOTICES,
    MAX_PARAMETERS,
    LoggedIn,
    Login,
    LoginEvent,
    PasswordWanted,
)
from tests.upstream.wire import (
    CLEARTEXT,
    GREETING,
    KEY,
    OK,
    READY,
    STATUS,
    authentication,
    refusal,
)

NOTICE = NoticeResponse.build("WARNING", "01000", "mind the step")
DONE = LoggedIn(
    parameters=(ParameterStatus("server_version", "16.15"),),
    key=BackendKeyData(42, b"key!"),
    notices=(),
    status=TransactionStatus.IDLE,
)


def play(*parts: bytes) -> list[LoginEvent]:
    return Login().receive(b"".join(parts))


def test_password_login() -> None:
    assert play(CLEARTEXT, GREETING) == [PasswordWanted(), DONE]


def test_login_without_a_password() -> None:
    assert play(GREETING) == [DONE]


def test_key_is_optional() -> None:
    (done,) = play(OK, STATUS, READY)
    assert isinstance(done, LoggedIn)
    assert done.key is None


def test_key_does_not_print() -> None:
    assert "key!" not in repr(DONE)


def test_last_value_of_a_parameter_counts_and_order_stays() -> None:
    parameters = (
        ParameterStatus("a", "1"),
        ParameterStatus("b", "2"),
        ParameterStatus("a", "3"),
    )
    (done,) = play(OK, *(parameter.encode() for parameter in parameters), READY)
    assert isinstance(done, LoggedIn)
    assert done.parameters == (ParameterStatus("a", "3"), ParameterStatus("b", "2"))


def test_notices_are_kept_wherever_they_come() -> None:
    notice = NOTICE.encode()
    *_, done = play(notice, CLEARTEXT, notice, OK, notice, READY)
    assert isinstance(done, LoggedIn)
    assert done.notices == (NOTICE,) * 3


def test_a_flood_of_notices_is_dropped() -> None:
    *_, done = play(NOTICE.encode() * (MAX_NOTICES + 1), GREETING)
    assert isinstance(done, LoggedIn)
    assert len(done.notices) == MAX_NOTICES


def test_what_follows_the_login_is_handed_over() -> None:
    login = Login()
    login.receive(GREETING + NOTICE.encode() + b"rest")
    assert login.take_rest() == NOTICE.encode() + b"rest"


@given(st.lists(st.integers(1, 8), max_size=200))
def test_chunking_changes_nothing(sizes: list[int]) -> None:
    login = Login()
    data = CLEARTEXT + NOTICE.encode() + GREETING + b"rest"
    events: list[LoginEvent] = []
    for size in [*sizes, len(data)]:
        if not any(isinstance(event, LoggedIn) for event in events):
            events += login.receive(data[:size])
            data = data[size:]
    assert [type(event) for event in events] == [PasswordWanted, LoggedIn]
    assert login.take_rest() + data == b"rest"


@given(st.binary(max_size=200))
def test_noise_is_refused_or_incomplete(noise: bytes) -> None:
    with contextlib.suppress(ProtocolError, UpstreamRejected):
        play(noise)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (2, "kerberos v5"),
        (5, "md5 password"),
        (7, "gss"),
        (9, "sspi"),
        (10, "sasl"),
        (99, "number 99"),
    ],
)
def test_another_authentication_gets_no_password(code: int, name: str) -> None:
    with pytest.raises(ProtocolError, match=name) as caught:
        play(authentication(code, b"salt"))
    assert "token" in caught.value.detail


def test_password_is_asked_for_once() -> None:
    login = Login()
    assert login.receive(CLEARTEXT) == [PasswordWanted()]
    with pytest.raises(ProtocolError, match="cleartext password"):
        login.receive(CLEARTEXT)


@pytest.mark.parametrize(
    "before", [b"", CLEARTEXT, OK], ids=["asked", "sent", "greeting"]
)
def test_rejection_keeps_the_fields_as_sent(before: bytes) -> None:
    login = Login()
    login.receive(before)
    with pytest.raises(UpstreamRejected) as caught:
        login.receive(refusal("unable to accept connection, access denied", hint="x"))
    assert caught.value.message == "unable to accept connection, access denied"
    assert caught.value.fields == (
        ("S", "FATAL"),
        ("V", "FATAL"),
        ("C", "08006"),
        ("M", "unable to accept connection, access denied"),
        ("H", "x"),
    )


def test_rejection_without_a_message_has_one() -> None:
    with pytest.raises(UpstreamRejected, match="refused"):
        play(frame(BackendType.ERROR_RESPONSE, b"C53300\0\0"))


@pytest.mark.parametrize(
    ("version", "unknown"), [((3, 0), ()), ((3, 2), ())], ids=["3.0", "3.2"]
)
def test_negotiation_that_changes_nothing_passes(
    version: tuple[int, int], unknown: tuple[str, ...]
) -> None:
    offer = NegotiateProtocolVersion(ProtocolVersion(*version), unknown)
    assert play(offer.encode(), GREETING) == [DONE]


@pytest.mark.parametrize(
    ("version", "unknown"), [((2, 0), ()), ((3, 0), ("_pq_.x",))], ids=["2.0", "option"]
)
def test_negotiation_of_what_nobody_asked_for_is_refused(
    version: tuple[int, int], unknown: tuple[str, ...]
) -> None:
    offer = NegotiateProtocolVersion(ProtocolVersion(*version), unknown)
    with pytest.raises(ProtocolError, match="another version"):
        play(offer.encode())


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(READY, id="ready before ok"),
        pytest.param(CLEARTEXT + KEY, id="key before ok"),
        pytest.param(OK + OK, id="ok twice"),
        pytest.param(OK + CLEARTEXT, id="password after ok"),
        pytest.param(OK + frame(BackendType.DATA_ROW), id="row in the greeting"),
    ],
)
def test_messages_out_of_place_are_refused(script: bytes) -> None:
    with pytest.raises(ProtocolError, match="unexpected"):
        play(script)


def test_too_many_parameters_are_refused() -> None:
    many = (
        ParameterStatus(f"p{number}", "").encode()
        for number in range(MAX_PARAMETERS + 1)
    )
    with pytest.raises(ProtocolError, match="too many"):
        play(OK, *many)


def test_a_message_too_long_is_refused_before_it_came() -> None:
    header = bytes((BackendType.NOTICE_RESPONSE,)) + (MAX_FRAME_BYTES + 1).to_bytes(4)
    with pytest.raises(ProtocolError, match="length"):
        play(header)
