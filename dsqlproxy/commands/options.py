"""The flags that several commands share, and the configuration that they lead to."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dsqlproxy.config import LoadedConfig

CLUSTER_FLAGS: Final[Mapping[str, tuple[str, str]]] = {
    "--cluster": ("ENDPOINT", "the cluster: its endpoint, ARN, or id with --region"),
    "--region": ("REGION", "AWS Region (default: taken from the cluster)"),
    "--profile": ("NAME", "AWS profile (default: the usual AWS credential chain)"),
}
PROXY_FLAGS: Final[Mapping[str, tuple[str, str]]] = {
    "--listen": ("ADDRESS", "where clients connect (default: 127.0.0.1:5432)"),
    "--role": ("ROLE", "role of every session (default: the client's user)"),
    "--admin-listen": ("ADDRESS", "health and metrics (default: 127.0.0.1:9090)"),
    "--log-level": ("LEVEL", "debug, info, warning or error (default: info)"),
    "--log-format": ("FORMAT", "text, json or auto (default: auto)"),
    "--drain-delay": ("TIME", "accept this long after SIGTERM (default: 0s)"),
    "--drain-timeout": ("TIME", "limit for busy sessions at the end (default: 25s)"),
}


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Define ``--config`` and the flags that say which cluster, and as whom."""
    group = parser.add_argument_group("configuration")
    group.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the configuration file (default: $DSQLPROXY_CONFIG)",
    )
    _add(group, CLUSTER_FLAGS)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Define ``--config`` and every flag that sets a key of the configuration."""
    add_cluster_arguments(parser)
    _add(parser.add_argument_group("keys that a flag can set"), PROXY_FLAGS)


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what belongs to a running process and not to its configuration."""
    group = parser.add_argument_group("process")
    group.add_argument(
        "--ready-file",
        metavar="PATH",
        type=Path,
        help="write the chosen addresses here, as JSON, once the proxy listens",
    )
    group.add_argument(
        "--event-loop",
        choices=("uvloop", "asyncio"),
        help="the event loop (default: uvloop where it is installed)",
    )


def load(
    args: argparse.Namespace, environ: Mapping[str, str] = os.environ
) -> "LoadedConfig":
    """Load the configuration that the flags lead to; ConfigError if it is not good."""
    # Here and not above, so that --help does without pydantic.
    from dsqlproxy.config import load_config  # noqa: PLC0415

    flags = {}
    for flag in (*CLUSTER_FLAGS, *PROXY_FLAGS):
        text = getattr(args, _key(flag), None)
        if text is not None:
            flags[flag] = text
    return load_config(args.config, flags=flags, environ=environ)


def _add(
    group: "argparse._ArgumentGroup",
    flags: Mapping[str, tuple[str, str]],
) -> None:
    for flag, (metavar, text) in flags.items():
        # A destination of its own: a command may have a flag of the same name that
        # does not set a key.
        group.add_argument(flag, dest=_key(flag), metavar=metavar, help=text)


def _key(flag: str) -> str:
    return "key_" + flag.removeprefix("--").replace("-", "_")
