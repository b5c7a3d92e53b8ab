import copy
import logging
import os
import pickle
import re
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dsqlproxy.emulator.sigv4 import Accepted, AccessKey, TokenVerifier
from dsqlproxy.errors import ShuttingDown, TokenError
from dsqlproxy.upstream.tokens import (
    SigningRequest,
    StaticCredentials,
    Token,
    TokenSource,
)
from tests.kit.scripted import listen_but_never_accept
from tests.upstream.wire import CLUSTER, REGION

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS documentation's example
KEYS = StaticCredentials("AKIAIOSFODNN7EXAMPLE", SECRET)
SESSION_KEYS = StaticCredentials("ASIAIOSFODNN7EXAMPLE", SECRET, "FQoGZXIvYXdzE+/==")

FORM = re.compile(
    re.escape(CLUSTER) + r"/\?Action=(?P<action>DbConnect(Admin)?)"
    r"&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    r"&X-Amz-Credential=(?P<key>\w+)%2F(?P<day>\d{8})%2Fus-east-1%2Fdsql%2Faws4_request"
    r"&X-Amz-Date=(?P=day)T\d{6}Z&X-Amz-Expires=(?P<expires>\d+)"
    r"&X-Amz-SignedHeaders=host(&X-Amz-Security-Token=[^&]+)?"
    r"&X-Amz-Signature=[0-9a-f]{64}"
)


@pytest.fixture(autouse=True)
def aws_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the developer's own identity out, and give the files to write."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("HOME", str(tmp_path))  # ~/.aws/sso/cache
    return tmp_path


SourceMaker = Callable[..., TokenSource]


@pytest.fixture
async def make_source() -> AsyncIterator[SourceMaker]:
    made: list[TokenSource] = []

    def make(
        profile: str | None = None,
        credentials: StaticCredentials | None = None,
        timeout_seconds: float = 8.0,
    ) -> TokenSource:
        made.append(
            TokenSource(
                profile=profile,
                credentials=credentials,
                timeout_seconds=timeout_seconds,
            )
        )
        return made[-1]

    yield make
    for source in made:
        source.close()


def request(role: str = "admin", *, lifetime_seconds: int = 60) -> SigningRequest:
    return SigningRequest(CLUSTER, REGION, role, lifetime_seconds)


@pytest.mark.parametrize(
    ("role", "action"),
    [
        ("admin", "DbConnectAdmin"),
        ("reader", "DbConnect"),
        # PostgreSQL folds no quoted name: this is not the admin.
        ("Admin", "DbConnect"),
    ],
)
async def test_action_follows_role(
    make_source: SourceMaker, role: str, action: str
) -> None:
    token = await make_source(credentials=KEYS).sign(request(role))
    found = FORM.fullmatch(token.reveal())
    assert found is not None
    assert found["action"] == action
    assert found["expires"] == "60"
    assert found["key"] == KEYS.access_key_id


@pytest.mark.parametrize("keys", [KEYS, SESSION_KEYS], ids=["long-term", "session"])
@pytest.mark.parametrize("role", ["admin", "reader"])
async def test_token_verifies(
    make_source: SourceMaker, keys: StaticCredentials, role: str
) -> None:
    token = await make_source(credentials=keys).sign(request(role))
    key = AccessKey(
        keys.access_key_id,
        keys.secret_access_key,
        "arn:aws:iam::111122223333:role/x",
        session_token=keys.session_token or None,
    )
    verifier = TokenVerifier(
        hosts=frozenset({CLUSTER}), region=REGION, keys={key.access_key_id: key}
    )
    now = datetime.now(UTC).timestamp()
    assert isinstance(verifier.verify(token.reveal(), user=role, now=now), Accepted)


@pytest.mark.parametrize("lifetime_seconds", [1, 604_800])
async def test_lifetime_may_be_from_a_second_to_a_week(
    make_source: SourceMaker, lifetime_seconds: int
) -> None:
    source = make_source(credentials=KEYS)
    token = await source.sign(request(lifetime_seconds=lifetime_seconds))
    assert f"X-Amz-Expires={lifetime_seconds}&" in token.reveal()


@pytest.mark.parametrize("lifetime_seconds", [-1, 0, 604_801])
def test_other_lifetimes_are_refused(lifetime_seconds: int) -> None:
    with pytest.raises(TokenError, match="token_lifetime"):
        request(lifetime_seconds=lifetime_seconds)


