"""Two sessions that are asked the same and must answer the same.

One goes around the proxy (or through one in which nothing is moved), the other
through a storm. Each thing that is asked is asked of both.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.generators import execute
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from tests.end_to_end.test_differential import SETTINGS

Connection = psycopg.Connection[tuple[Any, ...]]
Answer = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Twins:
    """The two; ``moved`` is the one that is moved."""

    direct: Connection
    moved: Connection

    def ask(self, *statements: str, prepare: bool | None = None) -> list[Answer]:
        """Ask for statements one by one; give the answers, which are the same."""

        def ask_for(sql: str) -> Answer:
            return self.both(lambda twin: _answer(twin, sql, prepare=prepare))

        return [ask_for(sql) for sql in statements]

    def prepare(self, name: str, sql: str, *types: int) -> Answer:
        """Make a statement with a name, or the unnamed one, and nothing else."""
        return self.both(
            lambda twin: _result(
                twin.pgconn.prepare(name.encode(), _encoded(twin, sql), types)
            )
        )

    def use(self, name: str, *values: bytes, binary: bool = False) -> Answer:
        """Run a statement that was prepared."""
        form = Format.BINARY if binary else Format.TEXT
        return self.both(
            lambda twin: _result(
                twin.pgconn.exec_prepared(name.encode(), values, result_format=form)
            )
        )

    def close(self, name: str) -> Answer:
        """Close a statement."""

        def closed(twin: Connection) -> Answer:
            # Not `close_prepared`: it waits without letting the proxy's thread run.
            twin.pgconn.send_close_prepared(name.encode())
            (result,) = twin.wait(execute(twin.pgconn))
            return _result(result)

        return self.both(closed)

    def both(self, call: "Callable[[Connection], Answer]") -> Answer:
        """Make a call with each; give what both of them gave."""
        direct, moved = (
            (call(twin), _statuses(twin)) for twin in (self.direct, self.moved)
        )
        assert moved == direct, f"{moved} through the storm, {direct} around it"
        return direct[0]


@contextlib.contextmanager
def twins(direct: str, moved: str, **parameters: Any) -> Iterator[Twins]:
    """Open two sessions in the same way."""
    parameters = {"autocommit": True, "prepare_threshold": None, **parameters}
    with (
        psycopg.connect(direct, **parameters) as one,
        psycopg.connect(moved, **parameters) as other,
    ):
        yield Twins(one, other)


def _answer(twin: Connection, sql: str, *, prepare: bool | None) -> Answer:
    """Give tags and rows of all results, or the error."""
    cursor = twin.cursor()
    try:
        cursor.execute(sql.encode(), prepare=prepare)
    except psycopg.Error as error:
        return (error.sqlstate, error.diag.message_primary)
    answer: list[object] = []
    while True:
        answer.append(cursor.statusmessage)
        if cursor.description:
            answer += cursor.fetchall()
        if not cursor.nextset():
            return tuple(answer)


def _result(result: PGresult) -> Answer:
    if result.status == ExecStatus.FATAL_ERROR:
        return (str(ExecStatus(result.status)), result.error_message)
    rows = [
        tuple(result.get_value(row, column) for column in range(result.nfields))
        for row in range(result.ntuples)
    ]
    types = [result.ftype(column) for column in range(result.nfields)]
    return (result.command_status, types, rows)


def _encoded(twin: Connection, sql: str) -> bytes:
    return sql.encode(twin.info.encoding)


def _statuses(twin: Connection) -> dict[str, str | None]:
    return {name: twin.info.parameter_status(name) for name in SETTINGS}
