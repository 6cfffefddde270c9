"""The benchmark of intervals: what it counts, and what it finds on cohorts as they are."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coverage import METRICS, REPEATS, coverage, draw_intervals, simulate, table
from benchmarks.scenarios import SCENARIOS

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def test_an_interval_covers_where_it_holds_the_mean_of_all_studies() -> None:
    intervals = np.zeros((4, 1, 1, 3))
    intervals[:, 0, 0] = np.array([[1, 2.5, 3], [2, 2, 4], [3, 1, 2.6], [4, np.nan, np.nan]])
    # Their mean is 2.5: three hold it, and one is not estimable.
    assert coverage(intervals).item() == 0.75
    intervals[0, 0, 0, 1] = 2.6
    assert coverage(intervals).item() == 0.5


def test_studies_are_the_same_in_one_process_and_in_chunks() -> None:
    scenario = BY_NAME["N3"]
    whole = draw_intervals(scenario, range(3), n_boot=50)
    assert whole.shape == (3, len(METRICS), len(REPEATS), 3)
    np.testing.assert_array_equal(whole[2:], draw_intervals(scenario, range(2, 3), n_boot=50))
    value, low, high = np.moveaxis(whole, -1, 0)
    assert (low <= value).all()
    assert (value <= high).all()
    lines = table({"N3": coverage(whole)}).splitlines()
    assert len(lines) == 2 + len(METRICS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["N3", "B20"])
def test_every_metric_is_covered_with_twenty_patients(name: str) -> None:
    """Of 100 studies; the bound lies three Monte Carlo standard errors below 88 %."""
    assert (simulate(BY_NAME[name], 100, jobs=2) > 0.78).all()
