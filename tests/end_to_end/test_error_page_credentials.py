"""docs/errors.md, produced: what goes wrong with the AWS credentials, at every source.

The sources are stand-ins on loopback; ``hold_timeout: 0`` shows the error at once.
"""

import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.credentials
import botocore.exceptions
import botocore.utils
import pytest

from dsqlproxy.aws import chain
from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.tokens import TokenSource
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.situations.situation import PROFILE, Situation
from tests.end_to_end.error_rows import Run, produces, proxy_of_the_chain, psql_of
from tests.end_to_end.wire import RawClient, logged, startup
from tests.kit.aws_stand_ins import (
    Home,
    StandIns,
    aws_stand_ins,
    role_arn,
    use_in_this_process,
)

HELD = {r"(held for|waits for up to) [0-9.]+ s": r"\1 10 s"}
READER = role_arn("Reader")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, home: Home) -> Iterator[StandIns]:
    """Run AWS, as this process then sees it."""
    with aws_stand_ins() as stand_ins:
        use_in_this_process(monkeypatch, stand_ins.environment(home))
        yield stand_ins


Told = Callable[..., Awaitable[None]]


@pytest.fixture
def is_told(emulator: Emulator, postgres: EmbeddedPostgres) -> Told:
    """Have psql meet a row, with the profile of the page unless told otherwise."""

    async def meet(row: Situation, **settings: Any) -> None:
        settings = {"profile": PROFILE, "hold_timeout": 0, **settings}
        async with proxy_of_the_chain(emulator, **settings) as proxy:
            await Run(row, proxy, emulator).by_psql(psql_of(postgres))

    return meet


def keys(aws: StandIns, home: Home, profile: str = "base") -> None:
    home.keys(aws.mint.long_term(), profile)


def role_profile(home: Home, **settings: str) -> None:
    home.profile(PROFILE, role_arn=READER, source_profile="base", **settings)


# -- nothing is found ------------------------------------------------------------------


@produces("no-credentials")
@pytest.mark.usefixtures("aws")
async def test_nothing_anywhere(row: Situation, is_told: Told) -> None:
    await is_told(row, profile=None)


@produces("no-profile")
@pytest.mark.usefixtures("aws")
async def test_no_such_profile(row: Situation, is_told: Told) -> None:
    await is_told(row)


