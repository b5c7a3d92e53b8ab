"""``python -m bench``: run the benchmark, write ``docs/performance.md``."""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench.credentials import Scale, SourceLatency, Where, measure_latency
from bench.load import DATABASE, ROLE
from bench.measures import Plan, Results, measures, run_round
from bench.memory import Memory, measure_memory
from bench.page import render_page
from bench.processes import Account, BenchError
from bench.programs import Programs, describe
from bench.report import PROXY
from bench.servers import (
    INTERMEDIARIES,
    TEMPORARY,
    Postgres,
    Subject,
    Workplace,
    cluster_before,
    postgres,
)
from bench.swaps import (
    SwapResults,
    measure_pauses,
    measure_statements,
    measure_throughput,
)

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
SCALE = 10


def main() -> int:
    """Measure and write; the exit code is 1 when the proxy could not be measured."""
    args = _parse_arguments()
    signal.signal(signal.SIGTERM, _end_in_order)
    plan = Plan.quick() if args.quick else Plan()
    if args.rounds:
        plan = replace(plan, rounds=args.rounds)
    output = args.output or (None if args.quick or args.only else PAGE)
    try:
        programs = Programs.find(args.postgres_bin)
        page, has_failures = _run(plan, programs, only=args.only)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(page)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page)
        print(f"written to {output}", file=sys.stderr)
    return int(has_failures)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure dsqlproxy beside direct TLS, PgBouncer and stunnel.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="about a minute, for a look; writes no page unless --output is given",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="KEY",
        help="measure only these: simple-1, extended-8, simple-1-core, rows-small,"
        " rows-large, connects, memory, swap-pause, swap-tps, swap-memory,"
        " credentials; writes no page unless --output is given",
    )
    parser.add_argument("--rounds", type=int, help="rounds (default: 9)")
    parser.add_argument("--output", type=Path, help=f"the page (default: {PAGE.name})")
    parser.add_argument(
        "--postgres-bin",
        type=Path,
        help="directory of a PostgreSQL built with TLS (default: the newest installed)",
    )
    return parser.parse_args()


def _end_in_order(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # so that every block ends what it started


def _run(plan: Plan, programs: Programs, *, only: list[str]) -> tuple[str, bool]:
    results = Results()
    memory: dict[str, Memory] = {}
    swaps = SwapResults()
    latencies: list[SourceLatency] = []
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix=TEMPORARY)
        directory = Path(stack.enter_context(temporary))
        directory.chmod(0o755)  # the servers' user must get in
        place = Workplace(directory, Account.for_servers(), programs)
        server = stack.enter_context(postgres(place, scale=SCALE))
        if not only or "memory" in only:
            _measure_memory(plan, place, server, memory, results)
        _measure_swaps(plan, place, server, swaps, results, only=only)
        if not only or "credentials" in only:
            _measure_latency(plan, place, server, latencies, results)
        subjects = _start(stack, place, server, results)
        pids = [server.pid, *(pid for subject in subjects for pid in subject.pids)]
        planned = [
            (measure, run)
            for measure, run in measures(plan, programs, pids)
            if not only or measure.key in only
        ]
        for turn in range(plan.rounds):
            _say(f"round {turn + 1} of {plan.rounds}")
            run_round(planned, subjects, results, first=turn)
    page = render_page(
        environment=describe(programs),
        date=datetime.now(UTC).date(),
        plan=plan,
        measures=[measure for measure, _ in planned],
        results=results,
        memory=memory,
        swaps=swaps,
        latencies=latencies,
    )
    return page, any(what.startswith(PROXY) for what in results.failures)


def _measure_memory(
    plan: Plan,
    place: Workplace,
    server: Postgres,
    memory: dict[str, Memory],
    results: Results,
) -> None:
    for name, starter in INTERMEDIARIES.items():
        if "emulator" in name:
            continue  # the same proxy process; the emulator's memory is not ours
        _say(f"memory of {name}")
        try:
            memory[name] = measure_memory(starter, place, server, plan)
        except (OSError, BenchError) as error:
            results.failures[f"{name}, memory"] = str(error)


def _measure_swaps(
    plan: Plan,
    place: Workplace,
    server: Postgres,
    swaps: SwapResults,
    results: Results,
    *,
    only: list[str],
) -> None:
    def pause() -> None:
        for each in measure_pauses(place, server, plan):
            swaps.pauses.append(each)

    def tps() -> None:
        swaps.throughput = measure_throughput(place, server, plan)

    def statements() -> None:
        swaps.memory = measure_statements(place, server, plan)

    steps = {"swap-pause": pause, "swap-tps": tps, "swap-memory": statements}
    for key, step in steps.items():
        if only and key not in only:
            continue
        _say(key)
        try:
            step()
        except (OSError, BenchError) as error:
            results.failures[f"{PROXY}, {key}"] = str(error)


def _measure_latency(
    plan: Plan,
    place: Workplace,
    server: Postgres,
    latencies: list[SourceLatency],
    results: Results,
) -> None:
    scale = Scale(
        sessions=plan.latency_sessions,
        held=plan.latency_held,
        seconds=plan.latency_seconds,
    )
    try:
        with cluster_before(place, server, session_limit="60m") as cluster:
            where = Where(cluster, ROLE, DATABASE, place.new)
            latencies += measure_latency(
                where, scale, rounds=plan.latency_rounds, on_run=_say
            )
    except (OSError, BenchError) as error:
        results.failures[f"{PROXY}, credentials"] = str(error)


def _start(
    stack: ExitStack, place: Workplace, server: Postgres, results: Results
) -> list[Subject]:
    subjects = [server.direct]
    for name, starter in INTERMEDIARIES.items():
        try:
            subjects.append(stack.enter_context(starter(place, server)))
        except (OSError, BenchError) as error:
            results.failures[name] = str(error)
    return subjects


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
