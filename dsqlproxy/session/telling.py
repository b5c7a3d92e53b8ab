"""What a new upstream has been told so far: its settings and its statements (no I/O).

Requests are written many at a time, so what is told is believed until the answers
come (`take`); what was refused is believed no longer, and told again the next time.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from dsqlproxy.pgproto.messages import ParameterStatus
from dsqlproxy.session.hints import ENVIRONMENT_NAMES
from dsqlproxy.session.pins import PinReason, pinned
from dsqlproxy.session.private import Item, Kind, Unit, close, describe
from dsqlproxy.session.settings import SEARCH_PATH, Captured, assign, changes
from dsqlproxy.session.statements import Environment, Statement

_STRINGS: Final = "standard_conforming_strings"


class Telling:
    """The settings and statements of one new upstream, as far as known."""

    def __init__(self, private_name: bytes) -> None:
        self._private_name = private_name
        self._values: dict[str, bytes | None] = {}
        self._is_set = False  # whether the SET before a set_config was accepted
        self._statements: dict[bytes, Statement] = {}
        self.inexact: set[str] = set()
        """Settings for which set_config was refused, and SET was not."""
        self.refusals: dict[bytes, str] = {}
        """Statements that were refused, and the SQLSTATE."""
        self.descriptions: dict[bytes, bytes] = {}
        """What it says of its statements."""

    # -- what it has -----------------------------------------------------------------

    @property
    def search_path(self) -> bytes | None:
        """Where names of tables are looked up."""
        return self._values.get(SEARCH_PATH)

    def __contains__(self, key: bytes) -> bool:
        return key in self._statements

    def note_defaults(
        self, reported: Iterable[ParameterStatus], captured: Captured
    ) -> None:
        """Learn what it has had since its login."""
        for one in reported:
            if one.name.lower() in ENVIRONMENT_NAMES:
                value = one.value.encode("utf-8", "surrogateescape")
                self._values[one.name.lower()] = value
        self._values |= captured.values

    # -- what it is told -------------------------------------------------------------

    def assign(
        self, wanted: Mapping[str, bytes | None], *, is_essential: bool = False
    ) -> Iterator[Item]:
        """Set what is not as wanted."""
        for name, value in changes(wanted, self._values):
            escapes = self._values.get(_STRINGS) == b"off"
            self._values[name] = value
            yield from assign(
                self._private_name,
                name,
                value,
                escapes=escapes,
                is_essential=is_essential,
            )

    def parse(self, statements: Mapping[bytes, Statement]) -> Iterator[Item]:
        """Parse those that are lacking, each under its environment."""
        groups: dict[Environment, list[bytes]] = {}
        for key, statement in statements.items():
            if key not in self._statements:
                groups.setdefault(statement.environment, []).append(key)
        for environment, keys in groups.items():
            yield from self.assign(environment.settings(), is_essential=True)
            for key in keys:
                one = statements[key]
                yield Item(Kind.PARSE, one.frame, key=key, statement=one)

    def close_others(self, wanted: Mapping[bytes, Statement]) -> Iterator[Item]:
        """Close the statements that are not these very ones."""
        for key, statement in [*self._statements.items()]:
            if wanted.get(key) is not statement:
                del self._statements[key]
                yield Item(Kind.CLOSE, close(key), key=key)

    # -- what it answers -------------------------------------------------------------

    def take(self, item: Item, unit: Unit) -> None:
        """Take the answer to an item that is not a CAPTURE."""
        match item.kind:
            case Kind.SET:
                self._is_set = unit.error is None
            case Kind.SET_CONFIG:
                self._take_assigned(item, unit)
            case Kind.PARSE if item.statement is not None:
                if unit.error is None:
                    self._statements[item.key] = item.statement
                    self.refusals.pop(item.key, None)
                else:
                    self.refusals[item.key] = unit.sqlstate
            case Kind.DESCRIBE:
                self.descriptions[item.key] = unit.content
            case _:
                pass  # closed, which always succeeds

    def _take_assigned(self, item: Item, unit: Unit) -> None:
        is_set, self._is_set = self._is_set, False
        name = item.setting
        if unit.error is None:
            self.inexact.discard(name)
        elif is_set:
            self.inexact.add(name)
        elif item.is_essential:
            detail = f"setting {name} was refused ({unit.sqlstate})"
            raise pinned(PinReason.ENVIRONMENT, detail=detail)
        else:
            self._values.pop(name, None)


def describe_item(key: bytes) -> Item:
    """Ask what a statement looks like."""
    return Item(Kind.DESCRIBE, describe(key), key=key)
