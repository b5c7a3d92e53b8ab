"""What is said of sessions that are refused, lost or ended."""

import pytest

from dsqlproxy.errors import ConnectionLost, OutcomeUnknown, Peer
from dsqlproxy.situations import sessions
from dsqlproxy.situations.sessions import UnderWay


@pytest.mark.parametrize(
    ("served", "hint"),
    [
        pytest.param((), "Set a user name, such as admin.", id="anybody"),
        pytest.param(("reader",), "Connect as reader.", id="one"),
        pytest.param(("a", "b", "c"), "Connect as a or b or c.", id="several"),
    ],
)
def test_who_names_nobody_is_told_who_would_do(
    served: tuple[str, ...], hint: str
) -> None:
    assert sessions.no_user(served).hint == hint


def test_a_role_that_is_not_served_is_told_with_those_that_are() -> None:
    error = sessions.role_not_served("intruder", ("admin", "reader"))
    assert error.message == 'role "intruder" is not served by this listener'
    assert error.hint == "Connect as admin or reader."


def test_a_limit_is_told_with_its_number_and_its_key() -> None:
    error = sessions.too_many_sessions(7)
    assert error.detail == "The limit is 7."
    assert "max_sessions" in error.hint


@pytest.mark.parametrize("under_way", UnderWay)
def test_a_lost_upstream_is_told_by_what_was_under_way(under_way: UnderWay) -> None:
    error = sessions.upstream_lost(under_way)
    assert isinstance(error, ConnectionLost)
    assert isinstance(error, OutcomeUnknown) == (under_way is UnderWay.COMMIT)
    assert error.peer is Peer.UPSTREAM
    assert "Reconnect" in error.hint


def test_a_fault_of_the_client_is_named_except_where_a_commit_counts_more() -> None:
    fault = "unexpected type of a message"
    told = sessions.upstream_lost(UnderWay.STATEMENT, client_fault=fault)
    assert f"had broken the protocol: {fault}." in told.detail
    assert "bug" in told.hint
    told = sessions.upstream_lost(UnderWay.COMMIT, client_fault=fault)
    assert fault not in told.detail


def test_the_age_is_told_where_it_explains_something() -> None:
    limit = "The cluster's session limit was reached."
    for under_way in (UnderWay.STATEMENT, UnderWay.TRANSACTION):
        assert limit in sessions.upstream_lost(under_way, is_at_limit=True).detail
    lost = sessions.upstream_lost(UnderWay.NOTHING, is_at_limit=True)
    assert limit not in lost.detail


def test_a_session_at_rest_is_told_why_it_was_not_replaced() -> None:
    error = sessions.upstream_lost(UnderWay.NOTHING, not_replaced="it is switched off.")
    assert error.detail == (
        "Nothing was running. It could not be replaced: it is switched off."
    )
    assert error.hint == "Reconnect."
    unsent = sessions.upstream_lost(UnderWay.NOTHING, is_unsent=True)
    assert "it was not sent" in unsent.hint


def test_the_session_limit_is_told_with_what_kept_the_session_there() -> None:
    error = sessions.session_limit("the session has a cursor.")
    assert error.detail.endswith("new connection: the session has a cursor.")


def test_what_is_too_large_is_told_with_the_limit() -> None:
    statement = sessions.statement_too_large(10_485_761)
    assert "10,485,761 bytes" in statement.detail
    for error in (statement, sessions.message_too_large()):
        assert "10 MiB" in error.detail
        assert "smaller" in error.hint


def test_the_proxys_own_end_and_faults_are_told_as_such() -> None:
    assert sessions.shutting_down().message.startswith("terminating connection")
    assert "5f3a" in sessions.internal_error("5f3a").detail
