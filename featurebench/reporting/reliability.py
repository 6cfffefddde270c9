"""Calibration in bins, and its slope and intercept, with intervals over patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit, stdtrit

from featurebench.metrics import probability_bins
from featurebench.reporting.diagnostics import N_BINS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

# In fewer resamples than this share a bin holds a tile: its interval says nothing.
_MIN_DEFINED = 0.5
# Of logistic recalibration: where there is no maximum, more steps do not find it.
_STEPS, _CONVERGED = 50, 1e-8


def reliability(design: Design, run: RunResult, *, alpha: float = 0.05) -> dict[str, Any]:
    """Return predicted probability against observed frequency in ten bins of equal width.

    Of two classes it is the second one's probability; of more, the probability of the class that
    was called, against how often that call is right. The tiles of all repeats stand together, so
    that each patient counts in every repeat, and patients are resampled.

    Parameters
    ----------
    design
        Folds, patients and resamples.
    run
        The arm.
    alpha
        Intervals are percentiles of level 1 - alpha, for each bin by itself.

    Returns
    -------
    dict
        ``predicted``, ``observed``, ``low``, ``high`` and ``n``, one value for each bin that is
        not empty; ``n`` is tiles per repeat on average. Bounds are None where fewer than half of
        the resamples have a tile in the bin, or nothing varies.
    """
    hits, counts, sums = (np.zeros((design.n_units, N_BINS)) for _ in range(3))
    for repeat in range(run.n_repeats):
        rows = design.rows(repeat)
        predicted, right = _calls(design.y_true[rows], run.y_prob[repeat, rows])
        places = design.clusters[rows] * N_BINS + probability_bins(predicted, N_BINS)
        for total, values in ((hits, right.astype(np.float64)), (counts, None), (sums, predicted)):
            np.add(total, _tally(places, values, total.shape), out=total)
    used = np.flatnonzero(counts.sum(axis=0))
    n = counts.sum(axis=0)[used]
    low, high = _bounds(design, hits[:, used], counts[:, used], alpha)
    return {
        "predicted": _rounded(sums.sum(axis=0)[used] / n),
        "observed": _rounded(hits.sum(axis=0)[used] / n),
        "low": low,
        "high": high,
        "n": [round(float(each) / run.n_repeats, 1) for each in n],
    }


def recalibration_section(
    design: Design,
    arms: Sequence[tuple[Mapping[str, Any], RunResult]],
    classes: Sequence[str],
    *,
    alpha: float = 0.05,
) -> dict[str, Any] | None:
    """Return calibration slope and intercept of each arm; None without arms.

    They are of the probability that `reliability` shows: the second class's of two, else that of
    the class that was called. The tiles of all repeats stand together.

    Parameters
    ----------
    design
        Truth, folds and patients.
    arms
        The summary's arms with their runs.
    classes
        Names of the classes.
    alpha
        Intervals have level 1 - alpha.

    Returns
    -------
    dict or None
        ``of``, ``unit`` and for each of ``arms`` its ``intercept`` and ``slope``, each with
        ``value``, ``ci_low`` and ``ci_high``; NaN where not estimable.
    """
    if not arms:
        return None
    found = []
    for arm, run in arms:
        parts = []
        for repeat in range(run.n_repeats):
            rows = design.rows(repeat)
            probability, right = _calls(design.y_true[rows], run.y_prob[repeat, rows])
            parts.append((right, probability, design.clusters[rows]))
        right, probability, clusters = (np.concatenate(part) for part in zip(*parts, strict=True))
        estimates = recalibration(right, probability, clusters, alpha=alpha)
        found.append({"id": arm["id"], "label": arm["label"]} | estimates)
    of = classes[1] if len(classes) == 2 else "called class"
    return {"of": of, "unit": design.unit, "arms": found}


def recalibration(
    outcome: npt.ArrayLike, probability: npt.ArrayLike, clusters: npt.ArrayLike, *, alpha: float
) -> dict[str, dict[str, float]]:
    r"""Return calibration-in-the-large and calibration slope, by logistic recalibration.

    With the linear predictor :math:`L = \mathrm{logit}(p)`, the intercept is :math:`a` of
    :math:`\mathrm{logit}\,P(Y=1) = a + L`, and the slope is :math:`b` of
    :math:`\mathrm{logit}\,P(Y=1) = a' + b L`. Perfect calibration has 0 and 1; an intercept above
    0 says that the outcome is more frequent than predicted, a slope below 1 that probabilities
    are too extreme. Probabilities are clipped as those of the log loss, 1.2e-7 from 0 and 1.

    Standard errors are those of the jackknife that leaves one cluster out, each refit being one
    Newton step from the whole fit. Student's t has one degree of freedom less than there are
    clusters with the outcome, or without it where those are fewer.

    Parameters
    ----------
    outcome
        Whether it was so, shape (n,).
    probability
        Predicted probability of it, shape (n,).
    clusters
        Patient of every row, 0 or more, shape (n,).
    alpha
        Intervals have level 1 - alpha.

    Returns
    -------
    dict
        ``intercept`` and ``slope``, each with ``value``, ``ci_low`` and ``ci_high``; NaN where the
        likelihood has no maximum, the bounds also with fewer than two clusters of a kind.

    References
    ----------
    Cox DR. Two further applications of a model for binary regression. Biometrika 1958; 45: 562-565.
    Van Calster B et al. A calibration hierarchy for risk models was defined: from utopia to
    empirical data. J Clin Epidemiol 2016; 74: 167-176.
    Bell RM, McCaffrey DF. Bias reduction in standard errors for linear regression with multi-stage
    samples. Surv Methodol 2002; 28: 169-181 (the jackknife of clusters).
    """
    y, units = np.asarray(outcome, dtype=np.float64), np.asarray(clusters)
    eps = float(np.finfo(np.float32).eps)
    predictor = logit(np.clip(np.asarray(probability, dtype=np.float64), eps, 1 - eps))
    df = min(len(np.unique(units[y == side])) for side in (0.0, 1.0)) - 1
    reach = float(stdtrit(df, 1 - alpha / 2)) if df > 0 else float("nan")
    ones = np.ones((len(y), 1))
    both = np.column_stack([ones, predictor])
    fits = {
        "intercept": _logistic(y, ones, predictor, units),
        "slope": _logistic(y, both, np.zeros_like(predictor), units),
    }
    return {
        name: {"value": value, "ci_low": value - reach * error, "ci_high": value + reach * error}
        for name, (value, error) in fits.items()
    }


def _logistic(y: Floats, x: Floats, offset: Floats, units: Ints) -> tuple[float, float]:
    """Fit by Newton's method; return the last coefficient and its error over clusters."""
    nan = float("nan")
    beta = np.zeros(x.shape[1])
    try:
        for _ in range(_STEPS):
            mean = expit(offset + x @ beta)
            weight = mean * (1 - mean)
            step = np.linalg.solve((x * weight[:, None]).T @ x, x.T @ (y - mean))
            # A step of more than 1 in the predictor may overshoot where the weights are small.
            beta = beta + step / max(1.0, float(np.abs(x @ step).max()) / 4)
            if np.abs(step).max() < _CONVERGED * (1 + np.abs(beta).max()):
                return float(beta[-1]), _jackknife_error(x, y - mean, weight, units)
    except np.linalg.LinAlgError:
        return nan, nan
    return nan, nan


