from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session
import pytest
from hypothesis import given, strategies as st

from dsqlproxy.dsql import action_for
from dsqlproxy.emulator.sigv4 import (
    Accepted,
    AccessKey,
    Refusal,
    Refused,
    TokenVerifier,
)

CLUSTER = "4iabtxwqgmtxqz4ymbuovovmyy.dsql.us-east-1.on.aws"
REGION = "us-east-1"
PRINCIPAL = "arn:aws:iam::111122223333:role/emulator"
LONG_TERM = AccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG", PRINCIPAL)
TEMPORARY = AccessKey(
    "ASIAIOSFODNN7EXAMPLE",
    "bPxRfiCYEXAMPLEKEY+/=",
    PRINCIPAL,
    session_token="FQoGZXIvYXdzE+/==" * 60,
)
VERIFIER = TokenVerifier(
    hosts=frozenset({CLUSTER}),
    region=REGION,
    keys={key.access_key_id: key for key in (LONG_TERM, TEMPORARY)},
)


@cache
def boto_client(key: AccessKey) -> Any:
    session = botocore.session.Session()
    session.set_credentials(key.access_key_id, key.secret_access_key, key.session_token)
    return session.create_client("dsql", region_name=REGION)


def boto_token(
    key: AccessKey = LONG_TERM,
    *,
    user: str = "admin",
    host: str = CLUSTER,
    region: str = REGION,
    expires: int = 900,
) -> str:
    """Sign as users do, by botocore's public method."""
    client = boto_client(key)
    sign: Callable[..., str] = (
        client.generate_db_connect_admin_auth_token
        if user == "admin"
        else client.generate_db_connect_auth_token
    )
    return sign(host, region, expires)


def sign_anything(url: str, *, service: str = "dsql", expires: int = 900) -> str:
    """Sign any presigned GET with botocore's signer."""
    request = botocore.awsrequest.AWSRequest(method="GET", url=f"https://{url}")
    credentials = botocore.credentials.Credentials(
        LONG_TERM.access_key_id, LONG_TERM.secret_access_key
    )
    botocore.auth.SigV4QueryAuth(credentials, service, REGION, expires).add_auth(
        request
    )
    return str(request.url).removeprefix("https://")


def wall_clock() -> float:
    return datetime.now(UTC).timestamp()


def refusal(token: str, *, user: str = "admin", later: float = 0.0) -> Refusal | None:
    verdict = VERIFIER.verify(token, user=user, now=wall_clock() + later)
    return verdict.reason if isinstance(verdict, Refused) else None


@pytest.mark.parametrize("expires", [1, 60, 900, 604_800])
@pytest.mark.parametrize("user", ["admin", "reader"])
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(LONG_TERM, id="long-term key"),
        pytest.param(TEMPORARY, id="session token"),
    ],
)
def test_a_token_of_botocore_is_accepted(
    key: AccessKey, user: str, expires: int
) -> None:
    token = boto_token(key, user=user, expires=expires)
    # The token's own second: a lifetime of one second is over in the next.
    signed = datetime.strptime(
        token.split("X-Amz-Date=")[1][:16], "%Y%m%dT%H%M%SZ"
    ).replace(tzinfo=UTC)
    verdict = VERIFIER.verify(token, user=user, now=signed.timestamp())
    assert verdict == Accepted(principal_arn=PRINCIPAL, action=action_for(user))


