"""Each arm against the reference: paired difference, interval, corrected test, outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featurebench.comparison.arms import mean_over_repeats, sample_scores
from featurebench.comparison.model import Contrast, Outcome
from featurebench.metrics import GREATER_IS_BETTER, METRICS
from featurebench.stats import corrected_resampled_t, holm

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]


def contrast_arms(
    design: Design,
    runs: Sequence[RunResult],
    reference: RunResult,
    *,
    metric: str,
    margin: float,
    alpha: float,
) -> tuple[Contrast, ...]:
    """Contrast every other arm with the reference and adjust the p-values for their number."""
    others = [run for run in runs if run.arm != reference.arm]
    samples = sample_scores(design, reference, metric)
    raw = [
        _contrast(design, run, reference, samples, metric=metric, margin=margin, alpha=alpha)
        for run in others
    ]
    adjusted = holm([contrast.p_value for contrast in raw])
    return tuple(
        replace(contrast, p_adjusted=p, outcome=decide(contrast, p, alpha))
        for contrast, p in zip(raw, adjusted.tolist(), strict=True)
    )


def decide(contrast: Contrast, p_adjusted: float, alpha: float) -> Outcome:
    """Say which arm is better, only where test and interval agree; NaN settles nothing."""
    above, below = contrast.ci_low > 0, contrast.ci_high < 0
    agree = (above and contrast.test_difference > 0) or (below and contrast.test_difference < 0)
    if not (p_adjusted < alpha and agree):
        return "not resolved"
    return "better" if above == GREATER_IS_BETTER[contrast.metric] else "worse"


def fold_scores(design: Design, run: RunResult, metric: str, n_repeats: int) -> Floats:
    """Score one arm in every fold of its first repeats, shape (n_repeats * n_folds,)."""
    score = METRICS[metric]
    return np.array(
        [
            score(design.y_true[rows], run.y_prob[repeat, rows])
            for repeat in range(n_repeats)
            for rows in design.fold_rows(repeat)
        ]
    )


def _contrast(
    design: Design,
    run: RunResult,
    reference: RunResult,
    reference_samples: Floats,
    *,
    metric: str,
    margin: float,
    alpha: float,
) -> Contrast:
    n_repeats = min(run.n_repeats, reference.n_repeats)
    differences = sample_scores(design, run, metric)[:n_repeats] - reference_samples[:n_repeats]
    interval = design.resamples.interval(mean_over_repeats(differences), alpha=alpha)
    test = corrected_resampled_t(
        fold_scores(design, run, metric, n_repeats)
        - fold_scores(design, reference, metric, n_repeats),
        test_train_ratio=design.test_train_ratio(n_repeats),
        alpha=alpha,
    )
    return Contrast(
        arm_a=run.arm,
        arm_b=reference.arm,
        metric=metric,
        difference=interval.value,
        ci_low=interval.ci_low,
        ci_high=interval.ci_high,
        interval=f"{interval.method} bootstrap over {design.unit}",
        test=test.name,
        statistic=test.statistic,
        df=test.df,
        p_value=test.p_value,
        test_difference=test.estimate,
        test_ci_low=test.ci_low,
        test_ci_high=test.ci_high,
        p_adjusted=float("nan"),
        n_repeats=n_repeats,
        n_folds=design.n_folds,
        undefined_folds=test.n_undefined,
        outcome="not resolved",
        within_margin=-margin <= interval.ci_low and interval.ci_high <= margin,
        cost_ratio=_cost_ratio(run, reference, n_repeats),
        undefined_resamples=interval.n_undefined,
    )


def _cost_ratio(run: RunResult, reference: RunResult, n_repeats: int) -> float:
    def wall(arm: RunResult) -> float:
        return arm.extraction_cost.wall_s + arm.cost.wall_s * n_repeats / arm.n_repeats

    a, b = wall(run), wall(reference)
    return a / b if a > 0 and b > 0 else float("nan")
