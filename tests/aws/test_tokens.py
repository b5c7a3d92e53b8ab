import asyncio
import copy
import logging
import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings, strategies as st

from dsqlproxy.aws.credentials import Identity, StaticCredentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.emulator.sigv4 import Accepted, AccessKey, TokenVerifier
from dsqlproxy.errors import ShuttingDown, TokenError
from dsqlproxy.situations.cluster import Cause
from tests.aws.conftest import Enter
from tests.aws.stage import (
    FORM,
    SECRET,
    TROUBLE,
    Stage,
    kept,
    key_of,
    request,
    system_source,
)
from tests.kit.aws_stand_ins import Home, StandIns
from tests.upstream.wire import CLUSTER, REGION

KEYS = StaticCredentials.of("AKIAIOSFODNN7EXAMPLE", SECRET, None)
SESSION_KEYS = StaticCredentials.of("ASIAIOSFODNN7EXAMPLE", SECRET, "FQoGZXIvYXdzE+/==")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


# -- tokens ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "action"),
    [
        ("admin", "DbConnectAdmin"),
        ("reader", "DbConnect"),
        # PostgreSQL folds no quoted name: this is not the admin.
        ("Admin", "DbConnect"),
    ],
)
async def test_action_follows_role(stage: Stage, role: str, action: str) -> None:
    token = await stage.source().sign(request(role))
    found = FORM.fullmatch(token.reveal())
    assert found is not None
    assert found["action"] == action
    assert found["expires"] == "60"
    assert found["key"] == "AKIAIOSFODNN7EXAMPLE"
    assert (token.role, token.lifetime_seconds) == (role, 60)


@pytest.mark.parametrize("keys", [KEYS, SESSION_KEYS], ids=["long-term", "session"])
@pytest.mark.parametrize("role", ["admin", "reader"])
async def test_token_verifies(keys: StaticCredentials, role: str) -> None:
    source = system_source(Identity(given=keys))
    token = await source.sign(request(role))
    source.close()
    session_token = keys.session_token
    key = AccessKey(
        keys.access_key_id,
        keys.secret_access_key.reveal(),
        "arn:aws:iam::111122223333:role/x",
        session_token=None if session_token is None else session_token.reveal(),
    )
    verifier = TokenVerifier(
        hosts=frozenset({CLUSTER}), region=REGION, keys={key.access_key_id: key}
    )
    now = datetime.now(UTC).timestamp()
    assert isinstance(verifier.verify(token.reveal(), user=role, now=now), Accepted)


async def test_a_token_is_signed_for_the_region_of_its_request(stage: Stage) -> None:
    token = await stage.source().sign(request(region="eu-west-3"))
    assert "%2Feu-west-3%2Fdsql%2F" in token.reveal()


@pytest.mark.parametrize("lifetime_seconds", [1, 604_800])
async def test_lifetime_may_be_from_a_second_to_a_week(
    stage: Stage, lifetime_seconds: int
) -> None:
    token = await stage.source().sign(request(lifetime_seconds=lifetime_seconds))
    assert f"X-Amz-Expires={lifetime_seconds}&" in token.reveal()


@pytest.mark.parametrize("lifetime_seconds", [-1, 0, 604_801])
def test_other_lifetimes_are_refused(lifetime_seconds: int) -> None:
    with pytest.raises(TokenError, match="token_lifetime") as caught:
        request(lifetime_seconds=lifetime_seconds)
    assert not caught.value.may_pass


@pytest.mark.parametrize("field", ["host", "region", "role"])
def test_an_empty_part_of_a_request_is_refused(field: str) -> None:
    parts = {"host": CLUSTER, "region": REGION, "role": "admin"} | {field: ""}
    with pytest.raises(TokenError) as caught:
        SigningRequest(**parts, lifetime_seconds=60)
    assert not caught.value.may_pass


@pytest.mark.parametrize("value", ["very-secret", Secret("very-secret")])
def test_token_does_not_print(value: str | Secret) -> None:
    token = Token(value, role="admin", lifetime_seconds=60)
    for shown in (repr(token), str(token), f"{token}", f"{[token]}"):
        assert "very-secret" not in shown
    assert str(token) == "<token for role admin, 60 s>"
    assert token.reveal() == "very-secret"
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(token)


@settings(max_examples=20)
@given(st.integers(1, 604_800), st.floats(1, 700_000))
def test_a_token_never_outlives_what_signed_it(asked: int, left: float) -> None:
    async def sign() -> Token:
        stage = Stage()
        stage.outcome = stage.keys(lifetime=left)
        try:
            return await stage.source().sign(request(lifetime_seconds=asked))
        finally:
            stage.close()

    token = asyncio.run(sign())
    assert 1 <= token.lifetime_seconds <= min(asked, left)
    assert token.lifetime_seconds > min(asked, left) - 1
    assert f"X-Amz-Expires={token.lifetime_seconds}&" in token.reveal()


