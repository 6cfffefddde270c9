"""Each arm's scores under the shared resamples, and its summary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from featurebench.comparison.model import ArmSummary, Estimate
from featurebench.comparison.training import Training
from featurebench.heads.threads import own_threads
from featurebench.metrics import (
    LIMITS,
    METRICS,
    RANKED,
    PatientTiles,
    confusion_matrix,
    weighted_metric,
    weighted_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult
    from featurebench.stats import Resamples

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

_ALL = tuple(METRICS)
# Where a fold has few patients, leaving one out changes its share of positive tiles, on which
# average precision depends: its jackknife says more of that than of the ranking.
_AS_DRAWN = frozenset({"average_precision"})
# Patients that are drawn again add noise, and a calibration error counts noise as error.
_CENTRED = frozenset({"ece"})


def sample_scores(design: Design, run: RunResult, metric: str) -> Floats:
    """Tile-level metric of each repeat under every row of the design's weights.

    Returns
    -------
    ndarray
        Float64, shape (n_repeats of the run, 1 + n_jackknife + n_boot).
    """

    def make() -> Floats:
        samples = [
            design.resamples.evaluate(
                weighted_metric(metric, design.y_true, probabilities, design.clusters, folds)
            )
            for probabilities, folds in zip(
                run.y_prob, design.test_fold[: run.n_repeats], strict=True
            )
        ]
        return np.stack(samples)

    return design.remember(run, ("samples", metric), make)


def mean_over_repeats(samples: Floats) -> Floats:
    """Average the repeats in which a value is defined; NaN where it is defined in none."""
    known = ~np.isnan(samples)
    total, n_known = np.where(known, samples, 0.0).sum(axis=0), known.sum(axis=0)
    mean = np.full(n_known.shape, np.nan)
    np.divide(total, n_known, out=mean, where=n_known > 0)
    return mean


def spread_samples(resamples: Resamples, samples: Floats, metric: str) -> Floats:
    """Average repeats, and correct the replicates as the metric asks for.

    Those of the calibration error are centred; all others are widened to the jackknife's error,
    but for average precision, where that cannot be relied on.

    Parameters
    ----------
    resamples
        The weights that the samples were computed under.
    samples
        Shape (n_repeats, 1 + n_jackknife + n_boot), of a score or of a difference.
    metric
        Key of ``METRICS``.

    Returns
    -------
    ndarray
        Float64, shape (1 + n_jackknife + n_boot,), for the methods of ``resamples``.
    """
    values = mean_over_repeats(samples)
    if metric in _CENTRED:
        return resamples.centred(values)
    return values if metric in _AS_DRAWN else resamples.widened(values)


def summarize_arms(
    design: Design, runs: Sequence[RunResult], *, alpha: float
) -> tuple[ArmSummary, ...]:
    """Score every arm on every metric, for tiles and patients, with intervals.

    The repeats of all arms are shared out among as many threads as BLAS has.
    """
    views = _patient_views(design)
    tasks = [(run, repeat) for run in runs for repeat in range(run.n_repeats)]
    with own_threads() as pool:
        sampled = iter(list(pool(partial(_sample_repeat, design, views), tasks)))
    return tuple(
        _summarize(design, run, [next(sampled) for _ in range(run.n_repeats)], alpha)
        for run in runs
    )


def estimate(
    resamples: Resamples, samples: Floats, metric: str, *, n_units: int, alpha: float
) -> Estimate:
    """Average repeats and give an interval over units, widened as few units ask for.

    Parameters
    ----------
    resamples
        The weights that the samples were computed under.
    samples
        Shape (n_repeats, 1 + n_jackknife + n_boot).
    metric
        Key of ``METRICS``; no bound lies beyond what it can be.
    n_units
        Independent units that the score rests on.
    alpha
        The interval has level 1 - alpha.
    """
    values = spread_samples(resamples, samples, metric)
    found = resamples.interval(values, alpha=alpha, df=max(n_units - 1, 1))
    low, high = np.clip([found.ci_low, found.ci_high], *LIMITS[metric])
    return Estimate(found.value, float(low), float(high))


@dataclass(frozen=True)
class _PatientView:
    """The patients with one label of one repeat: truth, resampled unit and fold, shape (m,)."""

    tested: Ints
    tiles: PatientTiles
    y_true: Ints
    units: Ints
    fold: npt.NDArray[np.int16]

    @classmethod
    def of(cls, design: Design, repeat: int) -> _PatientView:
        tested = design.rows(repeat)
        tiles = PatientTiles.of(design.y_true[tested], design.clusters[tested])
        rows = tested[tiles.rows]
        return cls(
            tested,
            tiles,
            design.y_true[rows],
            design.clusters[rows],
            design.test_fold[repeat, rows],
        )


def _patient_views(design: Design) -> list[_PatientView]:
    """One view a repeat; none where patients are unknown or lie on both sides of a fold."""
    if not design.grouped:
        return []
    return [_PatientView.of(design, repeat) for repeat in range(len(design.test_fold))]


def _sample_repeat(
    design: Design, views: Sequence[_PatientView], task: tuple[RunResult, int]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """All metrics of one repeat under all weights, for tiles and, if there are any, patients."""
    run, repeat = task
    evaluate, probabilities = design.resamples.evaluate_all, run.y_prob[repeat]
    of_tiles = evaluate(
        weighted_metrics(
            _ALL, design.y_true, probabilities, design.clusters, design.test_fold[repeat]
        )
    )
    if not views or len(views[repeat].y_true) == 0:
        return of_tiles, {}
    view = views[repeat]
    means = view.tiles.mean(probabilities[view.tested])
    return of_tiles, evaluate(weighted_metrics(_ALL, view.y_true, means, view.units, view.fold))


def _summarize(
    design: Design,
    run: RunResult,
    sampled: Sequence[tuple[Mapping[str, Floats], Mapping[str, Floats]]],
    alpha: float,
) -> ArmSummary:
    tiles = {name: np.stack([of_tiles[name] for of_tiles, _ in sampled]) for name in _ALL}
    known = all(of_patients for _, of_patients in sampled)
    patients = {
        name: np.stack([of_patients[name] for _, of_patients in sampled])
        for name in (_ALL if known else ())
    }
    for name, samples in tiles.items():
        design.remember(run, ("samples", name), partial(np.asarray, samples))
    first = design.rows(0)
    return ArmSummary(
        arm=run.arm,
        kind=run.kind,
        embedding=run.embedding,
        head=run.head,
        strategy=run.strategy,
        metrics=_estimates(design, tiles, alpha),
        patient_metrics=_estimates(design, patients, alpha),
        undefined_folds=_undefined_folds(design, run, tiles),
        confusion=confusion_matrix(design.y_true[first], run.y_prob[0, first], run.y_prob.shape[2]),
        cost=run.cost,
        extraction_cost=run.extraction_cost,
        n_repeats=run.n_repeats,
        training=Training.of(run),
    )


def _undefined_folds(
    design: Design, run: RunResult, samples: Mapping[str, Floats]
) -> dict[str, int]:
    """Count as `arm_value` does; within a fold, a ranking is undefined where a class is missing."""
    n_classes = run.y_prob.shape[2]
    present = [
        [len(np.unique(design.y_true[rows])) for rows in design.fold_rows(repeat) if len(rows)]
        for repeat in range(run.n_repeats)
    ]
    lacking = sum(n < n_classes for folds in present for n in folds)
    pooled = {
        name: sum(
            len(folds) for folds, value in zip(present, each[:, 0], strict=True) if np.isnan(value)
        )
        for name, each in samples.items()
    }
    return {name: lacking if name in RANKED else pooled[name] for name in _ALL}


def _estimates(design: Design, samples: Mapping[str, Floats], alpha: float) -> dict[str, Estimate]:
    return {
        name: estimate(design.resamples, values, name, n_units=design.n_units, alpha=alpha)
        for name, values in samples.items()
    }
