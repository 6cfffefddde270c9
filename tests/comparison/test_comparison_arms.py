"""Summaries of all arms at once are those of each metric by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from comparison_cases import Cohort, arm, draw_results
from scipy import stats

from featurebench.comparison.arms import (
    BY_CLASS,
    RESAMPLED,
    arm_estimate,
    estimate,
    mean_over_repeats,
    sample_scores,
    summarize_arms,
)
from featurebench.comparison.design import Design
from featurebench.metrics import (
    LIMITS,
    METRICS,
    arm_value,
    patient_level,
    patient_rows,
    weighted_metric,
)

COHORTS = {
    "two classes": Cohort(),
    "three classes, some patients with two labels": Cohort(n_classes=3, mixed_patients=4),
    "patients on both sides of a fold": Cohort(grouped=False),
    "patients unknown": Cohort(known_patients=False),
    "hold-out": Cohort(holdout=True, n_repeats=1),
    "folds without a class": Cohort(n_patients=9, n_classes=3, n_folds=4),
    "no patient with one label": Cohort(n_patients=8, mixed_patients=8),
}


@pytest.fixture(params=list(COHORTS.values()), ids=list(COHORTS))
def cohort(request: pytest.FixtureRequest) -> Cohort:
    found: Cohort = request.param
    return found


def test_every_metric_of_every_arm(cohort: Cohort) -> None:
    results = draw_results([arm("a"), arm("b", signal=0.3, n_repeats=1)], cohort)
    design, again = (Design.of(results, n_boot=100, seed=0) for _ in range(2))
    for run, summary in zip(
        results.runs, summarize_arms(design, results.runs, alpha=0.1), strict=True
    ):
        for name in METRICS:
            one = sample_scores(again, run, name)
            np.testing.assert_array_equal(sample_scores(design, run, name), one)
            interval = arm_estimate(again, run, name, alpha=0.1)
            known = summary.metrics[name]
            assert (known.value, known.ci_low) == pytest.approx(
                (interval.value, interval.ci_low), nan_ok=True
            )
            value, n_undefined = arm_value(name, design.y_true, run.y_prob, design.test_fold)
            assert known.value == pytest.approx(value, nan_ok=True)
            assert summary.undefined_folds[name] == n_undefined


def test_patients_are_scored_on_their_mean_probabilities(cohort: Cohort) -> None:
    results = draw_results([arm("a")], cohort)
    design = Design.of(results, n_boot=60, seed=0)
    (run,) = results.runs
    (summary,) = summarize_arms(design, [run], alpha=0.05)
    samples = []
    for repeat, y_prob in enumerate(run.y_prob):
        rows = design.rows(repeat)
        y_true, units = design.y_true[rows], design.clusters[rows]
        labels, means, n_mixed = patient_level(y_true, y_prob[rows], units)
        if not design.grouped or len(labels) == 0:
            assert summary.patient_metrics == {}
            return
        first, _ = patient_rows(y_true, units)
        assert len(first) + n_mixed == len(np.unique(units))
        fold = design.test_fold[repeat, rows][first]
        statistic = weighted_metric("f1", labels, means, units[first], fold)
        samples.append(design.resamples.left_out.evaluate(statistic))
    values = mean_over_repeats(np.stack(samples))
    found = summary.patient_metrics["f1"]
    assert found.value == pytest.approx(values[0])
    if np.isnan(values).any():
        # Without one of the patients a class is missing.
        assert np.isnan(found.ci_low)
    else:
        assert found.ci_low < found.value < found.ci_high


def test_brier_score_above_one_lies_in_its_interval() -> None:
    results = draw_results([arm("a", signal=-1.5)], Cohort(n_classes=3))
    design = Design.of(results, n_boot=400, seed=0)
    found = arm_estimate(design, results.runs[0], "brier", alpha=0.05)
    assert 1 < found.value < found.ci_high < 2
    assert found.ci_low < found.value


def test_sizes_of_test_and_training_sets(cohort: Cohort) -> None:
    design = Design.of(draw_results([arm("a")], cohort), n_boot=1, seed=0)
    n_test = n_train = 0
    for repeat in range(cohort.n_repeats):
        for rows in design.fold_rows(repeat):
            others = np.setdiff1d(np.arange(len(design.y_true)), rows)
            for_units = design.clusters if design.grouped else np.arange(len(design.y_true))
            n_test += len(np.unique(for_units[rows]))
            n_train += len(np.unique(for_units[others]))
    assert design.test_train_ratio(cohort.n_repeats) == n_test / n_train


def test_what_was_made_of_a_run_is_not_taken_for_another_one() -> None:
    results = draw_results([arm("a"), arm("a", signal=0.2)], Cohort())
    design = Design.of(results, n_boot=20, seed=0)
    first, second = (sample_scores(design, run, "accuracy") for run in results.runs)
    assert not np.array_equal(first, second)
    assert sample_scores(design, results.runs[0], "accuracy") is first


def test_an_interval_is_the_jackknifes_with_one_more_patient_of_each_class() -> None:
    """Recomputed from values without each patient, by hand."""
    results = draw_results([arm("a", signal=1.5)], Cohort(n_patients=12, n_folds=4))
    design = Design.of(results, n_boot=5, seed=0)
    (run,) = results.runs
    values = mean_over_repeats(sample_scores(design, run, "balanced_accuracy"))
    assert values.shape == (1 + 12,)
    squared = 11 / 12 * np.sum((values[1:] - values[1:].mean()) ** 2)
    # Six patients of each of two classes, and chance is a half.
    squared += (values[0] - 0.5) ** 2 / 2**2 * (2 / 7**2)
    place = np.log(values[0] / (1 - values[0]))
    step = stats.t.ppf(0.975, 10) * np.sqrt(squared) / (values[0] * (1 - values[0]))
    ends = 1 / (1 + np.exp(-(place + np.array([-step, step]))))
    found = arm_estimate(design, run, "balanced_accuracy", alpha=0.05)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((values[0], *ends))


def test_what_is_not_resampled_does_not_depend_on_the_resamples() -> None:
    results = draw_results([arm("a")], Cohort())
    few, many = (Design.of(results, n_boot=n, seed=n) for n in (20, 300))
    (run,) = results.runs
    for name in METRICS:
        one, other = (arm_estimate(each, run, name, alpha=0.05) for each in (few, many))
        assert (one == other) == (name not in RESAMPLED)


def test_bounds_stay_within_the_metric() -> None:
    results = draw_results([arm("a", signal=4)], Cohort(n_patients=12, n_folds=4))
    design = Design.of(results, n_boot=200, seed=0)
    (run,) = results.runs
    for name in METRICS:
        found = arm_estimate(design, run, name, alpha=0.05)
        low, high = LIMITS[name]
        if name in RESAMPLED and np.isnan(found.ci_low):
            continue
        assert low <= found.ci_low <= found.value <= found.ci_high <= high
        assert found.ci_low < found.ci_high


def test_known_sites_widen_an_interval_where_a_claim_is_asked_of_them() -> None:
    results = draw_results([arm("a")], Cohort(n_patients=24))
    assert results.patients is not None
    (run,) = results.runs
    plain = Design.of(results, n_boot=5, seed=0)
    alone = arm_estimate(plain, run, "roc_auc", alpha=0.05)
    few = Design.of(replace(results, sites=results.patients % 5), n_boot=5, seed=0)
    assert arm_estimate(few, run, "roc_auc", alpha=0.05) == alone
    many = Design.of(replace(results, sites=results.patients % 6), n_boot=5, seed=0)
    assert many.by_sites is not None
    over_sites = estimate(
        many.by_sites.resamples,
        sample_scores(many.by_sites, run, "roc_auc"),
        "roc_auc",
        shares=many.by_sites.shares(by_class="roc_auc" in BY_CLASS),
        n_classes=2,
        alpha=0.05,
    )
    found = arm_estimate(many, run, "roc_auc", alpha=0.05)
    assert found.ci_low == min(alone.ci_low, over_sites.ci_low)
    assert found.ci_high == max(alone.ci_high, over_sites.ci_high)
