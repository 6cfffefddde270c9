"""Scores, intervals and tests of compare() against scikit-learn, scipy and brute force."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from comparison_cases import Cohort, arm, draw_results
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as skm
from statsmodels.stats.multitest import multipletests

from featurebench.comparison import Comparison, Contrast, compare
from featurebench.comparison.contrasts import contrast_arms, decide
from featurebench.comparison.design import Design
from featurebench.metrics import METRICS

if TYPE_CHECKING:
    from featurebench.results import ResultsTable, RunResult

ARMS = [
    arm("a+logistic"),
    arm("a+full", "finetune", 1.6, n_repeats=2, wall_s=300.0),
    arm("a+knn", signal=0.7, extraction_s=5.0),
    arm("dummy", "baseline"),
]


@pytest.fixture(scope="module")
def results() -> ResultsTable:
    return draw_results(ARMS, Cohort(n_classes=3, n_patients=25, n_folds=4))


@pytest.fixture(scope="module")
def comparison(results: ResultsTable) -> Comparison:
    return compare(results, n_boot=200)


def _called(run: RunResult, repeat: int) -> npt.NDArray[np.intp]:
    return np.asarray(run.y_prob[repeat].argmax(axis=1))


def _run(results: ResultsTable, name: str) -> RunResult:
    return next(run for run in results.runs if run.arm == name)


def _contrast(comparison: Comparison, name: str) -> Contrast:
    return next(c for c in comparison.contrasts if c.arm_a == name)


def test_scores_are_means_over_repeats_as_scikit_learn_computes_them(
    results: ResultsTable, comparison: Comparison
) -> None:
    for run in results.runs:
        summary = comparison.arm(run.arm)
        called = [_called(run, r) for r in range(run.n_repeats)]
        for name, score in {
            "balanced_accuracy": skm.balanced_accuracy_score,
            "kappa": skm.cohen_kappa_score,
            "mcc": skm.matthews_corrcoef,
        }.items():
            expected = np.mean([score(results.y_true, c) for c in called])
            assert summary.metrics[name].value == pytest.approx(expected), (run.arm, name)
        np.testing.assert_array_equal(
            summary.confusion, skm.confusion_matrix(results.y_true, called[0])
        )


def test_auc_is_averaged_within_folds(results: ResultsTable, comparison: Comparison) -> None:
    run = _run(results, "a+logistic")
    by_repeat = []
    for repeat, folds in enumerate(results.test_fold):
        aucs = [
            skm.roc_auc_score(
                results.y_true[folds == k],
                run.y_prob[repeat, folds == k].astype(float)
                / run.y_prob[repeat, folds == k].astype(float).sum(axis=1, keepdims=True),
                multi_class="ovr",
            )
            for k in range(4)
        ]
        by_repeat.append(np.mean(aucs))
    assert comparison.arm(run.arm).metrics["roc_auc"].value == pytest.approx(np.mean(by_repeat))


def test_patient_scores_average_the_probabilities_of_a_patient(
    results: ResultsTable, comparison: Comparison
) -> None:
    run = _run(results, "a+knn")
    values = []
    assert results.patients is not None
    for repeat in range(run.n_repeats):
        by_patient = pd.DataFrame(run.y_prob[repeat].astype(float)).groupby(results.patients).mean()
        truth = pd.Series(results.y_true).groupby(results.patients).first()
        called = by_patient.to_numpy().argmax(axis=1)
        values.append(skm.balanced_accuracy_score(truth, called))
    estimate = comparison.arm(run.arm).patient_metrics["balanced_accuracy"]
    assert estimate.value == pytest.approx(np.mean(values))
    assert estimate.ci_low < estimate.value < estimate.ci_high


def test_every_metric_has_a_value_and_an_interval_around_it(comparison: Comparison) -> None:
    summary = comparison.arm("a+logistic")
    assert set(summary.metrics) == set(summary.patient_metrics) == set(METRICS)
    for estimate in [*summary.metrics.values(), *summary.patient_metrics.values()]:
        assert estimate.ci_low < estimate.value < estimate.ci_high


def test_difference_and_interval_by_repeating_the_tiles_of_drawn_patients(
    results: ResultsTable, comparison: Comparison
) -> None:
    contrast = _contrast(comparison, "a+full")
    design = Design.of(results, n_boot=200, seed=0)
    a, b = _run(results, "a+full"), _run(results, "a+logistic")
    assert results.patients is not None
    differences = []
    for weights in design.resamples.weights:
        rows = np.repeat(np.arange(len(results.y_true)), weights[results.patients])
        by_repeat = [
            skm.balanced_accuracy_score(results.y_true[rows], _called(a, r)[rows])
            - skm.balanced_accuracy_score(results.y_true[rows], _called(b, r)[rows])
            for r in range(2)
        ]
        differences.append(np.mean(by_repeat))
    expected = design.resamples.interval(differences)
    assert contrast.difference == pytest.approx(expected.value)
    assert (contrast.ci_low, contrast.ci_high) == pytest.approx(
        (expected.ci_low, expected.ci_high), abs=1e-9
    )
    assert contrast.interval == "BCa bootstrap over patients"


def test_corrected_test_from_the_scores_of_the_common_folds(
    results: ResultsTable, comparison: Comparison
) -> None:
    contrast = _contrast(comparison, "a+full")
    a, b = _run(results, "a+full"), _run(results, "a+logistic")
    d = np.array(
        [
            skm.balanced_accuracy_score(results.y_true[fold == k], _called(a, r)[fold == k])
            - skm.balanced_accuracy_score(results.y_true[fold == k], _called(b, r)[fold == k])
            for r, fold in enumerate(results.test_fold[:2])
            for k in range(4)
        ]
    )
    t = d.mean() / np.sqrt((1 / 8 + 1 / 3) * d.var(ddof=1))
    assert contrast.statistic == pytest.approx(t)
    assert contrast.p_value == pytest.approx(2 * stats.t.sf(abs(t), 7))
    assert contrast.test_difference == pytest.approx(d.mean())
    assert (contrast.df, contrast.n_repeats, contrast.n_folds) == (7, 2, 4)


def test_p_values_are_adjusted_over_all_contrasts(comparison: Comparison) -> None:
    raw = [contrast.p_value for contrast in comparison.contrasts]
    adjusted = [contrast.p_adjusted for contrast in comparison.contrasts]
    assert [c.arm_a for c in comparison.contrasts] == ["a+full", "a+knn", "dummy"]
    np.testing.assert_allclose(adjusted, multipletests(raw, method="holm")[1])


def test_cost_ratio_is_that_of_the_common_repeats(comparison: Comparison) -> None:
    # 300 s were two repeats, of which both are common; 10 s were three, of which two are.
    assert _contrast(comparison, "a+full").cost_ratio == pytest.approx(300 / (10 * 2 / 3))
    assert _contrast(comparison, "a+knn").cost_ratio == pytest.approx(15 / 10)


def test_a_time_that_was_not_recorded_gives_no_ratio() -> None:
    results = draw_results([arm("a", wall_s=0.0), arm("b")])
    assert np.isnan(compare(results, n_boot=20).contrasts[0].cost_ratio)


@pytest.mark.parametrize("holdout", [False, True])
def test_test_train_ratio_counts_patients_of_any_size(holdout: bool) -> None:
    cohort = Cohort(n_patients=26, n_folds=4, holdout=holdout)
    results = draw_results([arm("a")], cohort)
    rng = np.random.default_rng(0)
    kept = np.sort(rng.permutation(len(results.y_true))[:100])
    assert results.patients is not None
    thinned = replace(
        results,
        y_true=results.y_true[kept],
        patients=results.patients[kept],
        test_fold=results.test_fold[:, kept],
    )
    design = Design.of(thinned, n_boot=10, seed=0)
    if holdout:
        first = thinned.test_fold[0] == 0
        assert thinned.patients is not None
        n_test = len(set(thinned.patients[first]))
        n_all = len(set(thinned.patients))
        assert design.test_train_ratio(1) == pytest.approx(n_test / (n_all - n_test))
        assert design.n_units == len(set(thinned.patients[(thinned.test_fold >= 0).any(axis=0)]))
    else:
        assert design.test_train_ratio(3) == pytest.approx(1 / 3)


def test_every_tile_is_its_own_unit_without_patients() -> None:
    cohort = Cohort(n_patients=12, known_patients=False)
    comparison = compare(draw_results(ARMS, cohort), n_boot=50)
    assert comparison.contrasts[0].interval.endswith("over tiles")
    assert not comparison.arm("a+logistic").patient_metrics
    grouped = compare(draw_results(ARMS, replace(cohort, known_patients=True)), n_boot=50)
    assert comparison.contrasts[0].p_value == pytest.approx(grouped.contrasts[0].p_value, rel=0.05)


def _oriented(metric: str, **numbers: float) -> Contrast:
    results = draw_results([arm("a"), arm("b", signal=1.5)], Cohort(n_patients=8, n_folds=2))
    contrast = compare(results, metric=metric, n_boot=20).contrasts[0]
    return replace(contrast, **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "ends", "by_test", "p", "expected"),
    [
        ("accuracy", (0.01, 0.05), 0.03, 0.01, "better"),
        ("accuracy", (-0.05, -0.01), -0.03, 0.01, "worse"),
        ("brier", (-0.05, -0.01), -0.03, 0.01, "better"),
        ("brier", (0.01, 0.05), 0.03, 0.01, "worse"),
        ("accuracy", (0.01, 0.05), 0.03, 0.05, "not resolved"),
        ("accuracy", (-0.01, 0.05), 0.03, 0.01, "not resolved"),
        ("accuracy", (0.01, 0.05), -0.03, 0.01, "not resolved"),
        ("accuracy", (0.01, 0.05), 0.03, np.nan, "not resolved"),
        ("accuracy", (np.nan, np.nan), 0.03, 0.01, "not resolved"),
    ],
)
def test_better_needs_test_and_interval_on_the_same_side(
    metric: str, ends: tuple[float, float], by_test: float, p: float, expected: str
) -> None:
    contrast = _oriented(metric, ci_low=ends[0], ci_high=ends[1], test_difference=by_test)
    assert decide(contrast, p, 0.05) == expected


@pytest.mark.parametrize("metric", ["balanced_accuracy", "log_loss"])
def test_a_much_stronger_arm_is_better_in_either_direction_of_the_metric(metric: str) -> None:
    arms = [arm("weak", signal=0.3), arm("strong", "finetune", 3.0)]
    comparison = compare(
        draw_results(arms, Cohort(n_patients=40, n_folds=5)), metric=metric, n_boot=300
    )
    assert comparison.contrasts[0].outcome == "better"
    swapped = compare(
        draw_results(arms, Cohort(n_patients=40, n_folds=5)),
        metric=metric,
        n_boot=300,
        reference="strong",
    )
    assert swapped.contrasts[0].outcome == "worse"


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    metric=st.sampled_from(["balanced_accuracy", "roc_auc", "brier", "mcc"]),
    known_patients=st.booleans(),
)
def test_swapping_the_arms_flips_the_sign_and_nothing_else(
    seed: int, metric: str, known_patients: bool
) -> None:
    cohort = Cohort(n_patients=12, n_folds=3, seed=seed, known_patients=known_patients)
    results = draw_results([arm("a"), arm("b", signal=1.5)], cohort)
    one, other = (
        compare(results, metric=metric, reference=name, n_boot=100).contrasts[0] for name in "ab"
    )
    opposite = {"better": "worse", "worse": "better"}.get(other.outcome, other.outcome)
    assert one.outcome == opposite
    np.testing.assert_allclose(one.p_value, other.p_value)
    np.testing.assert_allclose(
        [one.difference, one.ci_low, one.ci_high, one.test_ci_low],
        [-other.difference, -other.ci_high, -other.ci_low, -other.test_ci_high],
        atol=1e-10,
    )


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1000),
    metric=st.sampled_from(["balanced_accuracy", "f1", "roc_auc", "kappa", "log_loss"]),
    order=st.permutations(range(3)),
)
def test_renaming_the_classes_changes_nothing(seed: int, metric: str, order: list[int]) -> None:
    results = draw_results([arm("a"), arm("b")], Cohort(n_patients=12, n_classes=3, seed=seed))
    back = np.argsort(order)
    renamed = replace(
        results,
        y_true=back[results.y_true],
        runs=tuple(replace(run, y_prob=run.y_prob[:, :, order]) for run in results.runs),
    )
    one, other = (compare(r, metric=metric, n_boot=50) for r in (results, renamed))
    np.testing.assert_allclose(
        [one.contrasts[0].difference, one.contrasts[0].ci_low, one.contrasts[0].p_value],
        [other.contrasts[0].difference, other.contrasts[0].ci_low, other.contrasts[0].p_value],
        atol=1e-6,
    )


def test_the_order_of_the_other_arms_does_not_change_a_contrast(results: ResultsTable) -> None:
    backwards = replace(results, runs=results.runs[::-1])
    one = compare(results, n_boot=50, reference="a+logistic")
    other = compare(backwards, n_boot=50, reference="a+logistic")
    assert sorted(one.contrasts, key=lambda c: c.arm_a) == sorted(
        other.contrasts, key=lambda c: c.arm_a
    )


def test_equally_good_arms_are_rarely_called_better_or_worse() -> None:
    claims = 0
    for seed in range(60):
        cohort = Cohort(n_patients=24, n_folds=4, n_repeats=2, seed=seed)
        results = draw_results([arm("a"), arm("b", "finetune")], cohort)
        design = Design.of(results, n_boot=200, seed=0)
        claims += _claims(design, results)
    assert claims <= 6


def _claims(design: Design, results: ResultsTable) -> int:
    contrasts = contrast_arms(
        design, results.runs, results.runs[0], metric="accuracy", margin=0.01, alpha=0.05
    )
    return sum(contrast.outcome != "not resolved" for contrast in contrasts)


def test_identical_arms_are_not_resolved_and_not_estimable() -> None:
    results = draw_results([arm("a")])
    twin = replace(results.runs[0], arm="b")
    contrast = compare(replace(results, runs=(*results.runs, twin)), n_boot=50).contrasts[0]
    assert contrast.difference == 0
    assert np.isnan([contrast.p_value, contrast.p_adjusted, contrast.ci_low]).all()
    assert contrast.outcome == "not resolved"
    assert not contrast.within_margin


def test_folds_of_one_class_are_counted_for_auc() -> None:
    results = draw_results([arm("a"), arm("b")], Cohort(n_patients=8, n_folds=2, n_repeats=2))
    # Classes alternate, so folds 0 and 1 hold one class each.
    by_patient = np.array([0, 1, 0, 1, 2, 2, 2, 2], dtype=np.int16)
    results = replace(results, test_fold=np.tile(by_patient[results.patients], (2, 1)))
    comparison = compare(results, metric="roc_auc", n_boot=50)
    undefined = comparison.arm("a").undefined_folds
    assert (undefined["accuracy"], undefined["roc_auc"]) == (0, 4)
    contrast = comparison.contrasts[0]
    assert (contrast.undefined_folds, contrast.n_folds, contrast.df) == (4, 3, 1)


def test_the_margin_is_held_against_the_interval() -> None:
    results = draw_results([arm("a"), arm("b")])
    contrast = compare(results, n_boot=100, margin=0.0).contrasts[0]
    wide = max(abs(contrast.ci_low), abs(contrast.ci_high))
    assert not contrast.within_margin
    assert compare(results, n_boot=100, margin=wide).contrasts[0].within_margin
    assert not compare(results, n_boot=100, margin=0.99 * wide).contrasts[0].within_margin
