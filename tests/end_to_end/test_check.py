"""`dsqlproxy check` as its users run it: what is good, and what is wrong where."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from dsqlproxy.emulator.server import PRINCIPAL_ARN, Emulator
from tests.end_to_end.examining import (
    STEPS,
    Machine,
    assert_only_failure,
    presenting,
    statement_in,
)
from tests.kit.aws_stand_ins import (
    Home,
    StandIns,
    aws_stand_ins,
    role_arn,
)
from tests.kit.stack import config_for, running_proxy
from tests.upstream.wire import Authority

TWENTY_MINUTES = 1200


@pytest.fixture
def aws() -> Iterator[StandIns]:
    with aws_stand_ins() as stand_ins:
        yield stand_ins


@pytest_asyncio.fixture
async def machine(
    emulator: Emulator,
    aws: StandIns,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Machine:
    """Give a machine on which all is well."""
    home = Home(tmp_path)
    home.keys(aws.mint.add(emulator.credentials))
    listener = {
        "name": "main",
        "listen": "127.0.0.1:6543",
        "cluster": emulator.cluster,
        "connect_address": f"{emulator.host}:{emulator.port}",
        "ca_file": str(emulator.ca_file),
        "role": "admin",
    }
    return Machine(tmp_path, home, aws, listener, capsys, monkeypatch)


# -- what is good ----------------------------------------------------------------------


async def test_a_good_configuration_is_ready(
    machine: Machine, emulator: Emulator
) -> None:
    report = await machine.check_as_a_process()
    assert report.code == 0, report.output
    assert report.outcomes == dict.fromkeys(STEPS, "ok")
    last = report.output.rstrip().splitlines()[-1]
    assert last == "  ready: psql -h 127.0.0.1 -p 6543 -U admin postgres"
    for word in (
        f"listener main -> {emulator.cluster}",
        "proxy.yaml",
        f"127.0.0.1:{emulator.port}",
        "TLSv1.3, direct TLS, certificate of *.dsql.us-east-1.on.aws",
        "issued by dsqlproxy emulator CA",
        "shared credentials file",
        PRINCIPAL_ARN,
        "within 1 s of AWS",
        "DbConnectAdmin, 60 s",
        "PostgreSQL 16",
    ):
        assert word in report.words
    assert report.output.isascii()
    # A path cannot be broken; everything else can.
    lines = [each for each in report.output.splitlines() if "proxy.yaml" not in each]
    assert max(map(len, lines)) <= 100
    assert report.errors == ""
    assert emulator.counts.logins_accepted == 1


async def test_no_secret_is_told(machine: Machine, emulator: Emulator) -> None:
    machine.home.sso_profile("dev")
    machine.home.sign_in(machine.aws.sso.sign_in())
    machine.aws.mint.on_key = emulator.trust
    machine.listener["profile"] = "dev"
    for flags in ([], ["--json"]):
        report = await machine.check(*flags)
        assert report.code == 0, report.output
        said = report.output + report.errors
        for each in machine.aws.mint.temporary:
            assert each.key.secret_access_key not in said
            assert each.session_token not in said
            assert each.access_key_id not in said
        assert "X-Amz-Signature" not in said


async def test_sso_credentials_are_told_with_profile_and_expiry(
    machine: Machine, emulator: Emulator
) -> None:
    machine.home.sso_profile("dev")
    machine.home.sign_in(machine.aws.sso.sign_in())
    machine.aws.mint.on_key = emulator.trust
    machine.listener["profile"] = "dev"
    report = await machine.check()
    assert report.code == 0, report.output
    for word in ("AWS SSO, profile dev, ASIA...", "expire in 59 min"):
        assert word in report.words


async def test_it_works_beside_a_proxy_on_the_same_port(
    machine: Machine, emulator: Emulator
) -> None:
    config = config_for(emulator)
    async with running_proxy(emulator, config=config) as proxy:
        machine.listener["listen"] = f"127.0.0.1:{proxy.port}"
        report = await machine.check()
    assert report.code == 0, report.output


async def test_a_sts_that_hangs_takes_only_the_name_away(machine: Machine) -> None:
    machine.aws.sts.get_caller_identity.hang()
    report = await machine.check()
    assert report.code == 0, report.output
    assert report.outcomes["credentials"] == "ok"
    assert PRINCIPAL_ARN not in report.words


async def test_a_clock_that_is_a_little_off_is_a_warning(machine: Machine) -> None:
    machine.aws.skew_seconds = -30
    report = await machine.check()
    assert report.code == 0, report.output
    assert report.outcomes["clock"] == "warning"
    assert "30 s ahead of AWS" in report.words


# -- the way ---------------------------------------------------------------------------


async def test_an_unknown_host(machine: Machine) -> None:
    machine.listener["connect_address"] = "nowhere.invalid:5432"
    machine.monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")
    report = await machine.check()
    assert_only_failure(
        report, "DNS", "nowhere.invalid", "SQLSTATE 08001", "this machine's DNS"
    )
    assert report.outcomes["credentials"] == report.outcomes["clock"] == "ok"
    assert report.skipped == {"TCP", "TLS", "token", "login", "SELECT 1"}


async def test_a_refused_port(machine: Machine) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and nobody listens
        port = bound.getsockname()[1]
        machine.listener["connect_address"] = f"127.0.0.1:{port}"
        report = await machine.check_as_a_process()
    assert_only_failure(
        report, "TCP", f"127.0.0.1:{port}: Connection refused", "firewall"
    )


async def test_a_certificate_of_another_name(
    machine: Machine, emulator: Emulator
) -> None:
    async with presenting(machine, "other.example.org"):
        report = await machine.check()
    assert_only_failure(
        report, "TLS", f'"{emulator.cluster}"', "mismatch", "set `server_name`"
    )


async def test_an_expired_certificate(machine: Machine, emulator: Emulator) -> None:
    ended = datetime.now(UTC) - timedelta(days=1)
    async with presenting(
        machine,
        emulator.cluster,
        not_before=ended - timedelta(days=30),
        not_after=ended,
    ):
        report = await machine.check()
    assert_only_failure(report, "TLS", "has expired", "machine's clock")


async def test_a_certificate_of_an_unknown_authority(machine: Machine) -> None:
    authority = Authority.make(machine.directory)
    machine.listener["ca_file"] = str(authority.ca_file)
    report = await machine.check()
    assert_only_failure(report, "TLS", "Set `ca_file`")


# -- credentials -----------------------------------------------------------------------


async def test_a_missing_profile(machine: Machine) -> None:
    machine.listener["profile"] = "nope"
    report = await machine.check_as_a_process()
    assert_only_failure(
        report, "credentials", "'nope'", "SQLSTATE 28000", "aws configure"
    )
    assert report.skipped == {"token", "login", "SELECT 1"}
    assert report.outcomes["TLS"] == "ok"


async def test_partial_keys(machine: Machine) -> None:
    machine.home.profile("half", aws_access_key_id="AKIAIOSFODNN7EXAMPLE")
    machine.listener["profile"] = "half"
    report = await machine.check()
    assert_only_failure(report, "credentials", "aws_secret_access_key", "aws configure")


async def test_an_expired_sso_session(machine: Machine) -> None:
    machine.home.sso_profile("dev")
    machine.home.sign_in(machine.aws.sso.sign_in())
    machine.aws.sso.revoke()
    machine.listener["profile"] = "dev"
    report = await machine.check()
    assert_only_failure(report, "credentials", "aws sso login --profile dev")


async def test_a_role_that_may_not_be_assumed(machine: Machine) -> None:
    machine.aws.sts.assume_role.deny()
    machine.listener["assume_role"] = role_arn("wanted")
    report = await machine.check()
    assert_only_failure(report, "credentials", role_arn("wanted"), "trust policy")


# -- the clock -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew", "direction"), [(TWENTY_MINUTES, "behind"), (-TWENTY_MINUTES, "ahead of")]
)
async def test_a_clock_that_is_far_off(
    machine: Machine, emulator: Emulator, skew: int, direction: str
) -> None:
    machine.aws.skew_seconds = skew
    emulator.add_fault(f"skew:{skew}")
    report = await machine.check()
    assert_only_failure(
        report,
        "clock",
        f"20 min {direction} AWS",
        "timedatectl set-ntp true",
        "sntp -sS time.apple.com",
    )
    assert report.skipped == {"token", "login", "SELECT 1"}
    assert emulator.counts.logins_refused == {}


async def test_a_clock_that_only_the_cluster_has_noticed(
    machine: Machine, emulator: Emulator
) -> None:
    emulator.add_fault(f"skew:{TWENTY_MINUTES}")
    machine.monkeypatch.setattr(
        machine.aws, "environment", lambda home: without_sts(machine.aws, home)
    )
    report = await machine.check()
    assert report.outcomes["clock"] == "skipped"
    assert_only_failure(
        report, "login", "Signature expired", "machine's clock", "timedatectl"
    )


def without_sts(aws: StandIns, home: Home) -> dict[str, str]:
    return StandIns.environment(aws, home, AWS_ENDPOINT_URL_STS="http://127.0.0.1:1")


# -- rights ----------------------------------------------------------------------------


async def test_an_unknown_role(machine: Machine) -> None:
    del machine.listener["role"]
    report = await machine.check("--role", "reader")
    assert_only_failure(
        report,
        "login",
        "Role reader does not exist",
        'CREATE ROLE "reader" WITH LOGIN;',
        f"AWS IAM GRANT \"reader\" TO '{PRINCIPAL_ARN}';",
    )


async def test_a_missing_permission(machine: Machine, emulator: Emulator) -> None:
    emulator.add_fault("access-denied")
    report = await machine.check()
    assert_only_failure(
        report, "login", "access denied", "not authorized to perform: dsql:"
    )
    assert statement_in(report) == {
        "Effect": "Allow",
        "Action": "dsql:DbConnectAdmin",
        "Resource": "arn:aws:dsql:us-east-1:111122223333:cluster/"
        f"{emulator.cluster_id}",
    }


async def test_a_cluster_that_wakes_up(machine: Machine, emulator: Emulator) -> None:
    emulator.add_fault("waking-up:60")
    report = await machine.check()
    assert_only_failure(report, "login", "waking up", "Try again")


# -- several listeners, JSON, bad usage ------------------------------------------------


async def test_all_listeners_are_examined(machine: Machine) -> None:
    other = {
        **machine.listener,
        "name": "other",
        "listen": "127.0.0.1:6544",
        "profile": "nope",
    }
    file = machine.write(other)
    report = await machine.check(file=file)
    assert report.code == 1
    assert "listener main" in report.output
    assert "listener other" in report.output
    assert "  ready: psql" in report.output
    assert "not ready: credentials failed" in report.output
    only = await machine.check("--listener", "main", file=file)
    assert only.code == 0
    assert "listener other" not in only.output


async def test_json_is_one_object(machine: Machine, emulator: Emulator) -> None:
    emulator.add_fault("access-denied")
    report = await machine.check("--json")
    assert report.code == 1
    told = json.loads(report.output)
    assert told["ok"] is False
    (listener,) = told["listeners"]
    assert (listener["name"], listener["ok"]) == ("main", False)
    steps = {each["step"]: each for each in listener["steps"]}
    assert list(steps) == [
        *("configuration", "dns", "tcp", "tls", "credentials", "clock", "token"),
        *("login", "query"),
    ]
    assert steps["tcp"]["outcome"] == "ok"
    assert steps["tcp"]["seconds"] > 0
    error = steps["login"]["error"]
    assert error["code"] == "08006"
    assert "not authorized" in error["hint"]
    assert json.loads(error["remedy"])["Action"] == "dsql:DbConnectAdmin"
    assert steps["query"] == {
        "step": "query",
        "outcome": "skipped",
        "seconds": None,
        "detail": "",
    }


async def test_a_bad_configuration_is_told_in_full_and_looks_at_nothing(
    machine: Machine, emulator: Emulator
) -> None:
    machine.listener |= {"rolle": "x", "token_lifetime": "never"}
    report = await machine.check()
    assert report.code == 2
    assert report.output == ""
    assert "rolle" in report.errors
    assert "token_lifetime" in report.errors
    assert emulator.counts.connections == 0
