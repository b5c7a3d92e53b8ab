import pytest

from dsqlproxy.errors import (
    ConnectionLost,
    DsqlProxyError,
    MessageTooLarge,
    OutcomeUnknown,
    Peer,
    ProtocolError,
    RoleNotAllowed,
    ShuttingDown,
    TokenError,
    TooManyConnections,
    UpstreamRejected,
    UpstreamUnavailable,
)
from dsqlproxy.pgproto.framing import FrameReader
from dsqlproxy.pgproto.messages import ErrorResponse
from dsqlproxy.session.last_words import dropped_parameters, last_words, upstream_lost
from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.tracker import Tracker
from dsqlproxy.situations.sessions import (
    internal_error,
    message_too_large,
    shutting_down,
    statement_too_large,
)
from tests.kit.frames import follow

ERRORS = [
    (DsqlProxyError("a bug"), "XX000"),
    (ProtocolError("bad"), "08P01"),
    (ConnectionLost("gone", peer=Peer.UPSTREAM), "08006"),
    (OutcomeUnknown("gone", peer=Peer.UPSTREAM), "08007"),
    (UpstreamUnavailable("no way"), "08001"),
    (TokenError("no credentials"), "28000"),
    (RoleNotAllowed("who?"), "28000"),
    (MessageTooLarge("big"), "54000"),
    (TooManyConnections("full"), "53300"),
    (ShuttingDown("bye"), "57P01"),
]


@pytest.mark.parametrize(
    ("error", "sqlstate"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS]
)
def test_an_error_of_ours_is_a_fatal_with_its_sqlstate(
    error: DsqlProxyError, sqlstate: str
) -> None:
    error.detail, error.hint = "why", "what to do"
    words = last_words(error)
    assert words == ErrorResponse.build(
        "FATAL", sqlstate, error.message, detail="why", hint="what to do"
    )
    assert last_words(error).sqlstate == sqlstate


def test_a_session_that_goes_on_is_told_of_an_error() -> None:
    words = last_words(ProtocolError("bad"), severity="ERROR")
    assert words.severity == "ERROR"
    error = last_words(statement_too_large(11_000_000), severity="ERROR")
    assert error.severity == "ERROR"
    assert "11,000,000 bytes" in error.detail


def test_detail_and_hint_that_are_empty_are_not_sent() -> None:
    fields = dict(last_words(ProtocolError("bad")).fields)
    assert fields == {"S": "FATAL", "V": "FATAL", "C": "08P01", "M": "bad"}


SENT = (("S", "FATAL"), ("V", "FATAL"), ("C", "08006"), ("M", "access denied"))


def rejected(*fields: tuple[str, str], detail: str, hint: str) -> UpstreamRejected:
    return UpstreamRejected(
        "access denied", fields=(*SENT, *fields), detail=detail, hint=hint
    )


def test_what_the_cluster_sent_is_passed_on_as_it_is() -> None:
    error = rejected(
        ("D", "theirs"), ("H", "theirs too"), ("Z", "new"), detail="", hint=""
    )
    words = last_words(error)
    assert words.fields == (*SENT, ("D", "theirs"), ("H", "theirs too"), ("Z", "new"))
    assert last_words(error).sqlstate == "08006"


def test_what_the_cluster_left_empty_is_filled() -> None:
    words = last_words(rejected(detail="ours", hint="ours too"))
    assert words.fields == (*SENT, ("D", "ours"), ("H", "ours too"))


def test_the_cluster_s_own_words_are_not_replaced() -> None:
    words = last_words(rejected(("H", "theirs"), detail="ours", hint="ours too"))
    assert words.fields == (*SENT, ("H", "theirs"), ("D", "ours"))


def test_words_are_a_frame_that_decodes() -> None:
    (sent,) = FrameReader().feed(last_words(shutting_down()).encode())
    assert ErrorResponse.decode(sent.body).sqlstate == "57P01"


# -- a lost upstream -------------------------------------------------------------------

LOST = [
    pytest.param("", "08006", "Nothing was running", id="at rest"),
    pytest.param("Q <CZ", "08006", "Nothing was running", id="after a query"),
    pytest.param("Q <CY", "08006", "rolled back", id="in a transaction"),
    pytest.param("Q <EX", "08006", "rolled back", id="in a failed transaction"),
    pytest.param("Q", "08006", "outcome is unknown", id="a query"),
    pytest.param("Q <TD", "08006", "outcome is unknown", id="some rows"),
    pytest.param(
        "Q <CY >Q", "08006", "outcome is unknown", id="a query in a transaction"
    ),
    pytest.param("Q <G >d", "08006", "outcome is unknown", id="COPY IN"),
    pytest.param("F", "08007", "committed", id="a function call"),
    pytest.param("W", "08007", "committed", id="an INSERT that commits by itself"),
    pytest.param("K", "08007", "committed", id="COMMIT"),
    pytest.param("PBES", "08007", "committed", id="Execute and Sync"),
    pytest.param("Q <C", "08007", "committed", id="done, not ready"),
    pytest.param("K <M", "08006", "unknown", id="COMMIT done"),
]


@pytest.mark.parametrize(("script", "sqlstate", "detail"), LOST)
def test_a_lost_upstream_is_told_by_what_was_under_way(
    script: str, sqlstate: str, detail: str
) -> None:
    error = upstream_lost(follow(script))
    assert error.peer is Peer.UPSTREAM
    assert error.sqlstate == sqlstate
    assert detail in error.detail
    assert "Reconnect" in error.hint


def test_only_an_unknown_outcome_is_to_be_checked() -> None:
    assert "check" in upstream_lost(follow("K")).hint
    assert "check" in upstream_lost(follow("Q")).hint
    assert "check" not in upstream_lost(Tracker()).hint
    assert "check" not in upstream_lost(follow("Q <CY")).hint


# -- the others ------------------------------------------------------------------------


def test_the_limit_of_a_message_is_named() -> None:
    error = message_too_large()
    assert error.sqlstate == "54000"
    assert "10 MiB" in error.detail
    assert error.hint


def test_a_shutdown_is_in_postgresql_s_words() -> None:
    error = shutting_down()
    assert error.message.startswith("terminating connection")
    assert error.hint


def test_a_bug_of_ours_names_the_session_to_look_for() -> None:
    error = internal_error("5f3a")
    assert last_words(error).sqlstate == "XX000"
    assert "5f3a" in error.detail


def test_dropped_parameters_are_named_in_a_warning() -> None:
    notice = dropped_parameters(("statement_timeout", "lock_timeout"))
    assert (notice.severity, notice.sqlstate) == ("WARNING", "01000")
    assert '"statement_timeout", "lock_timeout"' in notice.message
    assert "unsupported_parameters: pass" in notice.hint


def test_close_reasons_are_words_for_metrics_and_logs() -> None:
    values = [str(reason) for reason in CloseReason]
    assert len(set(values)) == len(values)
    assert all(value.replace("_", "").isalpha() and value.islower() for value in values)


def test_a_client_that_broke_the_protocol_is_told_so() -> None:
    error = upstream_lost(follow(""), client_fault="unexpected length of a message")
    assert error.sqlstate == "08006"
    assert "broken the protocol: unexpected length" in error.detail
    assert "60 minutes" not in error.detail
