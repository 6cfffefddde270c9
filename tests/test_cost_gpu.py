"""What a GPU tells of itself, with stand-ins for torch and NVML: known or absent, not guessed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from featurebench.results import Cost, CostMeter
from featurebench.results.gpu import _nvml, total_energy_j

if TYPE_CHECKING:
    from collections.abc import Iterator

UUID = "01234567-89ab-cdef-0123-456789abcdef"


@dataclass
class Cuda:
    """Stands in for `torch.cuda`, with one device."""

    available: bool = True
    uuid: str | None = UUID
    peak: int = 7 * 2**30
    calls: list[tuple[str, str]] = field(default_factory=list)

    def is_available(self) -> bool:
        return self.available

    def init(self) -> None:
        self.calls.append(("init", ""))

    def reset_peak_memory_stats(self, device: str) -> None:
        self.calls.append(("reset", device))
        self.peak = 0

    def max_memory_allocated(self, device: str) -> int:
        self.calls.append(("peak", device))
        return self.peak

    def synchronize(self, device: str) -> None:
        self.calls.append(("wait", device))

    def get_device_properties(self, _: str) -> Any:
        return SimpleNamespace() if self.uuid is None else SimpleNamespace(uuid=self.uuid)


class NvmlError(Exception):
    """Stands in for `pynvml.NVMLError`."""


@dataclass
class Nvml:
    """Stands in for the module pynvml."""

    millijoules: int = 5_000_000
    broken: str = ""
    NVMLError: type[Exception] = NvmlError

    def _may(self, step: str) -> None:
        if self.broken == step:
            raise NvmlError

    def nvmlInit(self) -> None:
        self._may("init")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self._may("handle")
        assert uuid == f"GPU-{UUID}"
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self._may("counter")
        assert handle == "handle"
        return self.millijoules


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    fake = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=fake))
    return fake


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvml]:
    fake = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    _nvml.cache_clear()
    yield fake
    _nvml.cache_clear()


def test_energy_and_peak_are_those_of_the_work(cuda: Cuda, nvml: Nvml) -> None:
    meter = CostMeter("cuda:0")
    cuda.peak = 3 * 2**30
    nvml.millijoules += 12_500
    cost = meter.read()
    assert cost.energy_j == 12.5
    assert cost.peak_gpu_memory_mb == 3072
    assert {device for name, device in cuda.calls if name != "init"} == {"cuda:0"}
    assert [name for name, _ in cuda.calls][:3] == ["init", "reset", "wait"]


def test_on_a_processor_no_gpu_is_asked(cuda: Cuda, nvml: Nvml) -> None:
    meter = CostMeter("cpu")
    nvml.millijoules += 12_500
    cost = meter.read()
    assert (cost.energy_j, cost.peak_gpu_memory_mb) == (None, 0.0)
    assert cuda.calls == []


@pytest.mark.parametrize("step", ["init", "handle", "counter"])
def test_a_gpu_without_counter_has_a_peak_and_no_energy(cuda: Cuda, nvml: Nvml, step: str) -> None:
    nvml.broken = step
    meter = CostMeter("cuda")
    cuda.peak = 2**20
    cost = meter.read()
    assert cost.energy_j is None
    assert cost.peak_gpu_memory_mb == 1


def test_a_counter_that_fails_in_between_gives_nothing(cuda: Cuda, nvml: Nvml) -> None:
    assert cuda.is_available()
    meter = CostMeter("cuda")
    nvml.broken = "counter"
    assert meter.read().energy_j is None


def test_a_device_that_cannot_be_named_gives_nothing(cuda: Cuda, nvml: Nvml) -> None:
    cuda.uuid = None
    meter = CostMeter("cuda")
    nvml.millijoules += 1000
    assert meter.read().energy_j is None


def test_without_the_library_energy_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    _nvml.cache_clear()
    assert total_energy_j(f"GPU-{UUID}") is None
    _nvml.cache_clear()


def test_torch_is_not_loaded_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    cost = CostMeter("cuda").read()
    assert (cost.peak_gpu_memory_mb, cost.energy_j) == (0.0, None)
    assert "torch" not in sys.modules


def test_a_torch_without_cuda_is_let_be(cuda: Cuda) -> None:
    cuda.available = False
    assert CostMeter("cuda").read().peak_gpu_memory_mb == 0
    assert cuda.calls == []


def test_energy_of_parts_adds_up_where_all_is_known() -> None:
    assert (Cost(1.0, energy_j=2.0) + Cost(1.0, energy_j=3.0)).energy_j == 5.0
