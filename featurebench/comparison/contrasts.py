"""Each arm against the reference: paired difference, two tests, and what may be claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

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
from featurebench.comparison.evidence import fold_scores, over_folds, over_patients
from featurebench.comparison.model import Contrast
from featurebench.metrics import GREATER_IS_BETTER
from featurebench.stats import correlated_t_posterior, holm

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.comparison.evidence import OverPatients
    from featurebench.comparison.model import Evidence, Outcome
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Declared:
    """What was declared before the run: metric, margin, alpha, and the arm of the primary contrast.

    ``primary`` is the name of the arm that is held against the reference first; None for none.
    """

    metric: str
    margin: float
    alpha: float
    primary: str | None = None


def contrast_arms(
    design: Design,
    runs: Sequence[RunResult],
    reference: RunResult,
    declared: Declared,
    *,
    barred: bool = False,
) -> tuple[Contrast, ...]:
    """Contrast every other arm with the reference, the primary one first.

    The p-values of all but the primary contrast are adjusted for their number by Holm's method,
    each kind of claim by itself. Where the comparison is barred nothing is claimed.
    """
    others = sorted(
        (run for run in runs if run.arm != reference.arm),
        key=lambda run: run.arm != declared.primary,
    )
    found = [_contrast(design, run, reference, declared) for run in others]
    adjusted = _adjust([claims for _, claims in found], declared.primary is not None)
    return tuple(
        replace(
            contrast,
            p_adjusted=claims.differs,
            outcome="not claimed" if barred else _outcome(contrast, claims, declared),
        )
        for (contrast, _), claims in zip(found, adjusted, strict=True)
    )


def _contrast(
    design: Design, run: RunResult, reference: RunResult, declared: Declared
) -> tuple[Contrast, Claims]:
    metric, margin, alpha = declared.metric, declared.margin, declared.alpha
    n_repeats = min(run.n_repeats, reference.n_repeats)
    differences = fold_scores(design, run, metric, n_repeats) - fold_scores(
        design, reference, metric, n_repeats
    )
    ratio = design.test_train_ratio(n_repeats)
    by_folds = over_folds(
        differences, ratio=ratio, margin=margin, alpha=alpha, max_df=design.n_units - 1.0
    )
    patients, by_sites = _over_units(design, (run, reference), declared, n_repeats)
    by_patients = patients.evidence
    rule = rule_of(n_repeats * design.n_folds, by_sites)
    tests = asked(rule, by_folds, by_patients, by_sites)
    claims = claims_of(tests, margin=margin, greater_is_better=GREATER_IS_BETTER[metric])
    smallest = detectable(tests, alpha)
    low, high = _outer(tests)
    n_low, n_high = _needed(design, smallest, margin, tests)
    contrast = Contrast(
        arm_a=run.arm,
        arm_b=reference.arm,
        metric=metric,
        primary=run.arm == declared.primary,
        difference=by_patients.difference,
        ci_low=low,
        ci_high=high,
        interval=" and ".join(test.test for test in tests),
        by_folds=by_folds,
        by_patients=by_patients,
        by_sites=by_sites,
        permutation_p=patients.permutation_p,
        **_posterior(differences, ratio, declared),
        rule=rule,
        p_value=claims.differs,
        p_adjusted=claims.differs,
        outcome="not resolved",
        relevance=relevance_of(tests, margin),
        detectable=smallest,
        n_needed_low=n_low,
        n_needed_high=n_high,
        p_patient_better=_gain_share(patients.p_patient_better, metric),
        n_repeats=n_repeats,
        n_folds=design.n_folds,
        undefined_folds=len(differences) - by_folds.n,
        cost_ratio=_cost_ratio(run, reference, n_repeats),
        undefined_resamples=patients.undefined_resamples,
    )
    return contrast, claims


def _over_units(
    design: Design, pair: tuple[RunResult, RunResult], declared: Declared, n_repeats: int
) -> tuple[OverPatients, Evidence | None]:
    """Test over the units that folds keep together and, where they are known beside, over sites."""
    over = partial(
        over_patients,
        pair=pair,
        metric=declared.metric,
        n_repeats=n_repeats,
        margin=declared.margin,
        alpha=declared.alpha,
    )
    return over(design), None if design.by_sites is None else over(design.by_sites).evidence


def _outer(tests: Sequence[Evidence]) -> tuple[float, float]:
    """Give the interval that holds those of all tests, and so zero unless all exclude it."""
    known = [test for test in tests if math.isfinite(test.ci_low)]
    if not known:
        return math.nan, math.nan
    return min(test.ci_low for test in known), max(test.ci_high for test in known)


def _needed(
    design: Design, smallest: float, margin: float, tests: Sequence[Evidence]
) -> tuple[int | None, int | None]:
    """Give the range of patients needed; folds of further repeats tell no more of their spread."""
    if design.unit != "patients":
        return None, None
    known = [
        design.n_folds - 1.0 if test.unit == "folds" else test.df
        for test in tests
        if math.isfinite(test.df)
    ]
    found = needed(smallest, margin, design.n_units, df=min(known, default=0.0))
    return found or (None, None)


def _posterior(differences: Floats, ratio: float, declared: Declared) -> dict[str, float]:
    """Probabilities that the arm is worse, practically the same, and better."""
    found = correlated_t_posterior(differences, rho=ratio / (1 + ratio), rope=declared.margin)
    up = GREATER_IS_BETTER[declared.metric]
    return {
        "p_worse": found.below if up else found.above,
        "p_practical": found.within,
        "p_better": found.above if up else found.below,
    }


def _gain_share(share: float, metric: str) -> float:
    return share if GREATER_IS_BETTER[metric] else 1 - share


def _adjust(claims: Sequence[Claims], has_primary: bool) -> list[Claims]:
    """Adjust each kind of claim over all contrasts but the first, if that is the primary one."""
    first = 1 if has_primary else 0
    rest = claims[first:]
    columns = {
        kind.name: holm([getattr(each, kind.name) for each in rest]).tolist()
        for kind in fields(Claims)
    }
    adjusted = [
        Claims(**{name: column[row] for name, column in columns.items()})
        for row in range(len(rest))
    ]
    return [*claims[:first], *adjusted]


def _outcome(contrast: Contrast, claims: Claims, declared: Declared) -> Outcome:
    if math.isnan(contrast.difference):
        return "not resolved"
    return decide(
        claims,
        contrast.difference,
        alpha=declared.alpha,
        greater_is_better=GREATER_IS_BETTER[declared.metric],
    )


def _cost_ratio(run: RunResult, reference: RunResult, n_repeats: int) -> float:
    def wall(arm: RunResult) -> float:
        return arm.extraction_cost.wall_s + arm.cost.wall_s * n_repeats / arm.n_repeats

    a, b = wall(run), wall(reference)
    return a / b if a > 0 and b > 0 else float("nan")
