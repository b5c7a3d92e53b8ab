from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from dsqlproxy.config.addresses import TcpAddress
from dsqlproxy.config.client_tls import FORM_TAGS, ClientCertificate
from dsqlproxy.config.model import (
    AdminConfig,
    Config,
    ListenerConfig,
    LogConfig,
)

CLUSTER = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"


def problems(section: type, **keys: object) -> dict[str, str]:
    """Give the message for each key that is refused."""
    with pytest.raises(ValidationError) as refusal:
        section(**keys)
    messages = {}
    for error in refusal.value.errors():
        *_, key = [part for part in error["loc"] if part not in FORM_TAGS]
        messages[str(key)] = error["msg"]
    return messages


def test_a_listener_needs_nothing_but_a_cluster() -> None:
    listener = ListenerConfig(cluster=CLUSTER)
    assert dict(listener) == {
        "name": "127.0.0.1:5432",
        "listen": TcpAddress("127.0.0.1", 5432),
        "cluster": CLUSTER,
        "region": None,
        "profile": None,
        "assume_role": None,
        "role": None,
        "roles": None,
        "token_lifetime": 60,
        "session_limit": 3600.0,
        "recovery": "presumed",
        "connect_address": None,
        "server_name": None,
        "ca_file": None,
        "tls_negotiation": "auto",
        "startup_options": None,
        "database": "postgres",
        "unsupported_parameters": "drop",
        "connect_timeout": 10.0,
        "max_sessions": 1000,
        "max_connect_rate": 100.0,
        "max_connect_burst": 1000.0,
        "hold_timeout": 10.0,
        "client_tls": "off",
        "client_auth": "trust",
        "allow_remote_trust": False,
        "unix_mode": 0o600,
        "login_timeout": 60.0,
    }


def test_the_rest_has_its_documented_defaults() -> None:
    config = Config(listeners=[{"cluster": CLUSTER}])
    assert config.admin == AdminConfig(listen="127.0.0.1:9090")
    assert config.log == LogConfig(level="info", format="auto")
    assert (config.drain_delay, config.drain_timeout) == (0.0, 25.0)


def test_an_empty_section_is_the_default() -> None:
    config = Config(listeners=[{"cluster": CLUSTER}], admin=None, log=None)
    assert (config.admin, config.log) == (AdminConfig(), LogConfig())


def test_sections_are_frozen() -> None:
    listener = ListenerConfig(cluster=CLUSTER)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(listener, "role", "admin")  # noqa: B010 - mypy knows already


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spares", 1),
        ("users_file", "x"),
    ],
)
def test_a_key_that_is_not_built_yet_is_refused(key: str, value: object) -> None:
    assert problems(ListenerConfig, cluster=CLUSTER, **{key: value}).keys() == {key}


@pytest.mark.parametrize("auth", ["scram", "cert", "md5", False])
def test_only_trust_is_built(auth: object) -> None:
    message = problems(ListenerConfig, cluster=CLUSTER, client_auth=auth)
    assert message["client_auth"].endswith("accepted: trust")


@pytest.mark.parametrize("key", ["name", "region", "profile", "role", "ca_file"])
def test_null_leaves_an_optional_key_unset(key: str) -> None:
    listener = ListenerConfig(cluster=CLUSTER, **{key: None})
    assert listener == ListenerConfig(cluster=CLUSTER)


@pytest.mark.parametrize(
    "key",
    [
        *("listen", "token_lifetime", "client_tls", "unix_mode", "max_sessions"),
        *("session_limit", "max_connect_rate", "recovery"),
    ],
)
def test_null_is_no_value_for_a_key_that_has_a_default(key: str) -> None:
    assert problems(ListenerConfig, cluster=CLUSTER, **{key: None}).keys() == {key}


def test_the_endpoint_of_an_id_is_built_from_its_region() -> None:
    listener = ListenerConfig(cluster=CLUSTER[:26], region="eu-west-3")
    assert listener.endpoint.host == f"{CLUSTER[:26]}.dsql.eu-west-3.on.aws"


def test_a_region_against_the_cluster_is_refused() -> None:
    found = problems(ListenerConfig, cluster=CLUSTER, region="eu-west-1")
    assert "region" in found["cluster"]


def test_a_bad_region_is_one_problem_not_two() -> None:
    assert problems(ListenerConfig, cluster=CLUSTER, region="x").keys() == {"region"}


