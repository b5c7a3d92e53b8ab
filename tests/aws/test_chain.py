import os
import signal
from collections.abc import Callable

import pytest
from botocore.credentials import EnvProvider

from dsqlproxy.aws import chain
from dsqlproxy.aws.credentials import Credentials, Identity, StaticCredentials
from dsqlproxy.aws.programs import Programs
from dsqlproxy.aws.secret import Secret
from dsqlproxy.errors import TokenError
from tests.aws.conftest import Enter
from tests.aws.sources import (
    CHAIN,
    DEV,
    ROLE,
    keys_in_credentials_file,
    keys_in_environment,
    keys_of,
    newest,
    program,
    role_of_a_profile,
)
from tests.kit.aws_stand_ins import Home, StandIns
from tests.upstream.wire import REGION

# -- which of several ------------------------------------------------------------------


def test_a_named_profile_goes_before_keys_in_the_environment(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**keys_in_environment(aws, home))
    in_environment = newest(aws)
    keys_in_credentials_file(aws, home)
    assert keys_of(chain.fetch(CHAIN, REGION)) == in_environment
    assert keys_of(chain.fetch(DEV, REGION)) == newest(aws)


def test_every_fetch_reads_everything_anew(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**keys_in_credentials_file(aws, home))
    assert keys_of(chain.fetch(DEV, REGION)) == newest(aws)
    keys_in_credentials_file(aws, home)
    assert keys_of(chain.fetch(DEV, REGION)) == newest(aws)


