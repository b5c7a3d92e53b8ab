"""What a new session of botocore finds in the environment of the stand-ins."""

from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import botocore.config
import pytest

from dsqlproxy.emulator.sigv4 import AccessKey
from tests.kit.aws_stand_ins import Home, StandIns, role_arn, use_in_this_process
from tests.kit.botocore_sessions import new_session

ROLE = role_arn("app")

Found = tuple[str, str, str]
"""Access key id, secret, session token."""
Fetch = Callable[..., Found]


def single_try_session() -> Any:
    """Give a session that does not try again."""
    session = new_session()
    session.set_default_client_config(
        botocore.config.Config(retries={"total_max_attempts": 1, "mode": "standard"})
    )
    return session


def new_fetch(aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """Give a function that gives what a new session finds."""

    def fetch(*, imds: bool = False, **variables: str) -> Found:
        environment = aws.environment(home, imds=imds, **variables)
        use_in_this_process(monkeypatch, environment)
        found = single_try_session().get_credentials()
        assert found is not None, "no credentials"
        frozen = found.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    return fetch


def a_role(aws: StandIns, home: Home) -> AccessKey:
    """Write the profile ``app`` with a role; give the key that may assume it."""
    key = aws.mint.long_term()
    home.keys(key, "base")
    home.profile("app", role_arn=ROLE, source_profile="base")
    return key


def parts(key: AccessKey) -> Found:
    """Give a temporary key as it is found."""
    assert key.session_token
    return key.access_key_id, key.secret_access_key, key.session_token


def minted(aws: StandIns) -> Found:
    """Give the newest temporary key as it is found."""
    return parts(aws.mint.last.key)


def ask(
    aws: StandIns,
    path: str,
    *,
    method: str = "GET",
    body: str = "",
    headers: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Ask the stand-ins over HTTP without botocore; give status and body."""
    host, port = aws.server.server_address[:2]
    connection = HTTPConnection(str(host), int(port), timeout=5)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
