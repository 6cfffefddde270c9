"""What work cost: measured where it is done, never negative."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from featurebench.results import Cost, CostMeter

if TYPE_CHECKING:
    from pathlib import Path

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts bytes")
MEGABYTE = 1_000_000
FULL = Cost(1.0, 2.0, 3.0, 400.0, 50.0, 600, 70, 8.5, 9)


def test_costs_add_seconds_and_keep_the_larger_memory() -> None:
    total = Cost(1, 2, 3, 400) + Cost(10, 20, 30, 40)
    assert total == Cost(11, 22, 33, 400)


def test_everything_else_adds_up_and_the_peak_of_the_gpu_does_not() -> None:
    other = Cost(10.0, 20.0, 30.0, 40.0, 5000.0, 6, 7, 1.5, 1)
    assert FULL + other == Cost(11.0, 22.0, 33.0, 400.0, 5000.0, 606, 77, 10.0, 10)
    assert other + FULL == FULL + other


def test_nothing_changes_nothing() -> None:
    for cost in (FULL, Cost(1.0), Cost(), Cost(trials=2, bytes_read=0)):
        assert cost + Cost() == cost
        assert Cost() + cost == cost
    assert sum([FULL, FULL], Cost()).energy_j == 17.0


@pytest.mark.parametrize("name", ["bytes_read", "bytes_written", "energy_j"])
def test_what_is_not_known_of_a_part_is_not_known_of_the_sum(name: str) -> None:
    known = {"bytes_read": 600, "bytes_written": 70, "energy_j": 8.5, "wall_s": 1.0}
    total = Cost(**{**known, name: None}) + Cost(**known)  # type: ignore[arg-type]
    assert getattr(total, name) is None
    assert total.wall_s == 2.0
    assert (total.bytes_read, total.bytes_written, total.energy_j).count(None) == 1


def test_an_equal_part_divides_all_but_peaks_and_trials() -> None:
    assert FULL.part_of(2) == Cost(0.5, 1.0, 1.5, 400.0, 50.0, 300, 35, 4.25, 9)
    assert Cost(wall_s=3.0).part_of(3) == Cost(wall_s=1.0)


def test_recorded_values_become_a_cost() -> None:
    values = {"wall_s": 1.5, "work_s": 9.0, "bytes_read": 12.4, "energy_j": None}
    assert Cost.of(values) == Cost(wall_s=1.5, bytes_read=12)


@LINUX
def test_bytes_are_those_of_the_work(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(bytes(5 * MEGABYTE))
    meter = CostMeter()
    assert len(file.read_bytes()) == 5 * MEGABYTE
    (tmp_path / "y").write_bytes(bytes(2 * MEGABYTE))
    cost = meter.read()
    assert cost.bytes_read is not None
    assert cost.bytes_written is not None
    assert 5 * MEGABYTE <= cost.bytes_read < 6 * MEGABYTE
    assert 2 * MEGABYTE <= cost.bytes_written < 3 * MEGABYTE


@LINUX
def test_bytes_of_workers_count_while_they_live_and_after(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(bytes(50 * MEGABYTE))
    code = f"open({str(file)!r}, 'rb').read(); print('done', flush=True); input()"
    meter = CostMeter()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        alive = meter.read().bytes_read
        worker.communicate("\n")
    ended = meter.read().bytes_read
    assert alive is not None
    assert ended is not None
    assert 50 * MEGABYTE <= alive <= ended < 60 * MEGABYTE


def test_bytes_are_not_known_where_the_system_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(_: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "io_counters", denied)
    cost = CostMeter().read()
    assert cost.bytes_read is None
    assert cost.bytes_written is None


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