def test_role_and_roles_exclude_each_other() -> None:
    found = problems(ListenerConfig, cluster=CLUSTER, role="a", roles=["a", "b"])
    assert found == {"roles": "is given together with role; accepted: one of the two"}


@pytest.mark.parametrize("listen", ["0.0.0.0:5432", "[::]:5432", "db.example.com:1"])
def test_trust_stays_on_this_machine_unless_allowed(listen: str) -> None:
    found = problems(ListenerConfig, cluster=CLUSTER, listen=listen)
    assert "allow_remote_trust: true in the file" in found["listen"]
    assert "DSQLPROXY_LISTENER_ALLOW_REMOTE_TRUST=true" in found["listen"]
    allowed = ListenerConfig(cluster=CLUSTER, listen=listen, allow_remote_trust=True)
    assert allowed.trusts_remote_clients


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "unix:/run/x"])
def test_this_machine_needs_no_permission(listen: str) -> None:
    assert not ListenerConfig(cluster=CLUSTER, listen=listen).trusts_remote_clients


def test_a_bad_permission_is_one_problem_not_two() -> None:
    found = problems(
        ListenerConfig, cluster=CLUSTER, listen="[::]:1", allow_remote_trust="yes"
    )
    assert found.keys() == {"allow_remote_trust"}


def test_a_name_may_be_given() -> None:
    assert ListenerConfig(cluster=CLUSTER, name="main").name == "main"


def test_an_unnamed_listener_with_a_bad_address_is_one_problem() -> None:
    assert problems(ListenerConfig, cluster=CLUSTER, listen="x").keys() == {"listen"}


@pytest.mark.parametrize(
    ("given", "word"), [(False, "off"), ("off", "off"), ("auto", "auto")]
)
def test_client_tls_is_a_word(given: object, word: str) -> None:
    assert ListenerConfig(cluster=CLUSTER, client_tls=given).client_tls == word


def test_client_tls_is_a_certificate_and_a_key(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    pair = trustme.CA().issue_cert("x.example").private_key_and_cert_chain_pem
    pair.write_to_path(str(file))
    files = {"cert_file": str(file), "key_file": str(file)}
    listener = ListenerConfig(cluster=CLUSTER, client_tls=files)
    assert listener.client_tls == ClientCertificate(cert_file=file, key_file=file)
    again = ListenerConfig(cluster=CLUSTER, client_tls=listener.client_tls)
    assert again == listener


@pytest.mark.parametrize(
    ("given", "word"),
    [(False, "off"), ("off", "off"), ("exact", "exact"), ("presumed", "presumed")],
)
def test_recovery_is_a_word(given: object, word: str) -> None:
    assert ListenerConfig(cluster=CLUSTER, recovery=given).recovery == word


@pytest.mark.parametrize("given", [True, "on", None, "Exact", 0], ids=repr)
def test_recovery_is_nothing_else(given: object) -> None:
    found = problems(ListenerConfig, cluster=CLUSTER, recovery=given)
    assert "accepted: presumed, exact, off" in found["recovery"]


@pytest.mark.parametrize("given", [True, "on", None, ["auto"], 1], ids=repr)
def test_client_tls_is_nothing_else(given: object) -> None:
    with pytest.raises(ValidationError, match="accepted: off, auto, or a mapping"):
        ListenerConfig(cluster=CLUSTER, client_tls=given)


def test_client_tls_that_is_on_is_told_apart_from_true() -> None:
    found = problems(ListenerConfig, cluster=CLUSTER, client_tls=True)
    assert "true (as YAML reads on and yes) is not a choice" in found["client_tls"]


def test_half_a_certificate_is_refused(tmp_path: Path) -> None:
    tls = {"cert_file": str(tmp_path / "no"), "client_ca_file": "x"}
    found = problems(ListenerConfig, cluster=CLUSTER, client_tls=tls)
    assert found.keys() == {"cert_file", "key_file", "client_ca_file"}


def test_a_dumped_address_is_what_the_file_would_say() -> None:
    config = Config(listeners=[{"cluster": CLUSTER}], admin={"listen": False})
    dumped = config.model_dump()
    assert dumped["listeners"][0]["listen"] == "127.0.0.1:5432"
    assert dumped["admin"]["listen"] is None


@pytest.mark.parametrize("listeners", [[], None, {}, "x"], ids=repr)
def test_at_least_one_listener_is_needed(listeners: Any) -> None:
    with pytest.raises(ValidationError, match="accepted: a list of at least one"):
        Config(listeners=listeners)