@produces("partial-credentials", "partial-environment")
@pytest.mark.usefixtures("aws")
async def test_half_of_the_keys(
    row: Situation, is_told: Told, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.credentials_file.write_text(f"[{PROFILE}]\naws_access_key_id = AKIAEXAMPLE\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    await is_told(row, profile=PROFILE if row.key == "partial-credentials" else None)


@produces("configuration-unusable")
@pytest.mark.usefixtures("aws")
async def test_a_source_profile_that_does_not_exist(
    row: Situation, is_told: Told, home: Home
) -> None:
    role_profile(home)
    await is_told(row)


# -- logins of people ------------------------------------------------------------------


@produces("sso-expired")
@pytest.mark.usefixtures("aws")
async def test_an_sso_session_that_was_never_begun(
    row: Situation, is_told: Told, home: Home
) -> None:
    home.sso_profile(PROFILE)
    await is_told(row)


@produces("held-for-credentials")
@pytest.mark.usefixtures("aws")
async def test_a_client_is_held_for_credentials_in_vain(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, home: Home
) -> None:
    home.sso_profile(PROFILE)
    async with proxy_of_the_chain(
        emulator, profile=PROFILE, hold_timeout="800ms"
    ) as proxy:
        await Run(row, proxy, emulator, HELD).by_psql(psql_of(postgres))


@produces("sso-role-refused")
async def test_a_role_that_sso_does_not_give(
    row: Situation, is_told: Told, aws: StandIns, home: Home
) -> None:
    home.sso_profile(PROFILE)
    home.sign_in(aws.sso.sign_in())
    aws.sso.get_role_credentials.deny("ForbiddenException", "No access", status=403)
    await is_told(row)


@produces("crt-missing")
@pytest.mark.usefixtures("aws")
async def test_aws_login_without_its_package(
    row: Situation, is_told: Told, home: Home
) -> None:
    if botocore.compat.HAS_CRT:
        pytest.skip("botocore's extra crt is installed")
    home.profile(PROFILE, login_session="arn:aws:iam::111122223333:user/me")
    await is_told(row)


@produces("aws-login-expired")
@pytest.mark.usefixtures("aws")
async def test_a_session_of_aws_login_that_has_expired(
    row: Situation, is_told: Told, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expired(_: object) -> None:
        raise botocore.exceptions.LoginRefreshRequired

    # In the place of botocore's own, which needs its extra crt for a first look.
    monkeypatch.setattr(botocore.credentials.LoginProvider, "load", expired)
    home.profile(PROFILE, login_session="arn:aws:iam::111122223333:user/me")
    await is_told(row)


@produces("mfa-wanted")
async def test_a_role_that_asks_for_a_code(
    row: Situation, is_told: Told, aws: StandIns, home: Home
) -> None:
    keys(aws, home)
    role_profile(home, mfa_serial="arn:aws:iam::111122223333:mfa/me")
    await is_told(row)


# -- roles -----------------------------------------------------------------------------


@produces("role-refused", "source-expired")
async def test_a_role_that_sts_does_not_give(
    row: Situation, is_told: Told, aws: StandIns, home: Home
) -> None:
    keys(aws, home)
    role_profile(home)
    codes = {"role-refused": "AccessDenied", "source-expired": "ExpiredToken"}
    aws.sts.assume_role.deny(codes[row.key])
    await is_told(row)


@produces("clock-refused-by-aws")
async def test_a_clock_that_sts_does_not_take(
    row: Situation, is_told: Told, aws: StandIns, home: Home
) -> None:
    keys(aws, home)
    role_profile(home)
    aws.skew_seconds = 1200.0
    await is_told(row)


@produces("assume-role-refused")
async def test_the_key_assume_role(
    row: Situation, is_told: Told, aws: StandIns, home: Home
) -> None:
    keys(aws, home, PROFILE)
    aws.sts.assume_role.deny()
    await is_told(row, assume_role=READER)


@produces("web-identity-refused")
async def test_a_service_account_that_sts_does_not_know(
    row: Situation,
    is_told: Told,
    aws: StandIns,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in aws.web_identity(home, READER).items():
        monkeypatch.setenv(name, value)
    aws.sts.web_identity_token = "another one"
    await is_told(row, profile=None)


@produces("aws-not-reached")
async def test_no_way_to_sts(
    row: Situation,
    is_told: Told,
    aws: StandIns,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys(aws, home)
    role_profile(home)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{port}")
        await is_told(row)


# -- programs and containers -----------------------------------------------------------


@produces("program-missing")
@pytest.mark.usefixtures("aws")
async def test_a_program_that_is_not_there(
    row: Situation, is_told: Told, home: Home
) -> None:
    home.profile(PROFILE, credential_process="/home/me/bin/get-credentials")
    await is_told(row)


@pytest.fixture
def process(aws: StandIns, home: Home) -> StandIns:
    """Have a program as the source of the page's profile."""
    home.profile(PROFILE, credential_process=aws.process.write(home.directory))
    return aws


@produces("program-failed")
async def test_a_program_that_fails(
    row: Situation, is_told: Told, process: StandIns
) -> None:
    process.process.exit(1, "vault: secret-that-nobody-may-see")
    await is_told(row)


@produces("program-not-understood")
async def test_a_program_that_prints_something_else(
    row: Situation, is_told: Told, process: StandIns
) -> None:
    process.process.print("Welcome!")
    await is_told(row)


@produces("found-expired")
async def test_a_program_that_prints_what_has_expired(
    row: Situation, is_told: Told, process: StandIns
) -> None:
    printed = {
        "Version": 1,
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "x",
        "SessionToken": "y",
        "Expiration": "2020-01-01T00:00:00Z",
    }
    process.process.print(json.dumps(printed))
    await is_told(row)


@produces("container-failed")
async def test_a_container_endpoint_that_refuses(
    row: Situation, is_told: Told, aws: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.container.ecs().items():
        monkeypatch.setenv(name, value)
    fetcher = botocore.utils.ContainerMetadataFetcher
    monkeypatch.setattr(fetcher, "SLEEP_TIME", 0)
    aws.container.credentials.deny()
    await is_told(row, profile=None)


# -- time ------------------------------------------------------------------------------


@produces("source-too-slow")
async def test_a_source_that_does_not_answer(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, process: StandIns
) -> None:
    process.process.run.hang()
    async with proxy_of_the_chain(emulator, profile=PROFILE, hold_timeout=0.3) as proxy:
        run = Run(row, proxy, emulator, {r"within 0\.3 s": "within 8 s"})
        await run.by_psql(psql_of(postgres))
        process.process.run.release()


@produces("source-hangs")
async def test_a_source_that_never_answers(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, process: StandIns
) -> None:
    del process
    may_end = threading.Event()

    def hang(*args: Any) -> Credentials:
        may_end.wait(30)  # on a file system that is gone: a program would be ended
        return chain.fetch(*args)

    def give_up_soon(source: TokenSource) -> None:
        source._flights._limit_seconds = 0.05
        source._flights._max_hanging = 1
        source._fetch = hang

    async with proxy_of_the_chain(
        emulator, profile=PROFILE, hold_timeout=0, prepare=give_up_soon
    ) as proxy:
        await logged(proxy, "credentials failed.*hangs")  # the second try
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))
        may_end.set()


# -- what was good ---------------------------------------------------------------------


@produces("not-renewed")
async def test_credentials_that_have_expired_and_are_not_renewed(
    row: Situation,
    emulator: Emulator,
    postgres: EmbeddedPostgres,
    aws: StandIns,
    home: Home,
) -> None:
    ahead = 0.0
    clocks = system_clocks()
    clocks = clocks._replace(wall=lambda: system_clocks().wall() + ahead)
    aws.mint.on_key = emulator.trust
    home.sso_profile(PROFILE)
    home.sign_in(aws.sso.sign_in())
    async with proxy_of_the_chain(
        emulator, profile=PROFILE, hold_timeout=0, clocks=clocks
    ) as proxy:
        async with RawClient.session(proxy):
            pass
        aws.sso.get_role_credentials.deny("UnauthorizedException", status=401)
        ahead = 7200.0
        await Run(row, proxy, emulator).by_psql(psql_of(postgres))


@produces("put-aside")
async def test_credentials_that_the_cluster_has_refused(
    row: Situation,
    emulator: Emulator,
    postgres: EmbeddedPostgres,
    aws: StandIns,
    home: Home,
) -> None:
    key = aws.mint.long_term()
    home.keys(key, PROFILE)
    emulator.trust(key)
    emulator.add_fault("expired-credentials")
    async with proxy_of_the_chain(emulator, profile=PROFILE, hold_timeout=0) as proxy:
        short = f"{key.access_key_id[:4]}…{key.access_key_id[-4:]}"
        run = Run(row, proxy, emulator, {short: "AKIA…MPLE"})
        async with RawClient.connect(proxy) as first:
            await first.send(startup())
            assert (await first.receive_fatal()).sqlstate == "08006"
        await run.by_psql(psql_of(postgres))
