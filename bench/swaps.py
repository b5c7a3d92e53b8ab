"""What swaps cost: the pause that a client may notice, throughput, memory.

The pause is taken twice: as the proxy's log tells it, and from the client's side. A
client asks ``select pg_backend_pid()`` again and again; the first answer with another
number belongs to the statement that met the swap.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg

from bench.delay import far_away
from bench.emulated import Cluster
from bench.load import DATABASE, ROLE, Route, run_pgbench
from bench.measures import Plan, opened
from bench.processes import BenchError, resident_bytes
from bench.servers import (
    Postgres,
    Subject,
    Workplace,
    cluster_before,
    proxy,
    proxy_before,
)
from bench.soak_log import ProxyLog, percentile

SESSION_LIMIT = 5.0
ROUND_TRIPS_MS = (0, 60)
STATEMENTS = 50
CLIENTS = 8

_KINDS = {"idle": 0.5, "busy": 0.005}
"""Seconds between an answer and the next statement. The first pauses for longer than
a quiet moment has to last, so it is swapped in one. The second never does, so the
proxy has to insist."""

_FIRST_SESSIONS = 20
"""Open before memory is looked at: the first ones bring in code and buffers."""

_SETTLE_SECONDS = 0.5

_STATEMENT = (
    "select abalance from pgbench_accounts where aid = $1 and bid = $2 and"
    " filler is not null /* statement {} of an application */"
)


@dataclass(slots=True)
class Pause:
    """The swaps of one kind of session, at one distance."""

    kind: str
    round_trip_ms: int
    logged_ms: list[float] = field(default_factory=list)
    met_ms: list[float] = field(default_factory=list)
    """How long each statement took that was the first after a swap."""
    other_ms: list[float] = field(default_factory=list)
    """... and each of the others."""
    errors: int = 0

    @property
    def usual_ms(self) -> float:
        """How long a statement takes."""
        return median(self.other_ms) if self.other_ms else float("nan")

    def noticed_ms(self, percent: float) -> float:
        """How much longer than usual a statement took that met a swap."""
        return percentile(self.met_ms, percent) - self.usual_ms


@dataclass(slots=True)
class Throughput:
    """Pairs of runs, one with a session limit and one without."""

    pairs: list[tuple[float, float]] = field(default_factory=list)
    """Transactions per second with a limit, and without."""
    swaps: int = 0

    @property
    def ratio(self) -> float | None:
        """With a limit against without: the median of the ratios within each pair."""
        return median(a / b for a, b in self.pairs) if self.pairs else None


@dataclass(frozen=True, slots=True)
class StatementMemory:
    """What sessions with prepared statements take, in bytes."""

    sessions: int
    statement_bytes: int
    per_bare_session: float
    per_full_session: float


@dataclass(slots=True)
class SwapResults:
    """All of it, as far as it was measured."""

    pauses: list[Pause] = field(default_factory=list)
    throughput: Throughput | None = None
    memory: StatementMemory | None = None


# -- pause -----------------------------------------------------------------------------


def measure_pauses(place: Workplace, server: Postgres, plan: Plan) -> Iterator[Pause]:
    """Measure each kind of session at each distance, one after another."""
    limit = f"{SESSION_LIMIT:g}s"
    with cluster_before(place, server, session_limit=limit) as cluster:
        for round_trip_ms in ROUND_TRIPS_MS:
            seconds = round_trip_ms / 2000
            to = f"{cluster.host}:{cluster.port}"
            with far_away(place.new("delay"), to=to, seconds=seconds) as far:
                port = far if round_trip_ms else cluster.port
                for kind in _KINDS:
                    pause = Pause(kind, round_trip_ms)
                    _measure_pause(pause, place, cluster, plan, port=port)
                    yield pause


def _measure_pause(
    pause: Pause, place: Workplace, cluster: Cluster, plan: Plan, *, port: int
) -> None:
    with proxy_before(
        place,
        cluster,
        session_limit=f"{SESSION_LIMIT:g}s",
        connect_address=f"{cluster.host}:{port}",
        log_level="info",
    ) as run:
        dsn = f"host={run.host} port={run.port} user={ROLE} dbname={DATABASE}"
        asyncio.run(_ask_all(pause, dsn, plan))
    pause.logged_ms = swaps_in(run.log_file).pauses_ms


async def _ask_all(pause: Pause, dsn: str, plan: Plan) -> None:
    count = plan.swap_sessions
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            # Not all at the same age: they would log in again together.
            wait_seconds = SESSION_LIMIT * number / count
            group.create_task(_ask(pause, dsn, plan, wait_seconds=wait_seconds))


async def _ask(pause: Pause, dsn: str, plan: Plan, *, wait_seconds: float) -> None:
    await asyncio.sleep(wait_seconds)
    try:
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        async with connection:
            ends_at = time.perf_counter() + plan.swap_seconds
            last = None
            while time.perf_counter() < ends_at:
                began_at = time.perf_counter()
                cursor = await connection.execute("select pg_backend_pid()")
                pid = await cursor.fetchone()
                took_ms = (time.perf_counter() - began_at) * 1000
                has_swapped = last not in (None, pid)
                (pause.met_ms if has_swapped else pause.other_ms).append(took_ms)
                last = pid
                await asyncio.sleep(_KINDS[pause.kind])
    except psycopg.Error:
        pause.errors += 1


def swaps_in(log_file: Path) -> ProxyLog:
    """Read what a proxy's log says of its swaps."""
    return ProxyLog.read(log_file.read_text().splitlines())


