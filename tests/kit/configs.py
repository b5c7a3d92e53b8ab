"""Configurations written to a file and loaded, with what is wrong in them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from dsqlproxy.config import LoadedConfig, load_config
from dsqlproxy.errors import ConfigError

ID = "abcdefghijklmnopqrstuvwxyz"
CLUSTER = f"{ID}.dsql.us-east-1.on.aws"
ONE = f"listeners: [{{cluster: {CLUSTER}}}]\n"
TWO = f"listeners: [{{cluster: {CLUSTER}}}, {{cluster: {CLUSTER}, listen: 'a:1'}}]\n"

NOTHING: Mapping[str, str] = {}


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