@pytest.mark.parametrize("field", ["host", "region", "role"])
def test_an_empty_part_of_a_request_is_refused(field: str) -> None:
    parts = {"host": CLUSTER, "region": REGION, "role": "admin"} | {field: ""}
    with pytest.raises(TokenError):
        SigningRequest(**parts, lifetime_seconds=60)


def test_token_does_not_print() -> None:
    token = Token("very-secret", role="admin", lifetime_seconds=60)
    for shown in (repr(token), str(token), f"{token}", f"{[token]}"):
        assert "very-secret" not in shown
    assert str(token) == "<token for role admin, 60 s>"
    assert token.reveal() == "very-secret"
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(token)


def test_credentials_do_not_print() -> None:
    shown = repr(SESSION_KEYS)
    assert SECRET not in shown
    assert SESSION_KEYS.session_token not in shown


async def test_given_credentials_need_no_aws_files(
    make_source: SourceMaker, monkeypatch: pytest.MonkeyPatch, aws_files: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    (aws_files / "config").write_text("this is [not a file of profiles")
    token = await make_source(credentials=KEYS).sign(request())
    assert FORM.fullmatch(token.reveal())


async def test_credentials_that_were_given_are_named_in_an_error(
    make_source: SourceMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(credentials=KEYS)

    def fail(_region: str) -> object:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(source, "_build_client", fail)
    with pytest.raises(TokenError, match="The credentials given") as caught:
        await source.sign(request())
    assert SECRET not in str(caught.value)


async def test_signing_leaves_the_event_loop(make_source: SourceMaker) -> None:
    before = set(threading.enumerate())
    await make_source(credentials=KEYS).sign(request())
    (new,) = set(threading.enumerate()) - before
    assert new.name == "token-0"
    assert new.daemon


async def test_one_client_serves_a_region_until_it_is_forgotten(
    make_source: SourceMaker,
) -> None:
    source = make_source(credentials=KEYS)
    await source.sign(request())
    first = source._clients[REGION]
    await source.sign(request("reader"))
    assert source._clients[REGION] is first
    source.forget()
    await source.sign(request())
    assert source._clients[REGION] is not first


async def test_client_forgotten_while_it_is_built_is_not_kept(
    make_source: SourceMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(credentials=KEYS)
    build = source._build_client

    def build_and_forget(region: str) -> object:
        source.forget()
        return build(region)

    monkeypatch.setattr(source, "_build_client", build_and_forget)
    await source.sign(request())
    assert not source._clients


async def test_prewarm_builds_the_client(make_source: SourceMaker) -> None:
    source = make_source(credentials=KEYS)
    await source.prewarm(REGION)
    assert REGION in source._clients


async def test_prewarm_fails_in_silence(make_source: SourceMaker) -> None:
    source = make_source("does-not-exist")
    await source.prewarm(REGION)
    with pytest.raises(TokenError):
        await source.sign(request())


async def test_closed_source_signs_no_more(make_source: SourceMaker) -> None:
    source = make_source(credentials=KEYS)
    source.close()
    source.close()
    with pytest.raises(ShuttingDown):
        await source.sign(request())


async def test_credentials_that_appear_are_used_without_a_restart(
    make_source: SourceMaker, aws_files: Path
) -> None:
    source = make_source()
    with pytest.raises(TokenError, match="no AWS credentials") as caught:
        await source.sign(request())
    assert "aws configure" in caught.value.hint
    write_keys(aws_files, "default")
    assert FORM.fullmatch((await source.sign(request())).reveal())


async def test_named_profile_goes_before_keys_in_the_environment(
    make_source: SourceMaker, monkeypatch: pytest.MonkeyPatch, aws_files: Path
) -> None:
    write_keys(aws_files, "dev")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFROMENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert "AKIAFROMFILE" in (await make_source("dev").sign(request())).reveal()
    assert "AKIAFROMENVIRONMENT" in (await make_source().sign(request())).reveal()


def write_keys(aws_files: Path, profile: str) -> None:
    (aws_files / "credentials").write_text(
        f"[{profile}]\naws_access_key_id = AKIAFROMFILE\n"
        f"aws_secret_access_key = {SECRET}\n"
    )


ROLE = "role_arn = arn:aws:iam::111122223333:role/x\n"
ASSUMES_ROLE = (
    f"[profile dev]\n{ROLE}source_profile = base\n"
    f"[profile base]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n"
)
SSO = (
    "sso_account_id = 111122223333\nsso_role_name = x\n"
    "sso_start_url = https://x.awsapps.com/start\nsso_region = us-east-1\n"
)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param("", "no AWS profile 'dev'", id="missing profile"),
        pytest.param(
            "[profile dev]\naws_access_key_id = AKIA\n",
            "has no aws_secret_access_key",
            id="half a key",
        ),
        pytest.param(
            f"[profile dev]\n{ROLE}", "source_profile", id="role without a source"
        ),
        pytest.param(
            f"[profile dev]\n{ROLE}source_profile = gone\n",
            "source_profile names something that does not exist",
            id="source profile missing",
        ),
        pytest.param(
            f"[profile dev]\nsso_session = gone\n{SSO}",
            "sso-session names something that does not exist",
            id="sso session missing",
        ),
        pytest.param(
            f"[profile dev]\n{SSO}", "aws sso login --profile dev", id="not logged in"
        ),
        pytest.param("[profile dev\n", "cannot be used", id="broken file"),
        pytest.param(
            f"[profile dev]\n{ROLE}mfa_serial = arn:aws:iam::1:mfa/me\n"
            "source_profile = base\n",
            "mfa_serial",
            id="asks for a code",
        ),
        pytest.param(
            f"[profile dev]\n{ROLE}source_profile = next\n[profile next]\n{ROLE}"
            "source_profile = base\nmfa_serial = arn:aws:iam::1:mfa/me\n",
            "profile 'next', which has mfa_serial",
            id="a source asks for a code",
        ),
        pytest.param(
            "[profile dev]\ncredential_process = sh -c 'echo s3cret >&2; exit 1'\n",
            "which failed",
            id="process fails",
        ),
        pytest.param(
            "[profile dev]\ncredential_process = echo s3cret\n",
            "credential_process",
            id="process talks nonsense",
        ),
        pytest.param(
            "[profile dev]\ncredential_process = /does/not/exist\n",
            "does not exist",
            id="process missing",
        ),
        pytest.param(
            f"[profile dev]\n{ROLE}web_identity_token_file = /does/not/exist\n",
            "web_identity_token_file",
            id="web identity missing",
        ),
    ],
)
async def test_what_is_wrong_with_a_profile_is_said(
    make_source: SourceMaker, aws_files: Path, config: str, words: str
) -> None:
    base = f"[profile base]\naws_access_key_id = AKIA\naws_secret_access_key = {SECRET}"
    (aws_files / "config").write_text(f"{config}{base}\n")
    with pytest.raises(TokenError, match=words) as caught:
        await make_source("dev").sign(request())
    assert "'dev'" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert SECRET not in str(caught.value)
    # Nor does a traceback show foreign text.
    foreign = caught.value.__context__
    assert foreign is None or caught.value.__suppress_context__
    assert caught.value.__cause__ is None


async def test_profile_of_the_environment_is_named(
    make_source: SourceMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "from-environment")
    with pytest.raises(TokenError, match="no AWS profile 'from-environment'"):
        await make_source().sign(request())


async def test_keys_of_the_environment_need_no_code(
    make_source: SourceMaker, monkeypatch: pytest.MonkeyPatch, aws_files: Path
) -> None:
    (aws_files / "config").write_text(
        f"[default]\n{ROLE}source_profile = base\nmfa_serial = x\n[profile base]\n"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    token = await make_source().sign(request())
    assert KEYS.access_key_id in token.reveal()


async def test_source_that_hangs_meets_the_time_limit(
    make_source: SourceMaker, monkeypatch: pytest.MonkeyPatch, aws_files: Path
) -> None:
    (aws_files / "config").write_text(ASSUMES_ROLE)
    with listen_but_never_accept() as deaf:
        endpoint = "http://{}:{}".format(*deaf.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint)
        source = make_source("dev", timeout_seconds=0.1)
        with pytest.raises(TokenError, match="did not answer within"):
            await source.sign(request())


async def test_unreachable_aws_is_said(
    make_source: SourceMaker, monkeypatch: pytest.MonkeyPatch, aws_files: Path
) -> None:
    (aws_files / "config").write_text(ASSUMES_ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    with pytest.raises(TokenError, match="could not be reached"):
        await make_source("dev").sign(request())


async def test_token_and_keys_reach_no_log(
    make_source: SourceMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = await make_source(credentials=SESSION_KEYS).sign(request())
    assert token.reveal()[-64:] not in caplog.text
    assert SESSION_KEYS.session_token not in caplog.text