# -- throughput ------------------------------------------------------------------------


def measure_throughput(place: Workplace, server: Postgres, plan: Plan) -> Throughput:
    """Run pgbench with a session limit and without, in turn."""
    limit = f"{SESSION_LIMIT:g}s"
    found = Throughput()
    with (
        cluster_before(place, server, session_limit=limit) as near_its_end,
        cluster_before(place, server, session_limit="60m") as young,
        proxy_before(
            place, near_its_end, session_limit=limit, log_level="info"
        ) as swapping,
        proxy_before(place, young, session_limit="60m", log_level="info") as resting,
    ):
        for number in range(plan.swap_pairs):
            order = (swapping, resting) if number % 2 else (resting, swapping)
            speeds = {
                run.port: run_pgbench(
                    place.programs.pgbench,
                    Route(run.port),
                    clients=CLIENTS,
                    seconds=plan.swap_run_seconds,
                ).tps
                for run in order
            }
            found.pairs.append((speeds[swapping.port], speeds[resting.port]))
        found.swaps = swaps_in(swapping.log_file).swaps["completed"]
    return found


# -- memory ----------------------------------------------------------------------------


def measure_statements(
    place: Workplace, server: Postgres, plan: Plan
) -> StatementMemory:
    """Open many sessions, then prepare statements in each of them."""
    texts = [_STATEMENT.format(number) for number in range(STATEMENTS)]
    count = plan.statement_sessions
    with proxy(place, server) as subject, contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(opened(subject.route)) for _ in range(_FIRST_SESSIONS)
        ]
        start = _settled_memory(subject)
        sessions += [stack.enter_context(opened(subject.route)) for _ in range(count)]
        bare = _settled_memory(subject)
        for session in sessions[_FIRST_SESSIONS:]:
            session.prepare(texts)
        full = _settled_memory(subject)
    return StatementMemory(
        sessions=count,
        statement_bytes=len(texts[-1]),
        per_bare_session=(bare - start) / count,
        per_full_session=(full - start) / count,
    )


def _settled_memory(subject: Subject) -> int:
    """Read what is resident, once the process is at rest.

    Not its proportional share: that grows when another program ends that shared a
    library with it.
    """
    time.sleep(_SETTLE_SECONDS)
    found = resident_bytes(subject.pid) if subject.pid else None
    if found is None:
        msg = "the memory of a process cannot be read: this needs Linux's /proc"
        raise BenchError(msg)
    return found
