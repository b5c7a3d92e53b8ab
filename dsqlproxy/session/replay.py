"""What a new upstream is told, and whether it is then equal to the old (no I/O).

A `Replica` is what one new upstream has been told, and still lacks. Its driver asks
and answers in this order; each arrow is one round trip::

    baseline      --> new    which questions it answers, and its defaults
    early         --> new    statements so far, each under its environment
    ------------------------ the old upstream is quiet, the client waits --------------
    inspection    --> old    its settings; what each statement looks like
    completion    --> new    what it lacks, and the same questions
    verified                 byte for byte, or `NotCarriedOver`
    commit                   with the cut-over, in the same turn

Where the old upstream is gone, ``restoration`` takes the place of inspection and
completion: then the last snapshot of the settings is what must be equal.

Why the order matters. Literals are read when a statement is parsed, so each Parse is
sent under the environment of its time (encoding, styles of dates), and the settings
of now come after. Names of tables are looked up at each use, so the search_path of now
must hold when statements are parsed and described; those parsed early under another
are parsed again. The unnamed statement comes last, since nothing may be parsed
without a name after it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import ParameterStatus
from dsqlproxy.session.pins import NotCarriedOver, PinReason, pinned
from dsqlproxy.session.private import (
    Answers,
    Item,
    Kind,
    Request,
    Unit,
    close,
)
from dsqlproxy.session.settings import (
    BASE_NAMES,
    SEARCH_PATH,
    Captured,
    capture,
    is_same,
    read_captured,
)
from dsqlproxy.session.state import SessionMemory
from dsqlproxy.session.statements import Statement
from dsqlproxy.session.telling import Telling, describe_item

__all__ = ["Answers", "Replica", "Request"]

_NO_SUCH_STATEMENT: Final = "26000"
_SERVER_TROUBLE: Final = frozenset(("08", "40", "53", "54", "55", "57", "58", "XX"))
"""Classes of errors that say nothing of the statement that was asked about."""
_NOT_OF_TABLES: Final = frozenset(("42601", "42P05"))  # syntax; a name in use
_NO_ROWS: Final = frame(BackendType.NO_DATA, b"")
_UNNAMED: Final = b""


class _Goal(NamedTuple):
    """What the new upstream must come to."""

    values: dict[str, bytes | None]
    who: tuple[bytes | None, ...] | None
    statements: dict[bytes, Statement]
    descriptions: dict[bytes, bytes] | None
    """By name; None where nobody can be asked: then what is refused is dropped."""


class Replica:
    """One new upstream, from its login to the cut-over."""

    def __init__(self, memory: SessionMemory) -> None:
        self._memory = memory
        self._private_name = memory.private_name.encode("ascii")
        self._telling = Telling(self._private_name)
        self._reported: dict[str, ParameterStatus] = {}
        self._refused_names: frozenset[str] = frozenset()
        self._is_generic = False
        self._captured: Captured | None = None
        self._early_path: bytes | None = None
        self._may_drop_stale = False
        self._goal: _Goal | None = None
        self._gone: set[bytes] = set()
        self._is_verified = False

    # -- the new upstream, in the background -------------------------------------------

    def baseline(self, parameters: Iterable[ParameterStatus]) -> Request:
        """Ask the new upstream what it answers; ``parameters``: what it greeted with.

        Aurora DSQL has not got what the generic question asks for, and may not know
        a name that a client only tried; the first question that is answered counts.
        """
        self._reported = {one.name: one for one in parameters}
        names = self._memory.names
        items = [
            capture(self._private_name, names, is_generic=True),
            capture(self._private_name, names, is_generic=False),
        ]
        if names != BASE_NAMES:
            items.append(capture(self._private_name, BASE_NAMES, is_generic=False))
        return Request.of((*items, self._tidy()))

    def early(self) -> Request:
        """Tell it the statements there are, and the settings as far as known."""
        captured, self._captured = self._captured, None
        if captured is None:
            raise pinned(PinReason.MISMATCH, detail="settings cannot be asked for")
        telling, memory = self._telling, self._memory
        telling.note_defaults(self._reported.values(), captured)
        items: list[Item] = []
        if memory.snapshot:
            items += telling.assign(dict(memory.snapshot.values))
        self._early_path = telling.search_path
        items += telling.parse(memory.named)
        return Request.of(items)

    # -- at the swap point ---------------------------------------------------------

    def inspection(self, *, may_drop_stale: bool) -> Request:
        """Ask the old upstream for its settings and for each statement.

        A statement is stale that its server refuses to describe: a table is gone, or
        has another shape. ``may_drop_stale`` says whether to go on without it.
        """
        self._memory.refuse_if_pinned()
        self._may_drop_stale = may_drop_stale
        question = capture(self._private_name, self._names, is_generic=self._is_generic)
        return Request.of((question, *map(describe_item, self._wanted()), self._tidy()))

    def completion(self, old: Answers) -> Request:
        """Tell the new upstream all that it lacks, given what the old one says."""
        captured = None
        descriptions: dict[bytes, bytes] = {}
        stale = False
        for item, unit in old:
            if unit.sqlstate[:2] in _SERVER_TROUBLE:
                msg = f"the old upstream refused a question ({unit.sqlstate})"
                raise NotCarriedOver(msg)
            if item.kind is Kind.CAPTURE:
                captured = read_captured(item, unit)
                if captured is None:
                    msg = f"the old upstream refused a question ({unit.sqlstate})"
                    raise NotCarriedOver(msg, reason=PinReason.MISMATCH)
            elif item.kind is Kind.DESCRIBE:
                if unit.error is None:
                    descriptions[item.key] = unit.content
                    continue
                self._gone.add(item.key)
                stale |= unit.sqlstate != _NO_SUCH_STATEMENT
        for parameter in old.reported:
            self._memory.note_reported(parameter)
        if captured is None:
            raise AssertionError("an inspection has a CAPTURE because it begins so")
        self._check_old(captured)
        if stale and not self._may_drop_stale:
            raise pinned(PinReason.STALE)
        wanted = self._wanted()
        statements = {key: wanted[key] for key in descriptions}
        values = dict(captured.values)
        return self._finish(_Goal(values, captured.who, statements, descriptions))

    def restoration(self) -> Request:
        """Tell the new upstream all that the session had; the old one is gone."""
        memory = self._memory
        memory.refuse_if_pinned()
        snapshot = memory.snapshot
        values: dict[str, bytes | None] = {**memory.environment.settings()}
        if snapshot:
            values = dict(snapshot.values)
        who = snapshot.who if snapshot else None
        return self._finish(_Goal(values, who, self._wanted(), None))

    def take(self, new: Answers) -> None:
        """Take the new upstream's answers to any of the requests."""
        for item, unit in new:
            if item.kind is Kind.CAPTURE:
                self._take_captured(item, unit)
            else:
                self._telling.take(item, unit)
        self._reported |= {one.name: one for one in new.reported}

    def verified(self) -> bytes:
        """Give the ParameterStatus that tell the client what is new, if all is equal.

        Raises `NotCarriedOver` if anything is not; the session's memory is not changed.
        """
        self._is_verified = False
        goal, captured = self._goal, self._captured
        if goal is None or captured is None:
            raise pinned(PinReason.MISMATCH, detail="settings cannot be asked for")
        if goal.who is not None and goal.who != captured.who:
            raise pinned(PinReason.ROLE)
        self._compare_settings(goal, captured)
        if goal.descriptions is not None:
            self._compare_statements(goal.descriptions)
        self._is_verified = True
        known = self._memory.reported
        return b"".join(
            one.encode()
            for one in self._reported.values()
            if known.get(one.name) != one.value
        )

    @property
    def dropped(self) -> tuple[bytes, ...]:
        """The statements that the session will not have any more."""
        if self._goal is None:
            return ()
        refused = {key for key in self._goal.statements if key not in self._telling}
        return tuple(sorted(self._gone | refused))

    def commit(self) -> None:
        """Note in the session's memory that this upstream is its own now.

        To be called when nothing can fail any more, and before the client's next
        message is read.
        """
        if self._captured is None or not self._is_verified:
            raise AssertionError("nothing to commit because nothing was verified")
        self._memory.note_carried_over(
            self._captured, self._reported.values(), self.dropped
        )

    # -- a snapshot, without a new upstream --------------------------------------------

    def snapshot(self) -> Request:
        """Ask the upstream of a session for its settings, in case that it is lost."""
        names = self._memory.names
        items = [capture(self._private_name, names, is_generic=False)]
        if names != BASE_NAMES:
            items.append(capture(self._private_name, BASE_NAMES, is_generic=False))
        return Request.of((*items, self._tidy()))

    def note_snapshot(self, old: Answers) -> None:
        """Keep what it says in the session's memory."""
        for item, unit in old:
            if item.kind is Kind.CAPTURE and self._captured is None:
                self._captured = read_captured(item, unit)
        for parameter in old.reported:
            self._memory.note_reported(parameter)
        if self._captured is None:
            raise NotCarriedOver("the upstream refused a question for its settings")
        self._memory.note_captured(self._captured)

    # -- what is asked -------------------------------------------------------------

    def _finish(self, goal: _Goal) -> Request:
        """Bring the new upstream from where it is to the goal, and ask how it is."""
        self._goal = goal
        self._captured = None
        telling = self._telling
        # What no capture tells of the environment was reported.
        settings = {**self._memory.environment.settings(), **goal.values}
        path = goal.values.get(SEARCH_PATH, self._early_path)
        is_elsewhere = path != self._early_path
        named = {key: one for key, one in goal.statements.items() if key}
        items = [*telling.assign(settings)]
        items += telling.close_others({} if is_elsewhere else named)
        items += telling.parse(named)
        items += telling.assign(settings)
        if goal.descriptions is not None:
            items += map(describe_item, named)
        unnamed = goal.statements.get(_UNNAMED)
        if unnamed is not None:
            items += telling.parse({_UNNAMED: unnamed})
            items += telling.assign(settings)
            if goal.descriptions is not None:
                items.append(describe_item(_UNNAMED))
        names = tuple(goal.values) if goal.who is not None else self._names
        items.append(capture(self._private_name, names, is_generic=False))
        return Request.of((*items, self._tidy()))

    @property
    def _names(self) -> tuple[str, ...]:
        """What to ask about: all but what the new upstream does not let be asked."""
        refused = self._refused_names
        return tuple(name for name in self._memory.names if name not in refused)

    def _tidy(self) -> Item:
        """Close the private statement, in case that what came before it failed."""
        return Item(Kind.CLOSE, close(self._private_name))

    def _wanted(self) -> dict[bytes, Statement]:
        """Give all statements of the session, the unnamed one last."""
        memory = self._memory
        wanted = dict(memory.named)
        if memory.unnamed is not None:
            wanted[_UNNAMED] = memory.unnamed
        return wanted

    # -- what is answered ----------------------------------------------------------

    def _take_captured(self, item: Item, unit: Unit) -> None:
        if self._captured is not None:
            return
        self._captured = read_captured(item, unit)
        if self._captured is not None and self._goal is None:
            self._is_generic = item.is_generic
            self._refused_names = frozenset(self._memory.names) - {*item.names}

    def _check_old(self, captured: Captured) -> None:
        memory = self._memory
        memory.note_captured(captured)
        asked = memory.names
        memory.mention(captured.others)
        memory.refuse_if_pinned()
        if memory.names != asked:  # they are asked about the next time
            raise NotCarriedOver("settings were changed that were not asked about")
        for reason in captured.obstacles:
            raise pinned(reason)
        if captured.has_role:
            raise pinned(PinReason.ROLE)

    def _compare_settings(self, goal: _Goal, captured: Captured) -> None:
        found = dict(captured.values)
        for name, value in goal.values.items():
            is_exact = name not in self._telling.inexact
            if name in found and not is_same(
                name, value, found[name], is_exact=is_exact
            ):
                raise pinned(PinReason.MISMATCH, detail=f"setting {name}")

    def _compare_statements(self, wanted: Mapping[bytes, bytes]) -> None:
        telling = self._telling
        for key, description in wanted.items():
            name = key.decode("utf-8", "replace") or "the unnamed one"
            if key not in telling:
                state = telling.refusals.get(key, "")
                if description.endswith(_NO_ROWS) and _is_of_tables(state):
                    # An INSERT is described without a look at its table, so the old
                    # upstream could not tell that it is stale.
                    if self._may_drop_stale:
                        continue
                    raise pinned(PinReason.STALE)
                detail = f"statement {name} was refused ({state})"
                raise pinned(PinReason.MISMATCH, detail=detail)
            if telling.descriptions.get(key) != description:
                detail = f"statement {name} looks different"
                raise pinned(PinReason.MISMATCH, detail=detail)


def _is_of_tables(sqlstate: str) -> bool:
    """Say if a Parse was refused for what it names, such as a table that is gone."""
    is_of_names = sqlstate.startswith("42") or sqlstate == "3F000"
    return is_of_names and sqlstate not in _NOT_OF_TABLES
