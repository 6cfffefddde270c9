"""Scores, intervals and tests of compare() against scikit-learn, scipy and brute force."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
from featurebench.comparison.arms import mean_over_repeats
from featurebench.comparison.contrasts import Declared, contrast_arms
from featurebench.comparison.design import Design
from featurebench.metrics import METRICS, weighted_metric
from featurebench.stats import patient_df

OPPOSITE = {
    "better": "worse",
    "worse": "better",
    "non-inferior": "not superior",
    "not superior": "non-inferior",
}

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
    return compare(results, margin=0.01, n_boot=200)


def _called(run: RunResult, repeat: int) -> npt.NDArray[np.intp]:
    return np.asarray(run.y_prob[repeat].argmax(axis=1))


def _run(results: ResultsTable, name: str) -> RunResult:
    return next(run for run in results.runs if run.arm == name)


def _contrast(comparison: Comparison, name: str) -> Contrast:
    return next(c for c in comparison.contrasts if c.arm_a == name)


def _thinned(results: ResultsTable, kept: npt.NDArray[np.intp]) -> ResultsTable:
    assert results.patients is not None
    return replace(
        results,
        y_true=results.y_true[kept],
        patients=results.patients[kept],
        test_fold=results.test_fold[:, kept],
        tile_ids=results.tile_ids[kept],
        runs=tuple(replace(run, y_prob=run.y_prob[:, kept]) for run in results.runs),
    )


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


def _difference(results: ResultsTable, rows: npt.NDArray[np.intp], score: Any) -> float:
    """Mean over the two common repeats of the fine-tune's score minus the probe's, on some rows."""
    a, b = _run(results, "a+full"), _run(results, "a+logistic")
    y_true = results.y_true[rows]
    return float(
        np.mean(
            [
                score(y_true, _called(a, r)[rows]) - score(y_true, _called(b, r)[rows])
                for r in (0, 1)
            ]
        )
    )


def test_kappa_is_tested_by_leaving_each_patient_out(results: ResultsTable) -> None:
    contrast = _contrast(compare(results, metric="kappa", n_boot=20), "a+full")
    assert results.patients is not None
    everyone = np.arange(len(results.y_true))
    value = _difference(results, everyone, skm.cohen_kappa_score)
    without = [
        _difference(results, everyone[results.patients != patient], skm.cohen_kappa_score)
        for patient in range(25)
    ]
    error = np.sqrt(24 * np.var(without))
    found = contrast.by_patients
    assert (found.difference, found.se) == pytest.approx((value, error))
    assert found.test == "t over patients, jackknife error"
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(value / error), found.df))


def test_average_precision_by_repeating_the_tiles_of_drawn_patients(results: ResultsTable) -> None:
    contrast = _contrast(compare(results, metric="average_precision", n_boot=60), "a+full")
    design = Design.of(results, n_boot=60, seed=0)
    a, b = _run(results, "a+full"), _run(results, "a+logistic")
    assert results.patients is not None
    values = []
    for weights in design.resamples.weights:
        by_repeat = []
        for r, folds in enumerate(results.test_fold[:2]):
            by_fold = []
            for fold in range(4):
                rows = np.repeat(everyone := np.arange(len(folds)), weights[results.patients])
                rows = rows[folds[rows] == fold]
                if len(set(results.y_true[rows])) == len(results.classes):
                    first, second = (
                        skm.average_precision_score(
                            np.eye(len(results.classes))[results.y_true[rows]],
                            run.y_prob[r, rows],
                        )
                        for run in (a, b)
                    )
                    by_fold.append(first - second)
            by_repeat += [np.mean(by_fold)] if by_fold else []
        values.append(np.mean(by_repeat) if by_repeat else np.nan)
    df = contrast.by_patients
    expected = design.resamples.interval(
        np.array(values), df=patient_df(design.shares(by_class=True))
    )
    assert len(everyone) == len(results.y_true)
    assert df.difference == pytest.approx(expected.value)
    assert (df.ci_low, df.ci_high) == pytest.approx((expected.ci_low, expected.ci_high), abs=1e-9)
    assert df.test == "BCa bootstrap over patients"


def test_accuracy_is_tested_by_the_means_of_patients(results: ResultsTable) -> None:
    contrast = _contrast(compare(results, metric="accuracy", n_boot=20), "a+full")
    assert results.patients is not None
    means = [
        _difference(results, np.flatnonzero(results.patients == patient), skm.accuracy_score)
        for patient in range(25)
    ]
    expected = stats.ttest_1samp(means, 0)
    low, high = expected.confidence_interval(0.95)
    assert contrast.by_patients.p_value == pytest.approx(expected.pvalue)
    found = contrast.by_patients
    assert (found.difference, found.ci_low, found.ci_high) == pytest.approx(
        (np.mean(means), low, high)
    )
    assert contrast.ci_low == min(low, contrast.by_folds.ci_low)
    narrow = expected.confidence_interval(0.90)
    assert (contrast.by_patients.narrow_low, contrast.by_patients.narrow_high) == pytest.approx(
        narrow
    )
    assert contrast.p_patient_better == pytest.approx(np.mean(np.sign(np.round(means, 9)) + 1) / 2)
    flips = stats.permutation_test(
        (means, np.zeros(25)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=9999,
        rng=np.random.default_rng(0),
    )
    assert contrast.permutation_p == pytest.approx(flips.pvalue, abs=0.03)


def test_balanced_accuracy_of_uneven_patients_has_the_right_estimate_and_error() -> None:
    results = draw_results([arm("a"), arm("b", "finetune", 1.6)], Cohort(n_patients=30, n_folds=5))
    kept = np.sort(np.random.default_rng(1).permutation(len(results.y_true))[:110])
    results = _thinned(results, kept)
    contrast = compare(results, n_boot=4000).contrasts[0]
    a, b = results.runs[1], results.runs[0]
    expected = np.mean(
        [
            skm.balanced_accuracy_score(results.y_true, _called(a, r))
            - skm.balanced_accuracy_score(results.y_true, _called(b, r))
            for r in range(3)
        ]
    )
    assert contrast.difference == pytest.approx(expected)
    design = Design.of(results, n_boot=4000, seed=0)
    samples = [_resampled(design, run, "balanced_accuracy") for run in (a, b)]
    bootstrap = np.nanstd(samples[0] - samples[1], ddof=1)
    assert contrast.by_patients.se == pytest.approx(bootstrap, rel=0.12)


def _resampled(design: Design, run: RunResult, metric: str) -> npt.NDArray[np.float64]:
    """Mean over the repeats in every bootstrap resample."""
    found = [
        design.resamples.evaluate(
            weighted_metric(metric, design.y_true, y_prob, design.clusters, folds)
        )
        for y_prob, folds in zip(run.y_prob, design.test_fold, strict=True)
    ]
    return mean_over_repeats(np.stack(found))[-design.resamples.n_boot :]


def test_auc_over_patients_agrees_with_their_bootstrap() -> None:
    results = draw_results(
        [arm("a"), arm("b", "finetune", 1.6)], Cohort(n_patients=40, n_folds=4, n_repeats=2)
    )
    contrast = compare(results, metric="roc_auc", n_boot=20).contrasts[0]
    design = Design.of(results, n_boot=4000, seed=0)
    samples = [_resampled(design, run, "roc_auc") for run in results.runs]
    bootstrap = np.nanstd(samples[1] - samples[0], ddof=1)
    assert contrast.by_patients.se == pytest.approx(bootstrap, rel=0.15)


def test_auc_of_three_classes_agrees_with_the_bootstrap() -> None:
    cohort = Cohort(n_classes=3, n_patients=90, n_folds=3, n_repeats=2)
    results = draw_results([arm("a"), arm("b", "finetune", 1.6)], cohort)
    contrast = compare(results, metric="roc_auc", n_boot=20).contrasts[0]
    design = Design.of(results, n_boot=4000, seed=0)
    samples = [_resampled(design, run, "roc_auc") for run in results.runs]
    bootstrap = np.nanstd(samples[1] - samples[0], ddof=1)
    assert contrast.by_patients.se == pytest.approx(bootstrap, rel=0.15)


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
    found = contrast.by_folds
    assert found.statistic == pytest.approx(t)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 7))
    assert found.difference == pytest.approx(d.mean())
    assert (found.df, contrast.n_repeats, contrast.n_folds) == (7, 2, 4)
    sides = [
        stats.t.sf((d.mean() + 0.01) / found.se, 7),
        stats.t.cdf((d.mean() - 0.01) / found.se, 7),
    ]
    assert found.p_equivalent == pytest.approx(max(sides))


def test_a_claim_needs_the_larger_p_value_and_enough_patients(comparison: Comparison) -> None:
    contrast = _contrast(comparison, "a+full")
    by_folds, by_patients = contrast.by_folds, contrast.by_patients
    assert contrast.rule == "both tests"
    assert contrast.p_value == max(by_folds.p_value, by_patients.p_value)
    reach = [
        (stats.t.ppf(0.975, each.df) + stats.t.ppf(0.9, each.df)) * each.se
        for each in (by_folds, by_patients)
    ]
    assert contrast.detectable == pytest.approx(max(reach))
    middle = 25 * (max(reach) / 0.01) ** 2
    assert contrast.n_needed_low is not None
    assert contrast.n_needed_high is not None
    assert contrast.n_needed_low < middle < contrast.n_needed_high
    assert contrast.p_worse + contrast.p_practical + contrast.p_better == pytest.approx(1)


def test_p_values_are_adjusted_over_all_but_the_primary_contrast(comparison: Comparison) -> None:
    assert [c.arm_a for c in comparison.contrasts] == ["a+full", "a+knn", "dummy"]
    assert [c.primary for c in comparison.contrasts] == [True, False, False]
    assert comparison.primary == comparison.contrasts[0]
    raw = [contrast.p_value for contrast in comparison.contrasts]
    adjusted = [contrast.p_adjusted for contrast in comparison.contrasts]
    np.testing.assert_allclose(adjusted[1:], multipletests(raw[1:], method="holm")[1])
    assert adjusted[0] == raw[0]


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
    thinned = _thinned(results, kept)
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
    assert comparison.contrasts[0].by_patients.unit == "tiles"
    assert not comparison.arm("a+logistic").patient_metrics
    grouped = compare(draw_results(ARMS, replace(cohort, known_patients=True)), n_boot=50)
    ours, theirs = (each.contrasts[0].by_folds.p_value for each in (comparison, grouped))
    assert ours == pytest.approx(theirs, rel=0.05)
    assert comparison.contrasts[0].n_needed_high is None


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


def _only(results: ResultsTable, metric: str, reference: RunResult) -> Contrast:
    """Contrast the one other arm with the reference."""
    design = Design.of(results, n_boot=100, seed=0)
    declared = Declared(metric, 0.01, 0.05)
    return contrast_arms(design, results.runs, reference, declared)[0]


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
    one, other = (_only(results, metric, reference) for reference in results.runs)
    assert one.outcome == OPPOSITE.get(other.outcome, other.outcome)
    np.testing.assert_allclose(one.p_value, other.p_value)
    np.testing.assert_allclose(
        [one.difference, one.ci_low, one.ci_high, one.by_folds.ci_low, one.p_better],
        [-other.difference, -other.ci_high, -other.ci_low, -other.by_folds.ci_high, other.p_worse],
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
    one, other = (_only(each, metric, each.runs[0]) for each in (results, renamed))
    np.testing.assert_allclose(
        [one.difference, one.ci_low, one.by_folds.p_value, one.by_patients.p_value],
        [other.difference, other.ci_low, other.by_folds.p_value, other.by_patients.p_value],
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
    declared = Declared("accuracy", 0.01, 0.05, "b")
    contrasts = contrast_arms(design, results.runs, results.runs[0], declared)
    return sum(contrast.outcome in {"better", "worse"} for contrast in contrasts)


def test_identical_arms_are_not_resolved_and_not_estimable() -> None:
    results = draw_results([arm("a")])
    twin = replace(results.runs[0], arm="b")
    contrast = compare(replace(results, runs=(*results.runs, twin)), n_boot=50).contrasts[0]
    assert contrast.difference == 0
    assert np.isnan([contrast.p_value, contrast.p_adjusted, contrast.ci_low]).all()
    assert contrast.outcome == "not resolved"
    assert contrast.relevance == "open"


def test_folds_of_one_class_are_counted_for_auc() -> None:
    results = draw_results([arm("a"), arm("b")], Cohort(n_patients=8, n_folds=2, n_repeats=2))
    # Classes alternate, so folds 0 and 1 hold one class each.
    by_patient = np.array([0, 1, 0, 1, 2, 2, 2, 2], dtype=np.int16)
    results = replace(results, test_fold=np.tile(by_patient[results.patients], (2, 1)))
    comparison = compare(results, metric="roc_auc", n_boot=50)
    undefined = comparison.arm("a").undefined_folds
    assert (undefined["accuracy"], undefined["roc_auc"]) == (0, 4)
    contrast = comparison.contrasts[0]
    assert (contrast.undefined_folds, contrast.n_folds, contrast.by_folds.df) == (4, 3, 1)
