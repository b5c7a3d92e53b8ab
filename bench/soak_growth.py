"""What the proxy's process used during a soak, and whether that grew."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, resident_bytes

MEMORY_FACTOR = 1.05
MEMORY_ALLOWANCE_BYTES = 6 << 20
"""Memory under load: the last quarter of the run against the second one. (In the
first, buffers and caches fill; what then still grows, grows for ever.)"""

FILES_ALLOWANCE = 8
THREADS_ALLOWANCE = 4
"""Open files and threads: idle after the load, against idle before it."""


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
    highest: float
    idle: float
    bound: float
    compared: float
    """The value that the bound is for."""

    @property
    def is_within_bound(self) -> bool:
        """Whether it did not grow beyond what is allowed."""
        return self.compared <= self.bound


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
        middle, end = median(second, name), median(last, name)
        idle = float(getattr(after, name))
        if name in allowed:
            bound, compared = getattr(before, name) + allowed[name], idle
        else:
            bound, compared = middle * MEMORY_FACTOR + MEMORY_ALLOWANCE_BYTES, end
        found.append(
            Growth(
                name,
                start=median(samples[:quarter], name),
                middle=middle,
                end=end,
                highest=float(max(getattr(sample, name) for sample in samples)),
                idle=idle,
                bound=bound,
                compared=compared,
            )
        )
    return found
