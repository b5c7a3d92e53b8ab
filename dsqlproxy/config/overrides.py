"""Settings from outside the file: command line flags and the environment.

Both give text, and both are remembered by name: a problem with a value is reported
as that of `--listen` or `DSQLPROXY_LISTENER_LISTEN`, where the user can mend it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from dsqlproxy.config.model import ListenerConfig

PREFIX: Final = "DSQLPROXY_"
CONFIG_VARIABLE: Final = "DSQLPROXY_CONFIG"
_NO_SETTINGS: Final = frozenset({CONFIG_VARIABLE, "DSQLPROXY_PG_BIN"})
"""Read by others: where the file is, and where the emulator's PostgreSQL is."""
_LISTENER_PREFIX: Final = "DSQLPROXY_LISTENER_"

Path = tuple[str | int, ...]

_SHARED: Final[Mapping[str, Path]] = {
    "ADMIN_LISTEN": ("admin", "listen"),
    "LOG_LEVEL": ("log", "level"),
    "LOG_FORMAT": ("log", "format"),
    "DRAIN_DELAY": ("drain_delay",),
    "DRAIN_TIMEOUT": ("drain_timeout",),
}

# Every key can be set through the environment; these are common enough for a flag.
_LISTENER_FLAGS: Final = ("cluster", "listen", "profile", "region", "role")

_VARIABLES: Final[Mapping[str, Path]] = {
    **{PREFIX + name: path for name, path in _SHARED.items()},
    **{
        _LISTENER_PREFIX + key.upper(): ("listeners", 0, key)
        for key in ListenerConfig.model_fields
    },
}
FLAGS: Final[Mapping[str, Path]] = {
    **{f"--{key}": ("listeners", 0, key) for key in _LISTENER_FLAGS},
    **{f"--{name.lower().replace('_', '-')}": path for name, path in _SHARED.items()},
}


@dataclass(frozen=True, slots=True)
class Override:
    """One value from outside the file: where it comes from and where it goes."""

    origin: str
    path: Path
    value: object

    @property
    def is_of_listener(self) -> bool:
        """Whether it sets a key of the only listener."""
        return self.path[0] == "listeners"


def read_overrides(
    flags: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[Override, ...]:
    """Collect what flags and environment set, those that win last.

    An empty variable counts as unset, as it does for the AWS tools and libpq: it is
    what a Compose file or a manifest leaves behind for a value that is not given.
    """
    found = [
        _override(name, _VARIABLES[name], environ[name])
        for name in sorted(environ)
        if name in _VARIABLES and environ[name]
    ]
    for flag, text in flags.items():
        found.append(_override(flag, FLAGS[flag], text))
    return tuple(found)


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Say which variables look like ours and are not, a sentence for each."""
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in _VARIABLES or name in _NO_SETTINGS:
            continue
        # Without the prefix, in which all of them are alike; and without LISTENER_,
        # which is what is forgotten.
        names = {known.removeprefix(_LISTENER_PREFIX): known for known in _VARIABLES}
        names |= {known.removeprefix(PREFIX): known for known in _VARIABLES}
        near = get_close_matches(name.removeprefix(PREFIX), names, n=1, cutoff=0.8)
        guess = f"; did you mean {names[near[0]]}?" if near else ""
        yield f"{name} is not a setting and is left alone{guess}"


def apply_overrides(
    overrides: tuple[Override, ...], tree: dict[Any, Any]
) -> tuple[dict[Path, str], list[str]]:
    """Write overrides into a tree; give the origin of each path, and the problems."""
    origins: dict[Path, str] = {}
    problems: list[str] = []
    for override in overrides:
        section = _section_of(override, tree)
        if isinstance(section, dict):
            section[override.path[-1]] = override.value
            origins[override.path] = override.origin
        elif isinstance(section, int):
            problems.append(
                f"{override.origin}: sets a key of the only listener, but the file "
                f"has {section}; accepted: the key in the file, and this unset"
            )
    return origins, problems


def _section_of(
    override: Override, tree: dict[Any, Any]
) -> dict[Any, Any] | int | None:
    """Find the section to write to, or how many listeners there are too many.

    None where the file has something in its place that is no section: that is a
    problem of its own, reported with all the others.
    """
    if not override.is_of_listener:
        if len(override.path) == 1:
            return tree
        name = override.path[0]
        if tree.get(name) is None:
            tree[name] = {}
        section = tree[name]
        return section if isinstance(section, dict) else None
    listeners = tree.setdefault("listeners", [{}])
    if not isinstance(listeners, list):
        return None
    if len(listeners) > 1:
        return len(listeners)
    return listeners[0] if listeners and isinstance(listeners[0], dict) else None


def _override(origin: str, path: Path, text: str) -> Override:
    reader = _FROM_TEXT.get(str(path[-1]))
    return Override(origin=origin, path=path, value=reader(text) if reader else text)


def _as_boolean(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), text)


def _as_integer(text: str) -> object:
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else text


def _as_number(text: str) -> object:
    return float(text) if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", text) else text


def _as_list(text: str) -> object:
    return [item.strip() for item in text.split(",")]


# What fails here stays text, and validation says what is accepted.
_FROM_TEXT: Final[Mapping[str, Callable[[str], object]]] = {
    "allow_remote_trust": _as_boolean,
    "max_connect_burst": _as_number,
    "max_connect_rate": _as_number,
    "max_sessions": _as_integer,
    "roles": _as_list,
}
