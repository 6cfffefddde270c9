"""Simulations: the tests offered keep their level where the naive ones do not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from featurebench.stats import cluster_bootstrap, corrected_resampled_t

Floats = npt.NDArray[np.float64]


def test_corrected_test_keeps_its_level_on_correlated_folds_where_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(0)
    n_sims, n_folds, rho = 600, 50, 0.2
    shared, own = rng.normal(size=(n_sims, 1)), rng.normal(size=(n_sims, n_folds))
    differences = np.sqrt(rho) * shared + np.sqrt(1 - rho) * own
    corrected = [corrected_resampled_t(d, test_train_ratio=0.25).p_value for d in differences]
    plain = stats.ttest_1samp(differences, 0, axis=1).pvalue
    assert 0.025 < np.mean(np.array(corrected) < 0.05) < 0.08
    assert np.mean(plain < 0.05) > 0.4


def test_patient_bootstrap_covers_where_the_tile_bootstrap_does_not() -> None:
    rng = np.random.default_rng(1)
    n_patients, n_tiles, n_sims = 30, 10, 150
    patient_hits = tile_hits = 0
    for seed in range(n_sims):
        effect = rng.normal(scale=0.6, size=(n_patients, 1))
        tiles = effect + rng.normal(size=(n_patients, n_tiles))
        patient_hits += _covers(tiles.mean(axis=1), seed)
        tile_hits += _covers(tiles.ravel(), seed)
    assert 0.88 < patient_hits / n_sims < 0.98
    assert tile_hits / n_sims < 0.75


def _covers(scores: Floats, seed: int) -> bool:
    interval = cluster_bootstrap(
        lambda w: (w @ scores) / w.sum(axis=1), scores.size, n_boot=200, seed=seed
    )
    return interval.ci_low <= 0 <= interval.ci_high


@pytest.mark.slow
def test_corrected_test_on_real_cross_validation_of_two_equally_good_encoders() -> None:
    rng = np.random.default_rng(7)
    n_sims = 400
    p_values = np.array([_null_study(rng) for _ in range(n_sims)])
    corrected, plain = (p_values < 0.05).mean(axis=0)
    assert 0.015 < corrected < 0.09
    assert plain > 0.4


def _null_study(rng: np.random.Generator) -> tuple[float, float]:
    n_patients, n_tiles, n_features, n_repeats, n_folds = 60, 8, 16, 10, 5
    labels = np.repeat(np.arange(n_patients) % 2, n_tiles)
    patients = np.repeat(np.arange(n_patients), n_tiles)
    shape = (n_patients, n_features)
    encoders = []
    for _ in range(2):
        effect = np.repeat(rng.normal(scale=0.6, size=shape), n_tiles, axis=0)
        noise = rng.normal(size=(len(labels), n_features))
        encoders.append(0.25 * (2 * labels[:, None] - 1) + effect + noise)
    differences = []
    for _ in range(n_repeats):
        fold = np.empty(n_patients, dtype=int)
        for label in (0, 1):
            members = np.flatnonzero(np.arange(n_patients) % 2 == label)
            fold[rng.permutation(members)] = np.arange(len(members)) % n_folds
        for test in (fold[patients] == k for k in range(n_folds)):
            a, b = (_ridge_accuracy(x, labels, test) for x in encoders)
            differences.append(a - b)
    d = np.array(differences)
    corrected = corrected_resampled_t(d, test_train_ratio=1 / (n_folds - 1)).p_value
    return corrected, float(stats.ttest_1samp(d, 0).pvalue)


def _ridge_accuracy(x: Floats, labels: npt.NDArray[np.int64], test: npt.NDArray[np.bool_]) -> float:
    x = np.column_stack([x, np.ones(len(x))])
    train, y = x[~test], 2.0 * labels[~test] - 1
    weights = np.linalg.solve(train.T @ train + 10 * np.eye(x.shape[1]), train.T @ y)
    return float(np.mean((x[test] @ weights > 0) == labels[test]))
