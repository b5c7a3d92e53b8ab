"""What a client that is held is told, and that the cause is never changed by it."""

import pytest

from dsqlproxy.errors import (
    DsqlProxyError,
    TokenError,
    TooManyConnections,
    UpstreamRejected,
    UpstreamUnavailable,
)
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.situations.holding import (
    gave_up,
    held_for_cluster,
    held_for_credentials,
    held_for_source,
    held_for_turn,
    with_limit,
)

FIELDS = (("C", "08006"), ("M", "waking up"))


def test_who_waits_for_credentials_is_told_what_mends_it() -> None:
    remark = held_for_credentials(
        TokenError("the session has expired", detail="Tried: x.", hint="Run y.")
    )
    assert remark.message == (
        "dsqlproxy waits for AWS credentials: the session has expired"
    )
    assert (remark.detail, remark.hint) == ("Tried: x.", "Run y.")


def test_there_is_a_remark_for_everything_that_passes() -> None:
    passing = [cause for cause in Cause if cause.is_passing]
    messages = {held_for_cluster(cause).message for cause in passing}
    assert len(messages) == len(passing)
    assert held_for_turn().message not in messages


@pytest.mark.parametrize(
    "error",
    [
        TokenError("none", detail="Why.", hint="Do."),
        TooManyConnections("no turn", hint="Do."),
        UpstreamRejected("waking up", fields=FIELDS, hint="Do."),
    ],
    ids=repr,
)
def test_giving_up_adds_how_long_it_took(error: DsqlProxyError) -> None:
    before = error.detail
    told = gave_up(error, seconds=10.0004)
    assert type(told) is type(error)
    assert told is not error
    assert error.detail == before
    assert told.detail.endswith("The client was held for 10 s (hold_timeout).")
    assert told.detail.startswith(before)
    assert (told.message, told.hint) == (error.message, "Do.")
    if isinstance(told, UpstreamRejected):
        assert told.fields == FIELDS


def test_nobody_is_held_for_what_no_time_mends() -> None:
    with pytest.raises(AssertionError):
        gave_up(UpstreamUnavailable("no way"), seconds=1.0)


def test_who_waits_for_others_is_told_what_the_cluster_says_of_these() -> None:
    fields = (("M", "access denied"), ("H", "It is expired."))
    refused = UpstreamRejected("access denied", fields=fields, detail="Log in again.")
    remark = held_for_credentials(refused)
    assert "the cluster refuses those" in remark.message
    assert remark.detail == "The cluster says: It is expired."
    assert remark.hint == "Log in again."
    unhinted = UpstreamRejected("access denied", fields=fields[:1], hint="Log in.")
    assert held_for_credentials(unhinted)[1:] == ("", "Log in.")


def test_the_limit_is_part_of_the_detail() -> None:
    assert with_limit(held_for_turn(), 10.0).detail.endswith(
        "reached. It waits for up to 10 s (hold_timeout)."
    )
    assert with_limit(held_for_source(), 2.5).detail == (
        "It waits for up to 2.5 s (hold_timeout)."
    )
    assert with_limit(held_for_source(), 0.0) == held_for_source()
