"""Ranks over data sets: Demsar's examples, scipy, enumeration, and what must always hold."""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from stat_cases import read_cases

from featurebench.stats import (
    cliques,
    friedman,
    holm,
    nemenyi_critical_difference,
    signed_rank_posterior,
    wilcoxon_holm,
    wilcoxon_signed_rank,
)

Floats = npt.NDArray[np.float64]
# Few distinct values, so that ties are common.
tables = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 9), st.integers(2, 5)),
    elements=st.integers(0, 6).map(lambda i: i / 10),
)
lists = st.lists(st.integers(-4, 4).map(lambda i: i / 100), min_size=1, max_size=8)


def test_demsar_example_of_four_learners_on_fourteen_data_sets() -> None:
    case = read_cases()["friedman_demsar"]
    expected, within = case["expected"], case["tolerance"]
    found = friedman(case["inputs"]["scores"])
    np.testing.assert_allclose(found.average_ranks, expected["ranks"], atol=within["ranks"])
    assert found.chi2 == pytest.approx(expected["chi2"], abs=within["chi2"])
    assert found.f == pytest.approx(expected["iman_davenport"], abs=within["iman_davenport"])
    assert found.f_df == (3, 39)
    assert found.chi2_ties == pytest.approx(expected["chi2_ties"], abs=within["chi2_ties"])
    assert found.chi2_ties_p == pytest.approx(expected["chi2_ties_p"], abs=within["chi2_ties_p"])
    distance = nemenyi_critical_difference(4, 14)
    assert distance == pytest.approx(expected["cd05"], abs=within["cd05"])
    q = distance / math.sqrt(4 * 5 / (6 * 14))
    assert q == pytest.approx(expected["q05"], abs=within["q05"])


# Demsar 2006, table 5 (a): critical values of Nemenyi's test, two to ten arms.
Q_05 = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)
Q_10 = (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920)


@pytest.mark.parametrize(("alpha", "printed"), [(0.05, Q_05), (0.10, Q_10)])
def test_critical_values_are_those_of_the_printed_table(
    alpha: float, printed: tuple[float, ...]
) -> None:
    for k, q in enumerate(printed, start=2):
        found = nemenyi_critical_difference(k, 1, alpha) / math.sqrt(k * (k + 1) / 6)
        assert found == pytest.approx(q, abs=0.0011)


@settings(deadline=None, max_examples=60)
@given(tables)
def test_tie_corrected_statistic_is_scipys(table: Floats) -> None:
    assume(table.shape[1] > 2)
    assume(bool((np.ptp(table, axis=1) > 0).any()))
    reference = stats.friedmanchisquare(*table.T)
    found = friedman(table)
    assert found.chi2_ties == pytest.approx(reference.statistic, abs=1e-9)
    assert found.chi2_ties_p == pytest.approx(reference.pvalue, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(tables)
def test_ranks_add_up_and_turn_with_the_direction(table: Floats) -> None:
    k = table.shape[1]
    found, turned = friedman(table), friedman(table, greater_is_better=False)
    assert found.average_ranks.sum() == pytest.approx(k * (k + 1) / 2)
    np.testing.assert_allclose(found.average_ranks + turned.average_ranks, k + 1)
    assert turned.chi2 == pytest.approx(found.chi2, abs=1e-9)
    shifted = table + np.arange(len(table))[:, None]
    np.testing.assert_allclose(friedman(shifted).average_ranks, found.average_ranks)
    assert 0 < found.f_p <= 1


def test_data_sets_that_all_agree_give_the_chance_of_that_and_not_zero() -> None:
    found = friedman(np.tile([0.7, 0.8, 0.9], (8, 1)))
    assert found.f == math.inf
    assert found.f_p == pytest.approx(6 ** (1 - 8))
    assert found.average_ranks.tolist() == [3, 2, 1]


def test_arms_that_tie_everywhere_are_no_evidence() -> None:
    found = friedman(np.full((5, 3), 0.8))
    assert (found.chi2, found.f, found.f_p) == (0, 0, 1)
    assert math.isnan(found.chi2_ties)


def test_float_noise_breaks_no_tie() -> None:
    table = np.array([[0.1 + 0.2, 0.3], [0.5, 0.4]])
    assert friedman(table).average_ranks.tolist() == [1.25, 1.75]


def test_demsar_example_of_two_learners_with_zeros() -> None:
    case = read_cases()["wilcoxon_demsar_zsplit"]
    inputs, expected = case["inputs"], case["expected"]
    found = wilcoxon_signed_rank(np.subtract(inputs["b"], inputs["a"]))
    assert found.r_plus == pytest.approx(expected["r_plus"], abs=case["tolerance"])
    assert found.r_minus == pytest.approx(expected["r_minus"], abs=case["tolerance"])
    assert found.statistic == pytest.approx(expected["T"], abs=case["tolerance"])
    assert (found.n, found.n_zero) == (14, 2)


def test_hollander_and_wolfe_example() -> None:
    case = read_cases()["wilcoxon_hollander_wolfe"]
    found = wilcoxon_signed_rank(np.subtract(case["inputs"]["x"], case["inputs"]["y"]))
    assert found.r_plus == case["expected"]["V"]
    assert found.p_value == pytest.approx(case["expected"]["p_two"], abs=case["tolerance"])


def test_smallest_p_value_that_n_data_sets_can_give() -> None:
    case = read_cases()["wilcoxon_minimum_p"]
    for n, p in zip(case["inputs"]["n"], case["expected"]["pmin"], strict=True):
        found = wilcoxon_signed_rank(np.arange(1, n + 1) / 100)
        assert found.p_value == pytest.approx(p, abs=case["tolerance"])


@pytest.mark.parametrize("seed", range(5))
def test_without_ties_equals_scipys_exact_test(seed: int) -> None:
    d = np.random.default_rng(seed).normal(0.3, 1, size=7 + 4 * seed)
    reference = stats.wilcoxon(d, method="exact")
    found = wilcoxon_signed_rank(d)
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-9)
    assert found.statistic == reference.statistic


