"""Flag before environment before file before default."""

from pathlib import Path

import pytest

from dsqlproxy.config import (
    Config,
    ListenerConfig,
    LoadedConfig,
    TcpAddress,
    load_config,
)
from dsqlproxy.config.load import NO_CONFIGURATION
from dsqlproxy.errors import ConfigError
from tests.kit.configs import CLUSTER, ID, ONE, TWO, load, paths, problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proxy.yaml"


def test_a_default_yields_to_the_file(file: Path) -> None:
    assert load(file, f"{ONE}drain_timeout: 1s\n").config.drain_timeout == 1.0


def test_the_file_yields_to_the_environment(file: Path) -> None:
    environ = {
        "DSQLPROXY_LISTENER_LISTEN": "127.0.0.1:1",
        "DSQLPROXY_LISTENER_ROLES": "admin, reader",
        "DSQLPROXY_LISTENER_MAX_SESSIONS": "5",
        "DSQLPROXY_LISTENER_MAX_CONNECT_RATE": "12.5",
        "DSQLPROXY_LISTENER_MAX_CONNECT_BURST": "50",
        "DSQLPROXY_LISTENER_HOLD_TIMEOUT": "0",
        "DSQLPROXY_LISTENER_ASSUME_ROLE": "arn:aws:iam::123456789012:role/x",
        "DSQLPROXY_LISTENER_SESSION_LIMIT": "30s",
        "DSQLPROXY_LISTENER_RECOVERY": "off",
        "DSQLPROXY_LISTENER_ALLOW_REMOTE_TRUST": "true",
        "DSQLPROXY_LISTENER_CLIENT_TLS": "auto",
        "DSQLPROXY_LISTENER_UNIX_MODE": "0660",
        "DSQLPROXY_ADMIN_LISTEN": "off",
        "DSQLPROXY_LOG_LEVEL": "error",
        "DSQLPROXY_LOG_FORMAT": "json",
        "DSQLPROXY_DRAIN_DELAY": "1s",
        "DSQLPROXY_DRAIN_TIMEOUT": "2",
    }
    text = f"{ONE}drain_timeout: 1s\nlog:\n"
    config = load(file, text, environ=environ).config
    (listener,) = config.listeners
    assert listener.listen == TcpAddress("127.0.0.1", 1)
    assert listener.roles == ("admin", "reader")
    assert listener.max_sessions == 5
    assert (listener.max_connect_rate, listener.max_connect_burst) == (12.5, 50.0)
    assert listener.hold_timeout == 0.0
    assert listener.assume_role is not None
    assert listener.assume_role.role_arn == "arn:aws:iam::123456789012:role/x"
    assert (listener.session_limit, listener.recovery) == (30.0, "off")
    assert listener.allow_remote_trust
    assert listener.client_tls == "auto"
    assert listener.unix_mode == 0o660
    assert config.admin.listen is None
    assert (config.log.level, config.log.format) == ("error", "json")
    assert (config.drain_delay, config.drain_timeout) == (1.0, 2.0)


def test_the_environment_yields_to_a_flag(file: Path) -> None:
    flags = {"--drain-timeout": "3s", "--role": "admin"}
    environ = {"DSQLPROXY_DRAIN_TIMEOUT": "2s", "DSQLPROXY_LISTENER_ROLE": "x"}
    config = load(file, ONE, flags, environ).config
    assert config.drain_timeout == 3.0
    assert config.listeners[0].role == "admin"


def test_every_key_of_a_listener_can_come_from_the_environment(file: Path) -> None:
    environ = {
        f"DSQLPROXY_LISTENER_{key.upper()}": "" for key in ListenerConfig.model_fields
    }
    assert load(file, ONE, environ=environ).notes == ()


@pytest.mark.parametrize(
    ("origin", "missing"),
    [
        ("--cluster", "--region"),
        ("DSQLPROXY_LISTENER_CLUSTER", "DSQLPROXY_LISTENER_REGION"),
    ],
)
def test_an_id_alone_is_told_what_gives_its_region(origin: str, missing: str) -> None:
    given = {origin: ID}
    flags = given if origin.startswith("--") else {}
    with pytest.raises(ConfigError) as refusal:
        load_config(None, flags=flags, environ={} if flags else given)
    (problem,) = refusal.value.problems
    assert problem.startswith(f'{origin}: "{ID}" is a cluster id, which needs region')
    assert problem.endswith(f"together with region (here: {missing})")


