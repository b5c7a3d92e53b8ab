import math

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.aws.credentials import Credentials, Identity, StaticCredentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.config.assume_role import AssumedRole

TEXT = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS documentation's example
KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", Secret(TEXT), Secret("token"))


@pytest.mark.parametrize(
    "shown",
    [
        repr(KEYS),
        repr(StaticCredentials.of("AKIA", TEXT, "session-token")),
        repr(Identity(given=StaticCredentials.of("AKIA", TEXT, "session-token"))),
    ],
)
def test_secrets_are_not_shown(shown: str) -> None:
    assert TEXT not in shown
    assert "token" not in shown.replace("session_token", "")


@pytest.mark.parametrize(
    ("access_key_id", "short"),
    [
        ("AKIAIOSFODNN7EXAMPLE", "AKIA…MPLE"),
        ("AKIATEST", "AKIA…"),
        ("", "…"),
    ],
)
def test_an_access_key_id_is_shortened(access_key_id: str, short: str) -> None:
    assert Credentials(access_key_id, Secret("")).short_id == short


def test_credentials_without_an_expiry_never_expire() -> None:
    assert KEYS.seconds_left(1e12) == math.inf
    assert not KEYS.has_expired(1e12)


@given(st.integers(0, 2**33), st.floats(0, 2**33))
def test_with_less_than_a_second_left_they_have_expired(
    expires_at: int, now: float
) -> None:
    keys = Credentials("AKIA", Secret(""), expires_at=float(expires_at))
    assert keys.has_expired(now) == (expires_at - now < 1.0)


def test_same_keys_sign_alike() -> None:
    renamed = Credentials(
        KEYS.access_key_id,
        Secret(TEXT),
        Secret("token"),
        expires_at=1.0,
        source="elsewhere",
        role_arn="arn",
    )
    assert KEYS.are_same_keys(renamed)
    others = (
        Credentials("AKIAOTHER", Secret(TEXT), Secret("token")),
        Credentials(KEYS.access_key_id, Secret("x"), Secret("token")),
        Credentials(KEYS.access_key_id, Secret(TEXT), Secret("x")),
        Credentials(KEYS.access_key_id, Secret(TEXT), None),
    )
    assert not any(KEYS.are_same_keys(other) for other in others)


def test_identities_are_keys_of_a_dictionary() -> None:
    role = AssumedRole(role_arn="arn:aws:iam::111122223333:role/x")

    def make() -> Identity:
        return Identity("dev", role, StaticCredentials.of("AKIA", TEXT, None))

    assert {make(): 1}[make()] == 1
    assert Identity("dev", role) != Identity("dev")


def test_an_empty_session_token_is_none() -> None:
    assert StaticCredentials.of("AKIA", TEXT, "").session_token is None
