"""From file, environment and flags to one validated configuration.

Flag wins over environment, environment over file, file over default. Either the
whole configuration is good or ConfigError names every problem that it has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from dsqlproxy.config.file import read_file
from dsqlproxy.config.model import Config
from dsqlproxy.config.overrides import (
    CONFIG_VARIABLE,
    apply_overrides,
    read_overrides,
    unknown_variables,
)
from dsqlproxy.config.problems import duplicates, explain, name_twins
from dsqlproxy.errors import ConfigError

NO_CONFIGURATION: Final = (
    "no cluster is given; accepted: --config proxy.yaml (or DSQLPROXY_CONFIG) for a "
    "file, or --cluster <26 characters>.dsql.<region>.on.aws (or "
    "DSQLPROXY_LISTENER_CLUSTER) to run without one"
)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration, the file it came from, and what to mention once in the log."""

    config: Config
    path: Path | None = None
    notes: tuple[str, ...] = ()


def load_config(
    path: Path | None, *, flags: Mapping[str, str], environ: Mapping[str, str]
) -> LoadedConfig:
    """Load the configuration; ConfigError carries all that is wrong with it.

    ``flags`` maps names such as ``--listen`` to what was given for them.
    """
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    overrides = read_overrides(flags, environ)
    tree: dict[Any, Any] = {}
    problems: list[str] = []
    if path is not None:
        tree, problems = read_file(path)
    elif not any(override.path[-1] == "cluster" for override in overrides):
        raise ConfigError([NO_CONFIGURATION])
    origins, more = apply_overrides(overrides, tree)
    problems += more
    name_twins(tree)
    config = None
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems += explain(error, origins)
    problems += duplicates(tree)
    if problems or config is None:
        raise ConfigError(problems, source=str(path) if path else "")
    notes = (*unknown_variables(environ), *_open_doors(config))
    return LoadedConfig(config, path, notes)


def _open_doors(config: Config) -> Iterator[str]:
    """Say what the configuration shows to other machines."""
    listen = config.admin.listen
    if listen is not None and not listen.is_loopback:
        yield (
            f"admin.listen: {listen} is not loopback; whoever reaches it sees the "
            "users and client addresses of all sessions, at /sessions"
        )


def json_schema() -> dict[str, Any]:
    """Give the JSON schema of the configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "dsqlproxy configuration",
    }