def test_an_id_in_the_file_is_told_of_the_key_alone(file: Path) -> None:
    (problem,) = problems(file, f"listeners: [{{cluster: {ID}}}]")
    assert problem.endswith("together with region")


def test_an_empty_variable_counts_as_unset(file: Path) -> None:
    environ = {"DSQLPROXY_LISTENER_ROLE": "", "DSQLPROXY_CONFIG": ""}
    assert load(file, ONE, environ=environ).config.listeners[0].role is None


def test_a_variable_of_the_only_listener_is_refused_where_there_are_two(
    file: Path,
) -> None:
    flags = {"--role": "admin"}
    environ = {"DSQLPROXY_LISTENER_PROFILE": "dev"}
    assert paths(problems(file, TWO.replace("a:1", "[::1]:1"), flags, environ)) == [
        "DSQLPROXY_LISTENER_PROFILE",
        "--role",
    ]


@pytest.mark.parametrize("text", ["listeners: x", "listeners: []", "listeners: [5]"])
def test_a_variable_has_nowhere_to_go_where_listeners_are_malformed(
    file: Path, text: str
) -> None:
    found = problems(file, text, environ={"DSQLPROXY_LISTENER_ROLE": "admin"})
    assert paths(found)[0].startswith("listeners")


def test_a_variable_has_nowhere_to_go_where_a_section_is_malformed(file: Path) -> None:
    found = problems(file, f"{ONE}log: 5", environ={"DSQLPROXY_LOG_LEVEL": "info"})
    assert paths(found) == ["log"]


def test_a_problem_is_reported_by_the_name_it_was_given_under(file: Path) -> None:
    flags = {"--drain-timeout": "soon", "--listen": "*:1"}
    environ = {
        "DSQLPROXY_LOG_LEVEL": "inf",
        "DSQLPROXY_LISTENER_MAX_SESSIONS": "1.5",
        "DSQLPROXY_LISTENER_ALLOW_REMOTE_TRUST": "yes",
        "DSQLPROXY_LISTENER_ROLES": "a,,b",
    }
    assert sorted(paths(problems(file, ONE, flags, environ))) == [
        "--drain-timeout",
        "--listen",
        *sorted(environ),
    ]


def test_a_conflict_names_where_the_other_key_comes_from(file: Path) -> None:
    text = f"listeners: [{{cluster: {CLUSTER}, roles: [a]}}]"
    flags = {"--role": "a", "--region": "eu-west-1"}
    cluster, roles = problems(file, text, flags)
    assert cluster.endswith("(region is set by --region)")
    assert roles.startswith("listeners[0].roles: ")
    assert roles.endswith("(role is set by --role)")


def test_a_cluster_alone_needs_no_file() -> None:
    loaded = load_config(None, flags={"--cluster": CLUSTER}, environ={})
    assert loaded == LoadedConfig(Config(listeners=[{"cluster": CLUSTER}]))


def test_the_environment_can_say_it_all() -> None:
    environ = {
        "DSQLPROXY_LISTENER_CLUSTER": ID,
        "DSQLPROXY_LISTENER_REGION": "eu-west-1",
    }
    loaded = load_config(None, flags={}, environ=environ)
    assert loaded.config.listeners[0].endpoint.region == "eu-west-1"


def test_the_environment_can_name_the_file(file: Path) -> None:
    file.write_text(ONE)
    environ = {"DSQLPROXY_CONFIG": str(file)}
    assert load_config(None, flags={}, environ=environ).path == file


def test_a_file_without_listeners_may_get_one_from_outside(file: Path) -> None:
    loaded = load(file, "drain_timeout: 1s", {"--cluster": CLUSTER})
    assert loaded.config.listeners[0].cluster == CLUSTER


@pytest.mark.parametrize("flags", [{}, {"--listen": "127.0.0.1:0"}], ids=repr)
def test_without_file_and_cluster_both_ways_are_shown(flags: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(None, flags=flags, environ={})
    assert refusal.value.problems == (NO_CONFIGURATION,)
    assert refusal.value.source == ""


def test_a_problem_without_a_file_has_no_source() -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(None, flags={"--cluster": "x"}, environ={})
    assert paths(refusal.value.problems) == ["--cluster"]
    assert refusal.value.source == ""
