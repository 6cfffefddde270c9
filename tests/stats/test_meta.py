"""The random-effects mean against statsmodels, hand computation and simulated data sets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from featurebench.stats import random_effects

CASES = [
    ([0.02, 0.05, 0.03, 0.06], [0.01, 0.02, 0.01, 0.02]),
    ([0.10, -0.04, 0.21, 0.02, 0.15], [0.02, 0.03, 0.05, 0.02, 0.04]),
    ([0.031, -0.012], [0.004, 0.006]),
    ([-1.2, 3.4, 0.1, 2.2, 0.9, 5.0, -0.3], [0.4, 0.8, 0.3, 0.5, 0.2, 1.1, 0.6]),
]


@pytest.mark.parametrize(("effects", "errors"), CASES)
def test_equals_statsmodels_paule_mandel_with_hartung_knapp(
    effects: list[float], errors: list[float]
) -> None:
    reference = combine_effects(
        np.array(effects), np.square(errors), method_re="pm", use_t=True, atol=1e-12, maxiter=500
    )
    found = random_effects(effects, errors)
    assert found.tau**2 == pytest.approx(reference.tau2, rel=1e-5, abs=1e-12)
    assert found.mean == pytest.approx(reference.mean_effect_re, rel=1e-5)
    assert found.q == pytest.approx(reference.q, rel=1e-9)
    assert found.i2 == pytest.approx(max(0.0, reference.i2), abs=1e-9)
    assert found.q_p == pytest.approx(reference.test_homogeneity().pvalue, rel=1e-7)
    # Never narrower than the standard errors allow; Hartung and Knapp's own interval can be.
    se = math.sqrt(max(reference.var_hksj_re, reference.var_eff_w_re))
    assert found.se == pytest.approx(se, rel=1e-5)
    np.testing.assert_allclose(found.weights, reference.weights_rel_re, rtol=1e-5)


def test_effects_that_agree_by_hand() -> None:
    # Q = 0.4 / 0.01 = 0.5 < 2, so that there is no spread between data sets and weights are equal.
    found = random_effects([0.05, 0.10, 0.15], [0.1, 0.1, 0.1])
    assert (found.tau, found.i2) == (0.0, 0.0)
    assert found.mean == pytest.approx(0.1)
    assert found.q == pytest.approx(0.5)
    assert found.se == pytest.approx(0.1 / math.sqrt(3))
    assert found.ci_high - found.mean == pytest.approx(stats.t.ppf(0.975, 2) * found.se)
    assert found.prediction_high - found.mean == pytest.approx(stats.t.ppf(0.975, 1) * found.se)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.1 / found.se, 2))


def test_equal_standard_errors_that_vanish_give_the_plain_t_interval() -> None:
    effects = [0.02, 0.05, 0.03, 0.08]
    found = random_effects(effects, [1e-9] * 4)
    low, high = stats.t.interval(0.95, 3, np.mean(effects), stats.sem(effects))
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), rel=1e-6)
    assert found.tau == pytest.approx(np.std(effects, ddof=1), rel=1e-6)
    assert found.i2 == pytest.approx(1.0)


def test_two_data_sets_have_no_prediction_interval() -> None:
    found = random_effects([0.02, 0.05], [0.01, 0.02])
    assert math.isnan(found.prediction_low)
    assert math.isnan(found.prediction_high)
    assert found.ci_low < 0 < found.ci_high


@pytest.mark.parametrize("tau", [0.0, 0.03])
def test_intervals_hold_their_level(tau: float) -> None:
    rng = np.random.default_rng(1)
    covered = predicted = 0
    n, k = 1500, 6
    for _ in range(n):
        errors = rng.uniform(0.01, 0.04, size=k)
        effects = rng.normal(0.02, np.hypot(tau, errors))
        found = random_effects(effects, errors)
        covered += found.ci_low <= 0.02 <= found.ci_high
        predicted += found.prediction_low <= rng.normal(0.02, tau) <= found.prediction_high
    assert covered / n > 0.93
    # That of one more data set falls short when there are few: the spread is itself uncertain.
    assert predicted / n > (0.86 if tau else 0.96)
    if tau:
        assert covered / n < 0.975


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 1)), min_size=2, max_size=9),
    st.floats(0.01, 100),
    st.floats(-5, 5),
)
def test_moves_with_the_effects_and_their_unit(
    drawn: list[tuple[float, float]], unit: float, shift: float
) -> None:
    effects, errors = np.array(drawn).T
    found = random_effects(effects, errors)
    moved = random_effects(unit * (effects + shift), unit * errors)
    assert moved.mean == pytest.approx(unit * (found.mean + shift), abs=1e-6 * unit)
    assert moved.se == pytest.approx(unit * found.se, rel=1e-4)
    assert moved.tau == pytest.approx(unit * found.tau, rel=1e-3, abs=1e-4 * unit)
    assert effects.min() - 1e-12 <= found.mean <= effects.max() + 1e-12
    assert found.weights.sum() == pytest.approx(1)
    assert found.ci_low < found.mean < found.ci_high
    assert 0 <= found.i2 < 1
    if len(drawn) > 2:
        assert found.prediction_low <= found.ci_low
        assert found.prediction_high >= found.ci_high


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (([0.1], [0.1]), "two or more data sets"),
        (([0.1, 0.2], [0.1]), r"shape \(2,\) and standard errors of shape \(1,\)"),
        (([0.1, 0.2], [0.1, 0.0]), "leave that data set out"),
        (([0.1, math.nan], [0.1, 0.1]), "leave that data set out"),
    ],
)
def test_refuses_what_cannot_be_combined(arguments: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        random_effects(*arguments)


def test_refuses_a_level_out_of_range() -> None:
    with pytest.raises(ValueError, match="alpha is 95"):
        random_effects([0.1, 0.2], [0.1, 0.1], alpha=95)