@pytest.mark.parametrize(
    ("token", "user", "reason"),
    [
        pytest.param(
            boto_token()[:-1] + "-", "admin", Refusal.MALFORMED, id="no hex digit"
        ),
        pytest.param(
            boto_token()[:-4] + "0000", "admin", Refusal.SIGNATURE, id="signature"
        ),
        pytest.param(
            boto_token(host="5" + CLUSTER[1:]), "admin", Refusal.HOST, id="other host"
        ),
        pytest.param(
            boto_token(host=CLUSTER + ":5432"), "admin", Refusal.HOST, id="host:port"
        ),
        pytest.param(
            boto_token(user="reader"), "admin", Refusal.ACTION, id="admin, DbConnect"
        ),
        pytest.param(
            boto_token(), "reader", Refusal.ACTION, id="reader, DbConnectAdmin"
        ),
        pytest.param(
            boto_token(region="us-east-2"), "admin", Refusal.REGION, id="region"
        ),
        pytest.param(
            boto_token(AccessKey("AKIAUNKNOWN", "x", PRINCIPAL)),
            "admin",
            Refusal.UNKNOWN_KEY,
            id="unknown key",
        ),
        pytest.param(
            boto_token(AccessKey(LONG_TERM.access_key_id, "wrong", PRINCIPAL)),
            "admin",
            Refusal.SIGNATURE,
            id="wrong secret",
        ),
        pytest.param(
            boto_token(AccessKey(TEMPORARY.access_key_id, "x", PRINCIPAL)),
            "admin",
            Refusal.SESSION_TOKEN,
            id="session token missing",
        ),
        pytest.param(
            boto_token(
                AccessKey(LONG_TERM.access_key_id, "x", PRINCIPAL, session_token="s")
            ),
            "admin",
            Refusal.SESSION_TOKEN,
            id="session token of another key",
        ),
        pytest.param(
            boto_token(expires=604_801),
            "admin",
            Refusal.EXPIRES_TOO_LONG,
            id="a week and a second",
        ),
        pytest.param(boto_token(expires=0), "admin", Refusal.MALFORMED, id="zero"),
        pytest.param(boto_token(expires=-5), "admin", Refusal.MALFORMED, id="negative"),
        pytest.param(
            "https://" + boto_token(), "admin", Refusal.HOST, id="https:// in front"
        ),
        pytest.param("", "admin", Refusal.MALFORMED, id="empty"),
        pytest.param("hunter2", "admin", Refusal.MALFORMED, id="a plain password"),
        pytest.param(
            boto_token() + "&Action=DbConnectAdmin",
            "admin",
            Refusal.MALFORMED,
            id="Action twice",
        ),
        pytest.param(
            sign_anything(f"{CLUSTER}/?Action=DbConnectAdmin&Version=1"),
            "admin",
            Refusal.MALFORMED,
            id="a parameter too many",
        ),
        pytest.param(
            sign_anything(f"{CLUSTER}/"), "admin", Refusal.MALFORMED, id="no Action"
        ),
        pytest.param(
            sign_anything(f"{CLUSTER}/?Action=DropCluster"),
            "admin",
            Refusal.ACTION,
            id="another action",
        ),
        pytest.param(
            sign_anything(f"{CLUSTER}/?Action=DbConnectAdmin", service="rds-db"),
            "admin",
            Refusal.MALFORMED,
            id="another service",
        ),
        pytest.param(
            boto_token().replace("%2F", "%2f"),
            "admin",
            Refusal.MALFORMED,
            id="another spelling of the same",
        ),
        pytest.param(
            boto_token().replace("HMAC-SHA256", "HMAC-SHA1"),
            "admin",
            Refusal.MALFORMED,
            id="algorithm",
        ),
        pytest.param(
            boto_token().replace("=host", "=host%3Bx"),
            "admin",
            Refusal.MALFORMED,
            id="signed headers",
        ),
        pytest.param(
            boto_token().replace("%2Faws4_request", ""),
            "admin",
            Refusal.MALFORMED,
            id="short scope",
        ),
        pytest.param(
            boto_token().replace("X-Amz-Date=2", "X-Amz-Date=3"),
            "admin",
            Refusal.MALFORMED,
            id="day of date and scope",
        ),
        pytest.param(
            boto_token().replace("Z&X-Amz-Expires", "&X-Amz-Expires"),
            "admin",
            Refusal.MALFORMED,
            id="date without Z",
        ),
        pytest.param(
            CLUSTER + "/?" + boto_token().partition("?")[2].replace("T", "T9", 1),
            "admin",
            Refusal.MALFORMED,
            id="no such hour",
        ),
        pytest.param(boto_token() + "é", "admin", Refusal.MALFORMED, id="not ASCII"),
    ],
)
def test_a_bad_token_is_refused_for_its_reason(
    token: str, user: str, reason: Refusal
) -> None:
    assert refusal(token, user=user) is reason


def test_a_token_ends_with_its_last_second() -> None:
    token = boto_token(expires=60)
    assert refusal(token, later=50) is None
    assert refusal(token, later=61) is Refusal.EXPIRED


def test_a_token_of_the_future_is_refused_beyond_five_minutes() -> None:
    token = boto_token(expires=604_800)
    assert refusal(token, later=-290) is None
    assert refusal(token, later=-310) is Refusal.NOT_YET_VALID


def test_an_impossible_time_is_malformed() -> None:
    token = boto_token()
    date = token.split("X-Amz-Date=")[1][:16]
    assert refusal(token.replace(date, date[:9] + "996000Z")) is Refusal.MALFORMED


def test_the_explanation_of_an_expired_token_begins_as_the_cluster_s() -> None:
    verdict = VERIFIER.verify(
        boto_token(expires=1), user="admin", now=wall_clock() + 100
    )
    assert isinstance(verdict, Refused)
    assert verdict.explanation.startswith("Signature expired: 2")


def test_no_secret_is_in_any_repr() -> None:
    shown = repr(TEMPORARY) + repr(VERIFIER)
    assert TEMPORARY.secret_access_key not in shown
    assert str(TEMPORARY.session_token) not in shown


GOOD = boto_token(expires=604_800)
GOOD_TEMPORARY = boto_token(TEMPORARY, expires=604_800)
printable = st.characters(min_codepoint=32, max_codepoint=0x17F)


@given(token=st.sampled_from([GOOD, GOOD_TEMPORARY]), data=st.data())
def test_any_changed_character_is_refused(token: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(token) - 1))
    changed = data.draw(printable.filter(lambda char: char != token[position]))
    assert refusal(token[:position] + changed + token[position + 1 :])


@given(data=st.data())
def test_any_removed_or_added_character_is_refused(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(GOOD) - 1))
    added = data.draw(st.text(printable, max_size=3))
    changed = GOOD[:position] + added + GOOD[position + 1 :]
    if changed != GOOD:
        assert refusal(changed)


@given(noise=st.text(max_size=400))
def test_noise_is_malformed_and_raises_nothing(noise: str) -> None:
    assert refusal(noise) in {Refusal.MALFORMED, Refusal.HOST}
