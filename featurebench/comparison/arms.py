"""Each arm's scores under the shared resamples, and its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurebench.comparison.model import ArmSummary, Estimate
from featurebench.metrics import (
    METRICS,
    arm_value,
    confusion_matrix,
    patient_level,
    patient_rows,
    weighted_metric,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


def sample_scores(design: Design, run: RunResult, metric: str) -> Floats:
    """Tile-level metric of each repeat under every row of the design's weights.

    Returns
    -------
    ndarray
        Float64, shape (n_repeats of the run, 1 + n_jackknife + n_boot).
    """
    return np.stack(
        [
            design.resamples.evaluate(
                weighted_metric(metric, design.y_true, probabilities, design.clusters, folds)
            )
            for probabilities, folds in zip(
                run.y_prob, design.test_fold[: run.n_repeats], strict=True
            )
        ]
    )


def mean_over_repeats(samples: Floats) -> Floats:
    """Average the repeats in which a value is defined; NaN where it is defined in none."""
    known = ~np.isnan(samples)
    total, n_known = np.where(known, samples, 0.0).sum(axis=0), known.sum(axis=0)
    mean = np.full(n_known.shape, np.nan)
    np.divide(total, n_known, out=mean, where=n_known > 0)
    return mean


def summarize_arm(design: Design, run: RunResult, *, alpha: float) -> ArmSummary:
    """Score one arm on every metric, for tiles and patients, with intervals."""
    folds = design.test_fold[: run.n_repeats]
    first = design.rows(0)
    return ArmSummary(
        arm=run.arm,
        kind=run.kind,
        embedding=run.embedding,
        head=run.head,
        strategy=run.strategy,
        metrics={
            name: _estimate(design, sample_scores(design, run, name), alpha) for name in METRICS
        },
        patient_metrics=_patient_metrics(design, run, alpha),
        undefined_folds={
            name: arm_value(name, design.y_true, run.y_prob, folds)[1] for name in METRICS
        },
        confusion=confusion_matrix(design.y_true[first], run.y_prob[0, first], run.y_prob.shape[2]),
        cost=run.cost,
        extraction_cost=run.extraction_cost,
        n_repeats=run.n_repeats,
    )


def _patient_metrics(design: Design, run: RunResult, alpha: float) -> dict[str, Estimate]:
    if not design.grouped:
        return {}
    views = [_patient_view(design, run, repeat) for repeat in range(run.n_repeats)]
    if any(len(y_true) == 0 for y_true, *_ in views):
        return {}
    return {
        name: _estimate(
            design,
            np.stack([design.resamples.evaluate(weighted_metric(name, *view)) for view in views]),
            alpha,
        )
        for name in METRICS
    }


def _patient_view(
    design: Design, run: RunResult, repeat: int
) -> tuple[Ints, Floats, Ints, npt.NDArray[np.int16]]:
    """Truth, mean probabilities, resampled unit and fold of each patient with one label."""
    tested = design.rows(repeat)
    y_true, units = design.y_true[tested], design.clusters[tested]
    y_patient, probabilities, _ = patient_level(y_true, run.y_prob[repeat, tested], units)
    rows, _ = patient_rows(y_true, units)
    return y_patient, probabilities, units[rows], design.test_fold[repeat, tested][rows]


def _estimate(design: Design, samples: Floats, alpha: float) -> Estimate:
    interval = design.resamples.interval(mean_over_repeats(samples), alpha=alpha)
    return Estimate(interval.value, interval.ci_low, interval.ci_high)
