import json

import pytest

from dsqlproxy.endpoint import parse_endpoint
from dsqlproxy.errors import UpstreamRejected
from dsqlproxy.situations.remedies import (
    Trouble,
    allow,
    cluster_arn,
    grant,
    grantable_arn,
    remedy_for,
    set_clock,
)

ID = "a" * 26
ENDPOINT = parse_endpoint(f"{ID}.dsql.us-east-1.on.aws", None)
ARN = f"arn:aws:dsql:us-east-1:111122223333:cluster/{ID}"
ROLE_ARN = "arn:aws:iam::111122223333:role/developer"


def refusal(message: str, hint: str = "") -> UpstreamRejected:
    return UpstreamRejected(message, fields=(("M", message), ("H", hint)))


# -- which remedy ----------------------------------------------------------------------


def test_a_missing_permission_gets_a_statement() -> None:
    error = refusal(
        "unable to accept connection, access denied",
        "User: x is not authorized to perform: y",
    )
    remedy = remedy_for(error, role="admin", cluster_arn=ARN, identity_arn=None)
    assert remedy == allow("admin", cluster_arn=ARN)


def test_a_denial_without_a_word_gets_one_too() -> None:
    error = refusal("unable to accept connection, access denied")
    remedy = remedy_for(error, role="reader", cluster_arn=ARN, identity_arn=None)
    assert remedy == allow("reader", cluster_arn=ARN)


@pytest.mark.parametrize(
    ("message", "exists"),
    [
        ("Role reader does not exist", False),
        ('IAM authentication failed for user "reader"', True),
    ],
)
def test_an_unknown_role_gets_a_grant(message: str, exists: bool) -> None:
    remedy = remedy_for(
        refusal(message), role="reader", cluster_arn=ARN, identity_arn=ROLE_ARN
    )
    assert remedy == grant("reader", identity_arn=ROLE_ARN, exists=exists)


def test_a_cluster_that_does_not_exist_gets_no_statement() -> None:
    error = refusal(
        "unable to accept connection, access denied", "The cluster was not found."
    )
    assert remedy_for(error, role="x", cluster_arn=ARN, identity_arn=None) is None


def test_the_cluster_s_words_are_read_before_ours() -> None:
    trouble = Trouble("no", detail="ours", hint="its own", quoted=("its own",))
    assert trouble.explanation == ("The cluster says: its own", "ours")
    assert Trouble("no", detail="why", hint="do").explanation == ("why", "do")
    assert Trouble("no").explanation == ()


def test_what_no_grant_mends_gets_nothing() -> None:
    error = refusal("unable to accept connection, waking up cluster")
    assert remedy_for(error, role="x", cluster_arn=ARN, identity_arn=None) is None


# -- what they say ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "action"), [("admin", "DbConnectAdmin"), ("reader", "DbConnect")]
)
def test_the_statement_can_be_pasted_into_a_policy(role: str, action: str) -> None:
    assert json.loads(allow(role, cluster_arn=ARN).text) == {
        "Effect": "Allow",
        "Action": f"dsql:{action}",
        "Resource": ARN,
    }


def test_a_grant_names_role_and_identity() -> None:
    text = grant("reader", identity_arn=ROLE_ARN, exists=True).text
    assert text == f"AWS IAM GRANT \"reader\" TO '{ROLE_ARN}';"


def test_a_role_that_does_not_exist_is_created_first() -> None:
    text = grant("reader", identity_arn=None, exists=False).text
    assert text.splitlines() == [
        'CREATE ROLE "reader" WITH LOGIN;',
        "AWS IAM GRANT \"reader\" TO '<ARN of the IAM identity>';",
    ]


def test_a_role_of_identity_center_may_have_another_path() -> None:
    arn = "arn:aws:iam::1:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Dev_01"
    remedy = grant("reader", identity_arn=arn, exists=True)
    assert "get-role --role-name AWSReservedSSO_Dev_01`" in remedy.purpose


def test_names_in_a_grant_are_quoted() -> None:
    text = grant('a"b', identity_arn="x'y", exists=True).text
    assert text == "AWS IAM GRANT \"a\"\"b\" TO 'x''y';"


def test_a_clock_is_set_by_ntp() -> None:
    assert "timedatectl set-ntp true" in set_clock().text
    assert "sntp -sS time.apple.com" in set_clock().text


# -- ARNs ------------------------------------------------------------------------------


def test_the_arn_of_the_configuration_is_taken() -> None:
    assert cluster_arn(ENDPOINT, named=ARN, error=refusal("no")) == ARN


def test_the_arn_that_the_cluster_names_is_taken() -> None:
    error = refusal("no", f"may not dsql:DbConnect on resource: {ARN} because of x")
    assert cluster_arn(ENDPOINT, named=ENDPOINT.host, error=error) == ARN


def test_the_arn_of_another_cluster_is_not() -> None:
    error = refusal("no", ARN.replace("a" * 26, "b" * 26))
    pattern = f"arn:aws:dsql:us-east-1:*:cluster/{ID}"
    assert cluster_arn(ENDPOINT, named=ENDPOINT.host, error=error) == pattern


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        pytest.param(
            "arn:aws:sts::111122223333:assumed-role/developer/session",
            ROLE_ARN,
            id="a session stands for its role",
        ),
        pytest.param(
            "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Dev_0123/me@x.org",
            "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/"
            "AWSReservedSSO_Dev_0123",
            id="a role of IAM Identity Center has a path",
        ),
        pytest.param(
            "arn:aws:iam::111122223333:user/me",
            "arn:aws:iam::111122223333:user/me",
            id="a user is itself",
        ),
    ],
)
def test_the_arn_that_a_grant_takes(caller: str, expected: str) -> None:
    assert grantable_arn(caller) == expected
