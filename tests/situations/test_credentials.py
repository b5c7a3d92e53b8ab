import json

import pytest
from botocore import exceptions as aws

from dsqlproxy.errors import TokenError
from dsqlproxy.situations.credentials import (
    CredentialOrigin,
    expired_when_fetched,
    explain,
    explain_assume_role,
    needs_a_prompt,
    not_renewed,
    put_aside,
    too_many_hang,
    too_slow,
)

DEV = CredentialOrigin("dev")
CHAIN = CredentialOrigin(None)


ROLE = "arn:aws:iam::111122223333:role/x"


def client_error(
    code: str, operation: str = "AssumeRole", message: str = "s3cret"
) -> aws.ClientError:
    error = {"Error": {"Code": code, "Message": message}}
    return aws.ClientError(error, operation)


class FileIsMissing(FileNotFoundError):
    """As open() raises it, with a name."""

    filename = "/var/run/token"


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (aws.NoCredentialsError(), "no AWS credentials", "aws configure"),
        (aws.ProfileNotFound(profile="dev"), "no AWS profile 'dev'", "list-profiles"),
        (
            aws.PartialCredentialsError(provider="config-file", cred_var="aws_secret"),
            "incomplete",
            "aws configure --profile dev",
        ),
        (
            aws.PartialCredentialsError(
                provider="env", cred_var="AWS_SECRET_ACCESS_KEY"
            ),
            "incomplete",
            "unset AWS_ACCESS_KEY_ID to use the profile; then restart the proxy.",
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
        (
            aws.CredentialRetrievalError(provider="container-role", error_msg="s3cret"),
            "could not be fetched",
            "Pod Identity",
        ),
        (
            aws.CredentialRetrievalError(
                provider="Ec2InstanceMetadata", error_msg="s3cret"
            ),
            "could not be fetched",
            "instance profile",
        ),
        (aws.UnknownCredentialError(name="s3cret"), "cannot be used", "Correct it"),
        (json.JSONDecodeError("s3cret", "", 0), "could not be fetched", "aws sts"),
        (ValueError("s3cret"), "could not be fetched", "aws sts"),
        (KeyError("s3cret"), "could not be fetched", "aws sts"),
        (FileNotFoundError("s3cret"), "could not be fetched", "may read it"),
        (PermissionError("s3cret"), "could not be fetched", "may read it"),
        (EOFError(), "MFA", "`profile`"),
        (client_error("AccessDenied"), "refused AssumeRole", "trust policy"),
        (client_error("ExpiredToken"), "have expired", "aws sso login --profile dev"),
        (client_error("InvalidClientTokenId"), "not valid", "renew the keys"),
        (client_error(""), "refused AssumeRole", "trust policy"),
        (
            client_error("ForbiddenException", "GetRoleCredentials"),
            "SSO refused the role",
            "sso_account_id",
        ),
        (
            client_error("InvalidIdentityToken", "AssumeRoleWithWebIdentity"),
            "refused the web identity",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        ),
        (
            client_error(
                "SignatureDoesNotMatch", message="Signature expired: 20261122 s3cret"
            ),
            "clock",
            "NTP",
        ),
        (
            aws.EndpointConnectionError(endpoint_url="s3cret"),
            "not be reached",
            "network",
        ),
        (aws.ReadTimeoutError(endpoint_url="s3cret"), "not be reached", "network"),
        (ConnectionRefusedError("s3cret"), "not be reached", "network"),
        (aws.NoRegionError(), "Region", "us-east-1"),
        (RuntimeError("s3cret"), "could not be fetched", "get-caller-identity"),
        (RuntimeError("… are still expired."), "have expired", "clock"),
        (ArithmeticError("s3cret"), "could not get", "get-caller-identity"),
    ],
    ids=lambda value: repr(value)[:50] if isinstance(value, Exception) else None,
)
def test_each_failure_says_what_mends_it(
    error: Exception, message: str, hint: str
) -> None:
    told = explain(error, DEV)
    assert message in told.message
    assert hint in told.hint
    assert "s3cret" not in str(told)


def test_only_another_configuration_mends_some() -> None:
    half = aws.PartialCredentialsError(provider="env", cred_var="x")
    for error in (aws.NoRegionError(), aws.MissingDependencyException(msg=""), half):
        assert not explain(error, DEV).may_pass
    for error in (aws.NoCredentialsError(), aws.SSOError(), client_error("x")):
        assert explain(error, DEV).may_pass


