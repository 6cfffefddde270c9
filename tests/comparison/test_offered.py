"""The tests that are offered by name: numbers, what they are made of, and that nothing rests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from comparison_cases import Cohort, arm, draw_results
from scipy import stats
from sklearn import metrics as skm
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.contingency_tables import cochrans_q
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels

from featurebench.comparison import OFFERED, Comparison, OfferedTest, compare
from featurebench.config import load_config
from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.results import ResultsTable, RunResult

FOUR = ["paired_t", "anova", "mcnemar", "cochran_q"]
FURTHER = [
    "wilcoxon",
    "five_by_two_t",
    "five_by_two_f",
    "clustered_mcnemar",
    "delong",
    "obuchowski",
    "stuart_maxwell",
    "kappa",
    "hand_till",
]
ALL = FOUR + FURTHER
ARMS = [
    arm("a+logistic"),
    arm("a+full", "finetune", 1.6, n_repeats=2),
    arm("a+knn", signal=0.7),
    arm("dummy", "baseline"),
]


@pytest.fixture(scope="module")
def results() -> ResultsTable:
    return draw_results(ARMS, Cohort(n_classes=3, n_patients=25, n_folds=4))


@pytest.fixture(scope="module")
def comparison(results: ResultsTable) -> Comparison:
    return compare(results, n_boot=50, tests=ALL)


def _offered(comparison: Comparison, name: str) -> OfferedTest:
    return next(test for test in comparison.offered if test.name == name)


def _by_fold(results: ResultsTable, run: RunResult) -> npt.NDArray[np.float64]:
    scores = []
    for repeat in range(run.n_repeats):
        called = run.y_prob[repeat].argmax(axis=1)
        for fold in range(4):
            rows = results.test_fold[repeat] == fold
            scores.append(skm.balanced_accuracy_score(results.y_true[rows], called[rows]))
    return np.array(scores)


def _right(results: ResultsTable, run: RunResult) -> npt.NDArray[np.bool_]:
    right: npt.NDArray[np.bool_] = run.y_prob[0].argmax(axis=1) == results.y_true
    return right


def test_paired_t_is_that_of_scipy_on_the_folds_both_arms_have(
    results: ResultsTable, comparison: Comparison
) -> None:
    reference = _by_fold(results, results.runs[0])
    pairs = _offered(comparison, "paired_t").pairs
    assert [pair.arm_a for pair in pairs] == ["a+full", "a+knn", "dummy"]
    for pair, run, contrast in zip(pairs, results.runs[1:], comparison.contrasts, strict=True):
        scores = _by_fold(results, run)
        expected = stats.ttest_rel(scores, reference[: len(scores)])
        assert pair.n == len(scores) == 4 * run.n_repeats
        assert pair.p_value == pytest.approx(expected.pvalue)
        assert (pair.statistic, pair.df) == pytest.approx((expected.statistic, expected.df))
        assert pair.difference == pytest.approx((scores - reference[: len(scores)]).mean())
        assert pair.p_value < pair.p_corrected == contrast.by_folds.p_value
        assert pair.p_adjusted == contrast.p_adjusted
        assert (pair.only_a, pair.only_b) == (None, None)


def test_mcnemar_counts_the_calls_of_the_first_repeat(
    results: ResultsTable, comparison: Comparison
) -> None:
    reference = _right(results, results.runs[0])
    for pair, run in zip(_offered(comparison, "mcnemar").pairs, results.runs[1:], strict=True):
        right = _right(results, run)
        table = pd.crosstab(right, reference).to_numpy()
        assert (pair.only_a, pair.only_b) == (table[1, 0], table[0, 1])
        assert pair.p_exact == pytest.approx(mcnemar_of_statsmodels(table, exact=True).pvalue)
        assert pair.p_value < pair.p_exact
        assert pair.n == len(results.y_true)
        assert pair.difference == pytest.approx(right.mean() - reference.mean())
        assert np.isnan([pair.statistic, pair.df]).all()


def test_anova_is_that_of_statsmodels_without_baselines(
    results: ResultsTable, comparison: Comparison
) -> None:
    runs = results.runs[:3]
    table = pd.DataFrame({run.arm: _by_fold(results, run)[:8] for run in runs}).reset_index()
    long = table.melt("index", var_name="arm", value_name="score")
    row = AnovaRM(long, "score", "index", within=["arm"]).fit().anova_table.iloc[0]
    found = _offered(comparison, "anova").over_arms
    assert found is not None
    assert found.arms == ("a+logistic", "a+full", "a+knn")
    assert found.statistic == pytest.approx(row["F Value"])
    assert (found.df, found.df_error) == (2, 14)
    assert found.p_value == pytest.approx(row["Pr > F"])
    assert found.p_value <= found.p_epsilon
    means = table.drop(columns="index").mean()
    assert (found.lowest, found.highest) == pytest.approx((means.min(), means.max()))


def test_cochran_is_that_of_statsmodels_without_baselines(
    results: ResultsTable, comparison: Comparison
) -> None:
    right = np.stack([_right(results, run) for run in results.runs[:3]], axis=1)
    expected = cochrans_q(right.astype(int))
    found = _offered(comparison, "cochran_q").over_arms
    assert found is not None
    assert found.statistic == pytest.approx(expected.statistic)
    assert (found.df, found.p_value) == pytest.approx((2, expected.pvalue))
    assert (found.n, np.isnan(found.df_error)) == (len(results.y_true), True)
    shares = right.mean(axis=0)
    assert (found.lowest, found.highest) == pytest.approx((shares.min(), shares.max()))


def test_nothing_rests_on_them(results: ResultsTable, comparison: Comparison) -> None:
    plain = compare(results, n_boot=50)
    assert plain.offered == ()
    assert comparison.verdict == plain.verdict
    assert comparison.caveats == plain.caveats
    assert repr(comparison.contrasts) == repr(plain.contrasts)


def test_each_is_computed_once_in_the_order_asked_for(results: ResultsTable) -> None:
    comparison = compare(results, n_boot=50, tests=["mcnemar", "paired_t", "mcnemar"])
    assert [test.name for test in comparison.offered] == ["mcnemar", "paired_t"]


def test_each_warns_and_cites() -> None:
    assert sorted(OFFERED) == sorted(ALL)
    for name, test in OFFERED.items():
        assert name == test.name
        assert "independent" in test.warning
        assert "Dietterich 1998" in test.warning
        assert ("Nadeau and Bengio 2003" in test.warning) == (test.unit == "folds")
        assert ("not for training again" in test.warning) == (test.unit != "folds")
        assert "significant" not in test.warning
        assert (test.pairs, test.over_arms, test.not_run) == ((), None, "")


def test_one_test_set_has_no_tests_over_folds() -> None:
    results = draw_results(ARMS[:3], Cohort(n_repeats=1, holdout=True))
    results = replace(results, runs=tuple(replace(r, y_prob=r.y_prob[:1]) for r in results.runs))
    comparison = compare(results, n_boot=50, tests=ALL)
    for name in ("paired_t", "anova", "wilcoxon"):
        test = _offered(comparison, name)
        assert test.not_run == "the plan has one test set, and it needs several folds"
        assert (test.pairs, test.over_arms) == ((), None)
    tested = results.test_fold[0] == 0
    pair = _offered(comparison, "mcnemar").pairs[0]
    assert pair.n == tested.sum() < len(results.y_true)
    assert np.isnan(pair.p_corrected)
    over_arms = _offered(comparison, "cochran_q").over_arms
    assert over_arms is not None
    assert over_arms.n == tested.sum()


def test_several_holdouts_are_several_folds() -> None:
    results = draw_results(ARMS[:1] + ARMS[2:], Cohort(holdout=True))
    comparison = compare(results, n_boot=50, tests=["paired_t"])
    assert [pair.n for pair in _offered(comparison, "paired_t").pairs] == [3, 3]


def test_too_few_arms_are_named() -> None:
    alone = compare(draw_results(ARMS[:1]), n_boot=50, tests=FOUR)
    assert [test.not_run for test in alone.offered] == [
        "there is only the reference",
        "there are fewer than two arms besides baselines",
    ] * 2
    further = compare(draw_results(ARMS[:1]), n_boot=50, tests=FURTHER)
    for test in further.offered:
        assert test.each_arm or test.not_run == "there is only the reference"
    with_dummy = compare(draw_results([ARMS[0], ARMS[3]]), n_boot=50, tests=FOUR)
    assert [bool(test.not_run) for test in with_dummy.offered] == [False, True] * 2


def test_folds_without_a_score_are_left_out_and_counted() -> None:
    results = draw_results(ARMS[:3])
    y_true = np.where(results.test_fold[0] == 0, 0, results.y_true)
    results = replace(results, y_true=y_true)
    comparison = compare(results, metric="roc_auc", n_boot=50, tests=["paired_t", "anova"])
    one_class = sum(
        len(np.unique(y_true[results.test_fold[repeat] == fold])) == 1
        for repeat in range(2)
        for fold in range(4)
    )
    pair = _offered(comparison, "paired_t").pairs[0]
    found = _offered(comparison, "anova").over_arms
    assert found is not None
    assert one_class > 0
    assert (pair.n, pair.n_undefined) == (8 - one_class, one_class)
    assert (found.n, found.n_undefined) == (8 - one_class, one_class)
    assert 0 < found.p_value < 1


def test_a_metric_that_no_fold_defines_gives_no_test() -> None:
    results = draw_results(ARMS[:3])
    results = replace(results, y_true=np.zeros_like(results.y_true))
    comparison = compare(results, metric="roc_auc", n_boot=50, tests=["paired_t", "anova"])
    pair = _offered(comparison, "paired_t").pairs[0]
    found = _offered(comparison, "anova").over_arms
    assert found is not None
    assert (pair.n, found.n, found.n_undefined) == (0, 0, 8)
    assert np.isnan([pair.p_value, found.p_value, found.lowest, found.highest]).all()


def test_unknown_names_are_refused_with_those_there_are(
    results: ResultsTable, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"'ttest' is not offered: choose from paired_t, anova"):
        compare(results, n_boot=50, tests=["anova", "ttest"])
    file = tmp_path / "study.yaml"
    text = "name: s\ndata: {manifest: t.csv}\nstore: s\nbackbones: [{model: m}]\nheads: {knn: }\n"
    text += "output: {results: r, reports: p}\n"
    file.write_text(text + "compare: {tests: [anova, mcnemar]}", "utf-8")
    assert load_config(file).compare.tests == ["anova", "mcnemar"]
    file.write_text(text + "compare: {tests: [ttest]}", "utf-8")
    with pytest.raises(ConfigError, match=r"compare\.tests: .*'ttest' is not offered: choose from"):
        load_config(file)
    file.write_text(text, "utf-8")
    assert load_config(file).compare.tests == []
