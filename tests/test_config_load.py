import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from dsqlproxy import config as config_package
from dsqlproxy.config import (
    UnixAddress,
    json_schema,
    load_config,
)
from dsqlproxy.config.problems import explain
from dsqlproxy.errors import ConfigError
from tests.kit.configs import CLUSTER, ID, ONE, load, paths, problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proxy.yaml"


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


def test_a_key_of_a_listener_at_the_top_is_told_its_place(file: Path) -> None:
    found = problems(file, f"cluster: {CLUSTER}\n")
    assert (
        "cluster: unknown key here; it is one of a listener, below listeners:" in found
    )


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


@pytest.mark.parametrize("key", ["CLUSTER", "ROLE", "CONNECT_ADDRESS"])
def test_a_forgotten_part_of_a_name_is_guessed(file: Path, key: str) -> None:
    (note,) = load(file, ONE, environ={f"DSQLPROXY_{key}": "x"}).notes
    assert note.endswith(f"did you mean DSQLPROXY_LISTENER_{key}?")


def test_a_variable_of_the_emulator_is_no_slip(file: Path) -> None:
    assert load(file, ONE, environ={"DSQLPROXY_PG_BIN": "/usr/bin"}).notes == ()


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
