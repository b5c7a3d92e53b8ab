import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import (
    DsqlProxyError,
    TokenError,
    UpstreamRejected,
    UpstreamUnavailable,
)
from dsqlproxy.situations.cluster import Cause, cause_of, is_refusal, with_advice

DENIED = "unable to accept connection, access denied"
EXPIRED = "The security token included in the request is expired"
INVALID = "The security token included in the request is invalid."
MISMATCH = "The request signature we calculated does not match the signature …"


def rejected(message: str, hint: str = "") -> UpstreamRejected:
    fields = (("C", "08006"), ("M", message)) + ((("H", hint),) if hint else ())
    return UpstreamRejected(message, fields=fields)


@pytest.mark.parametrize(
    ("message", "hint", "role", "advice"),
    [
        (DENIED, "Signature expired: …", "admin", "behind the cluster's"),
        (DENIED, "Signature not yet current: …", "admin", "ahead of the cluster's"),
        (DENIED, EXPIRED, "admin", "log in again (`aws sso login`)"),
        (DENIED, INVALID, "admin", "is not known to AWS"),
        (DENIED, MISMATCH, "admin", "does not belong to the access key id"),
        (DENIED, "The cluster was not found.", "admin", "check `cluster` and `region`"),
        (
            DENIED,
            "User: arn:… is not authorized to perform: x",
            "admin",
            "dsql:DbConnectAdmin",
        ),
        (DENIED, "User: arn:… is not authorized", "reader", "dsql:DbConnect on"),
        (DENIED, "Wrong user to action mapping. …", "reader", "saw another user"),
        (DENIED, "", "reader", "credentials are valid"),
        ('IAM authentication failed for user "reader"', "", "reader", "AWS IAM GRANT"),
        ("Role reader does not exist", "", "reader", 'GRANT "reader"'),
        ("unable to accept connection, waking up cluster", "", "admin", "Try again"),
        ("Unable to accept connection, rate exceeded.", "", "admin", "Try again"),
        ("Unable to accept connection, too many open", "", "admin", "Try again"),
        ("something new", "", "admin", ""),
        # Not about a role, so no advice about roles.
        ('database "x" does not exist', "", "admin", ""),
    ],
)
def test_advice_fits_the_cause(message: str, hint: str, role: str, advice: str) -> None:
    error = with_advice(rejected(message, hint), role=role)
    assert advice in error.detail + error.hint
    assert bool(error.detail + error.hint) == bool(advice)


# "access denied" is 08006: by its class, a roll-out with a wrong role went on.
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (rejected(DENIED), True),
        (rejected(DENIED, EXPIRED), True),
        (rejected(DENIED, "User: arn:… is not authorized to perform: x"), True),
        (rejected("Role reader does not exist"), True),
        (UpstreamRejected("no", fields=(("C", "28P01"), ("M", "no"))), True),
        (TokenError("no AWS credentials"), True),
        (rejected(DENIED, "Signature expired: …"), False),
        (rejected(DENIED, "The cluster was not found."), False),
        (rejected("unable to accept connection, waking up cluster"), False),
        (rejected("something new"), False),
        (UpstreamUnavailable("no way"), False),
    ],
)
def test_who_may_not_log_in_is_told_from_other_trouble(
    error: DsqlProxyError, expected: bool
) -> None:
    assert is_refusal(error) is expected


def test_advice_takes_the_place_that_the_cluster_left() -> None:
    assert with_advice(rejected(DENIED), role="admin").hint
    assert not with_advice(rejected(DENIED), role="admin").detail
    hinted = with_advice(rejected(DENIED, "Signature expired: …"), role="admin")
    assert hinted.detail
    assert not hinted.hint


