"""A long mixed load on one proxy, which may not grow by it.

    python -m bench.soak --minutes 10

An emulated cluster and the proxy run as processes of their own. Clients of many kinds
work through the proxy at the same time (`bench.soak_load`); every few seconds its
memory, open files and threads are looked at. In the end there is a table, and exit
code 1 if anything happened that is not explained, or anything grew beyond its bound.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import BenchError, resident_bytes, running, wait_until
from bench.soak_load import Place, Tally, pgbench, run_load

SAMPLE_SECONDS = 2.0
IDLE_SECONDS = 30.0
"""How long the proxy may take to close everything once the clients have left."""

MEMORY_FACTOR = 1.05
MEMORY_ALLOWANCE_BYTES = 6 << 20
"""Memory under load: the last quarter of the run against the second one. (In the
first, buffers and caches fill; what then still grows, grows for ever.)"""

FILES_ALLOWANCE = 8
THREADS_ALLOWANCE = 4
"""Open files and threads: idle after the load, against idle before it."""

_CREDENTIALS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process used at one moment."""

    memory_bytes: int
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Sample":
        """Look at a process; `BenchError` where that is not possible."""
        directory = Path("/proc") / str(pid)
        try:
            files = len(os.listdir(directory / "fd"))
            threads = len(os.listdir(directory / "task"))
        except OSError:
            msg = f"process {pid} cannot be looked at: this needs Linux's /proc"
            raise BenchError(msg) from None
        return cls(resident_bytes(pid) or 0, files, threads)


