from email.utils import parsedate_to_datetime
from typing import Any

import botocore.exceptions
import pytest

from dsqlproxy.emulator.server import wall_clock
from dsqlproxy.emulator.sigv4 import AccessKey
from tests.kit.aws_stand_ins import Home, StandIns, use_in_this_process
from tests.kit.aws_stand_ins.fetching import (
    ROLE,
    Fetch,
    a_role,
    ask,
    single_try_session,
)


def call(
    aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch, key: AccessKey
) -> Any:
    use_in_this_process(monkeypatch, aws.environment(home))
    client = single_try_session().create_client(
        "sts",
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
        aws_session_token=key.session_token,
    )
    return client.get_caller_identity()


def test_it_tells_who_one_is(
    aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = call(aws, home, monkeypatch, aws.mint.long_term("jane"))
    assert identity["Arn"] == "arn:aws:iam::111122223333:user/jane"
    assert identity["Account"] == "111122223333"


def test_a_date_that_is_off_reaches_the_caller(
    aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.skew_seconds = 240
    identity = call(aws, home, monkeypatch, aws.mint.long_term())
    headers = identity["ResponseMetadata"]["HTTPHeaders"]
    date = parsedate_to_datetime(headers["date"]).timestamp()
    assert date == pytest.approx(wall_clock() + 240, abs=5)


@pytest.mark.parametrize(
    ("skew", "words"),
    [(1200, "Signature expired: "), (-1200, "Signature not yet current: ")],
)
def test_a_clock_twenty_minutes_off_is_refused(
    aws: StandIns, home: Home, fetch: Fetch, skew: float, words: str
) -> None:
    a_role(aws, home)
    aws.skew_seconds = skew
    with pytest.raises(botocore.exceptions.ClientError, match=words) as caught:
        fetch(AWS_PROFILE="app")
    assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    date = parsedate_to_datetime(headers["date"]).timestamp()
    assert date == pytest.approx(wall_clock() + skew, abs=5)


def test_an_unknown_key_is_refused(
    aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = AccessKey("AKIAIOSFODNN7EXAMPLE", "a-secret", ROLE)
    with pytest.raises(botocore.exceptions.ClientError, match="is invalid"):
        call(aws, home, monkeypatch, stranger)


def test_an_expired_key_is_refused(
    aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = aws.mint.mint(ROLE, lifetime=-1).key
    with pytest.raises(botocore.exceptions.ClientError, match="is expired"):
        call(aws, home, monkeypatch, key)


def test_an_unsigned_request_is_refused(aws: StandIns) -> None:
    body = "Action=GetCallerIdentity"
    status, answer = ask(aws, "/", method="POST", body=body)
    assert status == 403
    assert "<Code>MissingAuthenticationToken</Code>" in answer


def test_a_role_is_denied(aws: StandIns, home: Home, fetch: Fetch) -> None:
    a_role(aws, home)
    aws.sts.assume_role.deny()
    with pytest.raises(botocore.exceptions.ClientError, match="not authorized"):
        fetch(AWS_PROFILE="app")


@pytest.mark.parametrize("name", ["external_id", "session_name"])
def test_a_role_is_denied_to_who_brings_not_what_it_asks(
    aws: StandIns, home: Home, fetch: Fetch, name: str
) -> None:
    a_role(aws, home)
    setattr(aws.sts, name, "another")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        fetch(AWS_PROFILE="app")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("web_identity_token", "InvalidIdentityToken"),
        ("session_name", "AccessDenied"),
    ],
)
def test_web_identity_is_denied_to_who_brings_not_what_it_asks(
    aws: StandIns, home: Home, fetch: Fetch, name: str, code: str
) -> None:
    setattr(aws.sts, name, "another")
    with pytest.raises(botocore.exceptions.ClientError, match=code):
        fetch(**aws.web_identity(home, ROLE))


def test_web_identity_is_denied(aws: StandIns, home: Home, fetch: Fetch) -> None:
    aws.sts.assume_role_with_web_identity.deny(
        "ExpiredTokenException", "Token expired", status=400
    )
    with pytest.raises(botocore.exceptions.ClientError, match="Token expired"):
        fetch(**aws.web_identity(home, ROLE))


def test_it_fails(aws: StandIns, home: Home, fetch: Fetch) -> None:
    a_role(aws, home)
    aws.sts.assume_role.fail()
    with pytest.raises(botocore.exceptions.ClientError, match="500"):
        fetch(AWS_PROFILE="app")
    assert aws.sts.assume_role.calls == 1
