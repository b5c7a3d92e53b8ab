"""The types of single settings: how each is read, refused and described.

Every reader takes what YAML, the environment or Python gave and either returns the
value or raises ValueError with what was given and what is accepted.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from dsqlproxy.config.addresses import (
    Address,
    TcpAddress,
    parse_dial,
    parse_host_name,
    parse_listen,
    parse_tcp_listen,
)
from dsqlproxy.config.durations import parse_duration, parse_positive_duration
from dsqlproxy.config.refusal import did_you_mean, not_text, refused
from dsqlproxy.dsql import MAX_TOKEN_LIFETIME_SECONDS, MIN_TOKEN_LIFETIME_SECONDS
from dsqlproxy.endpoint import check_region

ACCEPTED_LIFETIME: Final = "whole seconds from 1s to 7d, such as 60s, 15m or 1h"
ACCEPTED_MODE: Final = "an octal mode from 0 to 0777, such as 0600"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_COUNT: Final = 1_000_000

# A cluster's limit is 60 minutes (AWS documentation, quotas). Longer ones are for the
# day on which that changes, and for other servers; shorter ones for trials. Below a
# second, or so, a session is over before its successor has logged in.
MIN_SESSION_LIMIT_SECONDS: Final = 1.0
MAX_SESSION_LIMIT_SECONDS: Final = 86_400.0
ACCEPTED_SESSION_LIMIT: Final = "a duration from 1s to 24h, such as 60m"

# No client waits longer for a connection, and each that is held takes a place of
# max_sessions.
MAX_HOLD_SECONDS: Final = 3600.0
ACCEPTED_HOLD: Final = "a duration from 0 to 1h, such as 10s; 0 for not at all"

# The least: a cluster's 100 a second among ten thousand proxies. The most: more than
# any machine opens.
_MIN_RATE: Final = 0.01
_MAX_RATE: Final = 100_000

# PostgreSQL manual (identifiers): NAMEDATALEN - 1 bytes; longer names are cut short,
# and a role cut short is another role.
_MAX_IDENTIFIER_BYTES: Final = 63


class DecimalInt(int):
    """An integer that stands in the YAML file in decimal digits.

    `unix_mode: 600` is the number 600 to YAML and not the mode 0600. Only the
    spelling tells the two apart, and a wrong guess opens a socket to others.
    """


def parse_text(value: object) -> str:
    """Read any text that is not empty and has no control characters."""
    accepted = "text"
    if not isinstance(value, str):
        raise not_text(value, accepted=accepted)
    if not value or _CONTROL.search(value):
        wrong = "contains control characters" if value else "is empty"
        raise refused(value, wrong, accepted=accepted)
    return value


def parse_identifier(value: object) -> str:
    """Read the name of a role or database."""
    text = parse_text(value)
    size = len(text.encode(errors="surrogateescape"))
    if size > _MAX_IDENTIFIER_BYTES:
        wrong = f"has {size} bytes"
        accepted = f"a name of at most {_MAX_IDENTIFIER_BYTES} bytes"
        raise refused(value, wrong, accepted=accepted)
    return text


def parse_roles(value: object) -> tuple[str, ...]:
    """Read a list of role names, at least one and none twice."""
    accepted = "a list of roles, such as [admin, reader]"
    if not isinstance(value, list | tuple):
        raise refused(value, "is not a list", accepted=accepted)
    if not value:
        raise refused(value, "is empty", accepted=accepted)
    roles = tuple(parse_identifier(item) for item in value)
    for role in roles:
        if roles.count(role) > 1:
            raise refused(role, "is named twice", accepted=accepted)
    return roles


def parse_region(value: object) -> str:
    """Read the name of an AWS region."""
    text = parse_text(value)
    check_region(text)
    return text


def parse_token_lifetime(value: object) -> int:
    """Read a lifetime that a cluster accepts, in whole seconds as SigV4 counts it."""
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = 0.0
    in_range = MIN_TOKEN_LIFETIME_SECONDS <= seconds <= MAX_TOKEN_LIFETIME_SECONDS
    if not in_range or not seconds.is_integer():
        raise refused(value, "is not a token lifetime", accepted=ACCEPTED_LIFETIME)
    return int(seconds)


def parse_session_limit(value: object) -> float:
    """Read how long the cluster lets a session live, in seconds."""
    seconds = parse_duration(value)
    if not MIN_SESSION_LIMIT_SECONDS <= seconds <= MAX_SESSION_LIMIT_SECONDS:
        wrong = "is not a session limit"
        raise refused(value, wrong, accepted=ACCEPTED_SESSION_LIMIT)
    return seconds


def parse_hold_timeout(value: object) -> float:
    """Read how long a client may be held at its login, in seconds; 0 is not at all."""
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= MAX_HOLD_SECONDS:
        raise refused(value, "is not a hold timeout", accepted=ACCEPTED_HOLD)
    return seconds


def parse_rate(value: object) -> float:
    """Read a number of things a second; of a thousand proxies each gets a tenth."""
    return _number(value, _MIN_RATE, "is not a number of logins a second")


def parse_burst(value: object) -> float:
    """Read a number of things at once, at least one."""
    return _number(value, 1, "is not a number of logins at once")


def _number(value: object, least: float, wrong: str) -> float:
    # Written so that a NaN is refused as well.
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not least <= value <= _MAX_RATE
    ):
        accepted = f"a number from {least} to {_MAX_RATE}"
        raise refused(value, wrong, accepted=accepted)
    return float(value)


def parse_unix_mode(value: object) -> int:
    """Read the permissions of a socket, octal as chmod takes them."""
    if isinstance(value, DecimalInt):
        wrong = "is a decimal number; modes are octal, with a 0 in front"
        raise refused(value, wrong, accepted=ACCEPTED_MODE)
    mode = -1
    if isinstance(value, str):
        digits = value.removeprefix("0o")
        if digits and not digits.strip("01234567"):
            mode = int(digits, 8)
    elif isinstance(value, int) and not isinstance(value, bool):
        mode = value
    if not 0 <= mode <= 0o777:
        raise refused(value, "is not a mode", accepted=ACCEPTED_MODE)
    return mode


def parse_count(value: object) -> int:
    """Read a number of things, at least one."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 1 <= value <= _MAX_COUNT
    ):
        accepted = f"a whole number from 1 to {_MAX_COUNT}"
        raise refused(value, "is not a number of sessions", accepted=accepted)
    return int(value)


