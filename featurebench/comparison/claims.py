"""What may be claimed of one contrast: by all tests that are asked, or nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import stats

from featurebench.comparison.barred import FEWEST_UNITS
from featurebench.stats import detectable_difference, noninferiority

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.comparison.model import Contrast, Evidence, Outcome, Relevance, Rule

_NAN = float("nan")
POWER = 0.8


@dataclass(frozen=True)
class Claims:
    """P-values of what could be claimed, each the largest of the tests that the rule asks for.

    A claim needs every test, so the largest p-value is that of an intersection-union test
    (Berger 1982) and needs no correction for the number of tests.

    Parameters
    ----------
    differs
        Two-sided, that the two differ; 1 where the tests point to different sides.
    equivalent
        That they differ by less than the margin.
    non_inferior, not_superior
        One-sided, that the arm is not worse, or not better, than the reference by the margin.
    """

    differs: float
    equivalent: float
    non_inferior: float
    not_superior: float


def rule_of(n_test_sets: int, by_sites: Evidence | None) -> Rule:
    """Say which tests a claim needs.

    With one test set nothing tells how training varies: the test over patients is then all there
    is, and `featurebench.comparison.barred.bars` allows no claim. Sites are asked where there are
    enough of them for a test.
    """
    if n_test_sets == 1:
        return "patients alone"
    if by_sites is not None and by_sites.n >= FEWEST_UNITS:
        return "folds, patients and sites"
    return "both tests"


def asked(
    rule: Rule, by_folds: Evidence, by_patients: Evidence, by_sites: Evidence | None
) -> tuple[Evidence, ...]:
    """List the tests that a rule asks for."""
    if rule == "patients alone":
        return (by_patients,)
    if rule == "both tests" or by_sites is None:
        return by_folds, by_patients
    return by_folds, by_patients, by_sites


def tests_of(contrast: Contrast) -> tuple[Evidence, ...]:
    """List the tests that a contrast's claim rests on."""
    return asked(contrast.rule, contrast.by_folds, contrast.by_patients, contrast.by_sites)


def claims_of(tests: Sequence[Evidence], *, margin: float, greater_is_better: bool) -> Claims:
    """Put the tests' p-values together; NaN where one of them is not estimable."""
    one_side = len({math.copysign(1, test.difference) for test in tests}) == 1
    sign = 1 if greater_is_better else -1
    not_worse, not_better = (
        [noninferiority(side * test.difference, test.se, _df(test), margin) for test in tests]
        for side in (sign, -sign)
    )
    differs = _largest([test.p_value for test in tests])
    return Claims(
        differs=differs if one_side or math.isnan(differs) else 1.0,
        equivalent=_largest([test.p_equivalent for test in tests]),
        non_inferior=_largest(not_worse),
        not_superior=_largest(not_better),
    )


def decide(claims: Claims, difference: float, *, alpha: float, greater_is_better: bool) -> Outcome:
    """Choose the strongest claim that holds, p-values being adjusted already; NaN settles nothing.

    Non-inferiority is held against alpha / 2, as the end of a two-sided interval is.
    """
    if claims.differs < alpha:
        return "better" if (difference > 0) == greater_is_better else "worse"
    if claims.equivalent < alpha:
        return "equivalent"
    if claims.non_inferior < alpha / 2:
        return "non-inferior"
    if claims.not_superior < alpha / 2:
        return "not superior"
    return "not resolved"


def relevance_of(tests: Sequence[Evidence], margin: float) -> Relevance:
    """Say where the intervals of all tests lie: beyond the margin, within it, or neither."""
    ends = [(test.ci_low, test.ci_high) for test in tests]
    if any(math.isnan(low) for low, _ in ends):
        return "open"
    if all(low > margin for low, _ in ends) or all(high < -margin for _, high in ends):
        return "beyond the margin"
    if all(-margin < low and high < margin for low, high in ends):
        return "within the margin"
    return "open"


def detectable(tests: Sequence[Evidence], alpha: float) -> float:
    """Smallest true difference of which 80 % of such cohorts, or more, find it in all tests.

    Each of m tests misses it in at most a share of 0.2 / m (Bonferroni), so that together they
    miss it in 0.2 at the most, however they depend on each other.
    """
    power = 1 - (1 - POWER) / len(tests)
    found = [
        detectable_difference(test.se, _df(test), alpha=alpha, power=power)
        for test in tests
        if math.isfinite(test.se) and test.se > 0
    ]
    return max(found) if len(found) == len(tests) else _NAN


def needed(detectable: float, margin: float, n_units: int, *, df: float) -> tuple[int, int] | None:
    """Units with which a difference of the margin would be found: an 80 % range.

    As many show that two arms which do not differ are non-inferior within the margin, since both
    are one-sided at alpha / 2. Standard errors shrink with the root of the number of units; the
    range allows for how well the one at hand is known, with df degrees of freedom.
    """
    if not (math.isfinite(detectable) and margin > 0 and df > 0):
        return None
    middle = n_units * (detectable / margin) ** 2
    low, high = (float(df / stats.chi2.ppf(level, df)) for level in (0.9, 0.1))
    return math.ceil(middle * low), math.ceil(middle * high)


def _df(test: Evidence) -> float:
    return test.df if math.isfinite(test.df) else math.inf


def _largest(p_values: list[float]) -> float:
    return _NAN if any(math.isnan(p) for p in p_values) else max(p_values)
