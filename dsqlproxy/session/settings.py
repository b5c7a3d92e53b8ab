"""The settings of a session: asked of one upstream, told to another (no I/O).

The server is asked, in one row, for the value of each name (CAPTURE); what another
upstream has otherwise is set there; it is then asked the same, and all values must be
equal byte for byte.

A value is set in two ways, one after the other: by ``SET name TO 'literal'``, then by
``set_config``. The second is exact, and leaves a value as it is told; but whether
Aurora DSQL accepts it is not certain (its own tools disagree), and then the first
stands. It is exact too, except for a search_path that no SET could have made.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.session.pins import NotCarriedOver, PinReason
from dsqlproxy.session.private import (
    Item,
    Kind,
    Unit,
    close,
    close_portal,
    parse,
    run,
)

SEARCH_PATH: Final = "search_path"

# The encoding that values are told in comes first.
BASE_NAMES: Final = (
    "client_encoding",
    *sorted(ACCEPTED_PARAMETERS - {"client_encoding"}),
)

_ROLES: Final = frozenset({"role", "session_authorization", "is_superuser"})
"""Not set but compared: another role is another session."""

_MAX_NAME_BYTES: Final = 63
_ESCAPED: Final = re.compile(rb"\\x([0-9a-f]{2})")

_SPACE: Final = b" \t\n\r\f\v"

_WHO: Final = (
    b"CURRENT_USER::pg_catalog.text",
    b"SESSION_USER::pg_catalog.text",
    b"pg_catalog.current_database()::pg_catalog.text",
)

# What PostgreSQL knows of itself and Aurora DSQL refuses: true where it cannot be
# carried over. So a pin is also found where nothing on the wire shows it: a LISTEN or
# a temporary table within a function.
_OBSTACLES: Final = (
    (PinReason.TEMPORARY, b"pg_catalog.pg_my_temp_schema() <> 0"),
    (
        PinReason.ADVISORY_LOCK,
        b"EXISTS (SELECT FROM pg_catalog.pg_locks"
        b" WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())",
    ),
    (
        PinReason.CURSOR,
        b"EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)",
    ),
    (PinReason.LISTEN, b"EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"),
    (
        PinReason.PREPARE,
        b"EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)",
    ),
)

# Names that were set without being seen: by a bound set_config, or in a function.
_OTHERS: Final = (
    b"(SELECT pg_catalog.string_agg(name, ',') FROM pg_catalog.pg_settings"
    b" WHERE source = 'session')"
)


class Captured(NamedTuple):
    """What a server says of a session."""

    values: tuple[tuple[str, bytes | None], ...]
    """By name; None for a parameter that the server does not know."""
    who: tuple[bytes | None, ...]
    """Current user, session user, database."""
    obstacles: tuple[PinReason, ...] = ()
    others: tuple[str, ...] = ()
    """Names of settings that were changed in the session and not asked about."""

    @property
    def has_role(self) -> bool:
        """Whether it acts as another than it logged in as."""
        return self.who[0] != self.who[1]


def capture(private_name: bytes, names: tuple[str, ...], *, is_generic: bool) -> Item:
    """Ask for the values of ``names``; in the generic way, for all obstacles too."""
    columns = [b"pg_catalog.current_setting('%b', true)" % _ascii(one) for one in names]
    columns += _WHO
    if is_generic:
        columns += (expression for _, expression in _OBSTACLES)
        columns.append(_OTHERS)
    frames = (
        close(private_name),
        parse(private_name, b"SELECT " + b", ".join(columns)),
        run(private_name),
        close_portal(private_name),
        close(private_name),
    )
    return Item(Kind.CAPTURE, b"".join(frames), names=names, is_generic=is_generic)


def read_captured(item: Item, unit: Unit) -> Captured | None:
    """Read the answer; None where the server refused."""
    if unit.error is not None:
        return None
    row = unit.row
    size = len(item.names)
    told = size + len(_WHO) + (len(_OBSTACLES) + 1 if item.is_generic else 0)
    if len(row) != told:
        msg = f"a private question got {len(row)} values instead of {told}"
        raise NotCarriedOver(msg)
    values = tuple(zip(item.names, row[:size], strict=True))
    who = row[size : size + len(_WHO)]
    if not item.is_generic:
        return Captured(values, who)
    *flags, others = row[size + len(_WHO) :]
    obstacles = tuple(
        reason
        for (reason, _), flag in zip(_OBSTACLES, flags, strict=True)
        if flag == b"t"
    )
    changed = (others or b"").decode("ascii", "replace").lower().split(",")
    unasked = {*changed} - {*item.names} - {""}
    return Captured(values, who, obstacles, tuple(sorted(unasked)))


def changes(
    wanted: Mapping[str, bytes | None], present: Mapping[str, bytes | None]
) -> Iterator[tuple[str, bytes]]:
    """Give what must be set, in an order in which it can be.

    A parameter that one server knows and the other does not cannot be taken away;
    that shows when the values are compared.
    """
    for name in sorted(wanted, key=lambda one: (one != "client_encoding", one)):
        value = wanted[name]
        is_equal = name in present and present[name] == value
        if value is not None and not is_equal and name not in _ROLES:
            yield name, value


def assign(
    private_name: bytes,
    name: str,
    value: bytes,
    *,
    escapes: bool = False,
    is_essential: bool = False,
) -> list[Item]:
    """Set a value in both ways; ``escapes``: a backslash in a literal means more."""
    value = _as_given(name, value)
    literal = _literals(name, value, escapes=escapes)
    items = []
    if literal is not None:
        sql = b"SET %b TO %b" % (_identifier(name), literal)
        items.append(_item(Kind.SET, private_name, sql, name=name))
    sql = b"SELECT pg_catalog.set_config($1, $2, false)"
    parameters = (_ascii(name), value)
    exact = _item(Kind.SET_CONFIG, private_name, sql, parameters, name=name)
    return [*items, exact._replace(is_essential=is_essential)]


def is_same(
    name: str, wanted: bytes | None, found: bytes | None, *, is_exact: bool
) -> bool:
    """Compare two values; of a search_path set by SET only what it means."""
    if wanted == found:
        return True
    if is_exact or name != SEARCH_PATH or wanted is None or found is None:
        return False
    wanted_path, found_path = split_path(wanted), split_path(found)
    return wanted_path is not None and wanted_path == found_path


def split_path(value: bytes) -> list[bytes] | None:
    """Split a search_path into names, as PostgreSQL does (SplitIdentifierString).

    The empty path and a path of one empty name mean the same and are told alike.
    None where the value is not a list of names.
    """
    names = []
    rest = value.strip(_SPACE)
    while rest:
        name, rest = _quoted(rest) if rest[:1] == b'"' else _bare(rest)
        if name is None:
            return None
        names.append(name)
        rest = rest.lstrip(_SPACE)
        if not rest:
            return [] if names == [b""] else names
        if rest[:1] != b",":
            return None
        rest = rest[1:].lstrip(_SPACE)
        if not rest:
            return None
    return names


def _quoted(rest: bytes) -> tuple[bytes | None, bytes]:
    name = b""
    while True:
        part, quote, rest = rest[1:].partition(b'"')
        if not quote:
            return None, b""
        name += part
        if rest[:1] != b'"':
            return name, rest
        name += b'"'


def _bare(rest: bytes) -> tuple[bytes | None, bytes]:
    end = min(
        (at for at in map(rest.find, (b",", *map(_byte, _SPACE))) if at >= 0),
        default=len(rest),
    )
    return rest[:end].lower() or None, rest[end:]


def _byte(number: int) -> bytes:
    return bytes((number,))


def _as_given(name: str, value: bytes) -> bytes:
    r"""Give what has to be set for a server to tell this value.

    A name of an application is first cut to 63 bytes, then what is not ASCII in it
    becomes ``\xNN`` (measured on PostgreSQL 16). One that is told longer than that
    would be cut shorter if it were set as it is told.
    """
    if name != "application_name" or len(value) <= _MAX_NAME_BYTES:
        return value
    return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), value)


def _literals(name: str, value: bytes, *, escapes: bool) -> bytes | None:
    """Write a value as SET takes it: a search_path name by name."""
    if name != SEARCH_PATH:
        return _quote(value, escapes=escapes)
    names = split_path(value)
    if names is None:
        return None
    return b", ".join(_quote(one, escapes=escapes) for one in names or [b""])


def _quote(value: bytes, *, escapes: bool) -> bytes:
    if escapes:
        value = value.replace(b"\\", b"\\\\")
    return b"'" + value.replace(b"'", b"''") + b"'"


def _identifier(name: str) -> bytes:
    """Write a setting's name; that of an extension may be a keyword in part."""
    if name in ACCEPTED_PARAMETERS:
        return _ascii(name)
    return b".".join(b'"%b"' % part for part in _ascii(name).split(b"."))


def _ascii(name: str) -> bytes:
    return name.encode("ascii")


def _item(
    kind: Kind,
    private_name: bytes,
    sql: bytes,
    values: tuple[bytes, ...] = (),
    *,
    name: str,
) -> Item:
    frames: Iterable[bytes] = (
        close(private_name),
        parse(private_name, sql),
        run(private_name, values),
        close(private_name),
    )
    return Item(kind, b"".join(frames), setting=name)
