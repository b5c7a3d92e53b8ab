"""The sources of the AWS chain, each made ready at the stand-ins."""

from collections.abc import Callable

from dsqlproxy.aws.credentials import Credentials, Identity
from tests.kit.aws_stand_ins import Home, StandIns, role_arn

ROLE = role_arn("app")
OURS = role_arn("ours")
DEV = Identity("dev")
CHAIN = Identity()

Setting = Callable[[StandIns, Home], dict[str, str]]
"""Prepares files, and gives the variables of the environment."""


def keys_of(found: Credentials) -> tuple[str, str, str | None]:
    token = found.session_token
    return (
        found.access_key_id,
        found.secret_access_key.reveal(),
        None if token is None else token.reveal(),
    )


def newest(aws: StandIns) -> tuple[str, str, str | None]:
    key = aws.mint.last.key
    return key.access_key_id, key.secret_access_key, key.session_token


def keys_in_environment(aws: StandIns, _home: Home) -> dict[str, str]:
    key = aws.mint.mint("arn", lifetime=3600).key
    return {
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "AWS_SESSION_TOKEN": key.session_token or "",
    }


def keys_in_environment_with_expiry(aws: StandIns, home: Home) -> dict[str, str]:
    variables = keys_in_environment(aws, home)
    return {**variables, "AWS_CREDENTIAL_EXPIRATION": aws.mint.last.expiration}


def keys_in_credentials_file(aws: StandIns, home: Home) -> dict[str, str]:
    home.keys(aws.mint.mint("arn", lifetime=3600).key, "dev")
    return {"AWS_PROFILE": "dev"}


def keys_in_config_file(aws: StandIns, home: Home) -> dict[str, str]:
    key = aws.mint.mint("arn", lifetime=3600).key
    home.profile(
        "dev",
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
        aws_session_token=key.session_token or "",
    )
    return {"AWS_PROFILE": "dev"}


def sso_session(aws: StandIns, home: Home) -> dict[str, str]:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in())
    return {"AWS_PROFILE": "dev"}


def sso_session_to_refresh(aws: StandIns, home: Home) -> dict[str, str]:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in(lifetime=-1))
    return {"AWS_PROFILE": "dev"}


def sso_legacy(aws: StandIns, home: Home) -> dict[str, str]:
    home.sso_profile("dev", session=None)
    home.sign_in(aws.sso.sign_in(), session=None)
    return {"AWS_PROFILE": "dev"}


def role_of_a_profile(aws: StandIns, home: Home) -> dict[str, str]:
    aws.sts.external_id = "external"
    aws.sts.session_name = "somebody"
    home.keys(aws.mint.long_term(), "base")
    home.profile(
        "dev",
        role_arn=ROLE,
        source_profile="base",
        external_id="external",
        role_session_name="somebody",
    )
    return {"AWS_PROFILE": "dev"}


def role_of_a_chain_of_profiles(aws: StandIns, home: Home) -> dict[str, str]:
    home.keys(aws.mint.long_term(), "base")
    home.profile("between", role_arn=role_arn("between"), source_profile="base")
    home.profile("dev", role_arn=ROLE, source_profile="between")
    return {"AWS_PROFILE": "dev"}


def role_with_the_environment_as_source(aws: StandIns, home: Home) -> dict[str, str]:
    home.profile("dev", role_arn=ROLE, credential_source="Environment")
    # With its keys in the environment, botocore takes those where only AWS_PROFILE
    # names a profile.
    return keys_in_environment(aws, home)


def role_with_a_container_as_source(aws: StandIns, home: Home) -> dict[str, str]:
    home.profile("dev", role_arn=ROLE, credential_source="EcsContainer")
    return {"AWS_PROFILE": "dev", **aws.container.ecs()}


def role_with_sso_as_source(aws: StandIns, home: Home) -> dict[str, str]:
    home.sso_profile("base")
    home.sign_in(aws.sso.sign_in())
    home.profile("dev", role_arn=ROLE, source_profile="base")
    return {"AWS_PROFILE": "dev"}


def web_identity_in_environment(aws: StandIns, home: Home) -> dict[str, str]:
    aws.sts.session_name = "pod"
    return aws.web_identity(home, ROLE, session_name="pod")


def web_identity_in_a_profile(aws: StandIns, home: Home) -> dict[str, str]:
    aws.web_identity(home, ROLE)
    file = str(home.web_identity_token_file)
    home.profile("dev", role_arn=ROLE, web_identity_token_file=file)
    return {"AWS_PROFILE": "dev"}


def task_of_ecs(aws: StandIns, _home: Home) -> dict[str, str]:
    aws.container.authorization = "secret"
    return aws.container.ecs("secret")


def pod_of_eks(aws: StandIns, home: Home) -> dict[str, str]:
    aws.container.authorization = "from-file"
    home.container_token_file.write_text("from-file")
    return aws.container.eks(home.container_token_file)


def instance(_aws: StandIns, _home: Home) -> dict[str, str]:
    return {"imds": "yes"}


def program(aws: StandIns, home: Home) -> dict[str, str]:
    home.profile("dev", credential_process=aws.process.write(home.directory))
    return {"AWS_PROFILE": "dev"}
