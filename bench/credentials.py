"""How late the proxy's event loop is while a source of credentials hangs.

Sessions that are open ask something now and then, others come and log in, or wait for
it; meanwhile the source is well, is asked every second, hangs (or refuses), and is
well again, when all who wait are served at once. What counts is how long anything
else on the loop has to wait, measured on it (`bench.ticking`).
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg

from bench.emulated import Cluster, running_proxy
from bench.processes import BenchError, running
from bench.soak_log import percentile
from bench.sources import SOURCES, Source, running_source
from bench.ticking import Ticks

PHASES = ("healthy", "renewing", "hanging", "released")
"""In the order of a run. Renewing: the credentials live so briefly that they are
fetched every second. Released: from the end of the trouble until everybody who waited
is served."""

_REST_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0
_BEFORE_SECONDS = 0.25
"""Before the first of those who waited was served, all of them began to log in."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much goes on in a run."""

    sessions: int = 100
    arrivals_per_second: float = 20.0
    held: int = 200
    seconds: float = 4.0
    """Of each phase that has no end of its own."""
    brief_seconds: float = 3.0
    """How long credentials live that are to be renewed all the time. botocore cuts off
    parts of a second, and those with less than one left cannot sign: 2 is too few."""


@dataclass(frozen=True, slots=True)
class Where:
    """The cluster, as whom to log in, and where to put files."""

    cluster: Cluster
    role: str
    database: str
    new_directory: Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class Late:
    """How late the loop was in one phase, in milliseconds."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Late":
        """Sum it up; `BenchError` of nothing."""
        if not seconds:
            msg = "the loop of the proxy did not tick"
            raise BenchError(msg)
        p50, p99, longest = (percentile(seconds, each) for each in (50, 99, 100))
        return cls(p50 * 1000, p99 * 1000, longest * 1000)


@dataclass(frozen=True, slots=True)
class LatencyRun:
    """One run: the proxy's loop, and an idle one beside it, phase by phase."""

    proxy: Mapping[str, Late]
    idle: Mapping[str, Late]
    errors: int = 0
    """Of clients; there should be none."""


@dataclass(frozen=True, slots=True)
class SourceLatency:
    """What was measured with one source, run by run."""

    source: str
    runs: list[LatencyRun] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """What clients met in all runs."""
        return sum(run.errors for run in self.runs)

    def p50(self, phase: str) -> float:
        """Give the median over all runs."""
        return median(run.proxy[phase].p50 for run in self.runs)

    def p99(self, phase: str) -> float:
        """Give the median over all runs."""
        return median(run.proxy[phase].p99 for run in self.runs)

    def longest(self, phase: str) -> float:
        """Give the longest of all runs."""
        return max(run.proxy[phase].longest for run in self.runs)

    def idle_p99(self, phase: str) -> float:
        """Give the median over all runs of what an idle loop has."""
        return median(run.idle[phase].p99 for run in self.runs)

    def ratio(self, phase: str) -> float:
        """Compare p99 with the healthy phase: the median of the ratios of each run."""
        return median(
            run.proxy[phase].p99 / run.proxy[PHASES[0]].p99 for run in self.runs
        )


# -- a run -----------------------------------------------------------------------------


def measure_latency(
    where: Where, scale: Scale, *, rounds: int, on_run: Callable[[str], None]
) -> Iterator[SourceLatency]:
    """Measure every source once, and then again; ``on_run`` is told which comes."""
    found = [SourceLatency(name) for name in SOURCES]
    for _ in range(rounds):
        for each in found:
            on_run(each.source)
            each.runs.append(measure_source(each.source, where, scale))
    yield from found


def measure_source(name: str, where: Where, scale: Scale) -> LatencyRun:
    """Run a proxy with one source through all phases."""
    home, beside = where.new_directory("ticking"), where.new_directory("idle")
    ticks, idle_ticks = home / "ticks", beside / "ticks"
    idle = [sys.executable, "-m", "bench.ticking", str(idle_ticks)]
    listener = {
        **where.cluster.listener,
        "role": where.role,
        "database": "client",
        "unsupported_parameters": "pass",
        "hold_timeout": "60s",
    }
    with (
        running_source(
            name,
            keys=where.cluster.credentials,
            directory=where.new_directory("home"),
        ) as source,
        running(idle, log_file=beside / "log"),
        running_proxy(
            home,
            listener=listener,
            credentials=source.environment,
            log_level="info",
            program=("bench.ticking", str(ticks)),
        ) as proxy,
    ):
        dsn = f"host={proxy.host} port={proxy.port} user={where.role}"
        run = _Run(f"{dsn} dbname={where.database}", source, scale, proxy.log_file)
        try:
            asyncio.run(run.go())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
    return LatencyRun(
        _late(run.phases, ticks), _late(run.phases, idle_ticks), run.errors
    )


