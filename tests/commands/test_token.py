from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from dsqlproxy.cli import main
from tests.kit.aws_stand_ins import (
    Home,
    StandIns,
    aws_stand_ins,
    role_arn,
    use_in_this_process,
)

ID = "abcdefghijklmnopqrstuvwxyz"
CLUSTER = f"{ID}.dsql.us-east-1.on.aws"


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the process credentials, and nothing else of this machine's."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("DSQLPROXY_CONFIG", raising=False)


@pytest.fixture
def stand_ins() -> Iterator[StandIns]:
    with aws_stand_ins() as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "proxy.yaml"
    file.write_text(
        f"""
listeners:
  - {{name: main, cluster: {CLUSTER}, token_lifetime: 15m, roles: [a, b]}}
  - {{name: other, cluster: {ID}, region: eu-west-3, listen: "a:1", role: reader,
      allow_remote_trust: true}}
  - {{name: third, cluster: {CLUSTER}, listen: "127.0.0.1:1", roles: [writer]}}
"""
    )
    return file


def action(token: str) -> str:
    return parse_qs(token.partition("?")[2])["Action"][0]


def expires(token: str) -> str:
    return parse_qs(token.partition("?")[2])["X-Amz-Expires"][0]


def test_one_token_and_nothing_else_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["token", "--cluster", CLUSTER]) == 0
    printed = capsys.readouterr()
    (token,) = printed.out.splitlines()
    assert token.startswith(f"{CLUSTER}/?Action=DbConnectAdmin&")
    assert expires(token) == "60"
    assert printed.err == ""


def test_a_bare_id_is_signed_for_with_its_region(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["token", "--cluster", ID, "--region", "eu-west-3"]) == 0
    assert capsys.readouterr().out.startswith(f"{ID}.dsql.eu-west-3.on.aws/")


@pytest.mark.parametrize(
    ("listener", "flags", "expected"),
    [
        pytest.param("main", [], "DbConnectAdmin", id="of several roles, admin"),
        pytest.param("main", ["--role", "b"], "DbConnect", id="the role asked for"),
        pytest.param("other", [], "DbConnect", id="the listener's role"),
        pytest.param("other", ["--role", "admin"], "DbConnectAdmin", id="admin asked"),
        pytest.param("third", [], "DbConnect", id="the only one of its roles"),
    ],
)
def test_the_role_decides_the_action(
    capsys: pytest.CaptureFixture[str],
    file: Path,
    listener: str,
    flags: list[str],
    expected: str,
) -> None:
    code = main(["token", "--config", str(file), "--listener", listener, *flags])
    assert code == 0
    assert action(capsys.readouterr().out) == expected


def test_the_token_lives_as_long_as_the_listener_says(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    main(["token", "--config", str(file), "--listener", "main"])
    assert expires(capsys.readouterr().out) == "900"


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        pytest.param([], "is needed to choose one of", id="none named"),
        pytest.param(["--listener", "no"], 'there is no "no"', id="unknown"),
    ],
)
def test_several_listeners_need_a_choice(
    capsys: pytest.CaptureFixture[str], file: Path, flags: list[str], complaint: str
) -> None:
    assert main(["token", "--config", str(file), *flags]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "main, other, third" in printed.err
    assert printed.out == ""


def test_an_empty_role_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "--cluster", CLUSTER, "--role", ""]) == 2
    assert "--role" in capsys.readouterr().err


def test_missing_credentials_are_a_failure_with_a_hint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert main(["token", "--cluster", CLUSTER]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("dsqlproxy: ") for line in lines)
    assert "aws configure" in printed.err
    assert "`--profile`" in printed.err
    assert "`profile`" not in printed.err
    assert "without a restart" not in printed.err


# -- every way to have no credentials ------------------------------------------------

Prepare = Callable[[Home, StandIns], Mapping[str, str]]


