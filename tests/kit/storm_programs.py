"""Random programs for two twins: one session direct, the other moved again and again.

What a session may have of its own is set, used, changed and lost here on purpose:
settings in and out of transactions, prepared statements under other settings than
those they are used with, statements whose table has changed, open pipelines, portals,
COPY, errors and what is skipped after them. Every answer is determined by the program,
so two servers must give the same frames::

    program = random_program(seed)
    direct = await play(program, socket_path)
    moved = await play(program, (proxy.host, proxy.port))
    check_twins(seed, program, direct, moved)

The tables are `TABLES`, to be made anew before each play.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import frame
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

TABLES = (
    "drop schema if exists one, two cascade",
    "drop table if exists shape, shape_away, sink, late",
    "create schema one",
    "create schema two",
    "create table one.t as select 1 as id, 'of one'::text as v",
    "create table two.t as select 2 as id, 'of two'::text as v",
    "create table shape (id int, v text)",
    "insert into shape values (1, 'a'), (2, 'b')",
    "create table sink (id int primary key, v text)",
    "create table late (id int unique deferrable initially deferred)",
    "grant usage on schema one, two to public",
    "grant all on one.t, two.t, shape, sink, late to public",
)
"""What a superuser makes before each play, statement by statement."""

_T = TypeVar("_T")
Dialect = Literal["postgres", "dsql"]

_NAMES = ("", "a", "b", "c")
_VALUES = {
    "DateStyle": ("'ISO, MDY'", "'ISO, DMY'", "'German'", "'SQL, DMY'", "'Postgres'"),
    "client_encoding": ("'UTF8'", "'LATIN1'", "'LATIN9'"),
    "search_path": ("one, public", "two, public", "public", "''", '"$user", two'),
    "TimeZone": ("'UTC'", "'Asia/Tokyo'", "'America/New_York'", "'<+05>-05'"),
    "extra_float_digits": ("0", "1", "3", "-5"),
    "IntervalStyle": ("postgres", "iso_8601", "sql_standard"),
    "application_name": ("'x'", "'it''s'", "''"),
    "enable_seqscan": ("on", "off"),
}
_SHOW = "select " + ", ".join(f"current_setting('{name}')" for name in _VALUES)
# Each shows one of the settings above in what it answers.
_REVEALING = (
    "select '01/02/2020'::date",
    "select '01/02/2020'::date::text, date '2020-03-04'",
    "select timestamptz '2020-01-01 12:00:00+00'",
    "select 1.0::float8 / 3, 0.1::float4",
    "select interval '1 day 2 hours'",
    "select id, v from t order by id",
    "select count(*)::int from t",
)
_PLAIN = (
    "select 1 as one",
    "select n from generate_series(1, 5) as n",
    "select $1::int + 1 as next",
    "select $1::text as said, $2::int as n",
    "select id, v from shape order by id",
    "select * from shape order by id",
    "insert into sink values (1, 'x') on conflict do nothing",
    "update sink set v = v || '.' where id = 1",
    "delete from sink",
    "",
)
_FAILING = ("select 1/0", "select nonsense", "selec 1", "select 'x'::int")
_TOGETHER = (
    "select 1; select 2",
    "select 1; select 1/0; select 3",
    ";;",
    "",
    "set timezone to 'Asia/Tokyo'; select 1/0",
    "set datestyle to 'German'; select date '2020-03-04'",
    "begin; set local timezone to 'Asia/Tokyo'; commit",
    "begin; set search_path to two; rollback",
    "insert into late values (1), (1)",
)
_CHANGES = (
    "alter table shape add column if not exists w int default 7",
    "alter table shape drop column if exists w",
    "alter table shape alter column v type varchar(20)",
    "alter table shape alter column v type text",
    "alter table shape rename to shape_away",
    "alter table if exists shape_away rename to shape",
    "drop table if exists shape",
    "create table if not exists shape (id int, v text)",
    "grant all on all tables in schema public to public",
)


@dataclass(frozen=True, slots=True)
class Step:
    """Frames to send at once; or a statement that another session runs meanwhile."""

    text: str
    data: bytes = b""
    elsewhere: str = ""

    def __repr__(self) -> str:
        return self.text


Program = list[Step]


def random_program(
    seed: int,
    *,
    dialect: Dialect = "postgres",
    steps: int = 24,
    changes_tables: bool = True,
) -> Program:
    """Write a program; the same one for a seed. It ends at rest, with a look around.

    In the dialect ``dsql`` there is nothing that a cluster refuses by a rule.
    """
    random = Random(seed)  # noqa: S311 - to be repeated
    author = _Author(random, dialect, changes_tables=changes_tables)
    program: Program = []
    while len(program) < steps:
        program += author.move()
    return [*program, _sync(), _simple("rollback"), _simple(_SHOW)]


class _Author:
    """Writes moves; remembers how many parameters each prepared statement has."""

    def __init__(
        self, random: Random, dialect: Dialect, *, changes_tables: bool
    ) -> None:
        self._random = random
        self._dialect = dialect
        self._arguments: dict[str, int] = {}
        self._moves: dict[Callable[[], Program], int] = {
            self._simple: 6,
            self._extended: 10,
            self._use: 10,
            self._setting: 8,
            self._transaction: 5,
            self._pipeline: 4,
            self._other_settings: 4,
            self._other_encoding: 2,
            self._forget: 3,
            self._portal: 3,
            self._prepare_only: 3,
            self._error: 4,
            self._copy_in: 3,
            self._copy_out: 2,
            self._changed_table: 4 if changes_tables else 0,
            self._rest: 2,
            self._function_call: 0 if dialect == "dsql" else 2,
        }

    def move(self) -> Program:
        moves, weights = list(self._moves), list(self._moves.values())
        return self._random.choices(moves, weights)[0]()

    # -- moves -------------------------------------------------------------------------

    def _simple(self) -> Program:
        sql = self._one_of(*_TOGETHER, *_REVEALING, *_PLAIN[:2], *_FAILING, _SHOW)
        return [_simple(sql)]

    def _extended(self) -> Program:
        return [self._ended(self._parsed_and_used(self._name()))]

    def _use(self) -> Program:
        """Use what was prepared, or never was, or is closed by now."""
        known = tuple(self._arguments) if self._happens(0.85) else ()
        name = self._one_of(*(known or _NAMES))
        before = describe("S", name) if self._happens(0.3) else b""
        return [self._ended(before + self._used(name), f"use {name!r}")]

    def _pipeline(self) -> Program:
        data, texts = b"", []
        for _ in range(self._random.randint(2, 4)):
            part = self._parsed_and_used(self._name())
            data += part.data + (SYNC if self._happens(0.5) else b"")
            texts.append(part.text)
        return [self._ended(Step(" | ".join(texts), data))]

    def _setting(self) -> Program:
        sql = self._set()
        if self._happens(0.4):
            data = parse(sql) + bind() + execute()
            return [self._ended(Step(f"extended {sql}", data))]
        return [_simple(sql)]

    def _transaction(self) -> Program:
        choices = ["begin", "begin", "begin", "commit", "commit", *["rollback"] * 4]
        if self._dialect == "postgres":
            choices += ["savepoint s", "rollback to s", "discard all"]
        sql = self._one_of(*choices)
        if sql == "discard all":
            self._arguments.clear()
        return [_simple(sql)]

    def _other_settings(self) -> Program:
        """Prepare under some settings, and use under others."""
        first, second = self._set(), self._set()
        name = self._name()
        sql = self._one_of(*_REVEALING)
        self._arguments[name] = 0
        return [
            _simple(first),
            Step(f"prepare {name!r}: {sql}", parse(sql, name=name) + SYNC),
            _simple(second),
            self._ended(self._used(name), f"use {name!r}"),
        ]

    def _other_encoding(self) -> Program:
        """Prepare bytes that are no UTF-8, and use them under UTF-8."""
        name = self._name()
        self._arguments[name] = 0
        body = name.encode() + b"\0" + "select 'né'::text".encode("latin-1") + b"\0\0\0"
        return [
            _simple("set client_encoding to 'LATIN1'"),
            Step(f"prepare {name!r} in LATIN1", frame(FrontendType.PARSE, body) + SYNC),
            _simple("set client_encoding to 'UTF8'"),
            self._ended(self._used(name), f"use {name!r}"),
        ]

    def _forget(self) -> Program:
        name = self._name()
        if self._happens(0.6):
            return [self._ended(close("S", name), f"close {name!r}")]
        if self._happens(0.5):
            return [_simple("deallocate all")]
        data = parse("deallocate all") + bind() + execute()
        again = parse("select 'again'", name="a")
        self._arguments["a"] = 0
        return [self._ended(data + again, "deallocate all, and 'a' again")]

    def _portal(self) -> Program:
        """Read a portal in parts, within a transaction or an open pipeline."""
        opened = parse("select n from generate_series(1, 7) as n") + bind(portal="p")
        first = Step("open a portal", opened + execute("p", rows=3) + FLUSH)
        more = self._ended(execute("p", rows=2), "fetch 2")
        rest = self._ended(execute("p") + close("P", "p"), "fetch all, close")
        if self._happens(0.5):
            return [_simple("begin"), first, more, rest, _sync(), _simple("commit")]
        return [first, more, rest, _sync()]

    def _prepare_only(self) -> Program:
        """Do as asyncpg does: Parse, Describe, Flush; and be silent."""
        name = self._name()
        sql = self._sql(name)
        asked = parse(sql, name=name) + describe("S", name) + FLUSH
        prepared = Step(f"prepare {name!r} and flush: {sql}", asked)
        if self._happens(0.3):
            return [prepared, self._ended(self._used(name), f"use {name!r}")]
        return [prepared, self._ended(b"", "nothing")]

    def _error(self) -> Program:
        """Fail, and send what is skipped until the Sync, if one comes."""
        sql = self._one_of(*_FAILING)
        bad = parse(sql, name=self._one_of("", "broken")) + bind() + execute()
        skipped = self._one_of(b"", query("select 'skipped'"), self._used("a"))
        end = self._one_of(b"", FLUSH, SYNC)
        first = Step(f"fail by {sql!r}", bad + end + skipped)
        return [first, _sync()] if self._happens(0.7) else [first]

    def _copy_in(self) -> Program:
        bad = self._happens(0.3)
        rows = copy_data(b"7\tseven\n") + copy_data(b"bad\n" if bad else b"8\teight\n")
        end = copy_fail() if self._happens(0.2) else COPY_DONE
        to = self._one_of("sink", "sink", "no_such_table")
        sql = f"copy {to} from stdin"
        if self._happens(0.5):
            asked, after = query(sql), b""
        else:
            asked = parse(sql) + bind() + execute()
            asked, after = asked + self._one_of(SYNC, FLUSH), SYNC
        if self._happens(0.3) and not after:
            return [Step(f"{sql}, all at once", asked + rows + end)]
        return [
            _sync(),
            Step(sql, asked),
            Step("rows", rows + end + after),
            _simple("delete from sink"),
        ]

    def _copy_out(self) -> Program:
        sql = "copy (select n, 'x' from generate_series(1, 3) as n) to stdout"
        if self._happens(0.5):
            return [_simple(sql)]
        return [self._ended(parse(sql) + bind() + execute(), sql)]

    def _changed_table(self) -> Program:
        """Change a table under a statement. No lock of this session is in the way."""
        name = self._name()
        sql = "select * from shape order by id"
        self._arguments[name] = 0
        change = self._one_of(*_CHANGES)
        return [
            _sync(),
            _simple("rollback"),
            Step(f"prepare {name!r}: {sql}", parse(sql, name=name) + SYNC),
            Step(f"elsewhere: {change}", elsewhere=change),
            self._ended(describe("S", name) + self._used(name), f"use {name!r}"),
        ]

    def _rest(self) -> Program:
        count = self._random.randint(1, 3)
        return [Step(f"{count} Sync", SYNC * count)]

    def _function_call(self) -> Program:
        oid, argument = self._one_of((1230, bytes(7) + b"\5"), (1230, b"\0"), (1, b""))
        return [Step(f"call function {oid}", function_call(oid, argument))]

    # -- parts -------------------------------------------------------------------------

    def _parsed_and_used(self, name: str) -> Step:
        sql = self._sql(name)
        data = parse(sql, name=name)
        if self._happens(0.3):
            data += describe("S", name)
        return Step(f"prepare {name!r}, use: {sql}", data + self._used(name))

    def _used(self, name: str) -> bytes:
        count = self._arguments.get(name, 0)
        values = [str(self._random.randint(1, 9)) for _ in range(count)]
        if self._happens(0.05):
            values.append("1")  # one too many
        described = describe("P") if self._happens(0.5) else b""
        return bind(*values, statement=name) + described + execute()

    def _ended(self, what: Step | bytes, text: str = "") -> Step:
        step = what if isinstance(what, Step) else Step(text, what)
        ends = {"Sync": SYNC, "Flush": FLUSH, "no end": b""}
        name = self._random.choices(list(ends), (7, 2, 1))[0]
        return Step(f"{step.text}, {name}", step.data + ends[name])

    def _sql(self, name: str) -> str:
        sql = self._one_of(*_PLAIN, *_REVEALING, *_FAILING[:2])
        self._arguments[name] = sql.count("$")
        return sql

    def _set(self) -> str:
        name = self._one_of(*_VALUES)
        value = self._one_of(*_VALUES[name])
        literal = value if value.startswith("'") else "'" + value + "'"
        return self._one_of(
            f"set {name} to {value}",
            f"set {name} to {value}",
            f"set local {name} to {value}",
            f"select set_config('{name}', {literal}, false)",
            f"select set_config('{name}', {literal}, true)",
            f"reset {name}",
            "reset all",
        )

    def _name(self) -> str:
        return self._one_of(*_NAMES)

    def _one_of(self, *choices: _T) -> _T:
        return self._random.choice(choices)

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability


def _simple(sql: str) -> Step:
    return Step(f"query {sql!r}", query(sql))


def _sync() -> Step:
    return Step("Sync", SYNC)
