"""Each arm's scores under the shared resamples, and its summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from featurebench.comparison.barred import FEWEST_UNITS
from featurebench.comparison.model import ArmSummary, Estimate
from featurebench.comparison.training import Training
from featurebench.heads.threads import own_threads
from featurebench.metrics import (
    LIMITS,
    METRICS,
    RANKED,
    PatientTiles,
    chance_level,
    confusion_matrix,
    weighted_metrics,
)
from featurebench.stats import bounded_interval, jackknife_se, patient_df

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult
    from featurebench.stats import Resamples

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

_ALL = tuple(METRICS)
RESAMPLED = frozenset({"average_precision", "ece"})
"""Metrics whose intervals come from the bootstrap.

Where a fold has few patients, leaving one out changes its share of positive tiles, on which average
precision depends: its jackknife says more of that than of the ranking. A calibration error counts
noise as error, so that its value without a patient lies above it.
"""
BY_CLASS = frozenset(METRICS) - {"accuracy", "log_loss", "brier", "ece"}
"""Metrics that rest on the patients of every class, and so most on those of the rarest."""


def sample_scores(design: Design, run: RunResult, metric: str) -> Floats:
    """Metric of each repeat in the whole cohort, without each unit, and in the resamples.

    Returns
    -------
    ndarray
        Float64, shape (n_repeats of the run, 1 + n_jackknife) or, for metrics in `RESAMPLED`,
        (n_repeats, 1 + n_jackknife + n_boot).
    """

    def make() -> Floats:
        return np.stack(
            [
                evaluate_repeat(design, (metric,), probabilities, folds)[metric]
                for probabilities, folds in zip(
                    run.y_prob, design.test_fold[: run.n_repeats], strict=True
                )
            ]
        )

    return design.remember(run, ("samples", metric), make)


def mean_over_repeats(samples: Floats) -> Floats:
    """Average the repeats in which a value is defined; NaN where it is defined in none."""
    known = ~np.isnan(samples)
    total, n_known = np.where(known, samples, 0.0).sum(axis=0), known.sum(axis=0)
    mean = np.full(n_known.shape, np.nan)
    np.divide(total, n_known, out=mean, where=n_known > 0)
    return mean


def resampled_mean(resamples: Resamples, samples: Floats, metric: str) -> Floats:
    """Average repeats; the replicates of a calibration error are centred on its value.

    Parameters
    ----------
    resamples
        The weights that the samples were computed under.
    samples
        Shape (n_repeats, 1 + n_jackknife + n_boot), of a score or of a difference.
    metric
        One of `RESAMPLED`.

    Returns
    -------
    ndarray
        Float64, shape (1 + n_jackknife + n_boot,), for the methods of ``resamples``.
    """
    values = mean_over_repeats(samples)
    return resamples.centred(values) if metric == "ece" else values


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
        _summarize(design, run, [next(sampled) for _ in range(run.n_repeats)], views, alpha)
        for run in runs
    )


def arm_estimate(
    design: Design, run: RunResult, metric: str, *, alpha: float, n_repeats: int | None = None
) -> Estimate:
    """Score an arm on its first repeats (all by default), with the interval that a report gives.

    Where a claim is asked of sites as well, the interval holds those over patients and over sites.

    Parameters
    ----------
    design, run
        Of one plan.
    metric
        Key of ``METRICS``.
    alpha
        The interval has level 1 - alpha.
    n_repeats
        How many of the run's repeats count.
    """
    found = _over_units(design, run, metric, alpha, n_repeats)
    sites = design.by_sites
    if sites is None or sites.n_units < FEWEST_UNITS or metric in RESAMPLED:
        return found
    other = _over_units(sites, run, metric, alpha, n_repeats)
    if np.isnan(found.ci_low) or np.isnan(other.ci_low):
        return found
    return replace(
        found,
        ci_low=min(found.ci_low, other.ci_low),
        ci_high=max(found.ci_high, other.ci_high),
    )


def _over_units(
    design: Design, run: RunResult, metric: str, alpha: float, n_repeats: int | None
) -> Estimate:
    return estimate(
        design.resamples,
        sample_scores(design, run, metric)[:n_repeats],
        metric,
        shares=design.shares(by_class=metric in BY_CLASS),
        n_classes=run.y_prob.shape[2],
        alpha=alpha,
    )


def estimate(
    resamples: Resamples,
    samples: Floats,
    metric: str,
    *,
    shares: Floats,
    n_classes: int,
    alpha: float,
) -> Estimate:
    r"""Average repeats and give an interval over units, which few of them make wide.

    The error is the jackknife's and, added to its square, what one more patient of each of the G
    classes at chance level would add to it, as Agresti and Coull add cases to a proportion: where
    a class has few patients, they may all be easy ones by luck. With P_g patients of class g, and
    \theta_0 the chance level,

    .. math:: se^2 = se_{jack}^2 + \frac{(\theta - \theta_0)^2}{G^2} \sum_g (P_g + 1)^{-2}.

    The interval is one on the logit scale between what the metric can be, with quantiles of t
    whose degrees of freedom are those of `featurebench.stats.patient_df`. Metrics in `RESAMPLED`
    have a BCa bootstrap interval with these quantiles.

    Parameters
    ----------
    resamples
        The weights that the samples were computed under.
    samples
        As from `sample_scores`.
    metric
        Key of ``METRICS``.
    shares
        Shape (n_units, n_groups): of the tiles that the score rests on, those of each unit, see
        `Design.shares`.
    n_classes
        On which the chance level depends.
    alpha
        The interval has level 1 - alpha.

    References
    ----------
    Agresti A, Coull BA. Approximate is better than "exact" for interval estimation of binomial
    proportions. Am Stat 1998; 52: 119-126.
    """
    df, limits = patient_df(shares), LIMITS[metric]
    if metric in RESAMPLED:
        found = resamples.interval(
            resampled_mean(resamples, samples, metric), alpha=alpha, df=max(df, 1.0)
        )
        low, high = np.clip([found.ci_low, found.ci_high], *limits)
        return Estimate(found.value, float(low), float(high))
    values = mean_over_repeats(samples)
    value, se = float(values[0]), jackknife_se(values[1 : 1 + resamples.n_jackknife])
    per_group = 1 / ((shares > 0).sum(axis=0) + 1.0) ** 2
    distance = value - chance_level(metric, n_classes)
    se = float(np.sqrt(se**2 + distance**2 * per_group.sum() / len(per_group) ** 2))
    return Estimate(value, *bounded_interval(value, se, df=df, limits=limits, alpha=alpha))


@dataclass(frozen=True)
class _PatientView:
    """The patients with one label of one repeat: truth, code and fold, shape (m,)."""

    tested: Ints
    tiles: PatientTiles
    y_true: Ints
    members: Ints
    fold: npt.NDArray[np.int16]

    @classmethod
    def of(cls, design: Design, repeat: int) -> _PatientView:
        tested = design.rows(repeat)
        tiles = PatientTiles.of(design.y_true[tested], design.members[tested])
        rows = tested[tiles.rows]
        return cls(
            tested,
            tiles,
            design.y_true[rows],
            design.members[rows],
            design.test_fold[repeat, rows],
        )


def _patient_views(design: Design) -> list[_PatientView]:
    """One view a repeat; none where patients are unknown or lie on both sides of a fold."""
    if not design.grouped:
        return []
    return [_PatientView.of(design, repeat) for repeat in range(len(design.test_fold))]


def evaluate_repeat(
    design: Design,
    names: Sequence[str],
    probabilities: npt.NDArray[np.float32],
    folds: npt.NDArray[np.int16],
) -> dict[str, Floats]:
    """Tile-level metrics of one repeat; see `sample_scores`."""
    return _evaluate(
        design,
        names,
        y_true=design.y_true,
        y_prob=probabilities,
        members=design.members,
        folds=folds,
        weighed=True,
    )


def _evaluate(
    design: Design,
    names: Sequence[str],
    *,
    y_true: Ints,
    y_prob: npt.NDArray[np.floating],
    members: Ints,
    folds: npt.NDArray[np.int16],
    weighed: bool,
) -> dict[str, Floats]:
    """Apply metrics to the cohort and without each unit; some of them to the resamples, too."""
    found: dict[str, Floats] = {}
    for resampled in (False, True):
        chosen = [name for name in names if (name in RESAMPLED) == resampled]
        if chosen:
            kernel = weighted_metrics(chosen, y_true, y_prob, members, folds)
            found |= design.evaluate(kernel, resampled=resampled, weighed=weighed)
    return {name: found[name] for name in names}


def _sample_repeat(
    design: Design, views: Sequence[_PatientView], task: tuple[RunResult, int]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """All metrics of one repeat under all weights, for tiles and, if there are any, patients."""
    run, repeat = task
    of_tiles = evaluate_repeat(design, _ALL, run.y_prob[repeat], design.test_fold[repeat])
    if not views or len(views[repeat].y_true) == 0:
        return of_tiles, {}
    view = views[repeat]
    means = view.tiles.mean(run.y_prob[repeat][view.tested])
    of_patients = _evaluate(
        design,
        _ALL,
        y_true=view.y_true,
        y_prob=means,
        members=view.members,
        folds=view.fold,
        weighed=False,
    )
    return of_tiles, of_patients


def _summarize(
    design: Design,
    run: RunResult,
    sampled: Sequence[tuple[Mapping[str, Floats], Mapping[str, Floats]]],
    views: Sequence[_PatientView],
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
        metrics={name: arm_estimate(design, run, name, alpha=alpha) for name in _ALL},
        patient_metrics={
            name: estimate(
                design.resamples,
                values,
                name,
                shares=_patient_shares(design, views[0], by_class=name in BY_CLASS),
                n_classes=run.y_prob.shape[2],
                alpha=alpha,
            )
            for name, values in patients.items()
        },
        undefined_folds=_undefined_folds(design, run, tiles),
        confusion=confusion_matrix(design.y_true[first], run.y_prob[0, first], run.y_prob.shape[2]),
        cost=run.cost,
        extraction_cost=run.extraction_cost,
        n_repeats=run.n_repeats,
        training=Training.of(run),
    )


def _patient_shares(design: Design, view: _PatientView, *, by_class: bool) -> Floats:
    """Give each unit's share of the patients with one label, or of those of every class."""
    groups = view.y_true if by_class else np.zeros_like(view.y_true)
    n_groups = int(groups.max(initial=0)) + 1
    cells = design.unit_of_member[view.members] * n_groups + groups
    table = np.bincount(cells, minlength=design.n_units * n_groups).reshape(-1, n_groups)
    table = table[:, table.sum(axis=0) > 0]
    return np.asarray(table / table.sum(axis=0))


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
