from pathlib import Path

import pytest

from dsqlproxy.aws import chain
from dsqlproxy.aws.credentials import Identity
from dsqlproxy.config.assume_role import AssumedRole
from dsqlproxy.errors import TokenError
from tests.aws.conftest import Enter
from tests.aws.sources import (
    CHAIN,
    DEV,
    OURS,
    ROLE,
    keys_in_credentials_file,
    program,
    role_of_a_profile,
    sso_session,
)
from tests.kit.aws_stand_ins import Home, StandIns
from tests.upstream.wire import REGION


def told(identity: Identity) -> TokenError:
    """Fetch, and give the error; nothing foreign may hang on it."""
    with pytest.raises(TokenError) as caught:
        chain.fetch(identity, REGION)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    return error


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(
            {"aws_access_key_id": "AKIA"},
            "has no aws_secret_access_key",
            id="half a key",
        ),
        pytest.param({"role_arn": ROLE}, "source_profile", id="role without a source"),
        pytest.param(
            {"role_arn": ROLE, "source_profile": "gone"},
            "source_profile names something that does not exist",
            id="source profile missing",
        ),
        pytest.param(
            {"role_arn": ROLE, "credential_source": "Nonsense"},
            "contradicts itself|names something that does not exist",
            id="credential source unknown",
        ),
        pytest.param(
            {"credential_process": "sh -c 'echo s3cret >&2; exit 1'"},
            "credential_process, which failed",
            id="process fails",
        ),
        pytest.param(
            {"credential_process": "echo s3cret"},
            "credential_process",
            id="process talks nonsense",
        ),
        pytest.param(
            {"credential_process": "/does/not/exist"},
            "'/does/not/exist', a file or program that does not exist",
            id="process missing",
        ),
        pytest.param(
            {"role_arn": ROLE, "web_identity_token_file": "/does/not/exist"},
            "'/does/not/exist'.*web_identity_token_file",
            id="web identity missing",
        ),
        pytest.param({"login_session": "x"}, "crt|aws login", id="aws login"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said(
    home: Home, enter: Enter, settings: dict[str, str], words: str
) -> None:
    enter()
    home.profile("dev", **settings)
    with pytest.raises(TokenError, match=words):
        raise told(DEV)
    assert "'dev'" in str(told(DEV))
    assert "s3cret" not in str(told(DEV))


def test_a_missing_profile_is_named(enter: Enter) -> None:
    enter(AWS_PROFILE="from-environment")
    assert "no AWS profile 'from-environment'" in told(CHAIN).message
    assert "no AWS profile 'dev'" in told(DEV).message


def test_a_broken_file_is_said(enter: Enter, home: Home) -> None:
    enter()
    home.config_file.write_text("[profile dev\n")
    assert "cannot be used" in told(DEV).message


def test_an_sso_session_that_is_not_configured(enter: Enter, home: Home) -> None:
    enter()
    home.profile(
        "dev", sso_session="gone", sso_account_id="111122223333", sso_role_name="x"
    )
    assert "sso-session names something that does not exist" in told(DEV).detail


@pytest.mark.parametrize("session", ["example", None], ids=["session", "legacy"])
@pytest.mark.parametrize("state", ["never", "expired", "revoked"])
def test_an_sso_login_is_needed(
    aws: StandIns, home: Home, enter: Enter, session: str | None, state: str
) -> None:
    enter()
    home.sso_profile("dev", session=session)
    if state != "never":
        lifetime = -1 if state == "expired" else 3600
        tokens = aws.sso.sign_in(lifetime=lifetime)
        home.sign_in(tokens, session=session, has_refresh_token=False)
        aws.sso.revoke()
    assert "`aws sso login --profile dev`" in told(DEV).hint


def test_an_sso_role_that_is_not_assigned(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**sso_session(aws, home))
    aws.sso.get_role_credentials.deny("ForbiddenException", "s3cret", status=403)
    error = told(DEV)
    assert "sso_role_name" in error.hint
    assert "s3cret" not in str(error)


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        ("AccessDenied", "s3cret", "sts:AssumeRole"),
        ("ExpiredToken", "s3cret", "renew the keys"),
        ("InvalidClientTokenId", "s3cret", "renew the keys"),
        ("SignatureDoesNotMatch", "s3cret", "renew the keys"),
        ("SignatureDoesNotMatch", "Signature expired: s3cret", "clock"),
        ("SignatureDoesNotMatch", "Signature not yet current: s3cret", "clock"),
    ],
)
def test_a_role_that_sts_refuses(
    aws: StandIns, home: Home, enter: Enter, code: str, message: str, words: str
) -> None:
    enter(**role_of_a_profile(aws, home))
    aws.sts.assume_role.deny(code, message)
    error = told(DEV)
    assert words in error.hint
    assert "'dev'" in error.detail
    assert "s3cret" not in str(error)


