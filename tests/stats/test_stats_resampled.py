"""The corrected resampled t-test against publications, libraries and its own algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from stat_cases import read_cases

from featurebench.stats import corrected_resampled_t

DIFFERENCES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=3, max_size=30)


def test_hand_worked_case() -> None:
    # mean 2, variance 1, se^2 = 1/3 + 1/2; with df 2, p = 1 - |t| / sqrt(2 + t^2)
    result = corrected_resampled_t([1.0, 2.0, 3.0], test_train_ratio=0.5)
    t = 2 / np.sqrt(5 / 6)
    assert result.estimate == 2
    assert result.df == 2
    assert result.statistic == pytest.approx(t)
    assert result.p_value == pytest.approx(1 - t / np.sqrt(2 + t**2))
    half = 4.302652729911275 * np.sqrt(5 / 6)
    assert (result.ci_low, result.ci_high) == pytest.approx((2 - half, 2 + half))


def test_ten_by_five_scores_give_the_p_value_of_baycomp() -> None:
    case = read_cases()["nb_and_bayes_10x5_synthetic"]
    a, b = np.array(case["inputs"]["a"]), np.array(case["inputs"]["b"])
    result = corrected_resampled_t(b - a, test_train_ratio=case["inputs"]["n_test_over_n_train"])
    assert result.p_value == pytest.approx(case["expected"]["p_two_sided"], abs=1e-12)
    assert result.n == 50


def test_the_example_printed_by_scikit_learn() -> None:
    case = read_cases()["nb_corrected_t_sklearn_moons"]
    a, b = np.array(case["inputs"]["a"]), np.array(case["inputs"]["b"])
    result = corrected_resampled_t(a - b, test_train_ratio=case["inputs"]["n_test_over_n_train"])
    assert result.statistic == pytest.approx(case["expected"]["t"], abs=case["tolerance"])
    assert result.p_value / 2 == pytest.approx(
        case["expected"]["p_one_sided"], abs=case["tolerance"]
    )


def test_ten_by_ten_summary_of_the_squash_data() -> None:
    case = read_cases()["nb_corrected_t_squash_summary"]
    given_, n, q = case["inputs"], case["inputs"]["n_folds_total"], 1 / 9
    # Any differences with this mean and variance give the published test.
    shape = np.random.default_rng(0).normal(size=n)
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    sd = given_["posterior_sd"] / np.sqrt(1 / n + q)
    result = corrected_resampled_t(given_["mean_diff"] + sd * shape, test_train_ratio=q)
    assert result.statistic == pytest.approx(case["expected"]["t"], abs=case["tolerance"]["t"])
    assert result.p_value == pytest.approx(case["expected"]["p"], abs=case["tolerance"]["p"])
    assert result.df == case["expected"]["df"]


def test_without_overlap_it_tends_to_the_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 12))
    result = corrected_resampled_t(a - b, test_train_ratio=1e-15)
    plain = stats.ttest_rel(a, b)
    assert result.p_value == pytest.approx(plain.pvalue)
    assert result.statistic == pytest.approx(plain.statistic)
    low, high = plain.confidence_interval()
    assert (result.ci_low, result.ci_high) == pytest.approx((low, high))


def test_undefined_folds_are_left_out_and_counted() -> None:
    result = corrected_resampled_t([0.1, np.nan, 0.3, 0.2, np.nan], test_train_ratio=0.25)
    complete = corrected_resampled_t([0.1, 0.3, 0.2], test_train_ratio=0.25)
    assert (result.n, result.n_undefined) == (3, 2)
    assert result.p_value == complete.p_value
    assert result.df == 2


@pytest.mark.parametrize(
    "differences",
    [
        [],
        [0.1],
        [np.nan, np.nan],
        [np.nan, 0.2],
        [0.0, 0.0, 0.0],
        [0.3, 0.3, 0.3],
        [0.305 - 0.300, 0.205 - 0.200, 0.105 - 0.100],
    ],
)
def test_what_is_not_estimable_has_no_p_value(differences: list[float]) -> None:
    result = corrected_resampled_t(differences, test_train_ratio=0.25)
    assert not result.estimable
    assert np.isnan([result.p_value, result.statistic, result.ci_low, result.ci_high]).all()


@pytest.mark.parametrize(
    ("differences", "ratio", "alpha", "message"),
    [
        ([[0.1], [0.2]], 0.25, 0.05, "one dimension"),
        ([0.1, np.inf], 0.25, 0.05, "infinite"),
        ([0.1, 0.2], 0.0, 0.05, "n_test / n_train"),
        ([0.1, 0.2], np.nan, 0.05, "n_test / n_train"),
        ([0.1, 0.2], 0.25, 1.0, "between 0 and 1"),
    ],
)
def test_bad_arguments_are_refused(
    differences: Any, ratio: float, alpha: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        corrected_resampled_t(differences, test_train_ratio=ratio, alpha=alpha)


@settings(deadline=None)
@given(DIFFERENCES)
def test_swapping_the_arms_flips_the_sign_only(differences: list[float]) -> None:
    d = np.array(differences)
    one = corrected_resampled_t(d, test_train_ratio=0.25)
    other = corrected_resampled_t(-d, test_train_ratio=0.25)
    np.testing.assert_allclose(one.p_value, other.p_value)
    np.testing.assert_allclose(one.statistic, -other.statistic)
    np.testing.assert_allclose([one.ci_low, one.ci_high], [-other.ci_high, -other.ci_low])


@settings(deadline=None)
@given(DIFFERENCES, st.sampled_from([2.0, 64.0]))
def test_the_unit_of_the_score_does_not_matter(differences: list[float], scale: float) -> None:
    d = np.array(differences)
    one = corrected_resampled_t(d, test_train_ratio=0.25)
    other = corrected_resampled_t(scale * d, test_train_ratio=0.25)
    if one.estimable:
        assert other.p_value == pytest.approx(one.p_value)


@settings(deadline=None)
@given(DIFFERENCES, st.floats(0.01, 0.2))
def test_the_interval_excludes_zero_exactly_when_p_is_below_alpha(
    differences: list[float], alpha: float
) -> None:
    result = corrected_resampled_t(differences, test_train_ratio=0.25, alpha=alpha)
    if result.estimable and abs(result.p_value - alpha) > 1e-6:
        assert (result.ci_low > 0 or result.ci_high < 0) == (result.p_value < alpha)