@dataclass(frozen=True, slots=True)
class Growth:
    """What the samples say of one resource."""

    name: str
    start: float
    middle: float
    end: float
    idle: float
    bound: float
    compared: float
    """The value that the bound is for."""

    @property
    def is_within_bound(self) -> bool:
        """Whether it did not grow beyond what is allowed."""
        return self.compared <= self.bound


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxy under load."""

    place: Place
    pid: int
    log_file: Path


@contextlib.contextmanager
def emulated_cluster(directory: Path) -> Iterator[dict[str, Any]]:
    """Run an emulator without SQL rules and without a limit of connects."""
    ready_file = directory / "emulator.json"
    log_file = directory / "emulator.log"
    command = [sys.executable, "-m", "dsqlproxy", "emulator", "--rules", "off"]
    command += ["--connect-rate", "100000", "--connect-burst", "100000"]
    command += ["--ready-file", str(ready_file)]
    with running(command, log_file=log_file) as process:
        wait_until(ready_file.exists, process, log_file=log_file)
        yield json.loads(ready_file.read_text())


@contextlib.contextmanager
def proxy_before(cluster: dict[str, Any], directory: Path) -> Iterator[Proxy]:
    """Run the proxy; at the end it must leave in order."""
    ready_file, log_file = directory / "proxy.json", directory / "proxy.log"
    listener = {
        "listen": "127.0.0.1:0",
        "cluster": cluster["cluster"],
        "connect_address": f"{cluster['host']}:{cluster['port']}",
        "ca_file": cluster["ca_file"],
    }
    config = {
        "listeners": [listener],
        "admin": {"listen": "127.0.0.1:0"},
        "log": {"level": "warning", "format": "json"},
        "drain_timeout": "5s",
    }
    config_file = directory / "proxy.yaml"
    config_file.write_text(json.dumps(config))  # which is YAML
    environment = {
        **_CREDENTIALS,
        "AWS_ACCESS_KEY_ID": cluster["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": cluster["secret_access_key"],
    }
    command = [sys.executable, "-m", "dsqlproxy", "--config", str(config_file)]
    command += ["--ready-file", str(ready_file)]
    with running(command, log_file=log_file, environment=environment) as process:
        wait_until(ready_file.exists, process, log_file=log_file)
        ready = json.loads(ready_file.read_text())
        bound = ready["listeners"][0]
        place = Place(bound["host"], bound["port"])
        yield Proxy(place, ready["pid"], log_file)
        process.send_signal(signal.SIGTERM)
        if code := process.wait(IDLE_SECONDS):
            msg = f"the proxy ended with code {code} after SIGTERM"
            raise BenchError(msg)


def soak(minutes: float, directory: Path) -> tuple[Tally, list[Growth]]:
    """Run the load; give what happened and what grew."""
    tally = Tally()
    with emulated_cluster(directory) as cluster, proxy_before(cluster, directory) as it:
        pgbench(it.place, "-i", "-q", "-s", "2")
        before = _idle(it.pid, files=0)
        stop = threading.Event()
        samples: list[Sample] = []
        with run_load(it.place, tally, stop):
            deadline = time.monotonic() + minutes * 60
            while (left := deadline - time.monotonic()) > 0:
                time.sleep(min(left, SAMPLE_SECONDS))
                samples.append(Sample.of(it.pid))
                _show_progress(tally, samples[-1], left)
            stop.set()
        after = _idle(it.pid, files=before.files + FILES_ALLOWANCE)
        _note_what_the_proxy_says(it.log_file, tally)
    return tally, growths(before, samples, after)


def _idle(pid: int, *, files: int) -> Sample:
    """Give a sample once a proxy without clients has no more files than these."""
    deadline = time.monotonic() + IDLE_SECONDS
    time.sleep(1.0)
    sample = Sample.of(pid)
    while files and sample.files > files and time.monotonic() < deadline:
        time.sleep(0.2)
        sample = Sample.of(pid)
    return sample


def growths(before: Sample, samples: Sequence[Sample], after: Sample) -> list[Growth]:
    """Compare the parts of a run, each by its median."""
    quarter = max(1, len(samples) // 4)
    second = samples[quarter : 2 * quarter] or samples
    last = samples[-quarter:]

    def median(part: Sequence[Sample], name: str) -> float:
        return float(statistics.median(getattr(sample, name) for sample in part))

    found = []
    allowed = {"files": FILES_ALLOWANCE, "threads": THREADS_ALLOWANCE}
    for name in ("memory_bytes", "files", "threads"):
        start, middle = median(samples[:quarter], name), median(second, name)
        end, idle = median(last, name), float(getattr(after, name))
        if name in allowed:
            bound, compared = getattr(before, name) + allowed[name], idle
        else:
            bound, compared = middle * MEMORY_FACTOR + MEMORY_ALLOWANCE_BYTES, end
        found.append(Growth(name, start, middle, end, idle, bound, compared))
    return found


def _note_what_the_proxy_says(log_file: Path, tally: Tally) -> None:
    """Count what the proxy calls an error, which is a fault of its own."""
    for line in log_file.read_text(errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            tally.note_unexplained("proxy", line)
            continue
        if event.get("level") == "error":
            tally.note_unexplained("proxy", str(event.get("event")))


# -- the table -----------------------------------------------------------------------


def _show_progress(tally: Tally, sample: Sample, left: float) -> None:
    if sys.stderr.isatty():
        done = sum(tally.operations.values())
        memory = sample.memory_bytes / (1 << 20)
        text = f"{left:6.0f} s left, {done:,} operations, {memory:.0f} MiB"
        print(f"\r{text}, {sample.files} files ", end="", file=sys.stderr, flush=True)


def report(minutes: float, tally: Tally, grown: Sequence[Growth]) -> str:
    """Write it all down for a reader."""
    lines = [f"dsqlproxy soak, {minutes:g} minutes", ""]
    lines.append(f"{'operations':<34}{'number':>12}{'per second':>12}")
    for name, count in sorted(tally.operations.items()):
        lines.append(f"  {name:<32}{count:>12,}{count / minutes / 60:>12.1f}")
    lines += ["", f"{'errors that were asked for':<34}{'number':>12}"]
    for name, count in sorted(tally.expected.items()):
        lines.append(f"  {name:<32}{count:>12,}")
    unexplained = sum(tally.unexplained.values())
    lines += ["", f"{'errors that were not':<34}{unexplained:>12,}"]
    for name, count in tally.unexplained.most_common():
        lines.append(f"  {name}: {count:,}")
    heads = ("start", "middle", "end", "idle after", "bound")
    lines += ["", f"{'the proxy':<16}" + "".join(f"{head:>12}" for head in heads)]
    for each in grown:
        unit = 1 << 20 if each.name == "memory_bytes" else 1
        values = (each.start, each.middle, each.end, each.idle, each.bound)
        digits = 1 if unit > 1 else 0
        name = "memory, MiB" if unit > 1 else each.name
        row = "".join(f"{value / unit:>12.{digits}f}" for value in values)
        lines.append(f"  {name:<14}{row}{'' if each.is_within_bound else '  TOO MUCH'}")
    lines += [
        "",
        "start, middle and end are medians of the first, second and last quarter.",
        f"Bounds: memory at the end, {MEMORY_FACTOR:g} times the middle and"
        f" {MEMORY_ALLOWANCE_BYTES >> 20} MiB;",
        f"idle after the load, {FILES_ALLOWANCE} files and {THREADS_ALLOWANCE} threads"
        " more than idle before it.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="how long (default: 10)"
    )
    args = parser.parse_args(arguments)
    if args.minutes <= 0:
        parser.error("--minutes must be more than 0")
    try:
        with tempfile.TemporaryDirectory(prefix="dsqlproxy-soak-") as directory:
            tally, grown = soak(args.minutes, Path(directory))
    except BenchError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("soak: interrupted", file=sys.stderr)
        return 130
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(report(args.minutes, tally, grown))
    has_passed = not tally.unexplained and all(each.is_within_bound for each in grown)
    print("\npassed" if has_passed else "\nFAILED")
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())
