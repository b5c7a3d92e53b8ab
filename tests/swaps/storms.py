"""Twins in a storm: one session direct, the other moved at every quiet moment.

Each pair has two databases of one server, so that neither sees what the other does,
and a proxy before the second. One statement of a program may be told by the two in
different ways: one that went stale (its table is gone or another). A swap that cannot
wait leaves it behind, and its next use answers 26000 (`docs/swap.md`). So where the
direct twin shows that a statement is stale, the first difference may be that one.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from random import Random

from dsqlproxy.emulator import backend
from dsqlproxy.emulator.backend import BackendAddress
from dsqlproxy.emulator.postgres import SUPERUSER, EmbeddedPostgres
from dsqlproxy.pgproto.messages import ErrorResponse
from tests.kit.frames import SYNC, bind, close, describe, execute, parse, query
from tests.kit.storm_programs import TABLES, Program, Step, random_program
from tests.kit.storm_runner import (
    Answer,
    Player,
    Transcript,
    Truth,
    Where,
    _difference,
    check_twins,
    elsewhere_on,
    play,
)
from tests.kit.swapping import CALM, DEFERRED, STORM, WARM, Swapping, swapping
from tests.swaps.wire import check_wire

Between = Callable[[Player], Awaitable[None]]

_SETS_DATE_STYLE = re.compile(rb"(?i)set (local )?datestyle|set_config.'datestyle'")
_SETS_SEARCH_PATH = re.compile(
    rb"(?i)set (local )?search_path|set_config.'search_path'"
)
_ENVIRONMENTS = (
    "DateStyle to 'ISO, MDY'",
    "DateStyle to 'SQL, DMY'",
    "DateStyle to 'German'",
    "TimeZone to 'Asia/Tokyo'",
    "TimeZone to 'UTC'",
    "IntervalStyle to sql_standard",
    "IntervalStyle to postgres",
    "standard_conforming_strings to off",
    "standard_conforming_strings to on",
)
_LITERALS = (
    "select '01/02/2020'::date - date '2000-01-01'",
    "select extract(epoch from timestamptz '2020-01-01 12:00')",
    "select extract(epoch from interval '-1 2:03:04')",
    r"select 'a\101'",
)
"""Each means something else under other settings, and says what it meant."""
_NAMES = ("", "a", "b", "c", "broken")
_NO_STATEMENT = "26000"
_STALE = frozenset({"0A000", "42P01", "42703"})
"""Another shape; no such table; no such column."""
_DUPLICATE = "42P05"


class Weather(StrEnum):
    """When the session of a program is moved."""

    AT_REST = "at rest"
    """At each quiet moment between two steps, once, waited for."""
    IN_PASSING = "in passing"
    """Asked for after each step, and the next step is held until it is done."""
    IN_FLIGHT = "in flight"
    """Asked for after each step, and the next one goes on meanwhile."""
    ALWAYS = "always"
    """Over and over."""
    PATIENT = "patient"
    """As at rest, but a stale statement puts the swap off."""


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a server."""

    address: BackendAddress

    async def execute(self, *statements: str) -> None:
        """Run statements as the superuser."""
        await backend.execute(self.address, *statements)


@dataclass
class Tally:
    """What a storm did."""

    programs: int = 0
    swaps: int = 0
    excused: int = 0
    """Programs that differed where a stale statement was used."""
    put_off: Counter[str] = field(default_factory=Counter)
    """Swaps that came to nothing, by reason."""

    def add(self, other: "Tally") -> None:
        """Add what another storm did."""
        self.programs += other.programs
        self.swaps += other.swaps
        self.excused += other.excused
        self.put_off += other.put_off

    def __str__(self) -> str:
        reasons = ", ".join(f"{n} x {why}" for why, n in self.put_off.most_common())
        return (
            f"{self.programs} programs, {self.swaps} swaps, {self.excused} cut short at"
            f" a stale statement; put off: {reasons or 'none'}"
        )