@settings(deadline=None, max_examples=60)
@given(lists)
def test_with_ties_and_zeros_equals_all_sign_patterns(differences: list[float]) -> None:
    d = np.array(differences)
    assume(bool(d.any()))
    found = wilcoxon_signed_rank(d)
    ranks = stats.rankdata(np.abs(d).round(9))
    signed = ranks[d != 0]
    sums = [
        sum(r for r, s in zip(signed, signs, strict=True) if s)
        for signs in product((False, True), repeat=len(signed))
    ]
    smaller = min(ranks[d > 0].sum(), ranks[d < 0].sum())
    assert found.p_value == pytest.approx(min(1.0, 2 * np.mean(np.array(sums) <= smaller)))
    assert found.r_plus + found.r_minus == pytest.approx(len(d) * (len(d) + 1) / 2)
    reference = stats.wilcoxon(d, zero_method="zsplit", method="asymptotic")
    assert found.statistic == pytest.approx(reference.statistic)


@settings(deadline=None, max_examples=40)
@given(lists)
def test_sides_may_change_places(differences: list[float]) -> None:
    found, turned = (wilcoxon_signed_rank(s * np.array(differences)) for s in (1, -1))
    assert (turned.r_plus, turned.r_minus) == (found.r_minus, found.r_plus)
    assert turned.p_value == pytest.approx(found.p_value, nan_ok=True)


def test_rounds_before_it_ranks() -> None:
    # Exact arithmetic gives 5, 5, 5 and 10 thousandths.
    d = np.array([0.305 - 0.300, 0.205 - 0.200, -(0.105 - 0.100), 0.010])
    assert wilcoxon_signed_rank(d).r_minus == 2


def test_only_zeros_are_no_evidence() -> None:
    found = wilcoxon_signed_rank([0.0, 1e-13, 0.0])
    assert math.isnan(found.p_value)
    assert (found.r_plus, found.r_minus, found.n_zero) == (3, 3, 3)


# baycomp 1.0.3, SignedRankTest(x, y, rope, nsamples=200000, random_state=0).probs(), prior 0.5, on
# columns of table 6 of Demsar 2006 in units of 1/10000, so that ties with the rope are exact.
BAYCOMP = [
    ("C4.5", "C4.5+m", 0, (0.00096, 0.0, 0.99904)),
    ("C4.5", "C4.5+m", 50, (0.000025, 0.04354, 0.956435)),
    ("C4.5", "C4.5+m", 100, (0.0, 0.330205, 0.669795)),
    ("C4.5", "C4.5+m", 200, (0.0, 0.889945, 0.110055)),
    ("C4.5", "C4.5+cf", 0, (0.42002, 0.0, 0.57998)),
    ("C4.5", "C4.5+cf", 50, (0.38584, 0.1139, 0.50026)),
    ("C4.5", "C4.5+cf", 100, (0.088065, 0.743965, 0.16797)),
    ("C4.5", "C4.5+cf", 200, (0.003295, 0.983655, 0.01305)),
    ("C4.5+cf", "C4.5+m+cf", 50, (0.00311, 0.03469, 0.9622)),
    ("C4.5+cf", "C4.5+m+cf", 100, (0.000785, 0.21912, 0.780095)),
]


def columns_of_demsar(*names: str) -> list[Floats]:
    inputs = read_cases()["friedman_demsar"]["inputs"]
    scores = np.array(inputs["scores"])
    return [scores[:, inputs["methods"].index(name)] for name in names]


