import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from dsqlproxy import config as config_package
from dsqlproxy.config import (
    Config,
    ListenerConfig,
    LoadedConfig,
    TcpAddress,
    UnixAddress,
    json_schema,
    load_config,
)
from dsqlproxy.config.load import NO_CONFIGURATION
from dsqlproxy.config.problems import explain
from dsqlproxy.errors import ConfigError

ID = "abcdefghijklmnopqrstuvwxyz"
CLUSTER = f"{ID}.dsql.us-east-1.on.aws"
ONE = f"listeners: [{{cluster: {CLUSTER}}}]\n"
TWO = f"listeners: [{{cluster: {CLUSTER}}}, {{cluster: {CLUSTER}, listen: 'a:1'}}]\n"

NOTHING: Mapping[str, str] = {}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proxy.yaml"


def load(
    file: Path,
    text: str,
    flags: Mapping[str, str] = NOTHING,
    environ: Mapping[str, str] = NOTHING,
) -> LoadedConfig:
    file.write_text(text)
    return load_config(file, flags=flags, environ=environ)


def problems(
    file: Path,
    text: str,
    flags: Mapping[str, str] = NOTHING,
    environ: Mapping[str, str] = NOTHING,
) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refusal:
        load(file, text, flags, environ)
    assert refusal.value.source == str(file)
    return refusal.value.problems


def paths(found: tuple[str, ...]) -> list[str]:
    return [problem.partition(": ")[0] for problem in found]


def test_a_file_with_several_listeners_is_loaded(file: Path) -> None:
    text = f"""
listeners:
  - {{name: main, cluster: {CLUSTER}, roles: [admin, reader]}}
  - {{cluster: {ID}, region: us-east-1, listen: unix:/run/x, unix_mode: 0660}}
admin: {{listen: off}}
log: {{level: debug, format: json}}
drain_delay: 5s
drain_timeout: 1m
"""
    loaded = load(file, text)
    main, local = loaded.config.listeners
    assert (main.name, main.roles) == ("main", ("admin", "reader"))
    assert local.listen == UnixAddress("/run/x/.s.PGSQL.5432")
    assert local.unix_mode == 0o660
    assert local.endpoint == main.endpoint
    assert loaded.config.admin.listen is None
    assert (loaded.config.drain_delay, loaded.config.drain_timeout) == (5.0, 60.0)
    assert (loaded.path, loaded.notes) == (file, ())


def test_all_problems_come_at_once_each_with_its_path(file: Path) -> None:
    found = problems(
        file,
        """
listenerss: []
listeners:
  - cluster: https://x
    listen: 0.0.0.0:5432
    listen: yes
    role: admin
    roles: [reader]
    token_lifetime: 8d
    unix_mode: 400
    spares: 1
    client-tls: off
    ca_file: /does/not/exist
  - {region: us east 1, client_tls: {cert_file: /no, key: 3}}
  - 5
  - {cluster: x, listen: "a:1", tls_negotiation: Direct}
  - {cluster: x, listen: "127.0.0.1:5432", 5: 4, ? : 3}
admin: 4
log: {level: INFO, format: xml}
drain_timeout: -3
""",
    )
    assert sorted(paths(found)) == sorted(
        [
            "line 6, column 5",
            "listenerss",
            "listeners[0].cluster",
            "listeners[0].listen",
            "listeners[0].roles",
            "listeners[0].token_lifetime",
            "listeners[0].unix_mode",
            "listeners[0].spares",
            'listeners[0]."client-tls"',
            "listeners[0].ca_file",
            "listeners[1].region",
            "listeners[1].cluster",
            "listeners[1].client_tls.cert_file",
            "listeners[1].client_tls.key_file",
            "listeners[1].client_tls.key",
            "listeners[2]",
            "listeners[3].cluster",
            "listeners[3].listen",
            "listeners[3].tls_negotiation",
            "listeners[4].cluster",
            "listeners[4][5]",
            "listeners[4].None",
            "listeners[4].listen",
            "admin",
            "log.level",
            "log.format",
            "drain_timeout",
        ]
    )
    assert all("; " in problem for problem in found)
    by_path = dict(problem.split(": ", 1) for problem in found)
    assert by_path["listenerss"] == 'unknown key; did you mean "listeners"?'
    assert by_path["log.level"].endswith('did you mean "info"?')
    assert by_path["listeners[0].spares"].startswith("unknown key; accepted: ")
    assert by_path["listeners[1].cluster"].startswith("is missing; accepted: endpoint")
    assert by_path["admin"] == "4 is not a mapping; accepted: the keys listen"


