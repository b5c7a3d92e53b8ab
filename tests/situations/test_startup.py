"""What is said of the first bytes of a client, where anything is."""

from dsqlproxy.errors import ProtocolError
from dsqlproxy.situations import startup


def test_what_is_wrong_is_kept_and_a_hint_added() -> None:
    error = startup.explained(ProtocolError("too short", detail="2 bytes"))
    assert (error.message, error.detail) == ("too short", "2 bytes")
    assert error.hint == "Is this a PostgreSQL client?"


def test_a_hint_that_is_there_stays() -> None:
    error = startup.explained(ProtocolError("version 9", hint="Speak version 3."))
    assert error.hint == "Speak version 3."


def test_the_words_for_data_before_encryption_are_postgresqls() -> None:
    error = startup.data_before_encryption("SSL")
    assert error.message == "received unencrypted data after SSL request"
    assert "man-in-the-middle" in error.detail


def test_encryption_that_goes_wrong_is_told_with_the_way_it_should_be() -> None:
    assert "driver" in startup.asked_twice("SSLRequest").hint
    assert "sslnegotiation=postgres" in startup.no_alpn().hint


def test_who_is_told_nothing_has_a_hint_in_the_log() -> None:
    for reason, hint in (
        startup.tls_not_offered(),
        startup.speaks_http(),
        startup.tls_failed("unknown ca"),
    ):
        assert reason
        assert hint
    assert "unknown ca" in startup.tls_failed("unknown ca").reason


def test_parameters_that_are_left_out_are_named() -> None:
    remark = startup.parameters_left_out(("work_mem", "lock_timeout"))
    assert remark.message.endswith('were left out: "work_mem", "lock_timeout"')
    assert "unsupported_parameters: pass" in remark.hint
