"""The literature's tests against publications, statsmodels, scipy and other formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats
from stat_cases import read_cases
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.contingency_tables import cochrans_q
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels

from featurebench.stats import (
    cochran_q,
    corrected_resampled_t,
    mcnemar,
    paired_t,
    repeated_measures_anova,
)

COUNTS = st.integers(0, 60)


def _draw_scores(n: int, k: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Scores whose arms differ in mean and in variance, so that sphericity does not hold."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.3, 2, k)
    return rng.normal(size=(n, 1)) + spread * rng.normal(size=(n, k)) + 0.3 * np.arange(k)


class TestPairedT:
    def test_is_that_of_scipy(self) -> None:
        a, b = np.random.default_rng(1).normal(size=(2, 15))
        found, expected = paired_t(a - b, alpha=0.1), stats.ttest_rel(a, b)
        assert found.name == "paired t"
        assert found.statistic == pytest.approx(expected.statistic)
        assert (found.df, found.p_value) == pytest.approx((expected.df, expected.pvalue))
        low, high = expected.confidence_interval(0.9)
        assert (found.ci_low, found.ci_high) == pytest.approx((low, high))

    def test_uncorrected_value_printed_by_scikit_learn(self) -> None:
        case = read_cases()["nb_corrected_t_sklearn_moons"]
        a, b = np.array(case["inputs"]["a"]), np.array(case["inputs"]["b"])
        expected = case["expected"]["t_uncorrected"]
        assert paired_t(a - b).statistic == pytest.approx(expected, abs=case["tolerance"])

    def test_is_far_below_the_corrected_one_on_fifty_folds(self) -> None:
        case = read_cases()["nb_and_bayes_10x5_synthetic"]["inputs"]
        d = np.array(case["b"]) - np.array(case["a"])
        # 13.5 is (1 / 50 + 1 / 4) / (1 / 50): the corrected variance over the naive one.
        corrected = corrected_resampled_t(d, test_train_ratio=0.25)
        assert paired_t(d).statistic == pytest.approx(corrected.statistic * np.sqrt(13.5))
        assert paired_t(d).p_value == pytest.approx(1.3722478448868716e-09)

    def test_undefined_folds_are_counted_and_equal_differences_give_no_p_value(self) -> None:
        found = paired_t([0.1, np.nan, 0.3, 0.2])
        assert (found.n, found.n_undefined) == (3, 1)
        assert not paired_t([0.2, 0.2, 0.2]).estimable
        with pytest.raises(ValueError, match="one dimension"):
            paired_t([[0.1, 0.2]])


class TestAnova:
    def test_ergo_stool_in_r(self) -> None:
        case = read_cases()["rm_anova_mixedlm_ergoStool"]
        found, expected = repeated_measures_anova(case["inputs"]["table"]), case["expected"]
        assert found.statistic == pytest.approx(expected["F"], abs=case["tolerance"])
        assert [found.df, found.df_error] == expected["df"]
        assert found.p_value == pytest.approx(expected["p"], rel=1e-9)

    def test_two_arms_are_the_paired_t_test(self) -> None:
        case = read_cases()["anova_rm_ez"]
        table = np.array(case["inputs"]["table"])
        found, t = repeated_measures_anova(table), paired_t(table[:, 0] - table[:, 1])
        assert found.statistic == pytest.approx(case["expected"]["F"], abs=case["tolerance"])
        assert found.p_value == pytest.approx(case["expected"]["p"], abs=case["tolerance"])
        assert found.statistic == pytest.approx(t.statistic**2)
        assert found.p_value == pytest.approx(t.p_value)
        assert found.epsilon == pytest.approx(1)
        assert np.isnan([found.sphericity_w, found.sphericity_p]).all()

    def test_published_epsilon_and_sphericity(self) -> None:
        case = read_cases()["sphericity_five_by_three"]
        found, expected = repeated_measures_anova(case["inputs"]["table"]), case["expected"]
        assert found.epsilon == pytest.approx(expected["epsilon"], abs=1e-12)
        assert found.sphericity_w == pytest.approx(expected["w"], abs=5e-4)
        assert found.sphericity_p == pytest.approx(expected["p"], abs=5e-4)

    @pytest.mark.parametrize(("n", "k"), [(10, 3), (25, 6), (4, 7)])
    def test_f_is_that_of_statsmodels(self, n: int, k: int) -> None:
        x = _draw_scores(n, k)
        long = pd.DataFrame(x).reset_index().melt("index", var_name="arm", value_name="score")
        row = AnovaRM(long, "score", "index", within=["arm"]).fit().anova_table.iloc[0]
        found = repeated_measures_anova(x)
        assert found.statistic == pytest.approx(row["F Value"])
        assert (found.df, found.df_error) == (row["Num DF"], row["Den DF"])
        assert found.p_value == pytest.approx(row["Pr > F"])

    @pytest.mark.parametrize(("n", "k"), [(12, 3), (30, 5)])
    def test_epsilon_and_w_by_other_formulas(self, n: int, k: int) -> None:
        x = _draw_scores(n, k, seed=2)
        found = repeated_measures_anova(x)
        s = np.cov(x, rowvar=False)
        # Box 1954: from the means of the covariance matrix, without eigenvalues.
        top = (k * (np.diag(s).mean() - s.mean())) ** 2
        rows = (s.mean(axis=1) ** 2).sum()
        below = (k - 1) * ((s**2).sum() - 2 * k * rows + k**2 * s.mean() ** 2)
        assert found.epsilon == pytest.approx(top / below)
        expected = stats.f.sf(
            found.statistic, found.epsilon * (k - 1), found.epsilon * (k - 1) * (n - 1)
        )
        assert found.p_corrected == pytest.approx(expected)
        contrasts = linalg.helmert(k)
        c = contrasts @ s @ contrasts.T
        w = np.linalg.det(c) / (np.trace(c) / (k - 1)) ** (k - 1)
        assert found.sphericity_w == pytest.approx(w)

    def test_sphericity_test_keeps_its_level(self) -> None:
        rng = np.random.default_rng(5)
        p = [repeated_measures_anova(rng.normal(size=(12, 4))).sphericity_p for _ in range(600)]
        assert 0.03 < np.mean(np.array(p) < 0.05) < 0.08

    def test_undefined_folds_are_left_out(self) -> None:
        x = _draw_scores(8, 3)
        x[2, 1] = np.nan
        found, complete = repeated_measures_anova(x), repeated_measures_anova(np.delete(x, 2, 0))
        assert (found.n, found.n_undefined) == (7, 1)
        assert found.p_value == complete.p_value

    @pytest.mark.parametrize(
        "scores",
        [
            np.empty((0, 3)),
            [[0.1, 0.2, 0.3]],
            np.full((4, 3), np.nan),
            np.full((4, 3), 0.7),
            np.add.outer([0.1, 0.2, 0.3], [0.0, 0.005, 0.01]),
        ],
    )
    def test_what_is_not_estimable_has_no_p_value(self, scores: Any) -> None:
        found = repeated_measures_anova(scores)
        assert np.isnan([found.statistic, found.p_value, found.p_corrected, found.epsilon]).all()

    @pytest.mark.parametrize(
        ("scores", "message"),
        [([0.1, 0.2], "one row a fold"), ([[0.1], [0.2]], "two arms"), ([[1, np.inf]], "infinite")],
    )
    def test_bad_tables_are_refused(self, scores: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            repeated_measures_anova(scores)

    @settings(deadline=None)
    @given(st.integers(0, 50), st.sampled_from([-3.0, 0.25, 8.0]))
    def test_units_and_order_of_arms_do_not_matter(self, seed: int, scale: float) -> None:
        x = _draw_scores(9, 4, seed)
        one, other = repeated_measures_anova(x), repeated_measures_anova(scale * x[:, ::-1] + 1)
        assert other.p_value == pytest.approx(one.p_value)
        assert other.epsilon == pytest.approx(one.epsilon)
        assert 1 / 3 <= one.epsilon <= 1


class TestMcNemar:
    def test_published_airway_data(self) -> None:
        case = read_cases()["mcnemar_bentur_airway"]
        (_, b), (c, _) = case["inputs"]["table"]
        found, expected = mcnemar(b, c), case["expected"]
        assert found.exact_p == pytest.approx(expected["exact_p"], abs=case["tolerance"])
        assert found.mid_p == pytest.approx(expected["midp"], abs=case["tolerance"])

    def test_agresti_in_r(self) -> None:
        case = read_cases()["mcnemar_agresti_approval"]
        (_, b), (c, _) = case["inputs"]["table"]
        assert mcnemar(b, c).exact_p == pytest.approx(case["expected"]["exact_p"], rel=1e-9)

    @settings(deadline=None)
    @given(COUNTS, COUNTS)
    def test_exact_is_that_of_statsmodels_and_mid_p_lies_below(self, b: int, c: int) -> None:
        found = mcnemar(b, c)
        if b + c == 0:
            assert np.isnan([found.exact_p, found.mid_p]).all()
            return
        expected = min(1.0, mcnemar_of_statsmodels([[0, b], [c, 0]], exact=True).pvalue)
        assert found.exact_p == pytest.approx(expected)
        assert 0 < found.mid_p < found.exact_p
        assert mcnemar(c, b).mid_p == found.mid_p

    @pytest.mark.parametrize("n", [1, 6, 7])
    def test_mid_p_is_half_on_average_if_the_classifiers_are_equal(self, n: int) -> None:
        # What defines it: outcomes as likely as the one seen count half.
        chances = stats.binom.pmf(np.arange(n + 1), n, 0.5)
        mid_p = [mcnemar(b, n - b).mid_p for b in range(n + 1)]
        assert chances @ mid_p == pytest.approx(0.5)

    def test_negative_counts_are_refused(self) -> None:
        with pytest.raises(ValueError, match="-1"):
            mcnemar(3, -1)


class TestCochran:
    def test_published_table(self) -> None:
        case = read_cases()["cochran_q_1"]
        found = cochran_q(case["inputs"]["table"])
        assert found.statistic == pytest.approx(case["expected"]["q"], abs=case["tolerance"])

    @pytest.mark.parametrize("k", [2, 3, 8])
    def test_is_that_of_statsmodels(self, k: int) -> None:
        right = np.random.default_rng(k).random((80, k)) < np.linspace(0.6, 0.8, k)
        found, expected = cochran_q(right), cochrans_q(right.astype(int))
        assert found.statistic == pytest.approx(expected.statistic)
        assert (found.df, found.p_value) == pytest.approx((k - 1, expected.pvalue))
        assert found.n == 80

    def test_two_classifiers_are_mcnemar_by_chi_square(self) -> None:
        case = read_cases()["mcnemar_agresti_approval"]
        (both, b), (c, none) = case["inputs"]["table"]
        right = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, b, c, none], axis=0)
        found = cochran_q(right)
        assert found.statistic == pytest.approx(case["expected"]["chi2"])
        assert found.p_value == pytest.approx(case["expected"]["chi2_p"])

    def test_cases_that_tell_nothing_apart_have_no_p_value(self) -> None:
        found = cochran_q([[1, 1, 1], [0, 0, 0]])
        assert np.isnan([found.statistic, found.p_value]).all()

    @pytest.mark.parametrize(
        ("table", "message"),
        [([1, 0], "one row a case"), ([[1], [0]], "two columns"), ([[1, 0.5]], "than 0 and 1")],
    )
    def test_bad_tables_are_refused(self, table: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            cochran_q(table)