async def test_credentials_that_expire_before_they_sign_are_an_error(
    stage: Stage,
) -> None:
    source = stage.source()
    held = stage.keys(lifetime=0.5)
    with pytest.raises(TokenError, match="have expired"):
        source._signing_thread._sign(held, request())


async def test_a_failure_to_sign_is_told_without_foreign_text(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Secret:
        raise ArithmeticError(SECRET)

    monkeypatch.setattr("dsqlproxy.aws.signer.Signer.sign", fail)
    with pytest.raises(TokenError, match="could not sign a token") as caught:
        await stage.source().sign(request())
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__
    assert not caught.value.may_pass


# -- without keep ----------------------------------------------------------------------


async def test_credentials_are_fetched_when_they_are_needed(stage: Stage) -> None:
    source = stage.source()
    assert stage.calls == 0
    assert source.failure is None
    await source.sign(request())
    await source.sign(request())
    assert stage.calls == 1
    assert source.failure is None


async def test_a_failure_is_told_and_forgotten_after_a_second(stage: Stage) -> None:
    stage.outcome = TROUBLE
    source = stage.source()
    for _ in range(10):
        with pytest.raises(TokenError, match="could not be reached"):
            await source.sign(request())
    assert stage.calls == 1, "a second try within a second tells nothing new"
    assert str(source.failure) == str(TROUBLE)
    stage.clocks.pass_time(1.1)
    assert source.failure is None
    stage.outcome = stage.keys()
    await source.sign(request())
    assert stage.calls == 2


async def test_what_botocore_was_not_known_to_raise_is_told(stage: Stage) -> None:
    stage.outcome = ArithmeticError(SECRET)
    with pytest.raises(TokenError, match="ArithmeticError") as caught:
        await stage.source().current()
    assert SECRET not in str(caught.value)


async def test_expired_credentials_are_replaced_when_they_are_needed(
    stage: Stage,
) -> None:
    stage.outcome = stage.keys("AKIA1", lifetime=60)
    source = stage.source()
    assert key_of(await source.sign(request())) == "AKIA1"
    stage.clocks.suspend(120)
    stage.outcome = stage.keys("AKIA2", lifetime=60)
    assert key_of(await source.sign(request())) == "AKIA2"


async def test_credentials_that_cannot_be_renewed_are_named_as_expired(
    stage: Stage,
) -> None:
    stage.outcome = stage.keys(lifetime=60)
    source = stage.source()
    await source.sign(request())
    stage.clocks.pass_time(120)
    stage.outcome = TROUBLE
    with pytest.raises(TokenError, match="have expired and cannot be renewed"):
        await source.sign(request())


async def test_a_closed_source_signs_no_more(stage: Stage) -> None:
    source = stage.source()
    await source.sign(request())
    source.close()
    source.close()
    with pytest.raises(ShuttingDown):
        await source.sign(request())
    await source.changed_for(CLUSTER)
    source.note_refused_by(
        CLUSTER,
        Token("x", role="r", lifetime_seconds=1, signed_by=stage.keys()),
        Cause.DENIED,
    )
    await source.keep()
    assert stage.calls == 1


async def test_closing_lets_go_who_waits(stage: Stage) -> None:
    stage.is_open.clear()
    source = stage.source()

    async def sign() -> None:
        with pytest.raises(ShuttingDown):
            await source.sign(request())

    async with asyncio.TaskGroup() as group:
        waits = group.create_task(source.changed_for(CLUSTER))
        signs = group.create_task(sign())
        await stage.until(lambda: stage.calls == 1)
        source.close()
    assert waits.done()
    assert signs.done()


# -- with the AWS chain ----------------------------------------------------------------


async def test_what_an_sso_login_gives_signs(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter()
    home.sso_profile("dev")
    source = system_source(Identity("dev"))
    home.sign_in(aws.sso.sign_in())
    token = await source.sign(request())
    source.close()
    assert key_of(token) == aws.mint.last.access_key_id


async def test_credentials_that_appear_are_used_without_a_restart(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter()
    source = system_source(Identity())
    async with kept(source):
        with pytest.raises(TokenError, match="no AWS credentials") as caught:
            await source.sign(request())
        assert "aws configure" in caught.value.hint
        key = aws.mint.long_term()
        home.keys(key)
        async with asyncio.timeout(10):
            await source.changed_for(CLUSTER)
        assert key_of(await source.sign(request())) == key.access_key_id
    source.close()


async def test_given_credentials_sign_where_the_profile_does_not_exist(
    enter: Enter, home: Home
) -> None:
    enter(AWS_PROFILE="does-not-exist")
    home.config_file.write_text("this is [not a file of profiles")
    source = system_source(Identity(given=KEYS))
    assert key_of(await source.sign(request())) == KEYS.access_key_id
    source.close()


async def test_token_and_keys_reach_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    source = system_source(Identity(given=SESSION_KEYS))
    token = await source.sign(request())
    source.close()
    assert SESSION_KEYS.session_token is not None
    assert token.reveal()[-64:] not in caplog.text
    assert SESSION_KEYS.session_token.reveal() not in caplog.text