def a_profile_that_is_missing(_: Home, __: StandIns) -> Mapping[str, str]:
    return {"AWS_PROFILE": "nowhere"}


def half_a_key(_: Home, __: StandIns) -> Mapping[str, str]:
    return {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLEEXAMPLE12"}


def nobody_signed_in(home: Home, _: StandIns) -> Mapping[str, str]:
    home.sso_profile("dev")
    return {"AWS_PROFILE": "dev"}


def an_sso_session_that_expired(home: Home, aws: StandIns) -> Mapping[str, str]:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in(lifetime=-10), has_refresh_token=False)
    return {"AWS_PROFILE": "dev"}


def an_sso_session_that_was_revoked(home: Home, aws: StandIns) -> Mapping[str, str]:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in())
    aws.sso.revoke()
    return {"AWS_PROFILE": "dev"}


def a_role_that_is_refused(home: Home, aws: StandIns) -> Mapping[str, str]:
    home.keys(aws.mint.long_term())
    home.profile("app", role_arn=role_arn("app"), source_profile="default")
    aws.sts.assume_role.deny()
    return {"AWS_PROFILE": "app"}


def a_role_that_asks_for_a_code(home: Home, aws: StandIns) -> Mapping[str, str]:
    home.keys(aws.mint.long_term())
    serial = "arn:aws:iam::111122223333:mfa/me"
    source = {"role_arn": role_arn("app"), "source_profile": "default"}
    home.profile("app", **source, mfa_serial=serial)
    return {"AWS_PROFILE": "app"}


def a_program_that_fails(home: Home, _: StandIns) -> Mapping[str, str]:
    home.profile(credential_process="/bin/false")
    return {}


def a_file_that_is_broken(home: Home, _: StandIns) -> Mapping[str, str]:
    home.config_file.write_text("[default\n")
    return {}


@pytest.mark.parametrize(
    ("prepare", "message", "way_out"),
    [
        (a_profile_that_is_missing, "no AWS profile 'nowhere'", "list-profiles"),
        (half_a_key, "credentials are incomplete", "AWS_SECRET_ACCESS_KEY"),
        (nobody_signed_in, "SSO session", "`aws sso login --profile dev`"),
        (an_sso_session_that_expired, "SSO session", "`aws sso login --profile dev`"),
        (an_sso_session_that_was_revoked, "SSO session", "`aws sso login --profile"),
        (a_role_that_is_refused, "AWS refused AssumeRole", "trust policy"),
        (a_role_that_asks_for_a_code, "an MFA code", "without mfa_serial"),
        (a_program_that_fails, "credentials", "credential_process"),
        (a_file_that_is_broken, "configuration cannot be used", "`aws configure list`"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_without_credentials_nothing_is_printed_but_the_way_out(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stand_ins: StandIns,
    prepare: Prepare,
    message: str,
    way_out: str,
) -> None:
    home = Home(tmp_path)
    variables = prepare(home, stand_ins)
    environ = {**stand_ins.environment(home), **variables}
    use_in_this_process(monkeypatch, environ)
    assert main(["token", "--cluster", CLUSTER]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert all(line.startswith("dsqlproxy: ") for line in lines)
    assert message in lines[0]
    assert way_out in printed.err
    assert "restart" not in printed.err  # there is nothing running


def test_temporary_credentials_make_a_token_with_their_session(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stand_ins: StandIns,
) -> None:
    home = Home(tmp_path)
    home.sso_profile("dev")
    home.sign_in(stand_ins.sso.sign_in())
    use_in_this_process(monkeypatch, stand_ins.environment(home))
    assert main(["token", "--cluster", CLUSTER, "--profile", "dev"]) == 0
    printed = capsys.readouterr()
    (token,) = printed.out.splitlines()
    fields = parse_qs(token.partition("?")[2])
    assert fields["X-Amz-Security-Token"] == [stand_ins.mint.last.session_token]
    assert printed.err == ""
