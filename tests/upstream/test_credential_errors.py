import json

import pytest
from botocore import exceptions as aws

from dsqlproxy.upstream.credential_errors import CredentialOrigin, explain, too_slow

DEV = CredentialOrigin("dev")
CHAIN = CredentialOrigin(None)


def client_error(code: str) -> aws.ClientError:
    error = {"Error": {"Code": code, "Message": "s3cret"}}
    return aws.ClientError(error, "AssumeRole")


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (aws.NoCredentialsError(), "no AWS credentials", "aws configure"),
        (aws.ProfileNotFound(profile="dev"), "no AWS profile 'dev'", "list-profiles"),
        (
            aws.PartialCredentialsError(provider="env", cred_var="aws_secret"),
            "incomplete",
            "aws configure --profile dev",
        ),
        (aws.UnauthorizedSSOTokenError(), "expired", "`aws sso login --profile dev`"),
        (
            aws.TokenRetrievalError(provider="sso", error_msg="s3cret"),
            "expired",
            "aws sso login",
        ),
        (
            aws.TokenRetrievalError(provider="login", error_msg="s3cret"),
            "login session",
            "`aws login --profile dev`",
        ),
        (aws.SSOTokenLoadError(error_msg="s3cret"), "expired", "aws sso login"),
        (aws.LoginRefreshRequired(), "login session", "aws login"),
        (aws.MissingDependencyException(msg="s3cret"), "not installed", "botocore"),
        (aws.InvalidConfigError(error_msg="s3cret"), "cannot be used", "Correct it"),
        (aws.ConfigParseError(path="s3cret"), "cannot be used", "configure list"),
        (
            aws.CredentialRetrievalError(provider="container", error_msg="s3cret"),
            "could not be fetched",
            "get-caller-identity",
        ),
        (json.JSONDecodeError("s3cret", "", 0), "could not be fetched", "aws sts"),
        (FileNotFoundError("s3cret"), "could not be fetched", "aws sts"),
        (EOFError(), "MFA", "`profile`"),
        (client_error("AccessDenied"), "refused AssumeRole", "trust policy"),
        (client_error("ExpiredToken"), "have expired", "aws sso login --profile dev"),
        (
            aws.EndpointConnectionError(endpoint_url="s3cret"),
            "not be reached",
            "network",
        ),
        (aws.ReadTimeoutError(endpoint_url="s3cret"), "not be reached", "network"),
        (ConnectionRefusedError("s3cret"), "not be reached", "network"),
        (aws.NoRegionError(), "Region", "us-east-1"),
        (RuntimeError("s3cret"), "could not sign", "get-caller-identity"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_failure_says_what_mends_it(
    error: Exception, message: str, hint: str
) -> None:
    told = explain(error, DEV)
    assert message in told.message
    assert hint in told.hint
    assert "s3cret" not in str(told)


def test_the_source_is_named() -> None:
    error = aws.NoCredentialsError()
    assert "AWS profile 'dev'" in explain(error, DEV).detail
    assert "usual AWS chain" in explain(error, CHAIN).detail
    assert "given" in explain(error, CredentialOrigin(None, given=True)).detail
    assert "AWS profile 'dev'" in too_slow(8.0, DEV).detail


def test_a_detail_that_begins_with_the_source_begins_like_a_sentence() -> None:
    error = aws.PartialCredentialsError(provider="env", cred_var="AWS_SECRET")
    told = explain(error, CHAIN)
    assert told.detail.startswith("The usual AWS chain (environment, ")
    assert told.hint.startswith("Set AWS_SECRET, or run `aws configure`")


def test_command_has_no_profile_where_none_is_set() -> None:
    assert "`aws sso login`" in explain(aws.SSOError(), CHAIN).hint