def _jackknife_error(x: Floats, residual: Floats, weight: Floats, units: Ints) -> float:
    """Error of the last coefficient when each cluster is left out, one Newton step each."""
    n, k = int(units.max()) + 1, x.shape[1]
    scores = np.stack([np.bincount(units, residual * x[:, i], n) for i in range(k)], axis=1)
    information = np.stack(
        [np.bincount(units, weight * x[:, i] * x[:, j], n) for i in range(k) for j in range(k)],
        axis=1,
    ).reshape(n, k, k)
    present = np.bincount(units, minlength=n) > 0
    rest = information.sum(axis=0) - information[present]
    moved = np.linalg.solve(rest, scores[present][:, :, None])[:, -1, 0]
    return float(np.sqrt((len(moved) - 1) * np.var(moved)))


def _calls(
    y_true: npt.NDArray[np.int64], y_prob: npt.NDArray[np.float32]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    if y_prob.shape[1] == 2:
        return y_prob[:, 1].astype(np.float64), y_true == 1
    return y_prob.max(axis=1).astype(np.float64), y_prob.argmax(axis=1) == y_true


def _tally(places: npt.NDArray[np.int64], values: Floats | None, shape: tuple[int, ...]) -> Floats:
    counts = np.bincount(places, values, minlength=shape[0] * shape[1])
    return np.asarray(counts.reshape(shape), dtype=np.float64)


def _bounds(
    design: Design, hits: Floats, counts: Floats, alpha: float
) -> tuple[list[float | None], list[float | None]]:
    resamples = design.resamples
    weights = resamples.weights[1 + resamples.n_jackknife :].astype(np.float64)
    found, drawn = weights @ hits, weights @ counts
    low: list[float | None] = []
    high: list[float | None] = []
    for top, bottom in zip(found.T, drawn.T, strict=True):
        known = bottom > 0
        shares = top[known] / bottom[known]
        if known.mean() < _MIN_DEFINED or np.ptp(shares) == 0:
            low.append(None)
            high.append(None)
            continue
        bounds = np.quantile(shares, [alpha / 2, 1 - alpha / 2])
        low.append(round(float(bounds[0]), 4))
        high.append(round(float(bounds[1]), 4))
    return low, high


def _rounded(values: Floats) -> list[float]:
    return [round(float(x), 4) for x in values]
