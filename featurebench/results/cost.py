"""Cost and CostMeter: what a piece of work used, in this process and its workers."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from featurebench.results.gpu import MIB, GpuGauge

if TYPE_CHECKING:
    from collections.abc import Mapping

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Cost:
    """What an arm used; None is not known, which no sum makes known.

    Parameters
    ----------
    wall_s, cpu_s, gpu_s
        Seconds of wall clock, processor and GPU.
    peak_memory_mb, peak_gpu_memory_mb
        Most memory at once, MiB, of the host and of PyTorch on the GPU.
    bytes_read, bytes_written
        Bytes that went through read and write calls: of files, wherever they were cached, and of
        pipes between processes. Of an embedding: what it takes in the store.
    energy_j
        Joules that the GPU counted, whoever used it.
    trials
        Configurations that searches for hyper-parameters tried.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    peak_memory_mb: float = 0.0
    peak_gpu_memory_mb: float = 0.0
    bytes_read: int | None = None
    bytes_written: int | None = None
    energy_j: float | None = None
    trials: int = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Cost:
        """Make a cost of recorded values: what is missing is not known, other keys are left out."""
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        for name in ("bytes_read", "bytes_written"):
            if known.get(name) is not None:
                known[name] = round(known[name])
        return cls(**known)

    def __add__(self, other: Cost) -> Cost:
        """Add up; memory is the larger of the two, and ``Cost()`` changes nothing."""
        if Cost() in (self, other):
            return other if self == Cost() else self
        return Cost(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            self.gpu_s + other.gpu_s,
            max(self.peak_memory_mb, other.peak_memory_mb),
            max(self.peak_gpu_memory_mb, other.peak_gpu_memory_mb),
            _sum(self.bytes_read, other.bytes_read),
            _sum(self.bytes_written, other.bytes_written),
            _sum(self.energy_j, other.energy_j),
            self.trials + other.trials,
        )

    def part_of(self, n: float) -> Cost:
        """Give the part of each of n sharers; the peaks of memory, and trials, stay whole."""
        return replace(
            self,
            wall_s=self.wall_s / n,
            cpu_s=self.cpu_s / n,
            gpu_s=self.gpu_s / n,
            bytes_read=None if self.bytes_read is None else round(self.bytes_read / n),
            bytes_written=None if self.bytes_written is None else round(self.bytes_written / n),
            energy_j=None if self.energy_j is None else self.energy_j / n,
        )


class CostMeter:
    """Measures one piece of work, from the meter's making to `read`.

    Workers count with their processor time and their bytes, and with their memory while they live.
    The peak of memory is that of the work alone where the kernel lets a process reset its
    high-water mark (Linux), else that of the process so far. Durations are of clocks that never go
    back. Bytes are known on Linux, energy where NVML counts it.

    Parameters
    ----------
    device
        Where the work computes, as torch writes it; `read` then waits for a GPU, and tells its
        peak of memory and its energy.
    """

    def __init__(self, device: object = "cpu") -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._process = psutil.Process()
        self._gpu_s = 0.0
        self._gauge = GpuGauge(device)
        self._bytes = self._bytes_moved()
        self._wall, self._cpu = time.perf_counter(), self._cpu_seconds()

    def add_gpu(self, seconds: float) -> None:
        """Count seconds during which a GPU worked."""
        self._gpu_s += seconds

    def read(self) -> Cost:
        """Give the cost since the meter was made."""
        self._gauge.wait()
        wall = time.perf_counter() - self._wall
        cpu = max(0.0, self._cpu_seconds() - self._cpu)
        workers_mb = sum(rss for _, rss in self._workers()) / MIB
        read, written = self._bytes_since()
        return Cost(
            wall,
            cpu,
            self._gpu_s,
            _peak_memory_mb() + workers_mb,
            self._gauge.peak_mb(),
            read,
            written,
            self._gauge.energy_j(),
        )

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

    def _bytes_since(self) -> tuple[int | None, int | None]:
        now = self._bytes_moved()
        if now is None or self._bytes is None:
            return None, None
        read, written = (max(0, b - a) for a, b in zip(self._bytes, now, strict=True))
        return read, written

    def _bytes_moved(self) -> tuple[int, int] | None:
        """Bytes read and written so far; the kernel counts ended workers with their parent."""
        own = _moved_by(self._process)
        if own is None:
            return None
        living = [_moved_by(child) for child in self._process.children(recursive=True)]
        pairs = [own, *(pair for pair in living if pair is not None)]
        return sum(read for read, _ in pairs), sum(written for _, written in pairs)


def _moved_by(process: psutil.Process) -> tuple[int, int] | None:
    """Bytes of a process's read and write calls; None where the system does not tell."""
    try:
        counters: Any = process.io_counters()
        return int(counters.read_chars), int(counters.write_chars)
    except (AttributeError, NotImplementedError, OSError, psutil.Error):
        return None


def _sum(a: Number | None, b: Number | None) -> Number | None:
    return None if a is None or b is None else a + b


def _peak_memory_mb() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)
