"""The faults of a soak: what is done, for how long, and which errors it explains.

One fault at a time. Its window begins with it and ends when what it broke has had
time to be noticed; only then comes the next. So an error of a client has one fault
that can have caused it, or none: that is what *unexplained* means.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from bench.emulated import Cluster
from bench.soak_tally import Incident

LOST = frozenset({"08006", "08007"})
"""What the proxy says of an upstream that was lost with something under way."""

LATE = LOST | {"57P01"}
"""... or of a session that could not get another upstream before its limit."""

REFUSED = frozenset({"08001", "57P03"})
"""What a client hears that comes while there is no server to come to."""

NOTICE_SECONDS = 3.0
"""How long after a fault an error of it may come to light: a client may have been
busy, or asleep within a transaction."""

HARD_SECONDS = 8.0
"""... where the server itself is gone for a while: psycopg waits 5 s for the end of a
statement that was cancelled."""

_TOLD_BEFORE = (
    *("connection is closed", "the connection is lost", "consuming input failed"),
    *("exit pipeline mode while busy", "another operation (2) is in progress"),
    "release() called on a free connection holder",
)
"""What psycopg and asyncpg say, without an SQLSTATE, of a connection whose FATAL they
have had: at the next statement; in a pipeline or a COPY, where psycopg finds the closed
socket first; asyncpg between the FATAL and the end; and its pool, which takes such a
connection back when it closes and is then given it once more. (In the middle of a row
no FATAL can be sent at all.) Programs and bare sockets have no such excuse."""

_PAUSE_SECONDS = (0.3, 1.5)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What faults act upon."""

    cluster: Cluster
    direct_dsn: str
    """A superuser's way to the PostgreSQL behind the emulator."""
    session_limit: float
    random: random.Random


Act = Callable[[Surroundings], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault."""

    name: str
    act: Act
    explains: frozenset[str]
    """The SQLSTATEs of the errors that clients may see for it."""
    notice_seconds: float = NOTICE_SECONDS


@dataclass(slots=True)
class Window:
    """One fault that was done, and from when to when it explains errors."""

    fault: Fault
    began_at: float
    ended_at: float = float("inf")
    errors: int = 0

    def contains(self, incident: Incident) -> bool:
        """Say if an error came to light in its time."""
        return self.began_at <= incident.at <= self.ended_at

    def explains(self, incident: Incident) -> bool:
        """Say if the fault can have caused an error."""
        if not self.contains(incident):
            return False
        if incident.sqlstate:
            return incident.sqlstate in self.fault.explains
        is_lost = not LOST.isdisjoint(self.fault.explains)
        return is_lost and any(words in incident.text for words in _TOLD_BEFORE)


@dataclass(slots=True)
class History:
    """All faults of a run."""

    windows: list[Window] = field(default_factory=list)

    def cause_of(self, incident: Incident) -> Window | None:
        """Give the fault that an error comes from; None if no fault explains it."""
        return next((one for one in self.windows if one.explains(incident)), None)


# -- what is done ----------------------------------------------------------------------


def _for_a_while(word: str, seconds: float) -> Act:
    """Put one of the emulator's faults in force, and end it again."""

    async def act(around: Surroundings) -> None:
        around.cluster.tell(f"fault {word}")
        await asyncio.sleep(seconds)
        around.cluster.tell("clear")

    return act


def _command(line: str) -> Act:
    async def act(around: Surroundings) -> None:
        around.cluster.tell(line)

    return act


async def _backends(around: Surroundings) -> list[int]:
    query = "select pid from pg_stat_activity where usename = 'admin'"
    async with await psycopg.AsyncConnection.connect(around.direct_dsn) as connection:
        rows = await (await connection.execute(query)).fetchall()
    return [pid for (pid,) in rows]


async def _terminate_a_third(around: Surroundings) -> None:
    pids = await _backends(around)
    chosen = around.random.sample(pids, (len(pids) + 2) // 3)
    async with await psycopg.AsyncConnection.connect(around.direct_dsn) as connection:
        await connection.execute(
            "select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", (chosen,)
        )


async def _kill_one(around: Surroundings) -> None:
    """Kill one process of PostgreSQL, which then ends and restarts all of them."""
    if pids := await _backends(around):
        os.kill(around.random.choice(pids), signal.SIGKILL)


async def _stop_for_a_second(around: Surroundings) -> None:
    """Have the whole cluster stand still, as a network does that loses everything."""
    os.kill(around.cluster.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(1.0)
    finally:
        os.kill(around.cluster.pid, signal.SIGCONT)


FAULTS = (
    Fault("pg_terminate_backend", _terminate_a_third, LATE),
    Fault("close-after:0.2", _for_a_while("close-after:0.2", 1.0), LOST | REFUSED),
    Fault("SIGKILL", _kill_one, LATE | REFUSED | {"57P02"}, HARD_SECONDS),
    Fault("fatal:57P05", _for_a_while("fatal:57P05", 0.5), LOST | {"57P05"}),
    Fault("reset-after:20000", _for_a_while("reset-after:20000", 1.0), LOST | REFUSED),
    Fault("stop for 1 s", _stop_for_a_second, LATE | REFUSED, HARD_SECONDS),
    Fault("expire-sessions", _command("expire-sessions"), LOST | REFUSED),
    Fault("fatal-sessions 57P02", _command("fatal-sessions 57P02"), LOST | {"57P02"}),
    # What stalls has to be closed at the limit: nothing else ever ends it.
    Fault(
        "stall-after:5000", _for_a_while("stall-after:5000", 0.5), LATE, HARD_SECONDS
    ),
    Fault("waking-up:1", _for_a_while("waking-up:1", 1.0), LATE),
    Fault(
        "too-many-connections:40",
        _for_a_while("too-many-connections:40", 1.0),
        LATE | {"53300"},
    ),
    Fault("slow-login:0.5", _for_a_while("slow-login:0.5", 2.0), LATE),
)
"""In this order the first time, so that a short run has the hard ones."""


async def play_faults(
    around: Surroundings,
    history: History,
    *,
    until: float,
    faults: Sequence[Fault] = FAULTS,
) -> None:
    """Do one fault after another until that time of the monotonic clock."""
    queue = list(faults)
    while True:
        fault = queue.pop(0)
        left = until - time.monotonic()
        if left < fault.notice_seconds and history.windows:
            return
        await _play(fault, around, history)
        await asyncio.sleep(around.random.uniform(*_PAUSE_SECONDS))
        if not queue:
            queue = around.random.sample(faults, len(faults))


async def _play(fault: Fault, around: Surroundings, history: History) -> None:
    window = Window(fault, time.monotonic())
    history.windows.append(window)
    await fault.act(around)
    await asyncio.sleep(fault.notice_seconds)
    window.ended_at = time.monotonic()
