"""Equivalence tests, posteriors and shares of wins against statsmodels, baycomp and identities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from stat_cases import read_cases
from statsmodels.stats.weightstats import ttost_paired

from featurebench.stats import (
    MIN_PAIRS,
    Outperformance,
    corrected_resampled_t,
    correlated_t_posterior,
    narrow_interval,
    noninferiority,
    outperformance,
    paired_t,
    tost,
)

FINITE = st.floats(-0.2, 0.2).map(lambda x: round(x, 4))
ERRORS = st.floats(0.001, 0.1)


class TestEquivalence:
    def test_the_clinic_example_of_r(self) -> None:
        case = read_cases()["tost_paired_clinic_var1"]
        x, y = np.array(case["inputs"]["x"]), np.array(case["inputs"]["y"])
        found = paired_t(x - y)
        p = tost(found.estimate, found.se, found.df, case["inputs"]["upp"])
        assert p == pytest.approx(case["expected"]["p"], abs=case["tolerance"])
        assert p == pytest.approx(ttost_paired(x, y, -0.6, 0.6)[0])

    def test_noninferiority_is_the_one_sided_test_of_scipy(self) -> None:
        d = np.random.default_rng(0).normal(0.01, 0.05, 20)
        found = paired_t(d)
        expected = stats.ttest_1samp(d, -0.02, alternative="greater").pvalue
        assert noninferiority(found.estimate, found.se, found.df, 0.02) == pytest.approx(expected)

    @settings(deadline=None)
    @given(FINITE, ERRORS, st.floats(0, 0.2))
    def test_equivalent_where_the_narrow_interval_lies_within_the_margin(
        self, estimate: float, se: float, margin: float
    ) -> None:
        half = stats.t.ppf(0.95, 9) * se
        p = tost(estimate, se, 9, margin)
        if abs(abs(estimate) + half - margin) > 1e-9:
            assert (p < 0.05) == (abs(estimate) + half < margin)
        assert p == tost(-estimate, se, 9, margin)
        assert p >= noninferiority(estimate, se, 9, margin)

    def test_limits(self) -> None:
        assert tost(0.01, 0.02, 12, 1e6) == pytest.approx(0, abs=1e-12)
        assert tost(0.0, 0.02, 12, 0.0) == 0.5
        assert tost(0.01, 0.02, 12, 0.0) >= 0.5
        two_sided = 2 * stats.t.sf(0.01 / 0.02, 12)
        assert noninferiority(0.01, 0.02, 12, 0.0) == pytest.approx(two_sided / 2)
        normal = stats.norm.sf(0.02 / 0.01)
        assert tost(0.0, 0.01, np.inf, 0.02) == pytest.approx(normal)

    @pytest.mark.parametrize("se", [0.0, np.nan])
    def test_no_error_no_p_value(self, se: float) -> None:
        assert np.isnan(tost(0.0, se, 10, 0.02))
        assert np.isnan(noninferiority(0.0, se, 10, 0.02))

    def test_narrow_interval_is_that_at_twice_alpha(self) -> None:
        d = np.random.default_rng(1).normal(0.01, 0.05, 50)
        for alpha in (0.05, 0.01):
            found = corrected_resampled_t(d, test_train_ratio=0.25, alpha=alpha)
            wide = corrected_resampled_t(d, test_train_ratio=0.25, alpha=2 * alpha)
            assert narrow_interval(found, alpha) == pytest.approx((wide.ci_low, wide.ci_high))
        constant = corrected_resampled_t([0.1, 0.1], test_train_ratio=0.25)
        assert np.isnan(narrow_interval(constant, 0.05)).all()

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"margin is -0\.1"):
            tost(0.0, 0.1, 5, -0.1)
        with pytest.raises(ValueError, match="margin is nan"):
            noninferiority(0.0, 0.1, 5, float("nan"))
        with pytest.raises(ValueError, match=r"between 0 and 0\.5"):
            narrow_interval(paired_t([0.1, 0.2]), 0.5)


class TestPosterior:
    def test_the_unit_test_of_baycomp(self) -> None:
        case = read_cases()["bayes_correlated_t_baycomp_unit"]
        given_, expected = case["inputs"], case["expected"]
        d = np.array(given_["y"]) - np.array(given_["x"])
        found = correlated_t_posterior(d, rho=1 / 3, rope=0)
        close = {"abs": case["tolerance"]}
        assert found.location == pytest.approx(expected["mean"], **close)
        assert found.scale**2 == pytest.approx(expected["var"], **close)
        assert found.df == expected["df"]

    def test_ten_by_five_scores_give_the_probabilities_of_baycomp(self) -> None:
        case = read_cases()["nb_and_bayes_10x5_synthetic"]
        d = np.array(case["inputs"]["b"]) - np.array(case["inputs"]["a"])
        found = correlated_t_posterior(d, rho=1 / 5, rope=case["inputs"]["rope"])
        expected = [case["expected"][key] for key in ("p_left", "p_rope", "p_right")]
        np.testing.assert_allclose([found.below, found.within, found.above], expected, atol=1e-12)

    def test_the_example_printed_by_scikit_learn(self) -> None:
        case = read_cases()["nb_corrected_t_sklearn_moons"]
        d = np.array(case["inputs"]["a"]) - np.array(case["inputs"]["b"])
        wide = correlated_t_posterior(d, rho=1 / 10, rope=case["inputs"]["rope"])
        point = correlated_t_posterior(d, rho=1 / 10, rope=0)
        assert wide.within == pytest.approx(case["expected"]["p_rope"], abs=case["tolerance"])
        assert point.above == pytest.approx(case["expected"]["p_better"], abs=case["tolerance"])

    def test_the_squash_data_of_the_tutorial(self) -> None:
        case = read_cases()["nb_corrected_t_squash_summary"]
        given_, n = case["inputs"], case["inputs"]["n_folds_total"]
        shape = np.random.default_rng(0).normal(size=n)
        shape = (shape - shape.mean()) / shape.std(ddof=1)
        sd = given_["posterior_sd"] / np.sqrt(1 / n + 1 / 9)
        found = correlated_t_posterior(given_["mean_diff"] + sd * shape, rho=0.1, rope=0.01)
        assert found.scale == pytest.approx(given_["posterior_sd"])
        assert found.location == pytest.approx(given_["mean_diff"])
        low, high = (
            (edge - given_["mean_diff"]) / given_["posterior_sd"] for edge in (-0.01, 0.01)
        )
        assert found.below == pytest.approx(stats.t.cdf(low, 99))
        assert found.above == pytest.approx(stats.t.sf(high, 99))

    @settings(deadline=None)
    @given(st.lists(FINITE, min_size=3, max_size=30), st.integers(2, 10))
    def test_at_rope_zero_it_is_the_one_sided_corrected_p(
        self, values: list[float], k: int
    ) -> None:
        found = correlated_t_posterior(values, rho=1 / k, rope=0)
        test = corrected_resampled_t(values, test_train_ratio=1 / (k - 1))
        smaller = min(found.below, found.above) if test.estimable else float("nan")
        np.testing.assert_allclose(smaller, test.p_value / 2, rtol=1e-6)

    @settings(deadline=None)
    @given(st.lists(FINITE, min_size=3, max_size=30), st.floats(0, 0.1))
    def test_three_probabilities_that_swap_with_the_arms(
        self, values: list[float], rope: float
    ) -> None:
        one = correlated_t_posterior(values, rho=0.2, rope=rope)
        other = correlated_t_posterior(-np.array(values), rho=0.2, rope=rope)
        np.testing.assert_allclose(one.below, other.above)
        np.testing.assert_allclose(one.within, other.within, atol=1e-12)
        if not np.isnan(one.within):
            assert one.below + one.within + one.above == pytest.approx(1)
            wider = correlated_t_posterior(values, rho=0.2, rope=2 * rope)
            assert wider.within >= one.within - 1e-12

    def test_undefined_folds_are_left_out(self) -> None:
        with_nan = correlated_t_posterior([0.1, np.nan, 0.3, 0.2], rho=0.2, rope=0.01)
        assert with_nan == correlated_t_posterior([0.1, 0.3, 0.2], rho=0.2, rope=0.01)

    @pytest.mark.parametrize("values", [[], [0.1], [0.2, 0.2, 0.2], [np.nan, 0.1]])
    def test_what_is_not_estimable_is_nan(self, values: list[float]) -> None:
        found = correlated_t_posterior(values, rho=0.2, rope=0.01)
        assert np.isnan([found.below, found.within, found.above]).all()

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(ValueError, match="rho is 1"):
            correlated_t_posterior([0.1, 0.2], rho=1, rope=0)
        with pytest.raises(ValueError, match="rope is -1"):
            correlated_t_posterior([0.1, 0.2], rho=0.2, rope=-1)


class TestOutperformance:
    """P(A > B) of Bouthillier et al. 2021, held against counting and the binomial law."""

    def of_wins(self, wins: int, losses: int, ties: int = 0, **settings: Any) -> Outperformance:
        second = np.full(wins + losses + ties, 0.5)
        first = second + np.repeat([0.1, -0.1, 0.0], [wins, losses, ties])
        return outperformance(first, second, **settings)

    def test_is_the_share_of_pairs_won(self) -> None:
        found = self.of_wins(7, 2, 1)
        assert (found.p, found.n, found.n_tied) == (0.75, 10, 1)

    @pytest.mark.parametrize(("wins", "losses"), [(9, 1), (8, 2), (6, 6), (20, 9), (22, 7)])
    def test_interval_is_that_of_resampled_wins(self, wins: int, losses: int) -> None:
        """Resampled wins are binomial, so the percentiles are those of that law."""
        n = wins + losses
        found = self.of_wins(wins, losses)
        law = stats.binom(n, wins / n)
        assert (found.ci_low * n, found.ci_high * n) == pytest.approx(
            (law.ppf(0.025), law.ppf(0.975))
        )

    def test_where_one_arm_wins_all_the_end_is_the_exact_one(self) -> None:
        exact = stats.binomtest(10, 10).proportion_ci(0.95, "exact")
        won, lost = self.of_wins(10, 0), self.of_wins(0, 10)
        assert (won.p, won.ci_high, lost.p, lost.ci_low) == (1, 1, 0, 0)
        assert won.ci_low == pytest.approx(exact.low)
        assert lost.ci_high == pytest.approx(1 - exact.low)

    def test_means_something_from_three_quarters_on_with_an_interval_above_one_half(self) -> None:
        assert self.of_wins(9, 1).meaningful
        assert not self.of_wins(8, 2).meaningful  # its interval reaches one half
        large = self.of_wins(70, 30)
        assert large.ci_low > 0.5
        assert not large.meaningful

    def test_fewer_pairs_give_nothing(self) -> None:
        found = self.of_wins(MIN_PAIRS - 1, 0)
        assert math.isnan(found.p)
        assert math.isnan(found.ci_low)
        assert not found.meaningful
        assert found.n == MIN_PAIRS - 1

    def test_follows_the_direction_of_the_metric_and_leaves_out_the_undefined(self) -> None:
        first = np.array([0.1] * 8 + [0.9] * 3 + [np.nan])
        second = np.full(12, 0.5)
        assert outperformance(first, second).p == pytest.approx(3 / 11)
        found = outperformance(first, second, greater_is_better=False)
        assert found.p == pytest.approx(8 / 11)
        assert found.n == 11

    def test_float_noise_is_a_tie(self) -> None:
        assert outperformance([0.1 + 0.2] * 10, [0.3] * 10).n_tied == 10

    def test_refuses_scores_that_are_no_pairs(self) -> None:
        with pytest.raises(ValueError, match="one of each per pair"):
            outperformance([0.1, 0.2], [0.1])
