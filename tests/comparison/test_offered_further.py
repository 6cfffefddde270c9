"""The further tests offered by name, each against a reference computed from the predictions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from comparison_cases import Cohort, arm, draw_results
from scipy import stats
from sklearn import metrics as skm
from statsmodels.stats.contingency_tables import SquareTable
from statsmodels.stats.inter_rater import cohens_kappa

from featurebench.comparison import Comparison, OfferedTest, compare
from featurebench.stats import (
    clustered_auc,
    clustered_mcnemar,
    delong,
    five_by_two_f,
    five_by_two_t,
)

if TYPE_CHECKING:
    from featurebench.results import ResultsTable, RunResult

Floats = npt.NDArray[np.float64]

ARMS = [
    arm("a+logistic"),
    arm("a+full", "finetune", 1.6, n_repeats=5),
    arm("a+knn", signal=0.7),
    arm("dummy", "baseline"),
]
TWO = ["delong", "obuchowski"]
COUNTED = ["clustered_mcnemar", "stuart_maxwell"]
FOLDS = ["wilcoxon", "five_by_two_t", "five_by_two_f"]
EACH = ["kappa", "hand_till"]


@pytest.fixture(scope="module")
def results() -> ResultsTable:
    return draw_results(ARMS, Cohort(n_patients=26, n_folds=2, n_repeats=6, mixed_patients=6))


@pytest.fixture(scope="module")
def comparison(results: ResultsTable) -> Comparison:
    return compare(results, n_boot=50, tests=[*FOLDS, *COUNTED, *TWO, *EACH])


def _offered(comparison: Comparison, name: str) -> OfferedTest:
    return next(test for test in comparison.offered if test.name == name)


def _runs(results: ResultsTable) -> dict[str, RunResult]:
    return {run.arm: run for run in results.runs}


def _differences(results: ResultsTable, name: str, n_repeats: int) -> Floats:
    """Balanced accuracy of an arm minus that of the reference, shape (n_repeats, 2)."""
    runs, scores = _runs(results), {}
    for each in (name, "a+logistic"):
        called = runs[each].y_prob.argmax(axis=2)
        scores[each] = np.array(
            [
                [
                    skm.balanced_accuracy_score(results.y_true[rows], called[repeat, rows])
                    for rows in (results.test_fold[repeat] == fold for fold in range(2))
                ]
                for repeat in range(n_repeats)
            ]
        )
    found: Floats = scores[name] - scores["a+logistic"]
    return found


def _second(results: ResultsTable, name: str) -> Floats:
    return _runs(results)[name].y_prob[0, :, 1].astype(np.float64)


def _called(results: ResultsTable, name: str) -> npt.NDArray[np.int64]:
    called: npt.NDArray[np.int64] = _runs(results)[name].y_prob[0].argmax(axis=1)
    return called


def _numbers(results: ResultsTable) -> npt.NDArray[np.int64]:
    assert results.patients is not None
    return results.patients


def test_each_stands_beside_the_corrected_test(comparison: Comparison) -> None:
    by_arm = {contrast.arm_a: contrast for contrast in comparison.contrasts}
    for name in (*FOLDS, *COUNTED, *TWO):
        pairs = _offered(comparison, name).pairs
        assert {pair.arm_a for pair in pairs} == set(by_arm)
        for pair in pairs:
            contrast = by_arm[pair.arm_a]
            assert pair.arm_b == "a+logistic"
            assert pair.p_corrected == contrast.by_folds.p_value
            assert pair.p_adjusted == contrast.p_adjusted


@pytest.mark.parametrize(("name", "n_repeats"), [("a+full", 5), ("a+knn", 6)])
def test_wilcoxon_is_that_of_scipy(
    results: ResultsTable, comparison: Comparison, name: str, n_repeats: int
) -> None:
    d = _differences(results, name, n_repeats).ravel()
    (pair,) = (p for p in _offered(comparison, "wilcoxon").pairs if p.arm_a == name)
    expected = stats.wilcoxon(np.round(d, 9), zero_method="zsplit")
    assert pair.statistic == pytest.approx(expected.statistic)
    assert pair.further["r_plus"] + pair.further["r_minus"] == len(d) * (len(d) + 1) / 2
    assert (pair.n, pair.difference) == pytest.approx((2 * n_repeats, d.mean()))
    if len(np.unique(np.abs(np.round(d, 9)))) == len(d):
        assert pair.p_value == pytest.approx(expected.pvalue)


def test_five_by_two_uses_the_first_five_repeats(
    results: ResultsTable, comparison: Comparison
) -> None:
    for name, test, df in (
        ("five_by_two_t", five_by_two_t, 5),
        ("five_by_two_f", five_by_two_f, 10),
    ):
        for pair in _offered(comparison, name).pairs:
            expected = test(_differences(results, pair.arm_a, 5))
            assert pair.statistic == pytest.approx(expected.statistic)
            assert pair.p_value == pytest.approx(expected.p_value)
            assert (pair.n, pair.df) == (10, df)
            assert pair.difference == pytest.approx(expected.estimate)


def test_five_by_two_needs_two_folds_and_five_repeats(results: ResultsTable) -> None:
    four_folds = compare(draw_results(ARMS[:1] + ARMS[2:]), n_boot=50, tests=FOLDS)
    assert [test.not_run for test in four_folds.offered] == [
        "",
        "the plan has 4 folds and 3 repeats, and it needs 2 folds and 5 repeats",
        "the plan has 4 folds and 3 repeats, and it needs 2 folds and 5 repeats",
    ]
    few = [
        run if run.arm != "a+full" else replace(run, y_prob=run.y_prob[:2]) for run in results.runs
    ]
    one = compare(replace(results, runs=tuple(few[:2])), n_boot=50, tests=FOLDS[1:])
    reason = "no arm has 5 repeats in common with the reference"
    assert [test.not_run for test in one.offered] == [reason] * 2
    both = compare(replace(results, runs=tuple(few[:3])), n_boot=50, tests=FOLDS[1:])
    for test in both.offered:
        by_arm = {pair.arm_a: pair for pair in test.pairs}
        assert np.isnan([by_arm["a+full"].p_value, by_arm["a+full"].statistic]).all()
        assert by_arm["a+full"].n == 4
        assert 0 < by_arm["a+knn"].p_value < 1


def test_clustered_mcnemar_counts_the_calls_by_patient(
    results: ResultsTable, comparison: Comparison
) -> None:
    reference = _called(results, "a+logistic") == results.y_true
    for pair in _offered(comparison, "clustered_mcnemar").pairs:
        right = _called(results, pair.arm_a) == results.y_true
        counts = [
            [int(tiles[_numbers(results) == patient].sum()) for patient in range(26)]
            for tiles in (right & ~reference, reference & ~right, np.ones_like(right))
        ]
        expected = clustered_mcnemar(*counts)
        assert (pair.only_a, pair.only_b) == (sum(counts[0]), sum(counts[1]))
        assert (pair.statistic, pair.df) == pytest.approx((expected.obuchowski, 1))
        assert pair.p_value == pytest.approx(expected.p_obuchowski)
        assert pair.further["p_durkalski"] == pytest.approx(expected.p_durkalski)
        assert pair.further["p_yang"] == pytest.approx(expected.p_yang)
        assert pair.difference == pytest.approx(right.mean() - reference.mean())
        assert pair.n == 26


def test_delong_and_obuchowski_rank_the_pooled_first_repeat(
    results: ResultsTable, comparison: Comparison
) -> None:
    positive = results.y_true == 1
    tiles, patients = _offered(comparison, "delong").pairs, _offered(comparison, "obuchowski").pairs
    for tile, patient in zip(tiles, patients, strict=True):
        scores = [_second(results, name) for name in (tile.arm_a, "a+logistic")]
        expected = delong(positive, scores)
        assert tile.p_value == pytest.approx(expected.p_value, nan_ok=True)
        assert tile.further["auc_a"] == pytest.approx(skm.roc_auc_score(positive, scores[0]))
        assert tile.further["auc_b"] == pytest.approx(skm.roc_auc_score(positive, scores[1]))
        difference, se = clustered_auc(positive, scores, _numbers(results)).difference(0, 1)
        assert patient.difference == pytest.approx(tile.difference) == pytest.approx(difference)
        assert patient.further["se"] == pytest.approx(se)
        assert patient.p_value == pytest.approx(2 * stats.t.sf(abs(difference) / se, 24))
        assert (tile.n, patient.n, patient.df) == (len(positive), 26, 24)


def test_stuart_maxwell_compares_the_calls_of_two_arms(results: ResultsTable) -> None:
    results = draw_results(ARMS[:3], Cohort(n_classes=3, n_patients=25, n_folds=2, n_repeats=5))
    comparison = compare(results, n_boot=50, tests=["stuart_maxwell"])
    for pair in _offered(comparison, "stuart_maxwell").pairs:
        a, b = _called(results, pair.arm_a), _called(results, "a+logistic")
        table = skm.confusion_matrix(a, b)
        reference = SquareTable(table, shift_zeros=False)
        expected = reference.homogeneity(method="stuart_maxwell")
        assert pair.statistic == pytest.approx(expected.statistic)
        assert (pair.p_value, pair.df) == pytest.approx((expected.pvalue, expected.df))
        assert pair.further["p_bowker"] == pytest.approx(reference.symmetry().pvalue)
        shares = [np.mean(a == k) - np.mean(b == k) for k in range(3)]
        assert abs(pair.difference) == pytest.approx(np.abs(shares).max())
        assert pair.difference == pytest.approx(shares[int(pair.further["class"])])


def test_kappa_of_every_arm_is_that_of_statsmodels(
    results: ResultsTable, comparison: Comparison
) -> None:
    found = {each.arm: each for each in _offered(comparison, "kappa").each_arm}
    assert set(found) == {summary.arm for summary in comparison.arms}
    for run in results.runs[:3]:
        table = skm.confusion_matrix(results.y_true, _called(results, run.arm))
        expected, each = cohens_kappa(table), found[run.arm]
        assert (each.value, each.se) == pytest.approx((expected.kappa, expected.std_kappa))
        assert (each.ci_low, each.ci_high) == pytest.approx(
            (expected.kappa_low, expected.kappa_upp)
        )
        assert each.n == len(results.y_true)
    assert found["dummy"].value == 0


def test_hand_till_is_the_mean_over_folds() -> None:
    results = draw_results(ARMS[:3], Cohort(n_classes=3, n_patients=25, n_folds=2, n_repeats=5))
    comparison = compare(results, n_boot=50, tests=["hand_till"])
    found = {each.arm: each for each in _offered(comparison, "hand_till").each_arm}
    for run in results.runs:
        values = [
            skm.roc_auc_score(
                results.y_true[rows],
                (p := run.y_prob[repeat, rows].astype(np.float64)) / p.sum(axis=1, keepdims=True),
                multi_class="ovo",
            )
            for repeat in range(run.n_repeats)
            for rows in (results.test_fold[repeat] == fold for fold in range(2))
        ]
        each = found[run.arm]
        assert each.value == pytest.approx(np.mean(values))
        assert (each.n, each.n_undefined) == (2 * run.n_repeats, 0)
        assert np.isnan([each.se, each.ci_low]).all()


def test_hand_till_leaves_folds_without_a_class_out() -> None:
    results = draw_results(ARMS[:2], Cohort(n_folds=2, n_repeats=5))
    results = replace(
        results, y_true=np.where(results.test_fold[0] == 0, 0, results.y_true).astype(np.int64)
    )
    comparison = compare(results, n_boot=50, tests=["hand_till"])
    undefined = sum(
        len(np.unique(results.y_true[results.test_fold[repeat] == fold])) < 2
        for repeat in range(5)
        for fold in range(2)
    )
    for each in _offered(comparison, "hand_till").each_arm:
        assert (each.n, each.n_undefined) == (10 - undefined, undefined)
    assert undefined > 0


def test_more_than_two_classes_have_no_delong() -> None:
    results = draw_results(ARMS[:3], Cohort(n_classes=3, n_patients=25))
    comparison = compare(
        replace(results, runs=results.runs[::2]), n_boot=50, tests=[*TWO, "stuart_maxwell"]
    )
    reason = "there are 3 classes, and it needs two"
    assert [test.not_run for test in comparison.offered] == [reason, reason, ""]


def test_unknown_patients_have_no_tests_over_patients() -> None:
    results = draw_results([ARMS[0], ARMS[2]], Cohort(known_patients=False, grouped=False))
    comparison = compare(results, n_boot=50, tests=[*TWO, *COUNTED])
    reasons = {test.name: test.not_run for test in comparison.offered}
    assert reasons == {
        "delong": "",
        "obuchowski": "patients are unknown",
        "clustered_mcnemar": "patients are unknown",
        "stuart_maxwell": "",
    }


def test_equal_arms_have_no_p_value() -> None:
    results = draw_results([ARMS[0], ARMS[2]], Cohort(n_folds=2, n_repeats=5))
    twin = replace(results.runs[0], arm="twin")
    results = replace(results, runs=(results.runs[0], twin))
    comparison = compare(results, reference="a+logistic", n_boot=50, tests=[*FOLDS, *COUNTED, *TWO])
    for test in comparison.offered:
        (pair,) = test.pairs
        assert np.isnan(pair.p_value), test.name
        assert pair.difference == 0


def test_nothing_rests_on_them(results: ResultsTable, comparison: Comparison) -> None:
    plain = compare(results, n_boot=50)
    assert comparison.verdict == plain.verdict
    assert comparison.caveats == plain.caveats
    assert repr(comparison.contrasts) == repr(plain.contrasts)