def parse_switch(value: object) -> bool:
    """Read a boolean, and nothing that only resembles one."""
    if not isinstance(value, bool):
        raise refused(value, "is not a boolean", accepted="true or false")
    return value


def parse_readable_file(value: object) -> Path:
    """Read the path of a file that is there and can be read; it is not parsed."""
    path = value if isinstance(value, Path) else Path(parse_text(value))
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        wrong = f"cannot be read ({(error.strerror or 'unknown reason').lower()})"
        raise refused(
            str(path), wrong, accepted="the path of a PEM file that can be read"
        ) from error
    return path


def parse_choice(value: object, choices: tuple[str, ...]) -> str:
    """Read one of a few words; a bare ``off``, false to YAML, is the word off."""
    word = "off" if value is False and "off" in choices else value
    if isinstance(word, str) and word in choices:
        return word
    raise refused(
        value,
        "is not a choice",
        accepted=", ".join(choices) + did_you_mean(value, choices),
    )


def one_of(*choices: str) -> Callable[[object], str]:
    """Make the reader of a setting that takes one of ``choices``."""
    return lambda value: parse_choice(value, choices)


def parse_admin_listen(value: object) -> TcpAddress | None:
    """Read the admin listener's address, or off for none."""
    if value is False or value == "off":
        return None
    try:
        return parse_tcp_listen(value)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from None


def _schema(kind: str | list[str], **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


_DURATION_SCHEMA = _schema(
    ["string", "number"],
    pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)?$",
    minimum=0,
    examples=["500ms", "30s", "55m", "1h", 30],
)
_AS_WRITTEN = PlainSerializer(str, when_used="unless-none")
_PATH_SCHEMA = _schema("string", format="path")

Text = Annotated[str, PlainValidator(parse_text), _schema("string", minLength=1)]
Identifier = Annotated[
    str,
    PlainValidator(parse_identifier),
    _schema("string", minLength=1, maxLength=_MAX_IDENTIFIER_BYTES),
]
Roles = Annotated[
    tuple[str, ...],
    PlainValidator(parse_roles),
    _schema("array", items={"type": "string"}, minItems=1, uniqueItems=True),
]
Region = Annotated[
    str, PlainValidator(parse_region), _schema("string", examples=["us-east-1"])
]
Duration = Annotated[float, PlainValidator(parse_duration), _DURATION_SCHEMA]
HoldTimeout = Annotated[float, PlainValidator(parse_hold_timeout), _DURATION_SCHEMA]
TimeLimit = Annotated[float, PlainValidator(parse_positive_duration), _DURATION_SCHEMA]
TokenLifetime = Annotated[int, PlainValidator(parse_token_lifetime), _DURATION_SCHEMA]
SessionLimit = Annotated[float, PlainValidator(parse_session_limit), _DURATION_SCHEMA]
Rate = Annotated[
    float,
    PlainValidator(parse_rate),
    _schema("number", minimum=_MIN_RATE, maximum=_MAX_RATE),
]
Burst = Annotated[
    float, PlainValidator(parse_burst), _schema("number", minimum=1, maximum=_MAX_RATE)
]
Count = Annotated[
    int,
    PlainValidator(parse_count),
    _schema("integer", minimum=1, maximum=_MAX_COUNT),
]
Switch = Annotated[bool, PlainValidator(parse_switch), _schema("boolean")]
UnixMode = Annotated[
    int,
    PlainValidator(parse_unix_mode),
    _schema(["integer", "string"], examples=["0600", "0660"]),
]
ReadableFile = Annotated[Path, PlainValidator(parse_readable_file), _PATH_SCHEMA]
HostName = Annotated[
    str, PlainValidator(parse_host_name), _schema("string", format="hostname")
]
ListenAddress = Annotated[
    Address,
    PlainValidator(parse_listen),
    _AS_WRITTEN,
    _schema("string", examples=["127.0.0.1:5432", "[::1]:5432", "unix:/run/dsqlproxy"]),
]
DialAddress = Annotated[
    TcpAddress,
    PlainValidator(parse_dial),
    _AS_WRITTEN,
    _schema("string", examples=["127.0.0.1:16000"]),
]
AdminListenAddress = Annotated[
    TcpAddress | None,
    PlainValidator(parse_admin_listen),
    _AS_WRITTEN,
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"const": False}],
            "examples": ["127.0.0.1:9090", "off"],
        }
    ),
]
