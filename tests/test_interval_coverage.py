"""The benchmark of intervals: what it counts, and what it finds where patients are few."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cohorts import SCENARIOS
from benchmarks.coverage import METHODS, METRICS, REPEATS, coverage, draw_intervals, simulate, table

N3 = next(scenario for scenario in SCENARIOS if scenario.name == "N3")


def test_an_interval_covers_where_it_holds_the_mean_of_all_studies() -> None:
    intervals = np.zeros((4, 1, 1, 1, 3))
    intervals[:, 0, 0, 0] = np.array([[1, 2.5, 3], [2, 2, 4], [3, 1, 2.6], [4, np.nan, np.nan]])
    # Their mean is 2.5: three hold it, and one is not estimable.
    assert coverage(intervals).item() == 0.75
    intervals[0, 0, 0, 0, 1] = 2.6
    assert coverage(intervals).item() == 0.5


def test_studies_are_the_same_in_one_process_and_in_chunks() -> None:
    whole = draw_intervals(N3, range(3), n_boot=50)
    assert whole.shape == (3, len(METRICS), len(REPEATS), len(METHODS), 3)
    np.testing.assert_array_equal(whole[2:], draw_intervals(N3, range(2, 3), n_boot=50))
    value, low, high = np.moveaxis(whole[..., METHODS.index("report"), :], -1, 0)
    assert (low < value).all()
    assert (value < high).all()
    lines = table({"N3": coverage(whole)}).splitlines()
    assert len(lines) == 2 + len(METRICS) * len(REPEATS)


@pytest.mark.slow
def test_few_patients_are_covered_better_than_by_plain_bca() -> None:
    shares = simulate(N3, 150, jobs=2)
    report, plain = np.moveaxis(shares, -1, 0)
    assert (report >= plain).all()
    auc = METRICS.index("roc_auc")
    assert report[auc, 0] > plain[auc, 0] + 0.05
    assert (report > 0.8).all()
