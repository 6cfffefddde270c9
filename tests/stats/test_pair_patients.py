"""Tests over patients against scipy, statsmodels, enumeration and Fisher's example."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from stat_cases import read_cases

from featurebench.stats import influence_test, patient_df, patient_test, sign_flip

Floats = npt.NDArray[np.float64]
SMALL = st.floats(-1, 1).map(lambda x: round(x, 3))
# Heights of crossed minus self-fertilised plants, eighths of an inch (Darwin 1876).
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def _tiles(
    seed: int, n_patients: int = 12, n_groups: int = 1
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, n_patients)
    patients = np.repeat(np.arange(n_patients), sizes)
    groups = rng.integers(0, n_groups, len(patients))
    values = rng.normal(size=n_patients)[patients] + rng.normal(size=len(patients)) + 0.3
    return patients, groups, values


def _parts(
    patients: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], values: Floats
) -> tuple[Floats, Floats]:
    shape = (patients.max() + 1, groups.max() + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (patients, groups), values)
    np.add.at(counts, (patients, groups), 1)
    return sums / counts.sum(axis=0), counts / counts.sum(axis=0)


def _cr2(patients: npt.NDArray[np.int64], X: Floats, y: Floats) -> tuple[float, float]:
    """CR2 error of the mean coefficient and Satterthwaite's df, by their matrices, from tiles.

    The df are those of tiles that are all alike within a patient and a group.
    """
    n, k = X.shape
    inverse = np.linalg.inv(X.T @ X)
    hat = X @ inverse @ X.T
    contrast = np.full(k, 1 / k) @ inverse @ X.T
    rows = []
    for patient in np.unique(patients):
        own = patients == patient
        values, vectors = np.linalg.eigh(np.eye(own.sum()) - hat[np.ix_(own, own)])
        adjust = vectors @ np.diag(values**-0.5) @ vectors.T
        rows.append((contrast[own] @ adjust) @ (np.eye(n) - hat)[own])
    weights = np.array(rows)
    cells = np.unique(np.column_stack([patients, X]), axis=0, return_inverse=True)[1]
    alike = weights @ np.eye(cells.max() + 1)[cells.ravel()]
    omega = alike @ alike.T
    return float(np.sqrt(((weights @ y) ** 2).sum())), np.trace(omega) ** 2 / (omega**2).sum()


class TestPatientT:
    def test_equal_sizes_and_one_group_are_the_paired_t_over_patients(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(2, 15))
        found = patient_test((a - b)[:, None] / 15, np.full((15, 1), 1 / 15), alpha=0.1)
        expected = stats.ttest_rel(a, b)
        interval = expected.confidence_interval(0.9)
        assert found.statistic == pytest.approx(expected.statistic)
        assert found.p_value == pytest.approx(expected.pvalue)
        assert (found.df, found.n, found.estimate) == pytest.approx((14, 15, (a - b).mean()))
        assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
        assert found.se == pytest.approx(stats.sem(a - b))

    @pytest.mark.parametrize(("seed", "n_groups"), [(1, 1), (2, 3), (5, 2)])
    def test_it_is_the_least_squares_fit_with_cr2_errors(self, seed: int, n_groups: int) -> None:
        patients, groups, values = _tiles(seed, n_groups=n_groups)
        found = patient_test(*_parts(patients, groups, values))
        se, df = _cr2(patients, np.eye(n_groups)[groups], values)
        assert found.estimate == pytest.approx(
            np.mean([values[groups == g].mean() for g in range(n_groups)])
        )
        assert found.se == pytest.approx(se)
        assert found.df == pytest.approx(df)

    @pytest.mark.parametrize(("n_first", "expected"), [(2, 1.07), (3, 2.22), (5, 4.76), (30, 58.0)])
    def test_degrees_of_freedom_are_those_of_clubsandwich(
        self, n_first: int, expected: float
    ) -> None:
        """R's clubSandwich (CR2, Satterthwaite): 60 patients of ten tiles, two classes."""
        shares = np.zeros((60, 2))
        shares[:n_first, 0], shares[n_first:, 1] = 1 / n_first, 1 / (60 - n_first)
        assert patient_df(shares) == pytest.approx(expected, abs=0.005)

    def test_one_patient_with_all_tiles_of_a_group_leaves_no_degrees_of_freedom(self) -> None:
        assert patient_df([[1.0, 0.5], [0.0, 0.5]]) == 0

    def test_many_patients_are_the_cluster_robust_error_of_statsmodels(self) -> None:
        patients, groups, values = _tiles(3, n_patients=3000, n_groups=3)
        found = patient_test(*_parts(patients, groups, values))
        fit = sm.OLS(values, np.eye(3)[groups]).fit(
            cov_type="cluster", cov_kwds={"groups": patients}
        )
        contrast = fit.t_test(np.full(3, 1 / 3))
        assert found.estimate == pytest.approx(contrast.effect[0])
        assert found.se == pytest.approx(float(contrast.sd[0, 0]), rel=2e-3)

    def test_patients_of_one_class_each_are_the_two_sample_test(self) -> None:
        # Twice the mean of two classes' means, one of them with its sign changed, is a difference
        # of two means: with as many patients in each, Student's and Welch's errors are the same.
        first, second = np.random.default_rng(7).normal(size=(2, 9))
        contributions, shares = np.zeros((2, 18, 2))
        contributions[:9, 0], contributions[9:, 1] = first / 9, -second / 9
        shares[:9, 0] = shares[9:, 1] = 1 / 9
        found, expected = patient_test(contributions, shares), stats.ttest_ind(first, second)
        assert found.statistic == pytest.approx(expected.statistic)
        assert (found.df, found.p_value) == pytest.approx((16, expected.pvalue))

    def test_few_patients_with_most_tiles_leave_few_degrees_of_freedom(self) -> None:
        shares = np.r_[0.45, 0.45, np.full(10, 0.01)][:, None]
        found = patient_test(shares * np.arange(12)[:, None], shares)
        assert 1 < found.df < 2

    def test_repeating_the_same_repeat_adds_no_evidence(self) -> None:
        c, w = _parts(*_tiles(3, n_groups=2))
        one, five = patient_test(c, w), patient_test(np.tile(c, 5), np.tile(w, 5))
        assert five.se == pytest.approx(one.se)
        assert five.p_value == pytest.approx(one.p_value)

    def test_patients_without_tiles_are_left_out(self) -> None:
        c, w = _parts(*_tiles(4))
        padded = patient_test(np.vstack([c, np.zeros((3, 1))]), np.vstack([w, np.zeros((3, 1))]))
        assert padded == patient_test(c, w)

    @settings(deadline=None, max_examples=50)
    @given(st.lists(SMALL, min_size=3, max_size=12), st.randoms(use_true_random=False))
    def test_swapping_arms_and_renaming_patients(self, values: list[float], rnd: Any) -> None:
        c, n = np.array(values)[:, None] / len(values), len(values)
        w = np.full((n, 1), 1 / n)
        order = rnd.sample(range(n), n)
        one, swapped, renamed = patient_test(c, w), patient_test(-c, w), patient_test(c[order], w)
        assert swapped.estimate == -one.estimate
        np.testing.assert_allclose(swapped.p_value, one.p_value)
        np.testing.assert_allclose(-swapped.ci_low, one.ci_high)
        np.testing.assert_allclose(renamed.p_value, one.p_value, rtol=1e-6)

    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 10_000), st.floats(0.01, 100))
    def test_scaling_scales_the_estimate_and_not_the_p_value(self, seed: int, k: float) -> None:
        c, w = _parts(*_tiles(seed, n_patients=6))
        one, scaled = patient_test(c, w), patient_test(k * c, w)
        assert scaled.estimate == pytest.approx(k * one.estimate)
        assert scaled.se == pytest.approx(k * one.se)
        assert scaled.p_value == pytest.approx(one.p_value)

    @pytest.mark.parametrize("values", [[0.4], [0.0, 0.0, 0.0], [0.1, 0.1, 0.1]])
    def test_what_is_not_estimable_has_no_p_value(self, values: list[float]) -> None:
        n = len(values)
        found = patient_test(np.array(values)[:, None] / n, np.full((n, 1), 1 / n))
        assert not found.estimable
        assert np.isnan([found.se, found.ci_low, found.statistic]).all()
        assert found.estimate == pytest.approx(values[0])

    @pytest.mark.parametrize(
        ("contributions", "shares", "alpha", "message"),
        [
            ([0.1, 0.2], [0.5, 0.5], 0.05, "a row for each patient"),
            ([[0.1], [0.2]], [[0.5, 0.5]], 0.05, "a row for each patient"),
            ([[0.1], [np.nan]], [[0.5], [0.5]], 0.05, "not finite"),
            ([[0.1, 0.0], [0.2, 0.0]], [[0.5, 0.0], [0.5, 0.0]], 0.05, "group 1 sum to 0"),
            ([[0.1], [0.2]], [[0.5], [0.5]], 0.0, "alpha is 0"),
        ],
    )
    def test_bad_arguments_are_refused(
        self, contributions: Any, shares: Any, alpha: float, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            patient_test(contributions, shares, alpha=alpha)


class TestSignFlip:
    def test_darwin_as_fisher_worked_it(self) -> None:
        # Fisher 1935, section 21: 863 of 32768 sums reach 314 on either side.
        assert sign_flip(DARWIN) == 2 * 863 / 32768

    def test_exact_up_to_twenty_patients(self) -> None:
        rng = np.random.default_rng(5)
        for n in (1, 2, 5, 11):
            c = rng.normal(0.3, 1, n)
            sums = np.array([np.dot(signs, c) for signs in product((1, -1), repeat=n)])
            expected = np.mean(np.abs(sums) >= abs(c.sum()) - 1e-12)
            assert sign_flip(c) == pytest.approx(expected)
        twenty = rng.normal(0.3, 1, 20)
        reference = stats.permutation_test(
            (twenty,), np.sum, permutation_type="samples", n_resamples=np.inf, batch=2**16
        )
        assert sign_flip(twenty) == pytest.approx(reference.pvalue)

    def test_many_patients_are_drawn(self) -> None:
        c = np.random.default_rng(6).normal(0.25, 1, 60)
        found = sign_flip(c, n_draws=20_000)
        # Sums of so many are nearly normal with the known variance.
        expected = 2 * stats.norm.sf(abs(c.sum()) / np.sqrt(c @ c))
        assert found == pytest.approx(expected, abs=0.012)
        assert sign_flip(c, n_draws=20_000) == found
        assert sign_flip(c, n_draws=20_000, seed=1) != found

    def test_drawn_p_is_never_zero(self) -> None:
        assert sign_flip(np.ones(50), n_draws=99) == 0.01

    def test_zeros_and_rounding_are_ties(self) -> None:
        assert sign_flip([0.305 - 0.300, 0.205 - 0.200, -(0.105 - 0.100)]) == 1.0
        assert sign_flip(np.zeros(5)) == 1.0
        assert np.isnan(sign_flip([]))
        assert sign_flip([0.1, 0.3, 0.2, *np.zeros(40)]) == 0.25

    @settings(deadline=None, max_examples=50)
    @given(st.lists(SMALL, min_size=1, max_size=12), st.randoms(use_true_random=False))
    def test_sign_order_and_unit_do_not_matter(self, values: list[float], rnd: Any) -> None:
        c = np.array(values)
        p = sign_flip(c)
        assert 0 < p <= 1
        assert sign_flip(-c) == p
        assert sign_flip(100 * c[rnd.sample(range(len(c)), len(c))]) == p

    @pytest.mark.parametrize(
        ("contributions", "n_draws", "message"),
        [([[0.1]], 10, "one finite value"), ([np.nan], 10, "one finite"), ([0.1], 0, "at least 1")],
    )
    def test_bad_arguments_are_refused(
        self, contributions: Any, n_draws: int, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            sign_flip(contributions, n_draws=n_draws)


class TestInfluence:
    def test_published_components_give_the_published_error(self) -> None:
        case = read_cases()["obuchowski_mra_summary"]
        given_, tolerance = case["inputs"], case["tolerance"]
        i10, i01, i = given_["I10"], given_["I01"], given_["I"]
        first_both = i - i01
        has_positive, has_negative = np.arange(i) < i10, np.arange(i) >= first_both
        for s10, s01, s11, expected in (
            (given_["S10_1"], given_["S01_1"], given_["S11_1"], "se1"),
            (given_["S10_2"], given_["S01_2"], given_["S11_2"], "se2"),
            (
                given_["S10_1"] + given_["S10_2"] - 2 * given_["S10_12"],
                given_["S01_1"] + given_["S01_2"] - 2 * given_["S01_12"],
                given_["S11_1"] + given_["S11_2"] - given_["S11_12"] - given_["S11_21"],
                "se_diff",
            ),
        ):
            # Any influences with these sums of squares and products have the published error.
            xx = s10 / given_["M"] * (i10 - 1) / i10
            yy = s01 / given_["N"] * (i01 - 1) / i01
            xy = s11 / (given_["M"] * given_["N"]) * (i - 1) / i
            x, y = np.zeros(i), np.zeros(i)
            x[first_both] = np.sqrt(xx)
            y[first_both] = xy / np.sqrt(xx)
            y[first_both + 1] = np.sqrt(yy - y[first_both] ** 2)
            found = influence_test(
                x, y, has_positive=has_positive, has_negative=has_negative, estimate=given_["diff"]
            )
            assert found.se == pytest.approx(case["expected"][expected], abs=tolerance)
            assert (found.df, found.n) == (34, 36)

    def test_p_and_interval_are_those_of_student(self) -> None:
        rng = np.random.default_rng(7)
        x, y = rng.normal(0, 0.01, (2, 9))
        has = np.ones(9, dtype=bool)
        found = influence_test(x, y, has_positive=has, has_negative=has, estimate=0.05, alpha=0.1)
        se = np.sqrt(9 / 8 * np.sum((x + y) ** 2))
        assert found.se == pytest.approx(se)
        assert found.p_value == pytest.approx(2 * stats.t.sf(0.05 / se, 7))
        assert found.ci_low == pytest.approx(0.05 - stats.t.ppf(0.95, 7) * se)

    @pytest.mark.parametrize(
        ("x", "y", "has_x", "has_y"),
        [
            ([0.1, -0.1], [0.1, -0.1], [1, 1], [1, 1]),
            ([0.1, 0.0, 0.0], [0.1, -0.1, 0.0], [1, 0, 0], [1, 1, 1]),
            ([0.0] * 4, [0.0] * 4, [1] * 4, [1] * 4),
            ([np.nan] * 4, [np.nan] * 4, [1] * 4, [1] * 4),
            ([0.0] * 4, [0.0] * 4, [0] * 4, [0] * 4),
        ],
        ids=["two patients", "one with positives", "same ranking", "undefined", "nobody"],
    )
    def test_what_is_not_estimable_has_no_p_value(
        self, x: list[float], y: list[float], has_x: list[int], has_y: list[int]
    ) -> None:
        found = influence_test(x, y, has_positive=has_x, has_negative=has_y, estimate=0.0)
        assert not found.estimable
        assert np.isnan(found.se)

    def test_bad_arguments_are_refused(self) -> None:
        has = np.ones(3, dtype=bool)
        with pytest.raises(ValueError, match="one value for each patient"):
            influence_test([0.1], [0.1], has_positive=has, has_negative=has, estimate=0.0)
        with pytest.raises(ValueError, match="alpha is 2"):
            influence_test(
                np.ones(3), np.ones(3), has_positive=has, has_negative=has, estimate=0.0, alpha=2
            )
