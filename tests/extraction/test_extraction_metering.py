"""The cost of a block: measured where the work is, never negative."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from featurebench.extraction.metering import CostMeter

if TYPE_CHECKING:
    import pytest


def test_waiting_takes_time_but_no_processor() -> None:
    meter = CostMeter()
    time.sleep(0.2)
    cost = meter.read()
    assert cost["wall_s"] >= 0.2
    assert cost["cpu_s"] < cost["wall_s"]
    assert cost["gpu_s"] == 0


def test_work_takes_processor_time() -> None:
    meter = CostMeter()
    started = time.process_time()
    while time.process_time() - started < 0.2:
        pass
    assert meter.read()["cpu_s"] >= 0.15


def test_workers_count() -> None:
    meter = CostMeter()
    code = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert meter.read()["cpu_s"] >= 0.4


def test_memory_in_use_counts_although_the_system_knew_more_before() -> None:
    earlier = np.ones(2**25)
    del earlier
    meter = CostMeter()
    kept = np.ones(2**22)
    meter.sample()
    before = meter.read()["peak_memory_mb"]
    later = np.ones(2**26)
    meter.sample()
    grown = meter.read()["peak_memory_mb"]
    del later
    assert kept.nbytes / 2**20 <= before
    assert grown - before >= 250
    assert meter.read()["peak_memory_mb"] >= grown


def test_gpu_seconds_are_those_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the clock on the wall may go backwards meanwhile."""
    meter = CostMeter()
    monkeypatch.setattr(time, "time", lambda: -1.0)
    meter.add_gpu(1.5)
    meter.add_gpu(0.5)
    cost = meter.read()
    assert cost["gpu_s"] == 2.0
    assert cost["wall_s"] >= 0
