"""GpuGauge: the most memory that a piece of work held on a GPU, and the energy it took there."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from typing import Any

MIB = 2**20


class GpuGauge:
    """Reads what one CUDA device tells of itself, from the gauge's making on.

    Nothing is known, and nothing read, where the device is none of CUDA's, or torch is not loaded:
    torch is never imported here.

    Parameters
    ----------
    device
        As torch writes it: ``cpu``, ``cuda``, ``cuda:1``, or a ``torch.device``.
    """

    def __init__(self, device: object = "cpu") -> None:
        self._device = str(device)
        self._cuda = _cuda_of(self._device)
        self._uuid: str | None = None
        if self._cuda is not None:
            self._cuda.init()
            self._cuda.reset_peak_memory_stats(self._device)
            self._uuid = _uuid_of(self._cuda, self._device)
        self._start_j = self._counter()

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self._cuda is not None:
            self._cuda.synchronize(self._device)

    def peak_mb(self) -> float:
        """Give the most memory that torch's tensors took at once, MiB; 0 without a GPU."""
        if self._cuda is None:
            return 0.0
        return float(self._cuda.max_memory_allocated(self._device)) / MIB

    def energy_j(self) -> float | None:
        """Give the energy that the device took, in joules, whoever used it; None if not known."""
        now = self._counter()
        return None if now is None or self._start_j is None else max(0.0, now - self._start_j)

    def _counter(self) -> float | None:
        return None if self._uuid is None else total_energy_j(self._uuid)


def total_energy_j(uuid: str) -> float | None:
    """Read a GPU's counter of energy since its driver was loaded, in joules.

    None where the library nvidia-ml-py or the driver is missing, or the device has no such counter
    (those before Volta, and parts of a device).
    """
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except nvml.NVMLError:
        return None


@lru_cache(maxsize=1)
def _nvml() -> Any | None:  # noqa: ANN401
    """Load and start NVML, once; None where it cannot be had."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _cuda_of(device: str) -> Any | None:  # noqa: ANN401
    torch: Any = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    return torch.cuda


def _uuid_of(cuda: Any, device: str) -> str | None:  # noqa: ANN401
    """Name the device as NVML does: its numbers are not torch's where devices are hidden."""
    uuid = getattr(cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}"
