"""Power and sample size: R's and statsmodels' values, printed tables, simulated cohorts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from stat_cases import read_cases
from statsmodels.stats.power import TTestPower

from featurebench.stats import (
    detectable_difference,
    equivalence_patients,
    paired_t_size,
    patients_needed,
)


def test_equals_the_size_that_r_gives() -> None:
    case = read_cases()["power_paired_t"]
    found = paired_t_size(
        case["inputs"]["effect"], alpha=case["inputs"]["alpha"], power=case["inputs"]["power"]
    )
    assert found == pytest.approx(case["expected"]["n"], abs=case["tolerance"])


@pytest.mark.parametrize("effect", [0.1, 0.35, -0.8])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9), (0.1, 0.6)])
def test_equals_the_size_that_statsmodels_gives(effect: float, alpha: float, power: float) -> None:
    reference = TTestPower().solve_power(abs(effect), alpha=alpha, power=power)
    # statsmodels counts significant differences of the wrong sign as found.
    assert paired_t_size(effect, alpha=alpha, power=power) == pytest.approx(reference, rel=2e-3)


# Patients for 80 % power at a two-sided 5 %, by normal quantiles: differences of 1, 2, 3 and 5
# points, and equivalence within 2 points.
TABLE = [
    (0.10, (785, 197, 88, 32), 215),
    (0.15, (1766, 442, 197, 71), 482),
    (0.22, (3799, 950, 423, 152), 1037),
]


@pytest.mark.parametrize(("sigma", "sizes", "equivalence"), TABLE)
def test_normal_sizes_are_those_of_the_table(
    sigma: float, sizes: tuple[int, ...], equivalence: int
) -> None:
    differences = (0.01, 0.02, 0.03, 0.05)
    assert tuple(patients_needed(sigma, d, normal=True) for d in differences) == sizes
    assert equivalence_patients(sigma, 0.02, normal=True) == equivalence
    by_t = [patients_needed(sigma, d) or 0 for d in differences]
    assert all(0 < t - normal <= 3 for t, normal in zip(by_t, sizes, strict=True))


@pytest.mark.parametrize("df", [4.0, 49.0, 1e9])
def test_detectable_difference_is_the_sum_of_two_quantiles(df: float) -> None:
    expected = 0.02 * (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df))
    assert detectable_difference(0.02, df) == pytest.approx(expected)


def test_detectable_difference_is_found_in_four_of_five_cohorts() -> None:
    rng = np.random.default_rng(0)
    n, sigma = 40, 0.15
    true = detectable_difference(sigma / math.sqrt(n), n - 1)
    cohorts = rng.normal(true, sigma, size=(4000, n))
    found = stats.ttest_1samp(cohorts, 0.0, axis=1)
    assert np.mean((found.pvalue < 0.05) & (found.statistic > 0)) == pytest.approx(0.8, abs=0.03)


def test_detectable_difference_and_patients_needed_agree() -> None:
    n = patients_needed(0.15, 0.03) or 0
    assert detectable_difference(0.15 / math.sqrt(n), n - 1) == pytest.approx(0.03, rel=0.01)


def power_of_equivalence(n: int, ratio: float, alpha: float) -> float:
    """Chance that both one-sided tests reject, true difference 0, margin = ratio x sigma."""

    def given_spread(v: float) -> float:
        reach = math.sqrt(n) * ratio - stats.t.ppf(1 - alpha, n - 1) * math.sqrt(v / (n - 1))
        return float(max(0.0, 2 * stats.norm.cdf(reach) - 1) * stats.chi2.pdf(v, n - 1))

    spread = 8 * math.sqrt(2 * (n - 1))
    low, high = max(0.0, n - 1 - spread), n - 1 + spread
    return float(integrate.quad(given_spread, low, high, limit=200)[0])


@pytest.mark.parametrize("ratio", [0.15, 0.3, 0.7])
def test_equivalence_has_the_power_asked_for(ratio: float) -> None:
    n = equivalence_patients(1.0, ratio) or 0
    assert power_of_equivalence(n + 1, ratio, 0.05) >= 0.8
    assert power_of_equivalence(n - 2, ratio, 0.05) < 0.8


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.001, 0.2), st.floats(0.55, 0.99))
def test_patients_needed_is_the_first_size_with_that_power(
    sigma: float, difference: float, alpha: float, power: float
) -> None:
    n = patients_needed(sigma, difference, alpha=alpha, power=power)
    assert n is not None

    def power_at(size: int) -> float:
        effect = difference / sigma * math.sqrt(size)
        return float(stats.nct.sf(stats.t.ppf(1 - alpha / 2, size - 1), size - 1, effect))

    assert power_at(n) >= power - 1e-6
    assert n == 2 or power_at(n - 1) < power + 1e-6


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 1), st.floats(0.02, 0.5))
def test_only_the_ratio_matters_and_its_sign_does_not(sigma: float, difference: float) -> None:
    n = patients_needed(sigma, difference)
    assert patients_needed(sigma, -difference) == n
    assert abs((patients_needed(7 * sigma, 7 * difference) or 0) - (n or 0)) <= 1


def test_huge_sizes_and_effects_have_an_answer() -> None:
    assert patients_needed(1.0, 1e-4) == pytest.approx(7.849e8, rel=1e-3)
    assert patients_needed(1e-3, 1.0) == 2
    assert equivalence_patients(1e-3, 1.0) == 2
    assert paired_t_size(0.0) == math.inf


@pytest.mark.parametrize("sigma", [math.nan, math.inf, 0.0])
def test_nothing_is_planned_without_a_spread(sigma: float) -> None:
    assert patients_needed(sigma, 0.01) is None
    assert equivalence_patients(sigma, 0.01) is None


@pytest.mark.parametrize(("se", "df"), [(math.nan, 9.0), (0.0, 9.0), (0.1, 0.0), (0.1, math.nan)])
def test_nothing_is_detectable_without_a_standard_error(se: float, df: float) -> None:
    assert math.isnan(detectable_difference(se, df))


def test_refuses_what_is_no_level_and_no_difference() -> None:
    with pytest.raises(ValueError, match=r"alpha is 5"):
        detectable_difference(0.01, 9, alpha=5)
    with pytest.raises(ValueError, match=r"power 80"):
        patients_needed(0.1, 0.01, power=80)
    with pytest.raises(ValueError, match=r"difference is 0"):
        patients_needed(0.1, 0.0)
    with pytest.raises(ValueError, match=r"margin is nan"):
        equivalence_patients(0.1, math.nan)
    with pytest.raises(ValueError, match=r"effect is nan"):
        paired_t_size(math.nan)
