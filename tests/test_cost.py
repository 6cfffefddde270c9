"""What work cost: measured where it is done, never negative."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from featurebench.results import Cost, CostMeter


def test_costs_add_seconds_and_keep_the_larger_memory() -> None:
    total = Cost(1, 2, 3, 400) + Cost(10, 20, 30, 40)
    assert total == Cost(11, 22, 33, 400)


def test_waiting_takes_time_but_no_processor() -> None:
    meter = CostMeter()
    time.sleep(0.2)
    cost = meter.read()
    assert cost.wall_s >= 0.2
    assert cost.cpu_s < cost.wall_s
    assert cost.gpu_s == 0


def test_work_takes_processor_time() -> None:
    meter = CostMeter()
    started = time.process_time()
    while time.process_time() - started < 0.2:
        pass
    assert meter.read().cpu_s >= 0.15


def test_workers_count() -> None:
    meter = CostMeter()
    code = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert meter.read().cpu_s >= 0.4


def test_living_workers_count_with_their_memory() -> None:
    meter = CostMeter()
    code = "x = bytearray(300_000_000); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        alone = CostMeter().read().peak_memory_mb
        assert worker.stdout is not None
        worker.stdout.readline()
        together = meter.read().peak_memory_mb
        worker.communicate("\n")
    assert together - alone > 200


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux resets the peak")
def test_peak_is_that_of_the_work_not_of_what_was_before() -> None:
    earlier = np.ones(2**26)
    with_earlier = CostMeter().read().peak_memory_mb
    del earlier
    meter = CostMeter()
    assert meter.read().peak_memory_mb < with_earlier - 400
    later = np.ones(2**25)
    del later
    assert meter.read().peak_memory_mb > CostMeter().read().peak_memory_mb + 200


def test_gpu_seconds_are_those_told_whatever_the_clock_on_the_wall_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meter = CostMeter()
    monkeypatch.setattr(time, "time", lambda: -1.0)
    meter.add_gpu(1.5)
    meter.add_gpu(0.5)
    cost = meter.read()
    assert cost.gpu_s == 2.0
    assert cost.wall_s >= 0
