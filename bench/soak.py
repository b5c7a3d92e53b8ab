"""A long mixed load on one proxy, over thousands of session limits, then under faults.

    python -m bench.soak --minutes 10

PostgreSQL, an emulated cluster with a session limit of a few seconds, and the proxy
run as processes of their own. Clients of many kinds work through the proxy at the
same time (`bench.soak_load`), writers keep a ledger of their ids. In the second half
upstreams die in many ways (`bench.soak_faults`). In the end there is a table, and
exit code 1 if any of its conditions does not hold.

The ledger is that of the tests (`tests.kit.ledger`): a soak runs in the checkout, and
what counts as lost or doubled must be the same in both.
"""

import argparse
import asyncio
import contextlib
import logging
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from bench.emulated import (
    ENDING_SECONDS,
    UNLIMITED,
    Cluster,
    RunningProxy,
    emulated_cluster,
    running_proxy,
)
from bench.processes import BenchError
from bench.soak_faults import History, Surroundings, play_faults
from bench.soak_growth import FILES_ALLOWANCE, Growth, Sample, growths
from bench.soak_load import run_load
from bench.soak_log import ProxyLog
from bench.soak_programs import TABLES, make_tables
from bench.soak_report import Books, Outcome, report
from bench.soak_tally import Place, ServerSaid, Tally
from dsqlproxy.emulator.postgres import EmbeddedPostgres, PostgresUnavailable
from tests.kit.ledger import Ledger, Writes

SESSION_LIMIT = 5.0
SAMPLE_SECONDS = 1.0

# A commit that was acknowledged must outlive the death of a PostgreSQL process. The
# embedded server is told otherwise on its command line, for speed.
_DURABLE = "alter database postgres set synchronous_commit = on"

_BALANCES = (
    "select (select sum(abalance) from pgbench_accounts)"
    " = (select coalesce(sum(delta), 0) from pgbench_history)"
)


