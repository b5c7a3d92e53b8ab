"""Every problem of a configuration in words: where, what, and what is accepted."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dsqlproxy.config.addresses import Address, TcpAddress, parse_listen
from dsqlproxy.config.assume_role import AssumedRole
from dsqlproxy.config.client_tls import FORM_TAGS, ClientCertificate
from dsqlproxy.config.model import (
    DEFAULT_LISTEN,
    AdminConfig,
    Config,
    ListenerConfig,
    LogConfig,
)
from dsqlproxy.config.refusal import did_you_mean, given

_SECTIONS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Config,
    ("listeners",): ListenerConfig,
    ("listeners", "client_tls"): ClientCertificate,
    ("listeners", "assume_role"): AssumedRole,
    ("admin",): AdminConfig,
    ("log",): LogConfig,
}

Path = tuple[str | int, ...]


def explain(error: ValidationError, origins: Mapping[Path, str]) -> Iterator[str]:
    """Put each problem that pydantic found into words.

    ``origins`` names the flag or variable that a path was set by.
    """
    for details in error.errors(include_url=False):
        path = tuple(part for part in details["loc"] if part not in FORM_TAGS)
        where = origins.get(path, written(path))
        yield f"{where}: {_message(details, path, origins)}"


def duplicates(tree: Mapping[Any, Any]) -> Iterator[str]:
    """Find listeners that share a name or an address.

    It looks at the tree, not at the sections: there are none while anything else is
    wrong. What cannot be read is left to `explain`.
    """
    names: dict[str, int] = {}
    addresses: dict[str, int] = {}
    for index, listen, name in _listeners(tree):
        first = names.setdefault(name, index)
        same_address = index
        if not _is_any_port(listen):
            same_address = addresses.setdefault(str(listen), index)
        if same_address != index:
            yield (
                f"listeners[{index}].listen: {given(str(listen))} is the address of "
                f"listeners[{same_address}]; accepted: another address"
            )
        elif first != index:
            yield (
                f"listeners[{index}].name: {given(name)} is the name of "
                f"listeners[{first}]; accepted: another name"
            )


def name_twins(tree: dict[Any, Any]) -> None:
    """Give unnamed listeners on port 0 distinct names: their addresses are not."""
    seen: set[str] = set()
    for index, listen, name in _listeners(tree):
        listener = tree["listeners"][index]
        if not listener.get("name") and name in seen and _is_any_port(listen):
            # A copy: by an alias in YAML, two listeners may be one mapping.
            tree["listeners"][index] = {**listener, "name": f"{name}#{index}"}
        seen.add(name)


def written(path: Path) -> str:
    """Write a path as ``listeners[0].client_tls.cert_file``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if part.isidentifier() else given(part)
            text += f".{shown}" if text else shown
    return text or "the file"


def _listeners(tree: Mapping[Any, Any]) -> Iterator[tuple[int, Address, str]]:
    """Give index, address and effective name of the listeners that can be read."""
    listeners = tree.get("listeners")
    for index, listener in enumerate(listeners if isinstance(listeners, list) else ()):
        if not isinstance(listener, dict):
            continue
        try:
            listen = parse_listen(listener.get("listen", DEFAULT_LISTEN))
        except ValueError:
            continue
        name = listener.get("name")
        yield index, listen, name if isinstance(name, str) and name else str(listen)


def _is_any_port(listen: Address) -> bool:
    return isinstance(listen, TcpAddress) and listen.port == 0


def _message(details: ErrorDetails, path: Path, origins: Mapping[Path, str]) -> str:
    match details["type"]:
        case "value_error":
            return str(details["ctx"]["error"])
        case "conflict":
            sibling = details["ctx"]["sibling"]
            return details["msg"] + _note_on(sibling, details["msg"], path, origins)
        case "missing":
            field = _section(path[:-1]).model_fields[str(path[-1])]
            return f"is missing; accepted: {_in_sentence(field.description or '')}"
        case "extra_forbidden" | "invalid_key":
            keys = list(_section(path[:-1]).model_fields)
            if len(path) == 1 and path[0] in ListenerConfig.model_fields:
                return "unknown key here; it is one of a listener, below listeners:"
            near = did_you_mean(path[-1], keys)
            return f"unknown key{near or '; accepted: ' + ', '.join(keys)}"
        case "model_type":
            keys = list(_section(path).model_fields)
            shown = given(details["input"])
            return f"{shown} is not a mapping; accepted: the keys {', '.join(keys)}"
        case kind:
            raise AssertionError(
                f"{kind} at {path} because a setting is not read by a reader of ours"
            )


def _note_on(
    sibling: str, message: str, path: Path, origins: Mapping[Path, str]
) -> str:
    """Say what has set the other key of a conflict, or what would."""
    if origin := origins.get((*path[:-1], sibling)):
        return f" ({sibling} is set by {origin})"
    own, key = origins.get(path, ""), str(path[-1])
    if f"needs {sibling} as well" not in message or not own:
        return ""
    flag_or_variable = own.replace(key, sibling).replace(key.upper(), sibling.upper())
    return f" (here: {flag_or_variable})"


def _in_sentence(description: str) -> str:
    """Take a description into the middle of a sentence; PEM stays PEM."""
    text = description.rstrip(".")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _section(path: Path) -> type[BaseModel]:
    return _SECTIONS[tuple(part for part in path if isinstance(part, str))]