class Twins:
    """Two databases, and a proxy before the second one."""

    def __init__(
        self, postgres: EmbeddedPostgres, number: int, proxy: Swapping
    ) -> None:
        self._socket: Path = postgres.directory / ".s.PGSQL.5432"
        address = replace(postgres.address, user=SUPERUSER)
        names = (f"direct_{number}", f"moved_{number}")
        self.direct, self.moved = (
            Database(replace(address, database=name)) for name in names
        )
        self.proxy = proxy
        self.tally = Tally()
        self._player: Player | None = None
        self._random = Random()  # noqa: S311

    async def run(
        self, seed: int, program: Program | None = None, weather: Weather | None = None
    ) -> None:
        """Play a program twice; `AssertionError` where the twins differ."""
        program = program or storm_program(seed)
        weather = weather or weather_of(seed)
        self._random.seed(seed)
        stale: set[str] = set()

        async def look_for_stale(player: Player) -> None:
            if player.owed.is_nothing_open:
                stale.update(await _stale(player))

        direct = await self._play(program, self._socket, self.direct, look_for_stale)
        moved = await self._play_moved(program, weather)
        self.tally.programs += 1
        self.tally.excused += check_but_for_stale(seed, program, direct, moved, stale)

    async def _play_moved(self, program: Program, weather: Weather) -> Transcript:
        proxy = self.proxy
        # What was said to the last session's next upstream may pass late.
        await proxy.tamper.until(lambda: not proxy.tamper.open_numbers)
        proxy.tamper.seen.clear()
        proxy.events.all.clear()
        proxy.window = STORM if weather is Weather.ALWAYS else CALM

        async def between(player: Player) -> None:
            self._player = player
            await self._blow(weather, player)

        moved = await self._play(program, proxy.where, self.moved, between)
        assert self._player is not None, "a program has a step"
        check_wire(proxy.tamper.seen, self._player.said, self._player.heard)
        self.tally.swaps += proxy.swaps
        self.tally.put_off.update(
            str(each.fields["reason"]) for each in proxy.events.named(DEFERRED)
        )
        return moved

    async def _play(
        self, program: Program, where: Where, database: Database, between: Between
    ) -> Transcript:
        await database.execute(*TABLES)
        return await play(
            program,
            where,
            elsewhere=elsewhere_on(database),
            between=between,
            asks_for_truth=True,
            database=str(database.address.database),
        )

    async def _blow(self, weather: Weather, player: Player) -> None:
        """Move the session, or not, between two steps."""
        proxy = self.proxy
        if weather in {Weather.IN_PASSING, Weather.IN_FLIGHT}:
            proxy.swap_soon(window=STORM if weather is Weather.IN_PASSING else WARM)
        elif weather is not Weather.ALWAYS and player.owed.is_all_answered:
            # Nothing is on its way, so what the proxy thinks of the session will hold.
            kept = proxy.kept()
            is_quiet = kept.relay.at_swap_point
            assert is_quiet or kept.pin or not player.owed.is_nothing_open, "not quiet"
            window = WARM if weather is Weather.PATIENT else STORM
            # Twice in a row: what is told to a third upstream is older than the last.
            for _ in range(self._random.choice((1, 1, 2)) if is_quiet else 0):
                await proxy.swap(window=window)


# -- what is played --------------------------------------------------------------------


