import botocore.exceptions
import pytest

from tests.kit.aws_stand_ins import Home, StandIns
from tests.kit.aws_stand_ins.fetching import Fetch, minted


def test_a_sign_in_that_was_revoked(aws: StandIns, home: Home, fetch: Fetch) -> None:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in())
    aws.sso.revoke()
    with pytest.raises(botocore.exceptions.UnauthorizedSSOTokenError):
        fetch(AWS_PROFILE="dev")
    home.sign_in(aws.sso.sign_in())
    assert fetch(AWS_PROFILE="dev") == minted(aws)


def test_a_role_that_is_not_assigned(aws: StandIns, home: Home, fetch: Fetch) -> None:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in())
    aws.sso.get_role_credentials.deny("ForbiddenException", "No access", status=403)
    with pytest.raises(botocore.exceptions.ClientError, match="No access"):
        fetch(AWS_PROFILE="dev")


@pytest.mark.parametrize("session", ["example", None], ids=["session", "legacy"])
def test_nobody_signed_in(
    aws: StandIns, home: Home, fetch: Fetch, session: str | None
) -> None:
    home.sso_profile("dev", session=session)
    home.sign_in(aws.sso.sign_in(), session=session)
    home.sign_out(session)
    with pytest.raises(botocore.exceptions.SSOTokenLoadError):
        fetch(AWS_PROFILE="dev")


def test_an_expired_sign_in_is_renewed_with_its_refresh_token(
    aws: StandIns, home: Home, fetch: Fetch
) -> None:
    home.sso_profile("dev")
    tokens = aws.sso.sign_in(lifetime=-1)
    home.sign_in(tokens)
    assert fetch(AWS_PROFILE="dev") == minted(aws)
    assert aws.sso.create_token.calls == 1
    assert home.sso_cached()["refreshToken"] != tokens.refresh_token
    assert fetch(AWS_PROFILE="dev") == minted(aws)
    assert aws.sso.create_token.calls == 1


@pytest.mark.parametrize("is_revoked", [True, False], ids=["revoked", "denied"])
def test_an_expired_sign_in_whose_refresh_token_is_refused(
    aws: StandIns, home: Home, fetch: Fetch, is_revoked: bool
) -> None:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in(lifetime=-1))
    if is_revoked:
        aws.sso.revoke()
    else:
        aws.sso.create_token.deny()
    with pytest.raises(botocore.exceptions.TokenRetrievalError):
        fetch(AWS_PROFILE="dev")
    assert aws.sso.create_token.calls == 1


@pytest.mark.parametrize("session", ["example", None], ids=["session", "legacy"])
def test_an_expired_sign_in_without_a_refresh_token(
    aws: StandIns, home: Home, fetch: Fetch, session: str | None
) -> None:
    home.sso_profile("dev", session=session)
    home.sign_in(aws.sso.sign_in(lifetime=-1), session=session, has_refresh_token=False)
    with pytest.raises(
        (
            botocore.exceptions.TokenRetrievalError,
            botocore.exceptions.UnauthorizedSSOTokenError,
        )
    ):
        fetch(AWS_PROFILE="dev")
    assert aws.sso.get_role_credentials.calls == 0
