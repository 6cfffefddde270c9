"""What a block of tiles took: seconds of wall clock, processors and GPU, and peak memory."""

from __future__ import annotations

import resource
import sys
import time

import psutil

MIB = 2**20


class CostMeter:
    """Measures from its making on, in this process and its workers.

    Durations are of the monotonic clock. The system only knows the peak memory since the process
    began; where that did not rise, the peak is of the moments at which `sample` was called.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._gpu_s = 0.0
        self._sampled_mb = 0.0
        self._peak_before_mb = _peak_mb()
        self._cpu_before_s = self._cpu_s()
        self._started = time.perf_counter()

    def add_gpu(self, seconds: float) -> None:
        """Count seconds during which the GPU worked for this block."""
        self._gpu_s += seconds

    def sample(self) -> None:
        """Look at the memory in use now."""
        self._sampled_mb = max(self._sampled_mb, self._process.memory_info().rss / MIB)

    def read(self) -> dict[str, float]:
        """Give ``wall_s``, ``cpu_s``, ``gpu_s`` and ``peak_memory_mb`` (MiB) so far."""
        self.sample()
        peak_mb = _peak_mb()
        own_mb = peak_mb if peak_mb > self._peak_before_mb else self._sampled_mb
        workers_mb = sum(rss for _, rss in self._workers()) / MIB
        return {
            "wall_s": time.perf_counter() - self._started,
            "cpu_s": max(0.0, self._cpu_s() - self._cpu_before_s),
            "gpu_s": self._gpu_s,
            "peak_memory_mb": own_mb + workers_mb,
        }

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        ended = times.children_user + times.children_system
        return times.user + times.system + ended + sum(cpu for cpu, _ in self._workers())

    def _workers(self) -> list[tuple[float, int]]:
        """CPU seconds and resident bytes of each worker process that lives."""
        found = []
        for child in self._process.children(recursive=True):
            try:
                times = child.cpu_times()
                found.append((times.user + times.system, child.memory_info().rss))
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 2**10)
