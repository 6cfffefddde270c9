"""Tests over patients from what each adds, or from leaving each out, by brute force."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from comparison_cases import Cohort, arm, draw_results
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from featurebench.comparison.contrasts import Declared, contrast_arms
from featurebench.comparison.design import Design
from featurebench.stats import patient_df

if TYPE_CHECKING:
    from featurebench.results import ResultsTable

PAIR = [arm("a"), arm("b", "finetune", 1.6)]


def _take(results: ResultsTable, rows: npt.NDArray[np.intp]) -> ResultsTable:
    """Keep these tiles, in this order and as often."""
    assert results.patients is not None
    return replace(
        results,
        runs=tuple(replace(run, y_prob=run.y_prob[:, rows]) for run in results.runs),
        y_true=results.y_true[rows],
        tile_ids=results.tile_ids[rows],
        patients=results.patients[rows],
        test_fold=results.test_fold[:, rows],
    )


def _thinned(results: ResultsTable, keep: int, seed: int = 1) -> ResultsTable:
    """Keep some of the tiles, so that patients differ in their numbers."""
    return _take(
        results, np.sort(np.random.default_rng(seed).permutation(len(results.y_true))[:keep])
    )


def _auc_difference(results: ResultsTable, kept: np.ndarray, weights: np.ndarray) -> float:
    """Mean over repeats and folds, by scikit-learn, of some tiles with weights."""
    found = []
    for repeat, folds in enumerate(results.test_fold):
        by_fold = []
        for fold in np.unique(folds):
            rows = np.flatnonzero(kept & (folds == fold))
            if len(set(results.y_true[rows])) == 2:
                a, b = (
                    roc_auc_score(
                        results.y_true[rows],
                        run.y_prob[repeat, rows, 1],
                        sample_weight=weights[rows],
                    )
                    for run in results.runs
                )
                by_fold.append(b - a)
        found.append(np.mean(by_fold))
    return float(np.mean(found))


@pytest.mark.parametrize("weights", ["tiles", "patients"])
@pytest.mark.parametrize(("n_patients", "n_folds"), [(24, 4), (8, 4)])
def test_the_error_of_auc_is_that_of_leaving_each_patient_out(
    n_patients: int, n_folds: int, weights: str
) -> None:
    """Also where a fold has one patient of a class, and falls out with that patient."""
    cohort = Cohort(n_patients=n_patients, n_folds=n_folds, n_repeats=2)
    results = _thinned(draw_results(PAIR, cohort), 5 * n_patients)
    assert results.patients is not None
    sizes = np.bincount(results.patients)[results.patients]
    each = np.ones(len(sizes)) if weights == "tiles" else 1 / sizes
    whole = np.ones(len(sizes), dtype=bool)
    value = _auc_difference(results, whole, each)
    without = [
        _auc_difference(results, results.patients != patient, each)
        for patient in np.unique(results.patients)
    ]
    n = len(without)
    error = np.sqrt((n - 1) * np.var(without))
    design = Design.of(results, n_boot=1, seed=0, weights="tiles")
    design = replace(design, weights="patients") if weights == "patients" else design
    declared = Declared("roc_auc", 0.01, 0.05, "b")
    (found,) = contrast_arms(design, results.runs, results.runs[0], declared)
    assert found.difference == pytest.approx(value)
    assert found.by_patients.se == pytest.approx(error)
    shares = design.shares(by_class=True)
    fewest = (shares > 0).sum(axis=0).min()
    assert found.by_patients.df == pytest.approx(min(patient_df(shares), fewest - 1))


def test_patients_weigh_the_same_whatever_their_number_of_tiles() -> None:
    results = _thinned(draw_results(PAIR, Cohort(n_patients=20, n_repeats=1)), 70)
    assert results.patients is not None
    design = Design.of(results, n_boot=1, seed=0, weights="patients")
    declared = Declared("balanced_accuracy", 0.01, 0.05, "b")
    (found,) = contrast_arms(design, results.runs, results.runs[0], declared)
    weights = 1 / np.bincount(results.patients)[results.patients]
    a, b = (
        balanced_accuracy_score(results.y_true, run.y_prob[0].argmax(axis=1), sample_weight=weights)
        for run in results.runs
    )
    assert found.difference == pytest.approx(b - a)
    doubled = np.repeat(np.arange(len(weights)), np.where(results.patients == 3, 5, 1))
    again = _take(results, doubled)
    design = Design.of(again, n_boot=1, seed=0, weights="patients")
    (same,) = contrast_arms(design, again.runs, again.runs[0], declared)
    assert same.difference == pytest.approx(found.difference)
    assert same.by_patients.p_value == pytest.approx(found.by_patients.p_value)
    assert same.by_folds.p_value == pytest.approx(found.by_folds.p_value)


def test_patients_weigh_the_same_by_themselves_where_tiles_are_very_unequal() -> None:
    results = draw_results(PAIR, Cohort(n_patients=12, n_tiles=40))
    assert results.patients is not None
    assert Design.of(results, n_boot=1, seed=0, weights="auto").weights == "tiles"
    rng = np.random.default_rng(0)
    few = (results.patients >= 3) & (rng.random(len(results.y_true)) > 0.08)
    unequal = _take(results, np.flatnonzero(~few))
    design = Design.of(unequal, n_boot=1, seed=0, weights="auto")
    assert unequal.patients is not None
    sizes = np.bincount(unequal.patients)
    sizes = sizes[sizes > 0]
    assert design.effective_members == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum())
    assert design.effective_members < len(sizes) / 2
    assert design.weights == "patients"


def test_sites_are_the_units_where_folds_keep_them_together() -> None:
    results = draw_results(PAIR, Cohort(n_patients=24, n_folds=4))
    assert results.patients is not None
    sites = results.patients % 8
    folds = np.stack([(sites + shift) % 4 for shift in range(3)]).astype(np.int16)
    by_site = replace(results, test_fold=folds, groups=sites, grouped_by="site", sites=sites)
    design = Design.of(by_site, n_boot=1, seed=0)
    assert (design.unit, design.n_units, design.grouped) == ("sites", 8, True)
    (found,) = contrast_arms(
        design, by_site.runs, by_site.runs[0], Declared("accuracy", 0.01, 0.05, "b")
    )
    assert (found.by_patients.unit, found.by_patients.n) == ("sites", 8)
    assert found.by_sites is None
    assert found.by_folds.df <= 7
    as_patients = replace(by_site, patients=sites, groups=None, grouped_by="patient_id", sites=None)
    (plain,) = contrast_arms(
        Design.of(as_patients, n_boot=1, seed=0),
        by_site.runs,
        by_site.runs[0],
        Declared("accuracy", 0.01, 0.05, "b"),
    )
    # Few sites are trained on as well: 1 + k / (k - 1) of the variance of as many patients.
    assert found.by_patients.se == pytest.approx(plain.by_patients.se * np.sqrt(1 + 4 / 3))


def test_known_sites_are_asked_beside_the_patients_that_folds_keep_together() -> None:
    results = draw_results(PAIR, Cohort(n_patients=24, n_folds=4))
    assert results.patients is not None
    declared = Declared("balanced_accuracy", 0.01, 0.05, "b")
    for n_sites, rule in ((8, "folds, patients and sites"), (3, "both tests"), (1, "both tests")):
        known = replace(results, sites=results.patients % n_sites)
        design = Design.of(known, n_boot=1, seed=0)
        (found,) = contrast_arms(design, known.runs, known.runs[0], declared)
        assert found.rule == rule
        assert (found.by_sites is None) == (n_sites == 1)
        if found.by_sites is not None:
            assert (found.by_sites.unit, found.by_sites.n) == ("sites", n_sites)
            assert found.by_sites.difference == pytest.approx(found.difference)


def test_the_interval_of_a_difference_holds_those_of_all_tests_asked_for() -> None:
    results = draw_results(PAIR, Cohort(n_patients=24, n_folds=4))
    design = Design.of(results, n_boot=1, seed=0)
    (found,) = contrast_arms(
        design, results.runs, results.runs[0], Declared("roc_auc", 0.01, 0.05, "b")
    )
    tests = (found.by_folds, found.by_patients)
    assert found.ci_low == min(test.ci_low for test in tests)
    assert found.ci_high == max(test.ci_high for test in tests)
