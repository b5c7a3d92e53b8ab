"""Every source of botocore's chain, through its public API, from the stand-ins."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.aws_stand_ins import Home, StandIns, aws_stand_ins, role_arn
from tests.kit.aws_stand_ins.fetching import ROLE, Fetch, minted, new_fetch


@pytest.fixture
def aws() -> Iterator[StandIns]:
    with aws_stand_ins() as stand_ins:
        yield stand_ins


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def fetch(aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    return new_fetch(aws, home, monkeypatch)


def test_keys_in_the_credentials_file(aws: StandIns, home: Home, fetch: Fetch) -> None:
    key = aws.mint.long_term()
    home.keys(key, "dev")
    assert fetch(AWS_PROFILE="dev")[:2] == (
        key.access_key_id,
        key.secret_access_key,
    )


def test_a_role_with_a_source_profile(aws: StandIns, home: Home, fetch: Fetch) -> None:
    home.keys(aws.mint.long_term(), "base")
    home.profile(
        "app",
        role_arn=ROLE,
        source_profile="base",
        external_id="the-id",
        role_session_name="the-name",
    )
    aws.sts.external_id = "the-id"
    aws.sts.session_name = "the-name"
    assert fetch(AWS_PROFILE="app") == minted(aws)
    assert aws.mint.last.key.principal_arn == ROLE
    assert aws.sts.assume_role.calls == 1


def test_a_role_by_way_of_a_role(aws: StandIns, home: Home, fetch: Fetch) -> None:
    home.keys(aws.mint.long_term(), "base")
    home.profile("first", role_arn=role_arn("first"), source_profile="base")
    home.profile("second", role_arn=ROLE, source_profile="first")
    assert fetch(AWS_PROFILE="second") == minted(aws)
    assert aws.sts.assume_role.calls == 2


def test_a_role_by_way_of_sso(aws: StandIns, home: Home, fetch: Fetch) -> None:
    home.sso_profile("base")
    home.sign_in(aws.sso.sign_in())
    home.profile("app", role_arn=ROLE, source_profile="base")
    assert fetch(AWS_PROFILE="app") == minted(aws)


def test_a_role_by_way_of_an_instance(aws: StandIns, home: Home, fetch: Fetch) -> None:
    home.profile("app", role_arn=ROLE, credential_source="Ec2InstanceMetadata")
    assert fetch(imds=True, AWS_PROFILE="app") == minted(aws)
    assert (aws.imds.credentials.calls, aws.sts.assume_role.calls) == (1, 1)


@pytest.mark.parametrize("session", ["example", None], ids=["session", "legacy"])
def test_sso(aws: StandIns, home: Home, fetch: Fetch, session: str | None) -> None:
    home.sso_profile("dev", session=session)
    home.sign_in(aws.sso.sign_in(), session=session)
    assert fetch(AWS_PROFILE="dev") == minted(aws)
    assert "AWSReservedSSO_Developer_" in aws.mint.last.key.principal_arn


def test_web_identity_in_a_profile(aws: StandIns, home: Home, fetch: Fetch) -> None:
    aws.web_identity(home, ROLE)
    home.profile(
        "pod",
        role_arn=ROLE,
        web_identity_token_file=str(home.web_identity_token_file),
    )
    assert fetch(AWS_PROFILE="pod") == minted(aws)


def test_web_identity_in_the_environment(
    aws: StandIns, home: Home, fetch: Fetch
) -> None:
    variables = aws.web_identity(home, ROLE, session_name="pod")
    aws.sts.web_identity_token = home.web_identity_token_file.read_text()
    aws.sts.session_name = "pod"
    assert fetch(**variables) == minted(aws)


def test_ecs(aws: StandIns, fetch: Fetch) -> None:
    aws.container.authorization = "a-token"
    assert fetch(**aws.container.ecs("a-token")) == minted(aws)


def test_eks_pod_identity(aws: StandIns, home: Home, fetch: Fetch) -> None:
    home.container_token_file.write_text("a-token")
    aws.container.authorization = "a-token"
    assert fetch(**aws.container.eks(home.container_token_file)) == minted(aws)


@pytest.mark.parametrize("version", [1, 2])
def test_imds(aws: StandIns, fetch: Fetch, version: int) -> None:
    if version == 1:
        aws.imds.token.deny()
        aws.imds.allows_version_1 = True
    assert fetch(imds=True) == minted(aws)


def test_credential_process(aws: StandIns, home: Home, fetch: Fetch) -> None:
    home.profile("vault", credential_process=aws.process.write(home.directory))
    assert fetch(AWS_PROFILE="vault") == minted(aws)
    assert aws.process.run.calls == 1


async def test_a_child_process(aws: StandIns, home: Home) -> None:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in())
    program = (
        "import botocore.session as s;"
        "print(s.Session().get_credentials().get_frozen_credentials().access_key)"
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        env=aws.environment(home, AWS_PROFILE="dev", PATH=os.environ["PATH"]),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    assert output.decode().strip() == aws.mint.last.access_key_id
