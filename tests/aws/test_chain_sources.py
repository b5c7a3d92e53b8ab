import pytest

from dsqlproxy.aws import chain
from dsqlproxy.aws.credentials import Identity, StaticCredentials
from dsqlproxy.config.assume_role import AssumedRole
from tests.aws.conftest import Enter
from tests.aws.sources import (
    CHAIN,
    DEV,
    OURS,
    ROLE,
    Setting,
    instance,
    keys_in_config_file,
    keys_in_credentials_file,
    keys_in_environment,
    keys_in_environment_with_expiry,
    keys_of,
    newest,
    pod_of_eks,
    program,
    role_of_a_chain_of_profiles,
    role_of_a_profile,
    role_with_a_container_as_source,
    role_with_sso_as_source,
    role_with_the_environment_as_source,
    sso_legacy,
    sso_session,
    sso_session_to_refresh,
    task_of_ecs,
    web_identity_in_a_profile,
    web_identity_in_environment,
)
from tests.kit.aws_stand_ins import Home, StandIns
from tests.upstream.wire import REGION

SOURCES = [
    pytest.param(keys_in_environment, "environment variables", "", id="environment"),
    pytest.param(
        keys_in_environment_with_expiry,
        "environment variables",
        "",
        id="environment with expiry",
    ),
    pytest.param(
        keys_in_credentials_file, "shared credentials file", "", id="credentials file"
    ),
    pytest.param(keys_in_config_file, "AWS configuration file", "", id="config file"),
    pytest.param(sso_session, "AWS SSO", "", id="sso session"),
    pytest.param(sso_session_to_refresh, "AWS SSO", "", id="sso session to refresh"),
    pytest.param(sso_legacy, "AWS SSO", "", id="sso legacy"),
    pytest.param(role_of_a_profile, "assumed role", ROLE, id="role"),
    pytest.param(role_of_a_chain_of_profiles, "assumed role", ROLE, id="roles"),
    pytest.param(
        role_with_a_container_as_source, "assumed role", ROLE, id="role in a container"
    ),
    pytest.param(role_with_sso_as_source, "assumed role", ROLE, id="role by sso"),
    pytest.param(web_identity_in_environment, "web identity", ROLE, id="web identity"),
    pytest.param(
        web_identity_in_a_profile, "web identity", ROLE, id="web identity in a profile"
    ),
    pytest.param(task_of_ecs, "container endpoint", "", id="ecs"),
    pytest.param(pod_of_eks, "container endpoint", "", id="eks"),
    pytest.param(instance, "instance metadata", "", id="imds"),
    pytest.param(program, "credential_process", "", id="process"),
]
WITHOUT_EXPIRY = {"environment variables", "shared credentials file"} | {
    "AWS configuration file"
}


@pytest.mark.parametrize(("setting", "source", "arn"), SOURCES)
def test_every_source_of_the_chain_is_found(
    aws: StandIns, home: Home, enter: Enter, setting: Setting, source: str, arn: str
) -> None:
    variables = setting(aws, home)
    enter(imds=variables.pop("imds", "") == "yes", **variables)
    found = chain.fetch(CHAIN, REGION)
    assert keys_of(found) == newest(aws)
    assert (found.source, found.role_arn) == (source, arn)
    if source in WITHOUT_EXPIRY and "AWS_CREDENTIAL_EXPIRATION" not in variables:
        assert found.expires_at is None
    else:
        assert found.expires_at == int(aws.mint.last.expires_at)


@pytest.mark.parametrize(("setting", "source", "arn"), SOURCES)
def test_every_source_can_assume_the_role_of_the_configuration(
    aws: StandIns, home: Home, enter: Enter, setting: Setting, source: str, arn: str
) -> None:
    del arn
    variables = setting(aws, home)
    enter(imds=variables.pop("imds", "") == "yes", **variables)
    aws.sts.external_id = aws.sts.session_name = None
    role = AssumedRole(role_arn=OURS, session_name="me", external_id="theirs")
    found = chain.fetch(Identity(assume_role=role), REGION)
    assert keys_of(found) == newest(aws)
    assert (found.source, found.role_arn) == (f"assumed role, by {source}", OURS)
    assert found.expires_at == int(aws.mint.last.expires_at)
    form = aws.sts.assume_role.requests[-1].form
    assert (form["RoleArn"], form["RoleSessionName"]) == (OURS, "me")
    assert form["ExternalId"] == "theirs"


def test_the_environment_is_the_source_of_a_role(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**role_with_the_environment_as_source(aws, home))
    found = chain.fetch(DEV, REGION)
    assert keys_of(found) == newest(aws)
    assert found.role_arn == ROLE
    assert aws.sts.assume_role.calls == 1


def test_a_role_without_an_external_id_sends_none(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**keys_in_credentials_file(aws, home))
    chain.fetch(Identity("dev", AssumedRole(role_arn=OURS)), REGION)
    (request,) = aws.sts.assume_role.requests
    assert "ExternalId" not in request.form
    assert request.form["RoleSessionName"] == "dsqlproxy"


def test_given_credentials_can_assume_a_role(aws: StandIns, enter: Enter) -> None:
    enter(AWS_PROFILE="does-not-exist")
    key = aws.mint.long_term()
    given = StaticCredentials.of(key.access_key_id, key.secret_access_key, None)
    found = chain.fetch(Identity(None, AssumedRole(role_arn=OURS), given), REGION)
    assert keys_of(found) == newest(aws)


def test_given_credentials_need_no_aws_files(enter: Enter, home: Home) -> None:
    enter(AWS_PROFILE="does-not-exist")
    home.config_file.write_text("this is [not a file of profiles")
    found = chain.fetch(Identity(given=StaticCredentials.of("A", "s", "t")), REGION)
    assert keys_of(found) == ("A", "s", "t")
    assert found.expires_at is None


def test_a_relative_container_uri_leads_to_the_address_of_ecs(
    aws: StandIns, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (full,) = aws.container.ecs().values()
    path = full.removeprefix(aws.url)
    enter(AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=path)
    asked: list[str] = []

    def full_url(_fetcher: object, relative: str) -> str:
        asked.append(relative)
        return f"{aws.url}{relative}"  # in place of 169.254.170.2

    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.full_url", full_url)
    assert keys_of(chain.fetch(CHAIN, REGION)) == newest(aws)
    assert asked == [path]
