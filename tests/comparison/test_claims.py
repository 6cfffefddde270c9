"""What may be claimed from two tests: the lattice, the margin, and both directions of a metric."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurebench.comparison.claims import (
    Claims,
    asked,
    claims_of,
    decide,
    detectable,
    needed,
    relevance_of,
    rule_of,
)
from featurebench.comparison.evidence import over_folds
from featurebench.comparison.model import Evidence
from featurebench.stats import corrected_resampled_t, patient_test

NAN = float("nan")
ALPHA, MARGIN = 0.05, 0.01


def made(difference: float, se: float, df: float = 30.0, *, margin: float = MARGIN) -> Evidence:
    """Make the evidence of a t-test with this estimate and error."""
    rng = np.random.default_rng(0)
    d = rng.normal(size=int(df) + 1)
    d = (d - d.mean()) / d.std(ddof=1) * se * math.sqrt(len(d) / (1 + 0.25 * len(d))) + difference
    return over_folds(d, ratio=0.25, margin=margin, alpha=ALPHA)


def outcome_of(*tests: Evidence, greater_is_better: bool = True, margin: float = MARGIN) -> str:
    claims = claims_of(tests, margin=margin, greater_is_better=greater_is_better)
    return decide(claims, tests[-1].difference, alpha=ALPHA, greater_is_better=greater_is_better)


def test_the_made_evidence_has_the_error_that_was_asked_for() -> None:
    assert made(0.02, 0.004).se == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0.03, 0.005), (0.03, 0.005), "better"),
        ((-0.03, 0.005), (-0.03, 0.005), "worse"),
        ((0.03, 0.005), (0.03, 0.05), "not resolved"),
        ((0.03, 0.05), (0.03, 0.005), "not resolved"),
        ((0.03, 0.005), (-0.03, 0.005), "not resolved"),
        ((0.001, 0.003), (0.001, 0.003), "equivalent"),
        ((0.001, 0.003), (0.001, 0.02), "not resolved"),
        ((0.02, 0.011), (0.02, 0.011), "non-inferior"),
        ((-0.02, 0.011), (-0.02, 0.011), "not superior"),
        ((-0.02, 0.011), (-0.02, 0.05), "not resolved"),
        # Better, although by less than the margin: that is the stronger claim.
        ((0.004, 0.001), (0.004, 0.001), "better"),
    ],
)
def test_a_claim_needs_both_tests(
    first: tuple[float, float], second: tuple[float, float], expected: str
) -> None:
    assert outcome_of(made(*first), made(*second)) == expected


@pytest.mark.parametrize(
    ("difference", "se", "expected"),
    [(-0.03, 0.005, "better"), (0.03, 0.005, "worse"), (-0.02, 0.011, "non-inferior")],
)
def test_a_loss_is_better_where_it_is_lower(difference: float, se: float, expected: str) -> None:
    test = made(difference, se)
    assert outcome_of(test, test, greater_is_better=False) == expected


@given(
    first=st.tuples(st.floats(-0.1, 0.1), st.floats(0.001, 0.1)),
    second=st.tuples(st.floats(-0.1, 0.1), st.floats(0.001, 0.1)),
)
def test_claims_agree_with_the_intervals_they_rest_on(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    tests = made(*first), made(*second)
    outcome = outcome_of(*tests)
    if outcome in {"better", "worse"}:
        assert all(t.ci_low > 0 for t in tests) or all(t.ci_high < 0 for t in tests)
    if outcome == "equivalent":
        assert all(t.narrow_low > -MARGIN and t.narrow_high < MARGIN for t in tests)
    if outcome == "non-inferior":
        assert all(t.ci_low > -MARGIN for t in tests)
    if outcome == "not superior":
        assert all(t.ci_high < MARGIN for t in tests)
    if outcome == "not resolved":
        assert not all(t.ci_low > 0 for t in tests)
        assert not all(t.ci_high < 0 for t in tests)
        assert not all(t.ci_low > -MARGIN for t in tests)
        assert not all(t.ci_high < MARGIN for t in tests)


@given(st.tuples(st.floats(-0.1, 0.1), st.floats(0.001, 0.1)), st.floats(0.001, 100))
def test_scaling_scores_and_margin_changes_no_claim(
    test: tuple[float, float], scale: float
) -> None:
    plain = made(*test)
    scaled = made(test[0] * scale, test[1] * scale, margin=MARGIN * scale)
    assert outcome_of(plain, plain) == outcome_of(scaled, scaled, margin=MARGIN * scale)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([(0.02, 0.04), (0.011, 0.05)], "beyond the margin"),
        ([(-0.05, -0.02), (-0.04, -0.015)], "beyond the margin"),
        ([(0.02, 0.04), (0.009, 0.05)], "open"),
        ([(-0.009, 0.002), (-0.004, 0.009)], "within the margin"),
        ([(-0.009, 0.002), (-0.004, 0.011)], "open"),
        ([(0.02, 0.04), (-0.05, -0.02)], "open"),
        ([(NAN, NAN), (0.02, 0.04)], "open"),
    ],
)
def test_relevance_is_where_all_intervals_lie(
    ends: list[tuple[float, float]], expected: str
) -> None:
    tests = [
        Evidence("t", "folds", 0.0, 0.1, 0.0, 9.0, 0.5, low, high, low, high, 0.5, 10)
        for low, high in ends
    ]
    assert relevance_of(tests, MARGIN) == expected


@pytest.mark.parametrize("position", range(4))
def test_what_is_not_estimable_settles_nothing(position: int) -> None:
    p_values = [0.5, 0.5, 0.5, 0.5]
    p_values[position] = NAN
    assert decide(Claims(*p_values), 0.1, alpha=ALPHA, greater_is_better=True) == "not resolved"
    nothing = over_folds(np.zeros(8), ratio=0.25, margin=MARGIN, alpha=ALPHA)
    assert outcome_of(nothing, made(0.03, 0.005)) == "not resolved"


def test_half_of_alpha_is_asked_of_non_inferiority() -> None:
    for p, expected in ((0.024, "non-inferior"), (0.026, "not resolved")):
        claims = Claims(0.5, 0.5, p, 0.5)
        assert decide(claims, -0.001, alpha=ALPHA, greater_is_better=True) == expected


def test_a_rule_asks_for_folds_patients_and_enough_sites() -> None:
    weak, strong = made(0.03, 0.05), made(0.03, 0.005)
    few, many = replace(strong, n=5), replace(strong, n=6)
    assert rule_of(1, many) == "patients alone"
    assert rule_of(2, None) == rule_of(5, few) == "both tests"
    assert rule_of(5, many) == "folds, patients and sites"
    assert outcome_of(*asked("patients alone", weak, strong, None)) == "better"
    assert outcome_of(*asked("both tests", weak, strong, None)) == "not resolved"
    assert outcome_of(*asked("both tests", strong, strong, weak)) == "better"
    assert outcome_of(*asked("folds, patients and sites", strong, strong, weak)) == "not resolved"


def test_detectable_difference_is_that_of_the_less_precise_test() -> None:
    precise, rough = made(0.0, 0.002), made(0.0, 0.01)
    assert detectable([precise, rough], ALPHA) == detectable([rough, rough], ALPHA)
    assert detectable([rough], ALPHA) == pytest.approx((2.0423 + 0.8538) * 0.01, rel=1e-3)
    # Each of two tests is to find it in 90 %, so that both do in 80 %.
    assert detectable([rough, rough], ALPHA) == pytest.approx((2.0423 + 1.3104) * 0.01, rel=1e-3)
    nothing = over_folds(np.zeros(8), ratio=0.25, margin=MARGIN, alpha=ALPHA)
    assert math.isnan(detectable([nothing, rough], ALPHA))


def test_patients_needed_are_a_range_as_wide_as_the_error_is_uncertain() -> None:
    """In 80 % of cohorts the range holds the number that the true error would give."""
    rng = np.random.default_rng(0)
    df, held = 6, 0
    for _ in range(2000):
        squared = rng.chisquare(df) / df
        low, high = needed(0.05 * math.sqrt(squared), 0.01, 40, df=df) or (0, 0)
        held += low <= 1000 <= high
    assert 0.77 < held / 2000 < 0.83
    narrow, wide = needed(0.05, 0.01, 40, df=1000), needed(0.05, 0.01, 40, df=4)
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < 1000 < narrow[1] < wide[1]
    assert needed(NAN, 0.01, 40, df=5) is needed(0.05, 0.0, 40, df=5) is None


def test_the_power_that_is_promised_is_the_power_that_is_had() -> None:
    """Patients' differences with the detectable mean are found in about 80 % of cohorts."""
    rng = np.random.default_rng(3)
    n, sigma = 40, 0.1
    first = patient_test(rng.normal(0, sigma, (n, 1)) / n, np.full((n, 1), 1 / n), alpha=ALPHA)
    spread = sigma / math.sqrt(n)
    assert first.se == pytest.approx(spread, rel=0.4)
    target = detectable([made(0.0, spread, 39.0)], ALPHA)
    found = 0
    for _ in range(400):
        d = rng.normal(target, sigma, n)
        found += patient_test(d[:, None] / n, np.full((n, 1), 1 / n), alpha=ALPHA).p_value < ALPHA
    assert 0.74 < found / 400 < 0.86


def test_over_folds_is_the_corrected_test_with_its_margin() -> None:
    d = np.array([0.02, 0.05, -0.01, 0.04, 0.03, 0.01])
    plain = corrected_resampled_t(d, test_train_ratio=0.5)
    found = over_folds(d, ratio=0.5, margin=MARGIN, alpha=ALPHA)
    assert (found.difference, found.p_value, found.ci_low) == (
        plain.estimate,
        plain.p_value,
        plain.ci_low,
    )
    half = dict.fromkeys((1,), plain.ci_high - plain.estimate)[1]
    assert found.narrow_high - found.difference < half


def test_all_outcomes_occur() -> None:
    sizes, errors = (-0.03, -0.008, 0.0, 0.008, 0.03), (0.002, 0.0085, 0.05)
    seen = {outcome_of(made(d, se), made(d, se)) for d, se in itertools.product(sizes, errors)}
    assert {"better", "worse", "equivalent", "not resolved"} <= seen
