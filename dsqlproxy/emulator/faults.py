"""Faults on command: the ways in which a cluster, or the way to it, can fail.

A fault is one word, ``NAME`` or ``NAME:ARGUMENT``, the same on the command line, on
the control socket and in tests. What sessions have to do about it they read here.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from random import Random
from typing import Final

from dsqlproxy.config.durations import ACCEPTED_DURATIONS, parse_duration


class Fault(StrEnum):
    """The names of the faults."""

    CLOSE_AFTER = "close-after"
    RESET_AFTER = "reset-after"
    FATAL = "fatal"
    STALL_AFTER = "stall-after"
    SLOW_LOGIN = "slow-login"
    WAKING_UP = "waking-up"
    RATE_EXCEEDED = "rate-exceeded"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    EXPIRED_CREDENTIALS = "expired-credentials"
    ACCESS_DENIED = "access-denied"
    SKEW = "skew"
    REFUSE_SET_CONFIG = "refuse-set-config"
    OC000 = "oc000"
    OC001 = "oc001"
    NO_CANCEL = "no-cancel"
    NO_KEY_DATA = "no-key-data"


class _Argument(Enum):
    """What stands behind the colon, in words for the user."""

    NOTHING = "nothing after the name"
    SECONDS = ACCEPTED_DURATIONS
    SIGNED_SECONDS = "a number of seconds, negative for a clock that is behind"
    BYTES = "a number of bytes"
    N = "a number of logins"
    PROBABILITY = "a probability from 0 to 1"
    SQLSTATE = "an SQLSTATE of five digits or capital letters"


_ARGUMENTS: Final = {
    Fault.CLOSE_AFTER: _Argument.SECONDS,
    Fault.RESET_AFTER: _Argument.BYTES,
    Fault.FATAL: _Argument.SQLSTATE,
    Fault.STALL_AFTER: _Argument.BYTES,
    Fault.SLOW_LOGIN: _Argument.SECONDS,
    Fault.WAKING_UP: _Argument.SECONDS,
    Fault.RATE_EXCEEDED: _Argument.N,
    Fault.TOO_MANY_CONNECTIONS: _Argument.N,
    Fault.EXPIRED_CREDENTIALS: _Argument.NOTHING,
    Fault.ACCESS_DENIED: _Argument.NOTHING,
    Fault.SKEW: _Argument.SIGNED_SECONDS,
    Fault.REFUSE_SET_CONFIG: _Argument.NOTHING,
    Fault.OC000: _Argument.PROBABILITY,
    Fault.OC001: _Argument.PROBABILITY,
    Fault.NO_CANCEL: _Argument.NOTHING,
    Fault.NO_KEY_DATA: _Argument.NOTHING,
}
_SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}")
_INTEGER: Final = re.compile(r"[0-9]{1,15}")
_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@dataclass(slots=True)
class SqlFaults:
    """The faults that are a matter of SQL; the rules read them."""

    random: Random
    refuse_set_config: bool = False
    oc000: float = 0.0
    oc001: float = 0.0


@dataclass(slots=True)
class Faults:
    """The faults in force; every session of an emulator looks here.

    ``clock`` is monotonic. Counted faults are used up by the logins they refuse.
    """

    clock: Callable[[], float]
    sql: SqlFaults
    close_after: float | None = None
    reset_after: int | None = None
    stall_after: int | None = None
    fatal: str | None = None
    slow_login: float = 0.0
    waking_up_until: float = float("-inf")
    rate_exceeded: int = 0
    too_many_connections: int = 0
    expired_credentials: bool = False
    access_denied: bool = False
    skew: float = 0.0
    no_cancel: bool = False
    no_key_data: bool = False
    words: list[str] = field(default_factory=list)
    """The words in force, as they were given."""

    @property
    def is_waking_up(self) -> bool:
        """Whether the cluster is still waking up."""
        return self.clock() < self.waking_up_until

    def add(self, word: str) -> Fault:
        """Put a fault in force; ValueError says which words there are."""
        fault, argument = _parse(word)
        match fault:
            case Fault.OC000 | Fault.OC001 | Fault.REFUSE_SET_CONFIG:
                setattr(self.sql, _attribute(fault), argument)
            case Fault.WAKING_UP:
                self.waking_up_until = self.clock() + float(argument)
            case _:
                setattr(self, _attribute(fault), argument)
        self.words.append(word)
        return fault

    def clear(self) -> None:
        """End every fault."""
        fresh = Faults(self.clock, SqlFaults(self.sql.random))
        for name in Faults.__slots__:
            if name not in {"clock", "sql"}:
                setattr(self, name, getattr(fresh, name))
        self.sql.refuse_set_config = False
        self.sql.oc000 = self.sql.oc001 = 0.0

    def take_rate_exceeded(self) -> bool:
        """Use up one refusal for the rate, if one is left."""
        taken = self.rate_exceeded > 0
        self.rate_exceeded -= taken
        return taken

    def take_too_many_connections(self) -> bool:
        """Use up one refusal for the number, if one is left."""
        taken = self.too_many_connections > 0
        self.too_many_connections -= taken
        return taken


def check_fault(word: str) -> None:
    """Raise ValueError, with what is accepted, for a word that is no fault."""
    _parse(word)


_Value = str | int | float | bool


def _parse(word: str) -> tuple[Fault, _Value]:
    name, colon, text = word.partition(":")
    try:
        fault = Fault(name)
    except ValueError:
        known = ", ".join(_form(fault) for fault in Fault)
        raise ValueError(f"{name!r} is not a fault; accepted: {known}") from None
    kind = _ARGUMENTS[fault]
    if kind is _Argument.NOTHING and not colon:
        return fault, True
    value = _read(kind, text)
    if value is None:
        raise ValueError(f"{word!r}: accepted is {_form(fault)}, {kind.value}")
    return fault, value


def _form(fault: Fault) -> str:
    kind = _ARGUMENTS[fault]
    return (
        fault
        if kind is _Argument.NOTHING
        else f"{fault}:{kind.name.removeprefix('SIGNED_')}"
    )


def _read(kind: _Argument, text: str) -> _Value | None:
    value: _Value | None = None
    match kind:
        case _Argument.SECONDS:
            with contextlib.suppress(ValueError):
                value = parse_duration(text)
        case _Argument.SIGNED_SECONDS if _DECIMAL.fullmatch(text):
            value = float(text)
        case _Argument.BYTES | _Argument.N if _INTEGER.fullmatch(text):
            value = int(text)
        case _Argument.PROBABILITY if _DECIMAL.fullmatch(text):
            value = float(text) if 0.0 <= float(text) <= 1.0 else None
        case _Argument.SQLSTATE if _SQLSTATE.fullmatch(text):
            value = text
        case _:
            pass
    return value


def _attribute(fault: Fault) -> str:
    return fault.replace("-", "_")
