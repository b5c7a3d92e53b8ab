"""Tokens are signed by boto3 itself, with credentials that it cannot renew."""

import logging
from datetime import UTC, datetime

import botocore.session
import pytest

from dsqlproxy.aws import chain
from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.signer import Signer
from tests.aws.conftest import Enter
from tests.aws.sources import DEV, keys_of, role_of_a_profile
from tests.kit.aws_stand_ins import Home, StandIns
from tests.upstream.wire import CLUSTER, REGION


def keys(session_token: str | None = None) -> Credentials:
    token = Secret(session_token) if session_token else None
    return Credentials("AKIAIOSFODNN7EXAMPLE", Secret("secret"), token)


@pytest.mark.parametrize("token", [None, "FQoGZXIvYXdzE+/=="], ids=["keys", "session"])
@pytest.mark.parametrize("role", ["admin", "reader"])
def test_tokens_are_those_of_boto3(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, token: str | None, role: str
) -> None:
    enter()
    at = datetime(2026, 11, 22, 12, 57, 34, tzinfo=UTC)
    for module in ("auth", "signers"):
        name = f"botocore.{module}.get_current_datetime"
        monkeypatch.setattr(name, lambda: at, raising=False)
    session = botocore.session.Session()
    session.set_credentials("AKIAIOSFODNN7EXAMPLE", "secret", token)
    client = session.create_client("dsql", region_name=REGION)
    if role == "admin":
        theirs = client.generate_db_connect_admin_auth_token(CLUSTER, REGION, 60)
    else:
        theirs = client.generate_db_connect_auth_token(CLUSTER, REGION, 60)
    client.close()
    ours = Signer(keys(token), REGION).sign(
        host=CLUSTER, role=role, lifetime_seconds=60
    )
    assert "X-Amz-Date=20261122T125734Z" in ours.reveal()
    assert ours.reveal() == theirs


def test_the_environment_has_no_say_in_what_is_given(enter: Enter) -> None:
    enter(
        AWS_PROFILE="missing",
        AWS_ACCESS_KEY_ID="AKIAANOTHER",
        AWS_SECRET_ACCESS_KEY="another",
        AWS_DEFAULT_REGION="eu-west-1",
    )
    token = Signer(keys(), REGION).sign(host=CLUSTER, role="admin", lifetime_seconds=1)
    assert "AKIAIOSFODNN7EXAMPLE" in token.reveal()
    assert f"%2F{REGION}%2Fdsql%2F" in token.reveal()


def test_nothing_reaches_a_log(
    aws: StandIns, home: Home, enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    enter(**role_of_a_profile(aws, home))
    logging.getLogger("botocore").setLevel(logging.DEBUG)  # as somebody may have
    caplog.set_level(logging.DEBUG)
    found = chain.fetch(DEV, REGION)
    logging.getLogger("botocore").setLevel(logging.DEBUG)
    token = Signer(found, REGION).sign(host=CLUSTER, role="admin", lifetime_seconds=60)
    for secret in (*keys_of(found)[1:], token.reveal()[-64:]):
        assert secret is not None
        assert secret not in caplog.text