def test_what_botocore_knows_of_services_is_read_once(
    aws: StandIns, home: Home, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(**role_of_a_profile(aws, home))
    chain.fetch(DEV, REGION)
    # To parse it holds the interpreter, and with it every session.
    monkeypatch.delattr("botocore.loaders.JSONFileLoader.load_file")
    chain.fetch(DEV, REGION)


def test_what_aws_login_gives_is_renewed_by_botocore(
    aws: StandIns, home: Home, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It hands out what it has in its cache, however old; the others have just asked.
    variables = keys_in_environment(aws, home)
    aws.mint.mint("arn", lifetime=600)
    enter(**variables, AWS_CREDENTIAL_EXPIRATION=aws.mint.last.expiration)
    monkeypatch.setattr("botocore.credentials.EnvProvider.METHOD", "login")
    made = []
    build = EnvProvider._create_credentials_fetcher

    def counting(provider: EnvProvider) -> Callable[..., dict[str, str | None]]:
        fetch = build(provider)

        def fetch_and_count(**options: bool) -> dict[str, str | None]:
            made.append(options)
            return dict(fetch(**options))

        return fetch_and_count

    monkeypatch.setattr(EnvProvider, "_create_credentials_fetcher", counting)
    assert chain.fetch(CHAIN, REGION).source == "aws login"
    assert len(made) == 2


def test_sts_is_asked_in_the_region_of_the_cluster(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**role_of_a_profile(aws, home))
    chain.fetch(Identity("dev"), "eu-west-3")
    (request,) = aws.sts.assume_role.requests
    assert "/eu-west-3/sts/" in request.headers["authorization"]


def test_no_region_in_the_environment_is_needed(
    aws: StandIns, home: Home, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(**role_of_a_profile(aws, home))
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert chain.fetch(DEV, REGION).role_arn == ROLE


# -- once, in time, without a prompt ---------------------------------------------------


def test_a_program_with_short_lived_credentials_runs_once(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**program(aws, home))
    aws.process.run.answer(lifetime=300)
    assert keys_of(chain.fetch(DEV, REGION)) == newest(aws)
    assert aws.process.run.calls == 1


@pytest.mark.parametrize("lifetime", [2.0, 899.0, 901.0, 43_200.0])
def test_the_expiry_is_known_to_the_second(
    aws: StandIns, home: Home, enter: Enter, lifetime: float
) -> None:
    enter(**program(aws, home))
    aws.process.run.answer(lifetime=lifetime)
    found = chain.fetch(DEV, REGION)
    assert found.expires_at == int(aws.mint.last.expires_at)


@pytest.mark.parametrize("lifetime", [120.0, 1_000.0])
def test_what_an_instance_says_of_the_expiry_is_believed(
    aws: StandIns, enter: Enter, lifetime: float
) -> None:
    enter(imds=True)
    aws.imds.credentials.answer(lifetime=lifetime)
    found = chain.fetch(CHAIN, REGION)
    assert found.expires_at == int(aws.mint.last.expires_at)
    assert aws.imds.credentials.calls == 1


def test_credentials_without_an_expiry_in_the_answer_have_none(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter(**program(aws, home))
    aws.process.print('{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "x"}')
    assert chain.fetch(DEV, REGION).expires_at is None


def test_a_program_cannot_read_from_the_terminal(enter: Enter, home: Home) -> None:
    enter()
    home.profile("dev", credential_process="sh -c 'read line; echo $line; exit 1'")
    read_end, write_end = os.pipe()
    saved = os.dup(0)
    os.dup2(read_end, 0)
    try:
        with pytest.raises(TokenError, match="credential_process, which failed"):
            chain.fetch(DEV, REGION)
    finally:
        os.dup2(saved, 0)
        for each in (read_end, write_end, saved):
            os.close(each)


def test_nor_can_the_program_of_a_source_profile(enter: Enter, home: Home) -> None:
    enter()
    home.profile("base", credential_process="sh -c 'read line; echo $line; exit 1'")
    home.profile("dev", role_arn=ROLE, source_profile="base")
    read_end, write_end = os.pipe()
    saved = os.dup(0)
    os.dup2(read_end, 0)
    # With a line to read the program would print it; with none it would wait.
    os.write(write_end, b"a line\n")
    try:
        with pytest.raises(TokenError, match="credential_process, which failed"):
            chain.fetch(DEV, REGION)
        assert os.read(read_end, 10) == b"a line\n"
    finally:
        os.dup2(saved, 0)
        for each in (read_end, write_end, saved):
            os.close(each)


def test_a_program_that_was_ended_ends_the_fetch_of_a_source_profile(
    enter: Enter, home: Home
) -> None:
    enter()
    home.profile("base", credential_process="sleep 60")
    home.profile("dev", role_arn=ROLE, source_profile="base")
    programs = Programs()
    programs.end(signal.SIGKILL)
    with pytest.raises(TokenError):
        chain.fetch(DEV, REGION, programs)


def test_a_code_is_asked_for_neither_in_a_profile_nor_in_its_source(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter()
    home.keys(aws.mint.long_term(), "base")
    home.profile("next", role_arn=ROLE, source_profile="base", mfa_serial="arn")
    home.profile("dev", role_arn=ROLE, source_profile="next")
    with pytest.raises(TokenError, match="profile 'next', which has mfa_serial"):
        chain.fetch(DEV, REGION)
    with pytest.raises(TokenError, match="profile 'next', which has mfa_serial"):
        chain.fetch(Identity("next"), REGION)
    assert aws.sts.assume_role.calls == 0


def test_keys_in_a_source_profile_need_no_code(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    enter()
    key = aws.mint.long_term()
    home.profile(
        "base",
        role_arn=ROLE,
        source_profile="base",
        mfa_serial="arn",
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
    )
    home.profile("dev", role_arn=ROLE, source_profile="base")
    assert keys_of(chain.fetch(DEV, REGION)) == newest(aws)


def test_keys_in_the_environment_need_no_code(
    aws: StandIns, home: Home, enter: Enter
) -> None:
    home.profile(role_arn=ROLE, source_profile="base", mfa_serial="arn")
    enter(**keys_in_environment(aws, home))
    assert keys_of(chain.fetch(CHAIN, REGION)) == newest(aws)


def test_a_web_identity_needs_no_code(aws: StandIns, home: Home, enter: Enter) -> None:
    aws.web_identity(home, ROLE)
    file = str(home.web_identity_token_file)
    home.profile("dev", role_arn=ROLE, web_identity_token_file=file, mfa_serial="arn")
    enter()
    assert chain.fetch(DEV, REGION).source == "web identity"


# -- what is named and bounded ---------------------------------------------------------


def test_calls_to_aws_are_bounded(enter: Enter) -> None:
    # Not by waiting: that takes four seconds, and says less.
    enter()
    session = chain._user_session(None, REGION, Programs())
    config = session.get_default_client_config()
    assert (config.connect_timeout, config.read_timeout) == (2.0, 2.0)
    assert config.retries["max_attempts"] == 1


def test_an_unknown_source_is_shown_as_botocore_calls_it(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY="secret")
    monkeypatch.setattr("botocore.credentials.EnvProvider.METHOD", "something-new")
    assert chain.fetch(CHAIN, REGION).source == "something-new"


def test_given_credentials_are_named_as_such() -> None:
    given = Identity(given=StaticCredentials.of("", "", ""))
    assert str(chain.origin_of(given)) == "the credentials given to the proxy"


@pytest.mark.parametrize(
    ("variables", "profile", "name"),
    [
        ({}, None, "the usual AWS chain"),
        ({}, "dev", "AWS profile 'dev'"),
        ({"AWS_PROFILE": "other"}, None, "AWS profile 'other'"),
        ({"AWS_DEFAULT_PROFILE": "other"}, None, "AWS profile 'other'"),
        ({"AWS_PROFILE": "x", "AWS_ACCESS_KEY_ID": "A"}, None, "the usual AWS chain"),
        ({"AWS_PROFILE": "x", "AWS_ACCESS_KEY_ID": "A"}, "dev", "AWS profile 'dev'"),
    ],
)
def test_where_credentials_are_looked_for_is_named(
    enter: Enter, variables: dict[str, str], profile: str | None, name: str
) -> None:
    enter(**variables)
    assert str(chain.origin_of(Identity(profile))).startswith(name)


@pytest.mark.parametrize(
    ("variables", "profile", "named_by"),
    [
        ({}, None, ""),
        ({"AWS_PROFILE": "other"}, "dev", "`profile`"),
        ({"AWS_PROFILE": "other"}, None, "AWS_PROFILE"),
        ({"AWS_PROFILE": "x", "AWS_DEFAULT_PROFILE": "y"}, None, "AWS_DEFAULT_PROFILE"),
        ({"AWS_PROFILE": "x", "AWS_ACCESS_KEY_ID": "A"}, None, "AWS_PROFILE"),
    ],
)
def test_what_names_a_profile_that_does_not_exist_is_told(
    enter: Enter, variables: dict[str, str], profile: str | None, named_by: str
) -> None:
    enter(**variables)
    identity = Identity(profile)
    assert chain.origin_of(identity).named_by == named_by
    if named_by:
        with pytest.raises(TokenError, match="there is no AWS profile") as caught:
            chain.fetch(identity, REGION)
        assert f"named by {named_by}," in caught.value.detail


# -- whose they are --------------------------------------------------------------------


def test_aws_says_whose_credentials_are(aws: StandIns, enter: Enter) -> None:
    enter()
    key = aws.mint.long_term("somebody")
    keys = Credentials(key.access_key_id, Secret(key.secret_access_key))
    assert chain.caller_arn(keys, REGION) == key.principal_arn
    aws.sts.get_caller_identity.deny()
    assert chain.caller_arn(keys, REGION) is None