class Soak:
    """One run; it owns nothing but what it has noted."""

    def __init__(self, *, minutes: float, session_limit: float, seed: int) -> None:
        self.minutes = minutes
        self.session_limit = session_limit
        self.seed = seed
        self.tally = Tally()
        self.history = History()
        self.books = Books()
        self.samples: list[Sample] = []

    async def run(self, directory: Path) -> Outcome:
        """Run the load; say what happened."""
        async with contextlib.AsyncExitStack() as stack:
            starting = EmbeddedPostgres.start(cluster_sql=(_DURABLE, *TABLES))
            postgres = await stack.enter_async_context(starting)
            direct = f"host={postgres.directory} port=5432 user=postgres"
            direct += " dbname=postgres"
            cluster = stack.enter_context(self._cluster(postgres, directory))
            proxy = stack.enter_context(self._proxy(cluster, directory))
            make_tables(Place(proxy.host, proxy.port))
            around = Surroundings(
                cluster,
                direct_dsn=direct,
                session_limit=self.session_limit,
                random=random.Random(self.seed),  # noqa: S311 - of faults, not of keys
            )
            faults_begin_at = datetime.now(UTC) + timedelta(minutes=self.minutes / 2)
            grown = await self._under_load(proxy, around)
            await self._check_accounts(direct)
        lines = proxy.log_file.read_text(errors="replace").splitlines()
        return Outcome(
            minutes=self.minutes,
            session_limit=self.session_limit,
            seed=self.seed,
            tally=self.tally,
            history=self.history,
            log=ProxyLog.read(lines, faults_began_at=faults_begin_at),
            books=self.books,
            grown=grown,
        )

    def _cluster(
        self, postgres: EmbeddedPostgres, directory: Path
    ) -> contextlib.AbstractContextManager[Cluster]:
        home = directory / "emulator"
        home.mkdir()
        backend = f"postgresql:///postgres?host={postgres.directory}"
        limit = f"{self.session_limit:g}s"
        return emulated_cluster(
            home, "--backend", backend, "--session-limit", limit, "--log-level=warning"
        )

    def _proxy(
        self, cluster: Cluster, directory: Path
    ) -> contextlib.AbstractContextManager[RunningProxy]:
        home = directory / "proxy"
        home.mkdir()
        listener = {
            **cluster.listener,
            "session_limit": f"{self.session_limit:g}s",
            "max_connect_rate": UNLIMITED,
        }
        return running_proxy(
            home,
            listener=listener,
            credentials=cluster.credentials,
            log_level="info",
            must_end_in_order=True,
        )

    # -- the load --------------------------------------------------------------------

    async def _under_load(
        self, proxy: RunningProxy, around: Surroundings
    ) -> list[Growth]:
        place = Place(proxy.host, proxy.port)
        before = await _idle(proxy.pid, files=0)
        async with Ledger.create(around.direct_dsn, writer="admin") as ledger:
            stop = threading.Event()
            with run_load(place, self.tally, stop):
                await self._write(ledger, place, proxy, around)
                stop.set()
            check = await ledger.check()
            self.books.said = Counter(
                {str(outcome): count for outcome, count in ledger.counts.items()}
            )
            self.books.wrong = Counter(
                {
                    "ids lost": check.missing,
                    "ids doubled": check.doubled,
                    "ids of failed work that are there": check.failed_but_present,
                    "ids that nobody wrote": check.foreign,
                }
            )
        after = await _idle(proxy.pid, files=before.files + FILES_ALLOWANCE)
        return growths(before, self.samples, after)

    async def _write(
        self, ledger: Ledger, place: Place, proxy: RunningProxy, around: Surroundings
    ) -> None:
        """Run the writers, the faults and the sampling, until the time is over."""
        stop = asyncio.Event()
        now = time.monotonic()
        half, ends_at = now + self.minutes * 30, now + self.minutes * 60
        async with asyncio.TaskGroup() as group:
            for way in Writes:
                group.create_task(ledger.write(place.dsn, way, stop=stop))
            async with self._watched(ledger, group):
                await self._sample_until(half, proxy, ends_at)
                faults = group.create_task(
                    play_faults(around, self.history, until=ends_at)
                )
                await self._sample_until(ends_at, proxy, ends_at)
                await faults
                stop.set()

    @contextlib.asynccontextmanager
    async def _watched(
        self, ledger: Ledger, group: asyncio.TaskGroup
    ) -> AsyncIterator[None]:
        """Note the errors of the ledger's writers when they happen."""

        async def watch() -> None:
            seen = 0
            while True:
                await ledger.news.wait()
                ledger.news.clear()
                for one in ledger.failures[seen:]:
                    text = f"{one.message} ({one.outcome})"
                    self.tally.note_incident("ledger", one.sqlstate, text)
                seen = len(ledger.failures)

        watcher = group.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()

    async def _sample_until(
        self, instant: float, proxy: RunningProxy, ends_at: float
    ) -> None:
        while (left := instant - time.monotonic()) > 0:
            await asyncio.sleep(min(left, SAMPLE_SECONDS))
            self.samples.append(Sample.of(proxy.pid))
            _show_progress(self.tally, self.samples[-1], ends_at - time.monotonic())

    async def _check_accounts(self, direct_dsn: str) -> None:
        async with await psycopg.AsyncConnection.connect(direct_dsn) as connection:
            cursor = await connection.execute(_BALANCES)
            is_balanced = await cursor.fetchone() == (True,)
        self.books.wrong["accounts of pgbench out of balance"] = int(not is_balanced)


async def _idle(pid: int, *, files: int) -> Sample:
    """Give a sample once a proxy without clients has no more files than these."""
    deadline = time.monotonic() + ENDING_SECONDS
    await asyncio.sleep(1.0)
    sample = Sample.of(pid)
    while files and sample.files > files and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        sample = Sample.of(pid)
    return sample


def _show_progress(tally: Tally, sample: Sample, left: float) -> None:
    if sys.stderr.isatty():
        done = sum(tally.operations.values())
        memory = sample.memory_bytes / (1 << 20)
        text = f"{left:6.0f} s left, {done:,} operations, {memory:.0f} MiB"
        print(f"\r{text}, {sample.files} files ", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="how long (default: 10)"
    )
    parser.add_argument(
        "--session-limit",
        type=float,
        default=SESSION_LIMIT,
        metavar="SECONDS",
        help=f"of the cluster and the proxy (default: {SESSION_LIMIT:g})",
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="of the faults (default: any)"
    )
    parser.add_argument(
        "--keep", type=Path, help="keep the logs in this directory, which must be new"
    )
    args = parser.parse_args(arguments)
    if args.minutes <= 0 or args.session_limit <= 0:
        parser.error("--minutes and --session-limit must be more than 0")
    seed = random.randrange(10**6) if args.seed is None else args.seed  # noqa: S311
    # Drivers log, some with a traceback, what their errors tell; those are counted.
    logging.disable()
    soak = Soak(minutes=args.minutes, session_limit=args.session_limit, seed=seed)
    try:
        with _directory(args.keep) as directory:
            outcome = asyncio.run(soak.run(directory))
    except (BenchError, PostgresUnavailable, ServerSaid, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("soak: interrupted", file=sys.stderr)
        return 130
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(report(outcome))
    return 0 if outcome.has_passed else 1


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="dsqlproxy-soak-") as name:
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main())