def test_a_file_is_named() -> None:
    assert "'/var/run/token'" in explain(FileIsMissing(), DEV).detail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (client_error("AccessDenied"), "the role of `assume_role` could not"),
        (client_error("ExpiredToken"), "have expired"),
        (client_error("InvalidClientTokenId"), "not valid"),
        (aws.EndpointConnectionError(endpoint_url="s3cret"), "not be reached"),
    ],
    ids=["denied", "expired", "unknown", "unreachable"],
)
def test_why_a_role_of_ours_could_not_be_assumed_is_said(
    error: Exception, message: str
) -> None:
    told = explain_assume_role(error, DEV, role_arn=ROLE)
    assert message in told.message
    assert "AWS profile 'dev'" in f"{told.detail}"
    assert "s3cret" not in str(told)


def test_a_role_of_ours_that_is_denied_is_named_with_the_action() -> None:
    told = explain_assume_role(client_error("AccessDenied"), DEV, role_arn=ROLE)
    assert f"sts:AssumeRole on {ROLE}" in told.hint
    assert ROLE in told.detail


def test_what_cannot_be_renewed_says_why() -> None:
    told = not_renewed(explain(aws.SSOError(), DEV))
    assert "expired and cannot be renewed" in told.message
    assert "SSO session" in told.detail
    assert "`aws sso login --profile dev`" in told.hint
    assert told.may_pass
    assert not not_renewed(TokenError("x", may_pass=False)).may_pass


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (too_slow(8.0, DEV), "within 8 s"),
        (too_slow(0.299989, DEV), "within 0.3 s"),
        (too_slow(3600.0, DEV), "within 3600 s"),
        (too_many_hang(4, DEV), "4 times"),
        (expired_when_fetched(DEV), "expired already"),
        (put_aside("AKIA…MPLE", DEV), "AKIA…MPLE"),
        (needs_a_prompt("other", DEV), "'other'"),
    ],
    ids=["slow", "brief", "hour", "hanging", "expired", "aside", "prompt"],
)
def test_what_is_known_without_botocore_has_all_its_parts(
    told: TokenError, words: str
) -> None:
    assert words in told.detail
    assert "AWS profile 'dev'" in told.detail
    assert told.hint
    assert told.may_pass


def test_the_source_is_named() -> None:
    error = aws.NoCredentialsError()
    assert "AWS profile 'dev'" in explain(error, DEV).detail
    assert "usual AWS chain" in explain(error, CHAIN).detail
    assert "given" in explain(error, CredentialOrigin(None, given=True)).detail
    assert "AWS profile 'dev'" in too_slow(8.0, DEV).detail


def test_a_detail_that_begins_with_the_source_begins_like_a_sentence() -> None:
    error = aws.PartialCredentialsError(provider="config-file", cred_var="aws_secret")
    told = explain(error, CHAIN)
    assert told.detail.startswith("The usual AWS chain (environment, ")
    assert told.hint.startswith("Set aws_secret, or run `aws configure`")


@pytest.mark.parametrize(
    ("provider", "where"),
    [
        ("shared-credentials-file", "AWS profile 'dev' has no x in ~/.aws/credentials"),
        ("config-file", "AWS profile 'dev' has no x in ~/.aws/config."),
        ("assume-role", "AWS profile 'dev' has no x in the AWS files."),
        ("env", "AWS_ACCESS_KEY_ID is set in the environment, x is not."),
    ],
)
def test_where_a_half_is_missing_is_said_in_the_user_s_words(
    provider: str, where: str
) -> None:
    error = aws.PartialCredentialsError(provider=provider, cred_var="x")
    assert explain(error, DEV).detail.startswith(where)


def test_what_names_a_profile_that_does_not_exist_is_said() -> None:
    error = aws.ProfileNotFound(profile="dve")
    told = explain(error, CredentialOrigin("dve", named_by="AWS_PROFILE"))
    assert told.detail.startswith("It is named by AWS_PROFILE, and is in neither ")
    assert told.hint.startswith(
        "Add it (`aws configure --profile dve`), or correct AWS_PROFILE and restart "
    )
    told = explain(error, CHAIN)
    assert told.detail.startswith("It is in neither ")
    assert "or correct its name and restart the proxy" in told.hint


def test_what_stands_in_the_environment_is_not_said_to_need_no_restart() -> None:
    partial = aws.PartialCredentialsError(provider="env", cred_var="x")
    assert "without a restart" not in explain(partial, CHAIN).hint
    assert "what changes under ~/.aws" in explain(aws.SSOError(), DEV).hint


def test_command_has_no_profile_where_none_is_set() -> None:
    assert "`aws sso login`" in explain(aws.SSOError(), CHAIN).hint