def test_certificates_are_among_the_problems_that_come_at_once(
    file: Path, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    found = problems(
        file,
        f"""
listeners:
  - {{cluster: {CLUSTER}, ca_file: {junk}, max_sessions: x}}
  - cluster: {CLUSTER}
    listen: "127.0.0.1:0"
    client_tls: {{cert_file: {junk}, key_file: {junk}}}
""",
    )
    assert paths(found) == [
        "listeners[0].ca_file",
        "listeners[0].max_sessions",
        "listeners[1].client_tls",
    ]
    assert all("; accepted: " in problem for problem in found)


@pytest.mark.parametrize("listen", ["0.0.0.0:9090", "[::]:0"])
def test_an_admin_listener_that_others_reach_is_mentioned(
    file: Path, listen: str
) -> None:
    (note,) = load(file, f'{ONE}admin: {{listen: "{listen}"}}').notes
    assert note.startswith(f"admin.listen: {listen} is not loopback; ")
    assert "/sessions" in note


@pytest.mark.parametrize("listen", ["off", '"[::1]:0"', "localhost:9090"])
def test_an_admin_listener_of_this_machine_is_no_news(file: Path, listen: str) -> None:
    assert load(file, f"{ONE}admin: {{listen: {listen}}}").notes == ()


def test_the_first_place_of_an_address_is_named_by_its_double(file: Path) -> None:
    text = f"listeners: [{{cluster: {CLUSTER}}}, {{cluster: {CLUSTER}}}]"
    assert problems(file, text) == (
        'listeners[1].listen: "127.0.0.1:5432" is the address of listeners[0]; '
        "accepted: another address",
    )


def test_two_listeners_of_one_name_are_refused(file: Path) -> None:
    text = f"""
listeners:
  - {{cluster: {CLUSTER}, name: a}}
  - {{cluster: {CLUSTER}, name: a, listen: "127.0.0.1:1"}}
"""
    assert problems(file, text) == (
        'listeners[1].name: "a" is the name of listeners[0]; accepted: another name',
    )


def test_any_number_of_listeners_may_ask_for_any_free_port(file: Path) -> None:
    each = f'{{cluster: {CLUSTER}, listen: "127.0.0.1:0"}}'
    config = load(file, f"listeners: [&x {each}, *x, {each}]").config
    names = [listener.name for listener in config.listeners]
    assert names == ["127.0.0.1:0", "127.0.0.1:0#1", "127.0.0.1:0#2"]


def test_unix_listeners_of_one_directory_are_told_apart_by_port(file: Path) -> None:
    text = f"""
listeners:
  - {{cluster: {CLUSTER}, listen: unix:/run/x}}
  - {{cluster: {CLUSTER}, listen: "unix:/run/x:5433"}}
"""
    assert len(load(file, text).config.listeners) == 2


def test_a_default_yields_to_the_file(file: Path) -> None:
    assert load(file, f"{ONE}drain_timeout: 1s\n").config.drain_timeout == 1.0


def test_the_file_yields_to_the_environment(file: Path) -> None:
    environ = {
        "DSQLPROXY_LISTENER_LISTEN": "127.0.0.1:1",
        "DSQLPROXY_LISTENER_ROLES": "admin, reader",
        "DSQLPROXY_LISTENER_MAX_SESSIONS": "5",
        "DSQLPROXY_LISTENER_MAX_CONNECT_RATE": "12.5",
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
    assert listener.max_connect_rate == 12.5
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


def test_names_that_are_not_ours_are_mentioned_and_left_alone(file: Path) -> None:
    # What Kubernetes puts into every pod beside a Service called dsqlproxy.
    environ = {
        "DSQLPROXY_PORT": "tcp://10.0.0.1:5432",
        "DSQLPROXY_LISTENER_CLUSTR": "x",
        "DSQLPROXY_WORKERS": "2",
        "PATH": "/bin",
    }
    assert load(file, ONE, environ=environ).notes == (
        "DSQLPROXY_LISTENER_CLUSTR is not a setting and is left alone; "
        "did you mean DSQLPROXY_LISTENER_CLUSTER?",
        "DSQLPROXY_PORT is not a setting and is left alone",
        "DSQLPROXY_WORKERS is not a setting and is left alone",
    )


def test_variables_in_the_file_are_not_expanded(file: Path) -> None:
    text = f"listeners: [{{cluster: {CLUSTER}, profile: '${{HOME}}'}}]"
    assert load(file, text).config.listeners[0].profile == "${HOME}"


def test_a_file_that_cannot_be_read_is_all_there_is_to_say(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file, flags={"--role": ""}, environ={})


def test_a_problem_that_no_reader_of_ours_found_is_a_bug() -> None:
    class Foreign(BaseModel):
        count: int

    with pytest.raises(ValidationError) as error:
        Foreign.model_validate({"count": "x"})
    with pytest.raises(AssertionError, match=r"int_parsing at .* because"):
        list(explain(error.value, {}))


def test_the_schema_describes_every_key() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    sections = [schema, *schema["$defs"].values()]
    keys = [key for section in sections for key in section["properties"].items()]
    assert len(keys) > 30
    assert [name for name, key in keys if not key.get("description")] == []


def test_the_schema_shows_defaults_as_the_file_would() -> None:
    keys = json_schema()["$defs"]["ListenerConfig"]["properties"]
    assert keys["token_lifetime"]["default"] == "60s"
    assert keys["unix_mode"]["default"] == "0600"
    assert keys["listen"]["default"] == "127.0.0.1:5432"
    assert keys["connect_timeout"]["type"] == ["string", "number"]


def test_the_package_gives_what_it_promises() -> None:
    for name in config_package.__all__:
        assert getattr(config_package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = config_package.nothing