def test_a_role_of_ours_that_is_denied_is_named(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**keys_in_credentials_file(aws, home))
    aws.sts.assume_role.deny()
    error = told(Identity("dev", AssumedRole(role_arn=OURS)))
    assert error.message == "the role of `assume_role` could not be assumed"
    assert OURS in error.detail
    assert "AWS profile 'dev'" in error.detail
    assert f"sts:AssumeRole on {OURS}" in error.hint


def test_a_role_of_ours_needs_valid_keys(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter()
    home.keys(aws.mint.mint("arn", lifetime=-1).key, "dev")
    error = told(Identity("dev", AssumedRole(role_arn=OURS)))
    assert "have expired" in error.message


def test_a_role_of_ours_without_a_way_to_sts(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    variables = keys_in_credentials_file(aws, home)
    enter(**variables, AWS_ENDPOINT_URL_STS="http://127.0.0.1:1")
    error = told(Identity("dev", AssumedRole(role_arn=OURS)))
    assert "could not be reached" in error.message


def test_a_web_identity_that_sts_refuses(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**aws.web_identity(home, ROLE))
    aws.sts.assume_role_with_web_identity.deny("InvalidIdentityToken", "s3cret")
    error = told(CHAIN)
    assert error.message == "AWS refused the web identity"
    assert "InvalidIdentityToken" in error.detail
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in error.hint
    assert "s3cret" not in str(error)


@pytest.fixture
def hasty_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no time between tries of a container endpoint; botocore waits 1 s."""
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)


@pytest.mark.usefixtures("hasty_containers")
def test_a_container_endpoint_that_denies(aws: StandIns, enter: Enter) -> None:
    enter(**aws.container.ecs())
    aws.container.credentials.deny("AccessDeniedException", "s3cret")
    error = told(CHAIN)
    assert "AWS_CONTAINER_CREDENTIALS" in error.detail
    assert "Pod Identity" in error.hint
    assert "s3cret" not in str(error)


@pytest.mark.usefixtures("hasty_containers")
def test_a_container_endpoint_that_is_not_there(enter: Enter) -> None:
    enter(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1:1/x")
    assert "AWS_CONTAINER_CREDENTIALS" in told(CHAIN).detail


def test_a_token_file_of_a_container_that_is_not_there(
    aws: StandIns, enter: Enter, tmp_path: Path
) -> None:
    enter(**aws.container.eks(tmp_path / "gone"))
    error = told(CHAIN)
    assert str(tmp_path / "gone") in error.detail
    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" in error.detail


def test_a_container_endpoint_elsewhere_is_refused(enter: Enter) -> None:
    enter(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://example.com/x")
    assert "could not be fetched" in told(CHAIN).message


def test_an_instance_without_a_role(aws: StandIns, enter: Enter) -> None:
    enter(imds=True)
    aws.imds.role_name = ""
    error = told(CHAIN)
    assert error.message == "no AWS credentials"
    assert "instance profile" in error.hint


def test_an_instance_as_the_source_of_a_role_that_does_not_answer(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    home.profile("dev", role_arn=ROLE, credential_source="Ec2InstanceMetadata")
    enter(imds=True)
    aws.imds.role_name = ""
    assert "instance metadata" in told(DEV).detail


def test_credentials_that_have_expired_already(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**program(aws, home))
    aws.process.run.answer(lifetime=-60)
    error = told(DEV)
    assert error.message == "the AWS credentials have expired"
    assert "clock" in error.hint