@pytest.mark.parametrize(("x", "y", "rope", "expected"), BAYCOMP)
def test_posterior_of_signed_ranks_is_that_of_baycomp(
    x: str, y: str, rope: int, expected: tuple[float, float, float]
) -> None:
    first, second = columns_of_demsar(x, y)
    found = signed_rank_posterior(second - first, rope=rope / 10_000, n_samples=100_000)
    assert found.n == 14
    # Four Monte Carlo standard errors of the difference of both estimates.
    error = 4 * np.sqrt(0.25 * (1 / 100_000 + 1 / 200_000))
    assert (found.left, found.rope, found.right) == pytest.approx(expected, abs=error)


@pytest.mark.parametrize("rope", [0.0, 0.01])
def test_posterior_of_signed_ranks_may_change_sides(rope: float) -> None:
    first, second = columns_of_demsar("C4.5", "C4.5+cf")
    one, other = (
        signed_rank_posterior(d, rope=rope, n_samples=20_000)
        for d in (second - first, first - second)
    )
    assert (one.left, one.rope, one.right) == pytest.approx((other.right, other.rope, other.left))
    assert one.left + one.rope + one.right == pytest.approx(1)
    assert one == signed_rank_posterior(second - first, rope=rope, n_samples=20_000)


def test_posterior_of_one_data_set_follows_from_the_prior_alone() -> None:
    """By hand: with one difference d beyond twice the rope, all pairs but (0, 0) lie above it.

    The data set's weight v is Beta(1, 1/2), of survival function sqrt(1 - v), and the share above
    is 1 - (1 - v)^2, which is the larger one where v > 1 - sqrt(1/2).
    """
    found = signed_rank_posterior([0.05], rope=0.01, n_samples=200_000)
    assert found.left == 0
    v = 1 - math.sqrt(0.5)
    assert found.right == pytest.approx(math.sqrt(1 - v), abs=0.005)


@pytest.mark.parametrize(
    ("differences", "rope", "told"),
    [([], 0.01, "shape"), ([0.1, np.nan], 0.01, "1 undefined"), ([0.1], -0.01, "rope is -0.01")],
)
def test_posterior_of_signed_ranks_refuses(
    differences: list[float], rope: float, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        signed_rank_posterior(differences, rope=rope)


def test_pairs_are_adjusted_together() -> None:
    table = np.random.default_rng(0).normal([0.0, 1.0, 1.2, 3.0], 1.0, size=(12, 4))
    found = wilcoxon_holm(table)
    pairs = list(combinations(range(4), 2))
    p = [wilcoxon_signed_rank(table[:, a] - table[:, b]).p_value for a, b in pairs]
    assert [found.p_values[pair] for pair in pairs] == p
    assert [found.p_adjusted[pair] for pair in pairs] == holm(p).tolist()
    assert [found.p_adjusted[b, a] for a, b in pairs] == holm(p).tolist()
    assert np.isnan(np.diag(found.p_adjusted)).all()


@pytest.mark.parametrize("n", [4, 5])
def test_below_six_data_sets_no_pair_can_reach_five_per_cent(n: int) -> None:
    table = np.arange(n)[:, None] / 10 + np.array([0.0, 0.3])
    assert wilcoxon_holm(table).p_values[0, 1] > 0.05
    more = np.vstack([table, table + 1])
    assert wilcoxon_holm(more).p_values[0, 1] < 0.05


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 7), st.integers(0, 2**21 - 1))
def test_cliques_are_all_largest_groups(k: int, bits: int) -> None:
    apart = np.zeros((k, k), dtype=bool)
    for place, (a, b) in enumerate(combinations(range(k), 2)):
        apart[a, b] = apart[b, a] = bits >> place & 1
    groups = [
        set(group)
        for size in range(2, k + 1)
        for group in combinations(range(k), size)
        if not any(apart[a, b] for a, b in combinations(group, 2))
    ]
    largest = [g for g in groups if not any(g < other for other in groups)]
    assert cliques(apart) == sorted(tuple(sorted(group)) for group in largest)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: friedman([[0.5, 0.6]]), r"shape \(1, 2\)"),
        (lambda: friedman([[0.5], [0.6]]), r"shape \(2, 1\)"),
        (lambda: friedman([[0.5, math.nan], [0.6, 0.7]]), "leave those arms or data sets out"),
        (lambda: wilcoxon_holm([0.5, 0.6]), r"shape \(2,\)"),
        (lambda: wilcoxon_signed_rank([]), r"shape \(0,\)"),
        (lambda: wilcoxon_signed_rank([0.1, math.inf]), "1 undefined"),
        (lambda: nemenyi_critical_difference(1, 9), "1 arms"),
        (lambda: nemenyi_critical_difference(3, 9, 0.0), "alpha 0.0"),
        (lambda: cliques([[0, 1], [0, 0]]), "not symmetric"),
        (lambda: cliques([0, 1]), "not symmetric"),
    ],
)
def test_refuses_what_cannot_be_ranked(call: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call()
