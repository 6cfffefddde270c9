"""Two tests of one difference: over folds, and over patients by what kind of metric it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featurebench.comparison.arms import (
    BY_CLASS,
    RESAMPLED,
    mean_over_repeats,
    resampled_mean,
    sample_scores,
)
from featurebench.comparison.contributions import LINEAR, tile_contributions
from featurebench.comparison.model import Evidence
from featurebench.metrics import fold_values
from featurebench.stats import (
    TestResult,
    adjusted,
    corrected_resampled_t,
    jackknife_test,
    narrow_interval,
    patient_df,
    patient_test,
    sign_flip,
    tost,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.comparison.model import EvidenceUnit
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]

_NAN = float("nan")


@dataclass(frozen=True)
class OverPatients:
    """The test over patients, and what else the same numbers give.

    Parameters
    ----------
    evidence
        The test.
    permutation_p
        Of the sign-flip permutation; NaN where the metric is no mean over tiles.
    p_patient_better
        Share of patients with a positive difference, ties counted half; NaN likewise.
    undefined_resamples
        Resamples left out of a bootstrap; 0 where there is none.
    """

    evidence: Evidence
    permutation_p: float = _NAN
    p_patient_better: float = _NAN
    undefined_resamples: int = 0


def fold_scores(design: Design, run: RunResult, metric: str, n_repeats: int) -> Floats:
    """Score one arm in every fold of its first repeats, shape (n_repeats * n_folds,)."""
    patients = design.members if design.weights == "patients" else None

    def make() -> Floats:
        found = np.full((n_repeats, design.n_folds), np.nan)
        for row, y_prob, folds in zip(found, run.y_prob, design.test_fold, strict=False):
            values = fold_values((metric,), design.y_true, y_prob, folds, patients=patients)
            row[np.unique(folds[folds >= 0])] = values[metric]
        return found.ravel()

    return design.remember(run, ("folds", metric, n_repeats), make)


def over_folds(
    differences: Floats, *, ratio: float, margin: float, alpha: float, max_df: float = np.inf
) -> Evidence:
    """Corrected resampled t over the folds' differences; ``ratio`` is n_test / n_train."""
    found = corrected_resampled_t(differences, test_train_ratio=ratio, alpha=alpha, max_df=max_df)
    return _as_evidence(found, "folds", margin=margin, alpha=alpha)


def over_patients(
    design: Design,
    pair: tuple[RunResult, RunResult],
    metric: str,
    *,
    n_repeats: int,
    margin: float,
    alpha: float,
) -> OverPatients:
    """Test the mean over repeats of the difference between the pair, over the design's units.

    Means over tiles (accuracy, balanced accuracy, log loss, Brier score) are tested by the
    patients' contributions; average precision and calibration error, whose values without a
    patient say little of their error, by the bootstrap; everything else by the jackknife.
    """
    if metric in LINEAR:
        return _by_contributions(design, pair, metric, n_repeats, (margin, alpha))
    if metric in RESAMPLED:
        return by_bootstrap(design, pair, metric, n_repeats, (margin, alpha))
    first, second = (sample_scores(design, run, metric)[:n_repeats] for run in pair)
    values, shares = mean_over_repeats(first - second), design.shares(by_class=metric in BY_CLASS)
    found = jackknife_test(
        float(values[0]), values[1:], df=patient_df(shares), n=design.n_units, alpha=alpha
    )
    return OverPatients(_of_units(design, found, shares, n_repeats, (margin, alpha)))


def _by_contributions(
    design: Design,
    pair: tuple[RunResult, RunResult],
    metric: str,
    n_repeats: int,
    limits: tuple[float, float],
) -> OverPatients:
    parts, shares = tile_contributions(design, pair, metric, n_repeats)
    found = patient_test(parts, shares, alpha=limits[1])
    of_patients = parts.mean(axis=1)
    tie = 1e-12 * max(1.0, float(np.abs(of_patients).max(initial=0.0)))
    better = np.mean(of_patients > tie) + 0.5 * np.mean(np.abs(of_patients) <= tie)
    return OverPatients(
        _of_units(design, found, shares, n_repeats, limits),
        sign_flip(of_patients),
        float(better),
    )


def by_bootstrap(
    design: Design,
    pair: tuple[RunResult, RunResult],
    metric: str,
    n_repeats: int,
    limits: tuple[float, float],
) -> OverPatients:
    """Resample patients; ``limits`` are the margin and alpha."""
    first, second = (sample_scores(design, run, metric)[:n_repeats] for run in pair)
    resamples, (margin, alpha) = design.resamples, limits
    df = max(patient_df(design.shares(by_class=metric in BY_CLASS)), 1.0)
    values = resampled_mean(resamples, first - second, metric)
    values = values[0] + (values - values[0]) * np.sqrt(_training_factor(design, n_repeats))
    wide, narrow = (resamples.interval(values, alpha=level, df=df) for level in (alpha, 2 * alpha))
    below, below_zero, above = (
        resamples.p_below(values, bound, df=df) for bound in (-margin, 0.0, margin)
    )
    known = np.isfinite(wide.ci_low)
    evidence = Evidence(
        test=f"{wide.method} bootstrap over {design.unit}",
        unit=design.unit,
        difference=wide.value,
        se=float(np.nanstd(values[-resamples.n_boot :], ddof=1)) if known else _NAN,
        statistic=_NAN,
        df=_NAN,
        p_value=2 * min(below_zero, 1 - below_zero),
        ci_low=wide.ci_low,
        ci_high=wide.ci_high,
        narrow_low=narrow.ci_low,
        narrow_high=narrow.ci_high,
        p_equivalent=max(below, 1 - above),
        n=design.n_units,
    )
    return OverPatients(evidence, undefined_resamples=wide.n_undefined)


def _training_factor(design: Design, n_repeats: int) -> float:
    """See `adjusted`; 1 where units are patients, of whom there are many, or tiles."""
    if design.unit in {"patients", "tiles"}:
        return 1.0
    return 1 + design.n_folds * design.test_train_ratio(n_repeats)


def _of_units(
    design: Design, found: TestResult, shares: Floats, n_repeats: int, limits: tuple[float, float]
) -> Evidence:
    """Make evidence of a test over units, with no more degrees of freedom than the rarest class.

    Tests of `featurebench.stats` are over patients by name; here they are over the design's units.
    """
    margin, alpha = limits
    found = replace(found, name=found.name.replace("over patients", f"over {design.unit}"))
    corrected = adjusted(
        found,
        alpha=alpha,
        variance_factor=_training_factor(design, n_repeats),
        max_df=float((shares > 0).sum(axis=0).min() - 1),
    )
    return _as_evidence(corrected, design.unit, margin=margin, alpha=alpha)


def _as_evidence(found: TestResult, unit: EvidenceUnit, *, margin: float, alpha: float) -> Evidence:
    low, high = narrow_interval(found, alpha)
    return Evidence(
        test=found.name,
        unit=unit,
        difference=found.estimate,
        se=found.se,
        statistic=found.statistic,
        df=found.df,
        p_value=found.p_value,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        narrow_low=low,
        narrow_high=high,
        p_equivalent=tost(found.estimate, found.se, found.df, margin),
        n=found.n,
    )