def test_advice_in_the_place_of_a_detail_reads_as_an_explanation() -> None:
    hinted = with_advice(rejected(DENIED, "not authorized"), role="admin")
    assert hinted.detail.startswith("The cluster refused the token: allow dsql:")
    late = with_advice(rejected(DENIED, "Signature expired: …"), role="admin")
    assert late.detail.startswith("The token was signed for this login, ")
    busy = with_advice(
        rejected("Unable to accept connection, rate exceeded", "later"), role="admin"
    )
    ahead = with_advice(rejected(DENIED, "Signature not yet current"), role="admin")
    assert ahead.detail.startswith("The token is dated in the future, ")
    nowhere = with_advice(rejected(DENIED, "The cluster was not found."), role="x")
    assert nowhere.detail.startswith("There is no such cluster, ")
    assert busy.detail == "The cluster refused the login: try again in some seconds."
    unknown = with_advice(rejected("something new", "hint"), role="admin")
    assert unknown.detail == ""


def test_fields_stay_as_they_were_sent() -> None:
    error = rejected(DENIED, "Signature expired: …")
    assert with_advice(error, role="admin").fields == error.fields


@pytest.mark.parametrize(
    ("message", "hint", "cause"),
    [
        (DENIED, "Signature expired: …", Cause.SIGNATURE_EXPIRED),
        (DENIED, "Signature not yet current: …", Cause.SIGNATURE_EXPIRED),
        (DENIED, EXPIRED, Cause.CREDENTIALS_REFUSED),
        (DENIED, INVALID, Cause.CREDENTIALS_REFUSED),
        (DENIED, MISMATCH, Cause.CREDENTIALS_REFUSED),
        (DENIED, "The cluster was not found.", Cause.UNKNOWN_CLUSTER),
        (DENIED, "User: arn:… is not authorized", Cause.NOT_AUTHORIZED),
        (DENIED, "Wrong user to action mapping. …", Cause.WRONG_ACTION),
        (DENIED, "", Cause.DENIED),
        ("Role reader does not exist", "", Cause.UNKNOWN_ROLE),
        ('IAM authentication failed for user "x"', "", Cause.UNKNOWN_ROLE),
        ("unable to accept connection, waking up cluster", "", Cause.WAKING_UP),
        ("Unable to accept connection, rate exceeded.", "", Cause.RATE_EXCEEDED),
        (
            "Unable to accept connection, too many open …",
            "",
            Cause.TOO_MANY_CONNECTIONS,
        ),
        ("something new", "", Cause.OTHER),
    ],
)
def test_the_cause_is_in_message_and_hint(
    message: str, hint: str, cause: Cause
) -> None:
    assert cause_of(rejected(message, hint)) is cause


def test_only_what_is_about_the_token_is_a_matter_of_credentials() -> None:
    assert Cause.DENIED.is_about_the_token
    assert not Cause.RATE_EXCEEDED.is_about_the_token
    assert not Cause.UNKNOWN_ROLE.is_about_the_token
    assert not Cause.UNKNOWN_CLUSTER.is_about_the_token


def test_what_passes_by_itself_is_known() -> None:
    passing = {cause for cause in Cause if cause.is_passing}
    assert passing == {
        Cause.WAKING_UP,
        Cause.RATE_EXCEEDED,
        Cause.TOO_MANY_CONNECTIONS,
    }


CHOSEN = [
    "waking up",
    "rate exceeded",
    "too many open connections",
    "unable to accept connection, waking up",
    "signature expired",
    "the security token included in the request is expired",
    "access denied",
    "the cluster was not found",
]


@pytest.mark.parametrize("text", CHOSEN)
def test_what_a_client_may_choose_is_no_cause(text: str) -> None:
    """Else one client could have all the others held."""
    role = cause_of(rejected(f"Role {text} does not exist"))
    assert role is Cause.UNKNOWN_ROLE
    assert cause_of(rejected(f'IAM authentication failed for user "{text}"')) is role
    value = f'invalid value for parameter "TimeZone": "{text}"'
    assert cause_of(rejected(value, f"Perhaps {text}?")) is Cause.OTHER
    mapping = f"Wrong user to action mapping. user: {text}, action: DbConnect"
    assert cause_of(rejected(DENIED, mapping)) is Cause.WRONG_ACTION


@given(st.text())
def test_the_property_of_a_text_that_is_not_at_the_beginning(text: str) -> None:
    for chosen in CHOSEN:
        refusal = rejected(f"x{text}{chosen}", f"x{text}{chosen}")
        assert not cause_of(refusal).is_passing
        assert not cause_of(refusal).is_about_the_token