def weather_of(seed: int) -> Weather:
    """Give a seed's weather: each comes after each."""
    return tuple(Weather)[seed // 2 % len(Weather)]


def storm_program(seed: int, *, steps: int = 24) -> Program:
    """Give a seed's program; every second one changes tables.

    None changes both DateStyle and search_path: when the path has changed, PostgreSQL
    analyses a prepared statement anew at its next use, and so reads the dates in its
    text by the DateStyle of that moment (RevalidateCachedQuery; met by this storm).
    Whether it has done so nobody can ask, so the moved twin may read them in another
    way.
    """
    if seed % 5 == 4:
        return settings_program(seed)
    program = random_program(seed, steps=steps, changes_tables=bool(seed % 2))
    unwanted = (_SETS_DATE_STYLE, _SETS_SEARCH_PATH)[seed // 8 % 2]
    return [step for step in program if not unwanted.search(step.data)]


def settings_program(seed: int, *, steps: int = 16) -> Program:
    """Prepare literals under some settings, and use them under others, and others."""
    random = Random(seed)  # noqa: S311
    program: Program = []
    for _ in range(steps):
        name = random.choice("abc")
        move = random.choice(("set", "set", "prepare", "use", "use"))
        if move == "set":
            sql = f"set {random.choice(_ENVIRONMENTS)}"
            program.append(Step(sql, query(sql)))
        elif move == "prepare":
            sql = random.choice(_LITERALS)
            data = close("S", name) + SYNC + parse(sql, name=name) + SYNC
            program.append(Step(f"prepare {name}: {sql}", data))
        else:
            data = bind(statement=name) + execute() + SYNC
            program.append(Step(f"use {name}", data))
    return program


@asynccontextmanager
async def new_twins(
    postgres: EmbeddedPostgres, number: int = 0
) -> AsyncIterator[Twins]:
    """Make two databases, and run a proxy before the server (`swapping`).

    The number tells twins apart that live at the same time.
    """
    for name in (f"direct_{number}", f"moved_{number}"):
        await postgres.execute(
            f"drop database if exists {name} with (force)", f"create database {name}"
        )
    async with swapping(postgres) as proxy:
        proxy.tamper.is_hasty = True
        yield Twins(postgres, number, proxy)


# -- what may differ -------------------------------------------------------------------


async def _stale(player: Player) -> set[str]:
    """Give the names of the statements that the server cannot use any more."""
    # An INSERT, UPDATE or DELETE is described without a look at its table.
    asked = (describe("S", name) + bind(statement=name) + SYNC for name in _NAMES)
    said = await player.aside(b"".join(asked))
    units = iter(_NAMES)
    name, stale = next(units), set()
    for answer in said:
        if answer[0] == "E" and _sqlstate(answer) in _STALE:
            stale.add(name)
        elif answer[0] == "Z":
            name = next(units, "")
    return stale


def check_but_for_stale(
    seed: int, program: Program, direct: Transcript, moved: Transcript, stale: set[str]
) -> bool:
    """Check twins up to where one of the stale statements is used; say if one was."""
    told = _difference(direct.frames, moved.frames)
    is_excused = told is not None and _is_use_of(stale, told[1], told[2])
    if told is not None and is_excused:
        direct, moved = (_cut(one, told[0]) for one in (direct, moved))
    if stale:
        direct, moved = (_without(one, stale) for one in (direct, moved))
    check_twins(seed, program, direct, moved)
    return is_excused


def _is_use_of(stale: set[str], direct: Answer | None, moved: Answer | None) -> bool:
    if moved is not None and _sqlstate(moved) == _NO_STATEMENT:
        return _named_in(moved) in stale
    if direct is not None and _sqlstate(direct) == _DUPLICATE:
        return _named_in(direct) in stale
    return False


def _cut(transcript: Transcript, at: int) -> Transcript:
    """Give what comes before a frame, and the truths of the steps before its step."""
    end = transcript.answers[at][0]
    truths = {step: one for step, one in transcript.truths.items() if step < end}
    return replace(transcript, answers=transcript.answers[:at], truths=truths)


def _without(transcript: Transcript, stale: set[str]) -> Transcript:
    return replace(
        transcript,
        truths={step: _known(one, stale) for step, one in transcript.truths.items()},
    )


def _known(truth: Truth, stale: set[str]) -> Truth:
    return tuple(
        row
        for row in truth
        if not (row[0] == "statement" and row[1] in stale)
        and not (row[0] == "unnamed" and "" in stale)
    )


def _sqlstate(answer: Answer) -> str:
    return ErrorResponse.decode(answer[1]).sqlstate if answer[0] == "E" else ""


def _named_in(answer: Answer) -> str:
    """Give the statement that a message is about: '' for the unnamed one."""
    message = ErrorResponse.decode(answer[1]).message
    return message.partition('"')[2].partition('"')[0]
