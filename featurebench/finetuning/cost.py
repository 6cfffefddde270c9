"""What a fold used: wall clock, processor and GPU seconds, and peak memory."""

from __future__ import annotations

import os
import resource
import sys
import time

import torch

from featurebench.results import Cost


class Meter:
    """Measures from its making on; worker processes count once they have ended.

    Parameters
    ----------
    device
        Whose time is GPU time if it is a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    def read(self) -> Cost:
        """Return the cost since the making; memory is the process's peak so far, MiB."""
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self._device)
        wall = time.perf_counter() - self._wall
        cpu = _cpu_seconds() - self._cpu
        return Cost(wall, cpu, wall if on_gpu else 0.0, _peak_memory_mb())

    def peak_gpu_memory_mb(self) -> float:
        """Return the most memory that tensors took on the GPU since the making, MiB."""
        if self._device.type != "cuda":
            return 0.0
        return torch.cuda.max_memory_allocated(self._device) / 2**20


def _cpu_seconds() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
