"""Which startup parameters go to the cluster. No I/O.

Aurora DSQL refuses a session that asks for a run-time parameter it does not accept
(FATAL 0A000, observed on a cluster), and drivers ask for such parameters on their
own. So they are left out, and the client is told; with ``unsupported="pass"``
nothing is, for clusters that accept more and for tests against PostgreSQL.

Names are compared as PostgreSQL compares them: without case, and within
``options`` with ``-`` for ``_`` (ParseLongOption, guc.c).
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.pgproto.startup import OPTION_PREFIX

Parameters = tuple[tuple[str, str], ...]
UnsupportedPolicy = Literal["drop", "pass"]

CLIENT_DATABASE = "client"
"""The setting of ``database`` that passes on the name that the client asks for."""

_SPACE = frozenset(" \t\n\v\f\r")  # isspace() in the C locale
_BARE_SWITCHES = frozenset("bEeFijlnOPsT")
_SWITCHES_WITH_ARGUMENT = frozenset("BCcDdfhkNprStvW-")
"""What PostgreSQL reads in ``options`` (process_postgres_switches, postgres.c)."""

_OFF = frozenset(
    {"0", "n", "no", "of", "off", *("false"[:length] for length in range(1, 6))}
)
"""The spellings of false (parse_bool, bool.c)."""


_REPLACED = frozenset({"user", "database", "options"})
"""Parameters that the proxy writes itself."""


class UpstreamParameters(NamedTuple):
    """What is sent, and the names of what is not although the client asked for it."""

    parameters: Parameters
    dropped: tuple[str, ...]


class _Switch(NamedTuple):
    """A switch of ``options``: the words it is made of, and what it sets, if known."""

    words: tuple[str, ...]
    name: str
    is_setting: bool


def upstream_parameters(
    client_parameters: Iterable[tuple[str, str]],
    *,
    role: str,
    database: str,
    startup_options: str = "",
    unsupported: UnsupportedPolicy = "drop",
) -> UpstreamParameters:
    """Form the startup parameters of an upstream from those of its client.

    ``role`` goes as ``user``. ``database`` goes as it is, or as the client's if it
    is "client" (a client that names none means its user, as for PostgreSQL).
    ``startup_options`` come before the client's options, so that the client's win,
    and are never dropped. ``_pq_.`` options are between client and proxy alone.
    """
    asked = [
        (name, value)
        for name, value in client_parameters
        if not name.startswith(OPTION_PREFIX)
    ]
    last = dict(asked)
    if database == CLIENT_DATABASE:
        database = last.get("database", last.get("user", role))
    kept = asked
    dropped: list[str] = []
    options = last.get("options", "")
    if unsupported == "drop":
        kept, dropped = _supported(asked)
        options, dropped_options = _supported_options(options)
        dropped += dropped_options
    if startup_options:
        ours = join_options(split_options(startup_options))
        options = f"{ours} {options}" if options else ours
    parameters = [("user", role), ("database", database)]
    if options:
        parameters.append(("options", options))
    parameters += (pair for pair in kept if pair[0] not in _REPLACED)
    return UpstreamParameters(tuple(parameters), tuple(dict.fromkeys(dropped)))


def split_options(options: str) -> list[str]:
    r"""Split ``options`` into words: at white space, a backslash taking the next.

    The rules of pg_split_opts (postinit.c); quotes mean nothing.
    """
    words: list[str] = []
    word: list[str] | None = None
    escaped = False
    for char in options:
        if char in _SPACE and not escaped:
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        if char == "\\" and not escaped:
            escaped = True
        else:
            word.append(char)
            escaped = False
    if word is not None:
        words.append("".join(word))
    return words


def join_options(words: Iterable[str]) -> str:
    """Write words so that `split_options` gives them back; no word may be empty."""
    return " ".join(
        "".join(
            f"\\{char}" if char in _SPACE or char == "\\" else char for char in word
        )
        for word in words
    )


def names_in_options(words: list[str]) -> frozenset[str]:
    """Give the names that the words of ``options`` set, by ``-c`` or ``--name``."""
    return frozenset(
        switch.name
        for switch in _switches(words)
        if not switch.name.startswith("-") and "=" in switch.words[-1]
        if switch.is_setting
    )


def _supported(
    asked: Iterable[tuple[str, str]],
) -> tuple[list[tuple[str, str]], list[str]]:
    """Part the parameters that DSQL accepts from the names of the others."""
    kept = []
    dropped = []
    for name, value in asked:
        if name in _REPLACED or name.lower() in ACCEPTED_PARAMETERS:
            kept.append((name, value))
        elif name != "replication" or value.lower() not in _OFF:
            # Replication switched off is an ordinary session: nothing was lost.
            dropped.append(name)
    return kept, dropped


def _supported_options(options: str) -> tuple[str, list[str]]:
    """Leave out of ``options`` what DSQL refuses; give the names of that.

    Words that PostgreSQL cannot read either are kept: the mistake is the client's,
    and the cluster's own error says more than a parameter silently gone.
    """
    kept: list[str] = []
    dropped: list[str] = []
    for switch in _switches(split_options(options)):
        if switch.is_setting and switch.name not in ACCEPTED_PARAMETERS:
            dropped.append(switch.name)
        else:
            kept += switch.words
    return join_options(word for word in kept if word), dropped


def _switches(words: list[str]) -> Iterator[_Switch]:
    """Read words as getopt would; where it would stop, the rest comes as it is."""
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("-") or word in {"-", "--"}:
            yield _Switch(tuple(words[position - 1 :]), "", is_setting=False)
            return
        # Several letters may share a word, the last one with its argument.
        for index, letter in enumerate(word[1:], start=1):
            if letter in _BARE_SWITCHES:
                yield _Switch((f"-{letter}",), f"-{letter}", is_setting=True)
                continue
            if letter not in _SWITCHES_WITH_ARGUMENT:
                rest = (f"-{word[index:]}", *words[position:])
                yield _Switch(rest, "", is_setting=False)
                return
            argument = word[index + 1 :]
            own = [f"-{word[index:]}"]
            if not argument and position < len(words):
                argument = words[position]
                own.append(argument)
                position += 1
            name = _name_of(letter, argument)
            yield _Switch(tuple(own), name, is_setting=bool(argument))
            break


def _name_of(letter: str, argument: str) -> str:
    """Name what a switch sets, in the form that is compared."""
    if letter not in {"c", "-"}:
        return f"-{letter}"
    return argument.partition("=")[0].replace("-", "_").lower()
