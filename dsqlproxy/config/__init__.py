"""The configuration: YAML, environment and flags to frozen, validated sections.

One file for each step: `file` reads YAML strictly, `overrides` adds environment and
flags, `model` holds the sections with the rules that join their keys, `values`,
`durations` and `addresses` read single settings, `problems` and `refusal` find the
words for what is wrong, `certificates` tries the files of certificates, and `load` does
all of it in order.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dsqlproxy.config.addresses import Address, TcpAddress, UnixAddress
    from dsqlproxy.config.assume_role import AssumedRole
    from dsqlproxy.config.client_tls import ClientCertificate
    from dsqlproxy.config.durations import parse_duration
    from dsqlproxy.config.load import LoadedConfig, json_schema, load_config
    from dsqlproxy.config.model import (
        AdminConfig,
        Config,
        ListenerConfig,
        LogConfig,
    )

__all__ = [
    "Address",
    "AdminConfig",
    "AssumedRole",
    "ClientCertificate",
    "Config",
    "ListenerConfig",
    "LoadedConfig",
    "LogConfig",
    "TcpAddress",
    "UnixAddress",
    "json_schema",
    "load_config",
    "parse_duration",
]


# A health check runs every few seconds and needs an address, not pydantic and the
# sections, which take 0.15 s to import: so each name is fetched when it is used.
_ROOMS: Final = {
    "Address": "addresses",
    "AdminConfig": "model",
    "AssumedRole": "assume_role",
    "ClientCertificate": "client_tls",
    "Config": "model",
    "ListenerConfig": "model",
    "LoadedConfig": "load",
    "LogConfig": "model",
    "TcpAddress": "addresses",
    "UnixAddress": "addresses",
    "json_schema": "load",
    "load_config": "load",
    "parse_duration": "durations",
}


def __getattr__(name: str) -> object:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{room}"), name)
