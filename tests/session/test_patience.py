"""What is tried again at a login, as a table; and for how long."""

import pytest

from dsqlproxy.errors import (
    DsqlProxyError,
    ProtocolError,
    TokenError,
    TooManyConnections,
    UpstreamRejected,
    UpstreamUnavailable,
)
from dsqlproxy.session.patience import Patience, Remedy, was_held_for

DENIED = "unable to accept connection, access denied"


def rejected(message: str, hint: str = "") -> UpstreamRejected:
    fields = (("C", "08006"), ("M", message)) + ((("H", hint),) if hint else ())
    return UpstreamRejected(message, fields=fields)


EXPIRED = rejected(DENIED, "Signature expired: …")
SLEEPS = rejected("unable to accept connection, waking up cluster")
STALE = rejected(DENIED, "The security token included in the request is expired")

TABLE = [
    (TokenError("no AWS credentials"), Remedy.CREDENTIALS),
    (TokenError("a bad Region", may_pass=False), Remedy.NONE),
    (STALE, Remedy.CREDENTIALS),
    (SLEEPS, Remedy.TIME),
    (rejected("Unable to accept connection, rate exceeded."), Remedy.TIME),
    (rejected("Unable to accept connection, too many open connections."), Remedy.TIME),
    (EXPIRED, Remedy.NEW_TOKEN),
    (rejected(DENIED, "User: … is not authorized"), Remedy.NONE),
    (rejected(DENIED, "Wrong user to action mapping."), Remedy.NONE),
    (rejected(DENIED), Remedy.NONE),
    (rejected("Role x does not exist"), Remedy.NONE),
    (rejected("something new"), Remedy.NONE),
    (UpstreamUnavailable("no way"), Remedy.NONE),
    (TooManyConnections("no turn"), Remedy.NONE),
    (ProtocolError("not a cluster"), Remedy.NONE),
]


@pytest.mark.parametrize(("error", "remedy"), TABLE)
def test_only_what_can_mend_itself_is_tried_again(
    error: DsqlProxyError, remedy: Remedy
) -> None:
    assert Patience(10.0, now=0.0).remedy(error, 1.0) is remedy


@pytest.mark.parametrize(("error", "remedy"), TABLE)
def test_nothing_is_waited_for_when_the_time_is_over(
    error: DsqlProxyError, remedy: Remedy
) -> None:
    late = Patience(10.0, now=0.0).remedy(error, 10.0)
    # A new token is not waited for, it is there.
    assert late is (remedy if remedy is Remedy.NEW_TOKEN else Remedy.NONE)


def test_a_second_token_that_is_too_old_is_final() -> None:
    patience = Patience(10.0, now=0.0)
    assert patience.remedy(EXPIRED, 0.1) is Remedy.NEW_TOKEN
    assert patience.remedy(SLEEPS, 0.2) is Remedy.TIME
    assert patience.remedy(EXPIRED, 0.3) is Remedy.NONE


def test_a_client_that_is_not_to_be_held_gets_the_first_error() -> None:
    patience = Patience(0.0, now=5.0)
    assert patience.seconds_left(5.0) == 0.0
    assert patience.remedy(SLEEPS, 5.0) is Remedy.NONE
    assert patience.remedy(STALE, 5.0) is Remedy.NONE
    assert patience.remedy(EXPIRED, 5.0) is Remedy.NEW_TOKEN


def test_the_time_left_never_is_negative() -> None:
    patience = Patience(10.0, now=5.0)
    assert patience.seconds_left(7.0) == 8.0
    assert patience.seconds_left(99.0) == 0.0
    assert patience.seconds_held(7.5) == 2.5


def test_credentials_that_prove_bad_are_tried_ever_more_rarely() -> None:
    patience = Patience(10.0, now=0.0)
    delays = [patience.next_delay() for _ in range(8)]
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TokenError("none"), True),
        (TokenError("never", may_pass=False), False),
        (SLEEPS, True),
        (STALE, True),
        (EXPIRED, False),
        (TooManyConnections("no turn"), True),
        (UpstreamUnavailable("no way"), False),
    ],
)
def test_an_error_is_told_with_its_wait_only_where_there_was_one(
    error: DsqlProxyError, *, expected: bool
) -> None:
    assert was_held_for(error) is expected
