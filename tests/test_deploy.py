"""The samples under deploy/ and the Dockerfile agree with the proxy."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsqlproxy.commands import healthcheck
from dsqlproxy.config import Config, TcpAddress, load_config

ROOT = Path(__file__).parent.parent


def sidecar() -> Iterator[dict[str, Any]]:
    text = (ROOT / "deploy/kubernetes/sidecar.yaml").read_text(encoding="utf-8")
    for document in yaml.safe_load_all(text):
        assert isinstance(document, dict)
        yield document


def only(kind: str) -> dict[str, Any]:
    (found,) = [document for document in sidecar() if document["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    found = only("Deployment")["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


def load(path: Path) -> Config:
    return load_config(path, flags={}, environ={}).config


@pytest.fixture(name="sidecar_config")
def _sidecar_config(tmp_path: Path) -> Config:
    path = tmp_path / "proxy.yaml"
    path.write_text(only("ConfigMap")["data"]["proxy.yaml"], encoding="utf-8")
    return load(path)


def compose() -> dict[str, Any]:
    text = (ROOT / "deploy/compose/compose.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)["services"]["dsqlproxy"]
    assert isinstance(found, dict)
    return found


def test_the_sidecar_is_a_native_one_and_its_probes_reach_the_admin_listener(
    sidecar_config: Config,
) -> None:
    (container,) = pod()["initContainers"]
    assert container["restartPolicy"] == "Always"
    (port,) = container["ports"]
    admin = sidecar_config.admin.listen
    assert admin == TcpAddress("0.0.0.0", port["containerPort"])  # noqa: S104
    for probe in ("startup", "readiness", "liveness"):
        ask = container[f"{probe}Probe"]
        assert ask["httpGet"] == {"path": f"/{probe}", "port": port["name"]}
        # Longer than the proxy gives its own event loop to answer.
        assert ask["timeoutSeconds"] > 2


def test_the_sidecar_may_finish_its_drain(sidecar_config: Config) -> None:
    drain = sidecar_config.drain_delay + sidecar_config.drain_timeout
    assert pod()["terminationGracePeriodSeconds"] > drain


def test_the_application_is_pointed_at_the_listener(sidecar_config: Config) -> None:
    (application,) = pod()["containers"]
    environment = {each["name"]: each["value"] for each in application["env"]}
    address = f"{environment['PGHOST']}:{environment['PGPORT']}"
    assert str(sidecar_config.listeners[0].listen) == address


def test_compose_waits_for_the_drain_and_asks_where_the_proxy_answers() -> None:
    config = load(ROOT / "deploy/compose/proxy.yaml")
    grace = float(compose()["stop_grace_period"].removesuffix("s"))
    assert grace > config.drain_delay + config.drain_timeout
    assert compose()["healthcheck"]["test"] == ["CMD", "dsqlproxy", "healthcheck"]
    assert config.admin.listen == TcpAddress("127.0.0.1", 9090)


def test_the_image_asks_itself_with_a_command_that_needs_no_flags() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert 'CMD ["dsqlproxy", "healthcheck"]' in text
    assert "\nUSER 65532:65532\n" in text
    parser = argparse.ArgumentParser()
    healthcheck.add_arguments(parser)
    parser.parse_args([])
