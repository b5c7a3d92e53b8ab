import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from dsqlproxy.config import Config, json_schema, load_config
from dsqlproxy.config.model import ListenerConfig

EXAMPLE = Path(__file__).parent.parent / "config.example.yaml"


def test_the_example_loads_as_it_is() -> None:
    loaded = load_config(EXAMPLE, flags={}, environ={})
    assert len(loaded.config.listeners) == 1


def test_the_example_has_every_key() -> None:
    tree = yaml.safe_load(EXAMPLE.read_text())
    (listener,) = tree["listeners"]
    assert listener.keys() == ListenerConfig.model_fields.keys()
    assert tree.keys() == Config.model_fields.keys()
    assert tree["admin"].keys() == {"listen"}
    assert tree["log"].keys() == {"level", "format"}


def test_every_value_of_the_example_is_the_default() -> None:
    (listener,) = load_config(EXAMPLE, flags={}, environ={}).config.listeners
    assert listener == ListenerConfig(cluster=listener.cluster)
    loaded = load_config(EXAMPLE, flags={}, environ={})
    assert loaded.config == Config(listeners=[{"cluster": listener.cluster}])


def test_every_default_is_spelled_as_in_the_schema() -> None:
    text = EXAMPLE.read_text()
    keys: dict[str, Any] = json_schema()["$defs"]["ListenerConfig"]["properties"]
    for name, key in keys.items():
        if isinstance(key.get("default"), str):
            assert f"{name}: {key['default']}\n" in text


def test_every_key_of_the_example_has_a_comment() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for before, line in pairwise(lines):
        if re.match(r"[ -]*[a-z_]+:", line) and line != "log:":
            assert before.lstrip().startswith("#"), line
