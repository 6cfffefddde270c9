"""What patients add to a difference: centring within small folds hides part of their spread."""

from __future__ import annotations

import numpy as np
import pytest
from comparison_cases import Cohort, arm, draw_results

from featurebench.comparison.contributions import _scales, auc_influences
from featurebench.comparison.design import Design
from featurebench.stats import auc_influence


@pytest.mark.parametrize(
    ("n_patients", "n_folds", "n_repeats"), [(24, 4, 1), (24, 4, 3), (16, 4, 3), (40, 2, 2)]
)
def test_scaled_influences_vary_as_those_of_independent_patients(
    n_patients: int, n_folds: int, n_repeats: int
) -> None:
    """Draw patients' effects, centre them within the folds, and average over the repeats."""
    cohort = Cohort(n_patients=n_patients, n_folds=n_folds, n_repeats=n_repeats, n_tiles=1)
    design = Design.of(draw_results([arm("a")], cohort), n_boot=1, seed=0)
    positives = np.flatnonzero(design.y_true == 1)
    rng = np.random.default_rng(0)
    spreads = []
    for _ in range(800):
        effects = rng.normal(size=len(positives))
        seen = np.zeros(len(positives))
        for _ in range(n_repeats):
            fold = rng.permutation(np.arange(len(positives)) % n_folds)
            means = np.bincount(fold, effects) / np.bincount(fold)
            seen += (effects - means[fold]) / n_repeats
        spreads.append(np.sum(seen**2))
    # What the test over patients allows for by itself, and what the influences are scaled by.
    n = len(positives)
    up, _ = _scales(design, 1, n_repeats)
    assert np.mean(spreads) * n / (n - 1) * up**2 == pytest.approx(n, rel=0.04)


def test_one_fold_and_one_repeat_are_left_as_they_are() -> None:
    results = draw_results([arm("a")], Cohort(n_patients=20, n_repeats=1, holdout=True))
    design = Design.of(results, n_boot=1, seed=0)
    found = auc_influences(design, results.runs[0], 1)
    rows = design.rows(0)
    plain = auc_influence(
        design.y_true[rows] == 1,
        results.runs[0].y_prob[0, rows, 1],
        design.clusters[rows],
        design.n_units,
    )
    np.testing.assert_allclose(found.positive, plain.positive)
    np.testing.assert_allclose(found.negative, plain.negative)
    assert found.auc == plain.auc


def test_a_single_patient_of_a_class_in_a_fold_gives_no_error() -> None:
    results = draw_results([arm("a")], Cohort(n_patients=8, n_folds=4, n_repeats=1))
    design = Design.of(results, n_boot=1, seed=0)
    assert np.isnan(_scales(design, 1, 1)).all()
