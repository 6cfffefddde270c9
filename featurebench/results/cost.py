"""Cost and CostMeter: what a piece of work used, in this process and its workers."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What an arm used: seconds of wall clock, processor and GPU, and peak memory in MiB."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    peak_memory_mb: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Seconds add up; memory is the larger of the two."""
        return Cost(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            self.gpu_s + other.gpu_s,
            max(self.peak_memory_mb, other.peak_memory_mb),
        )


class CostMeter:
    """Measures one piece of work, from the meter's making to `read`.

    Workers count with their processor time, and with their memory while they live. The peak of
    memory is that of the work alone where the kernel lets a process reset its high-water mark
    (Linux), else that of the process so far. Durations are of clocks that never go back.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._process = psutil.Process()
        self._gpu_s = 0.0
        self._wall, self._cpu = time.perf_counter(), self._cpu_seconds()

    def add_gpu(self, seconds: float) -> None:
        """Count seconds during which a GPU worked."""
        self._gpu_s += seconds

    def read(self) -> Cost:
        """Give the cost since the meter was made."""
        wall = time.perf_counter() - self._wall
        cpu = max(0.0, self._cpu_seconds() - self._cpu)
        workers_mb = sum(rss for _, rss in self._workers()) / MIB
        return Cost(wall, cpu, self._gpu_s, _peak_memory_mb() + workers_mb)

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        ended = times.children_user + times.children_system
        return time.process_time() + ended + sum(cpu for cpu, _ in self._workers())

    def _workers(self) -> list[tuple[float, int]]:
        """CPU seconds and resident bytes of each worker process that lives."""
        found = []
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                found.append((times.user + times.system, child.memory_info().rss))
        return found


def _peak_memory_mb() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)
