from pathlib import Path
from urllib.parse import parse_qs

import pytest

from dsqlproxy.cli import main

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
