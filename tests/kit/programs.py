"""Random protocol programs: what a client may send, and at which point it waits.

Frames at random seldom get anywhere: nearly all would be discarded after an error.
So a program is made of whole moves (an extended query with one of several ends, a
COPY, a transaction), in which a part is now and then left out, doubled or wrong.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from tests.kit.frames import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
)


class Word(NamedTuple):
    """A frame, and how it is shown where a program is printed."""

    text: str
    frame: bytes

    def __repr__(self) -> str:
        return self.text


Program = list[list[Word]]
"""Portions: each is sent when all that the one before leads to has come."""

_NAMES = ("", "", "s", "r")
_PORTALS = ("", "", "", "p")
_SYNC = Word("Sync", SYNC)
_FLUSH = Word("Flush", FLUSH)
_COPY_DONE = Word("CopyDone", COPY_DONE)
_COPY_FAIL = Word("CopyFail", copy_fail())
_GOOD_ROW = Word("a row", copy_data(b"7\n"))
_BAD_ROW = Word("a bad row", copy_data(b"no number\n"))

_SQL = (
    *("select 1", "select 1", "select 1/0", "", ";;", "select 1; select 2"),
    *("select 1; select 1/0", "begin", "begin", "commit", "commit", "rollback"),
    *("begin; select 1", "commit and chain", "savepoint a", "rollback to a"),
    *(
        "deallocate all",
        "discard all",
        "set timezone to 'Asia/Tokyo'",
        "reset timezone",
    ),
    *("prepare q as select 1", "listen here", "notify here", "set work_mem to 64"),
    *("declare c cursor for select 1", "insert into t values (1), (1)"),
    "do $$ begin raise notice 'FATAL'; end $$",
)
_COPY_IN = (
    *("copy u from stdin", "copy u from stdin; select 1", "copy none from stdin"),
    "copy u from stdin; copy u from stdin",
)


def write_program(random: Random) -> Program:
    """Write a program. At its end the session can be at rest, whatever was before."""
    author = _Author(random)
    program: Program = []
    for _ in range(random.randint(2, 7)):
        portion = author.portion()
        pause = random.randint(0, len(portion)) if random.random() < 0.5 else 0
        program += filter(None, (portion[:pause], portion[pause:]))
    rollback = Word("Query 'rollback'", query("rollback"))
    return [*program, [_COPY_FAIL], [_SYNC], [rollback]]


def smaller_programs(program: Program) -> Iterator[Program]:
    """Give the programs that lack a portion, or a word, or a pause of this one."""
    for at, portion in enumerate(program):
        yield [*program[:at], *program[at + 1 :]]
        for word in range(len(portion)) if len(portion) > 1 else ():
            less = [*portion[:word], *portion[word + 1 :]]
            yield [*program[:at], less, *program[at + 1 :]]
    for at in range(len(program) - 1):
        joined = [*program[at], *program[at + 1]]
        yield [*program[:at], joined, *program[at + 2 :]]


def with_ended_pipelines(program: Program) -> Program:
    """Put a Sync before each Query or FunctionCall that follows a pipeline.

    PostgreSQL 18.4 has a fault there. Having answered a Query in the middle of a
    pipeline with "in a transaction", it answers the Sync with "idle" and the next
    request with "StartTransactionCommand: unexpected state STARTED".
    """
    is_open = False
    changed: Program = []
    for portion in program:
        changed.append([])
        for word in portion:
            kind = word.text.split()[0]
            if is_open and kind in {"Query", "FunctionCall"}:
                changed[-1].append(_SYNC)
            if kind in {"Query", "FunctionCall", "Sync"}:
                is_open = False
            elif kind in {"Parse", "Bind", "Describe", "Execute", "Close"}:
                is_open = True
            changed[-1].append(word)
    return changed


class _Author:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._statements = 0

    def portion(self) -> list[Word]:
        """Write what is sent at once."""
        moves = self._random.choices((1, 2, 3), (6, 3, 1))[0]
        return [word for _ in range(moves) for word in self._move()]

    def _move(self) -> list[Word]:
        moves: dict[Callable[[], list[Word]], int] = {
            self._extended: 10,
            self._simple: 5,
            self._pipeline: 3,
            self._copy: 3,
            self._extended_copy: 3,
            self._portal_in_portions: 2,
            self._end: 4,
            self._stray: 3,
        }
        move = self._random.choices(list(moves), list(moves.values()))[0]
        return move()

    def _simple(self) -> list[Word]:
        if self._random.random() < 0.1:
            oid = self._random.choice((1598, 1))  # random(), and none
            return [Word(f"FunctionCall {oid}", function_call(oid))]
        return [_query(self._random.choice(_SQL))]

    def _pipeline(self) -> list[Word]:
        return self._extended() + self._extended() + self._extended()

    def _extended(self) -> list[Word]:
        """Write Parse to Execute and an end, at times with a part left out."""
        name, portal = self._random.choice(_NAMES), self._random.choice(_PORTALS)
        words = [
            _parse(self._sql(), name),
            _describe("S", name),
            _bind(portal, name),
            _describe("P", portal),
            _execute(portal, self._random.choice((0, 0, 0, 2))),
            _close("P", portal),
            _close("S", name),
        ]
        chances = (0.8, 0.3, 0.8, 0.3, 0.8, 0.1, 0.15)
        chosen = [
            word
            for word, chance in zip(words, chances, strict=True)
            if self._random.random() < chance
        ]
        return chosen + self._end()

    def _end(self) -> list[Word]:
        ends = [[_SYNC], [_FLUSH], [], [_SYNC, _SYNC], [_query("select 1")]]
        return list(self._random.choices(ends, (10, 5, 2, 1, 1))[0])

    def _portal_in_portions(self) -> list[Word]:
        name, portal = self._random.choice(_NAMES), self._random.choice(_PORTALS)
        rows = self._random.choice((1, 2, 9))
        return [
            _parse(self._rows(), name),
            _bind(portal, name),
            *[_execute(portal, rows)] * self._random.randint(1, 4),
            *self._end(),
        ]

    def _copy(self) -> list[Word]:
        return [_query(self._random.choice(_COPY_IN)), *self._copy_rest()]

    def _copy_rest(self) -> list[Word]:
        rest = [self._row() for _ in range(self._random.choice((0, 0, 1, 3)))]
        rest += self._random.choice(([_COPY_DONE], [_COPY_DONE], [_COPY_FAIL], []))
        if self._random.random() < 0.15:
            rest += [self._row(), _COPY_DONE]
        return rest

    def _extended_copy(self) -> list[Word]:
        """Write a COPY with a Sync in any of the places where drivers put one."""
        sql = self._random.choice(
            ("copy u from stdin", "copy u to stdout", "copy none from stdin")
        )
        words = [_parse(sql, ""), _bind("", ""), _execute("", 0)]
        words += self._random.choice(([], [], [_SYNC], [_FLUSH]))
        return words + self._copy_rest() + self._end()

    def _row(self) -> Word:
        return self._random.choice((_GOOD_ROW, _BAD_ROW))

    def _stray(self) -> list[Word]:
        name = self._random.choice(_NAMES)
        choices = (
            [_FLUSH],
            [_COPY_DONE],
            [_GOOD_ROW],
            [_close("S", name)],
            [_close("P", "p")],
            [_describe("S", name)],
            [_bind("", name), *self._end()],
            [_execute("p", 1)],
            [_parse(self._rows(), name), _FLUSH],
            [_parse("select nonsense", name), *self._end()],
        )
        return list(self._random.choice(choices))

    def _sql(self) -> str:
        if self._random.random() < 0.3:
            return self._random.choice((*_SQL, "select nonsense", "select $1::int"))
        return self._rows()

    def _rows(self) -> str:
        """Give a statement like no other of the program, by the name of its column."""
        self._statements += 1
        return f"select generate_series(1, 5) as c{self._statements}"


def _query(sql: str) -> Word:
    return Word(f"Query {sql!r}", query(sql))


def _parse(sql: str, name: str) -> Word:
    return Word(f"Parse {name!r} {sql!r}", parse(sql, name=name))


def _bind(portal: str, name: str) -> Word:
    return Word(f"Bind {portal!r} {name!r}", bind(portal=portal, statement=name))


def _describe(kind: str, name: str) -> Word:
    return Word(f"Describe {kind} {name!r}", describe(kind, name))


def _execute(portal: str, rows: int) -> Word:
    return Word(f"Execute {portal!r} {rows}", execute(portal, rows=rows))


def _close(kind: str, name: str) -> Word:
    return Word(f"Close {kind} {name!r}", close(kind, name))
