"""``dsqlproxy schema``: the JSON schema of the configuration."""

import argparse
import json

HELP = """\
Print the JSON schema of the configuration file on standard output.

The schema has every key with its type, its default and what it does. An
editor with a YAML language server checks and completes a file that begins with

    # yaml-language-server: $schema=./dsqlproxy.schema.json

after `dsqlproxy schema > dsqlproxy.schema.json`. The proxy itself checks more
than a schema can say: addresses, files, and keys that exclude each other.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take no flags but ``--help``."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    del args
    from dsqlproxy.config import json_schema  # noqa: PLC0415 - takes its time

    print(json.dumps(json_schema(), indent=2))
    return 0