def _late(
    phases: Mapping[str, tuple[float, float]], ticks_file: Path
) -> dict[str, Late]:
    ticks = Ticks(ticks_file)
    return {
        phase: Late.of(ticks.late_between(begin, end))
        for phase, (begin, end) in phases.items()
    }


class _Run:
    """The clients of one run, and when each phase began and ended."""

    def __init__(self, dsn: str, source: Source, scale: Scale, log_file: Path) -> None:
        self._dsn = dsn
        self._source = source
        self._scale = scale
        self._log_file = log_file
        self._is_over = asyncio.Event()
        self._open = 0
        self._served: list[float] = []
        self._came = 0
        self.phases: dict[str, tuple[float, float]] = {}
        self.errors = 0

    async def go(self) -> None:
        """Go through all phases."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._scale.sessions):
                wait_seconds = _REST_SECONDS * number / self._scale.sessions
                group.create_task(self._stay(wait_seconds))
            await self._until(lambda: self._open == self._scale.sessions)
            await asyncio.sleep(_REST_SECONDS)
            await self._pass(group, "healthy")
            await self._renew(group)
            await self._hang(group)
            self._is_over.set()

    async def _renew(self, group: asyncio.TaskGroup) -> None:
        giving = self._source.operations[-1]
        keeping = asyncio.Event()

        async def give() -> None:
            while not keeping.is_set():
                self._source.live(self._scale.brief_seconds)
                await asyncio.sleep(self._scale.brief_seconds / 10)

        giver = group.create_task(give())
        self._source.live(self._scale.brief_seconds)
        calls = giving.calls
        self._source.nudge()
        # The second call shows that the first has brought what lives so briefly.
        await giving.wait_for_calls(calls + 2, _PATIENCE_SECONDS)
        await self._pass(group, "renewing")
        keeping.set()
        await giver

    async def _hang(self, group: asyncio.TaskGroup) -> None:
        held = self._held()
        self._source.fail()
        await asyncio.sleep(self._scale.brief_seconds + _REST_SECONDS)
        self._arrive(group)
        await self._until(lambda: self._held() > held)
        self._served.clear()
        came = self._came - 1
        await self._pass(group, "hanging")
        while self._came - came < self._scale.held:
            self._arrive(group)
        await self._until(lambda: self._held() - held >= self._scale.held)
        begin = time.monotonic()
        self._source.recover()
        await self._until(lambda: len(self._served) >= self._came - came)
        begin = max(begin, self._served[0] - _BEFORE_SECONDS)
        self.phases["released"] = (begin, self._served[-1])

    async def _pass(self, group: asyncio.TaskGroup, phase: str) -> None:
        """Let time pass while clients come."""
        begin = time.monotonic()
        end = begin + self._scale.seconds
        while time.monotonic() < end:
            self._arrive(group)
            await asyncio.sleep(1 / self._scale.arrivals_per_second)
        self.phases[phase] = (begin, end)

    def _arrive(self, group: asyncio.TaskGroup) -> None:
        self._came += 1
        group.create_task(self._visit())

    def _held(self) -> int:
        """How many were told to wait, since the start."""
        whole_lines, _, _ = self._log_file.read_text().rpartition("\n")
        events = map(json.loads, whole_lines.splitlines())
        held = {each["session"] for each in events if each["event"] == "session held"}
        return len(held)

    # -- clients -----------------------------------------------------------------------

    async def _stay(self, wait_seconds: float) -> None:
        """Ask something twice a second, until it is over."""
        try:
            async with await self._connect() as connection:
                self._open += 1
                await asyncio.sleep(wait_seconds)
                while not self._is_over.is_set():
                    await connection.execute("select 1")
                    await asyncio.sleep(_REST_SECONDS)
        except psycopg.Error as error:
            self._note(error)

    async def _visit(self) -> None:
        """Log in, ask something, and leave."""
        try:
            async with await self._connect() as connection:
                self._served.append(time.monotonic())
                await connection.execute("select 1")
        except psycopg.Error as error:
            self._note(error)

    async def _connect(self) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, connect_timeout=120
        )

    def _note(self, error: psycopg.Error) -> None:
        print(f"bench: a client met {error}", file=sys.stderr)
        self.errors += 1

    async def _until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not condition():  # noqa: ASYNC110 - also the log is looked at
                    await asyncio.sleep(0.01)
        except TimeoutError:
            msg = "the clients were not where they should be in time"
            raise BenchError(msg) from None
