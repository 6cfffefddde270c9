"""ROC and calibration points of one arm, computed from its out-of-fold probabilities."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt

from featurebench.metrics import probability_bins

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
MAX_POINTS = 200
N_BINS = 10


class RocCurve(TypedDict):
    """ROC points and what they are of."""

    of: str
    fpr: list[float]
    tpr: list[float]


class CalibrationCurve(TypedDict):
    """Mean predicted probability, observed frequency and number of tiles of each bin."""

    of: str
    predicted: list[float]
    observed: list[float]
    n: list[int]


def roc_curve(y_true: Codes, y_prob: Floats, classes: tuple[str, ...]) -> RocCurve | None:
    """Return the ROC curve of out-of-fold probabilities pooled over folds.

    Parameters
    ----------
    y_true
        Codes into ``classes``, shape (n,).
    y_prob
        Shape (n, n_classes).

    Returns
    -------
    RocCurve or None
        Of the second class where there are two, else the mean over classes of one-versus-rest
        curves (vertical averaging on a grid); at most 200 points. None where it is undefined.
    """
    present = [k for k in range(len(classes)) if 0 < np.sum(y_true == k) < len(y_true)]
    if not present:
        return None
    if len(classes) == 2:
        fpr, tpr = thin(*roc_points(y_true == 1, y_prob[:, 1]))
        return {"of": classes[1], "fpr": _rounded(fpr), "tpr": _rounded(tpr)}
    grid = np.linspace(0, 1, 101)
    curves = [_on_grid(grid, *roc_points(y_true == k, y_prob[:, k])) for k in present]
    tpr = np.mean(curves, axis=0)
    fpr = np.concatenate([[0.0], grid])
    tpr = np.concatenate([[0.0], tpr])
    return {"of": "mean over classes", "fpr": _rounded(fpr), "tpr": _rounded(tpr)}


def roc_points(is_positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Return false and true positive rates at every distinct threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores)
    positive, ranked = is_positive[order], scores[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(positive)[last_of_tie]
    alarms = last_of_tie + 1 - hits
    n_positive = hits[-1]
    tpr = np.concatenate([[0.0], hits / n_positive])
    fpr = np.concatenate([[0.0], alarms / (len(ranked) - n_positive)])
    return fpr, tpr


def thin(fpr: Floats, tpr: Floats, most: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """Return at most ``most`` of the points, evenly spaced along the curve, both ends kept."""
    if len(fpr) <= most:
        return fpr, tpr
    along = fpr + tpr
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], most)))
    kept[-1] = len(fpr) - 1
    return fpr[kept], tpr[kept]


def calibration_curve(
    y_true: Codes, y_prob: Floats, classes: tuple[str, ...]
) -> CalibrationCurve | None:
    """Return the reliability curve in ten bins of equal width; empty bins are left out.

    Of two classes it is the second one's probability; of more, the probability of the class that
    was called, against how often that call is right.
    """
    if not len(y_true):
        return None
    if len(classes) == 2:
        predicted, is_right, of = y_prob[:, 1], y_true == 1, classes[1]
    else:
        predicted = y_prob.max(axis=1)
        is_right, of = y_prob.argmax(axis=1) == y_true, "called class"
    bins = probability_bins(predicted, N_BINS)
    n = np.bincount(bins, minlength=N_BINS)
    used = n > 0
    mean = np.bincount(bins, predicted, N_BINS)[used] / n[used]
    observed = np.bincount(bins, is_right, N_BINS)[used] / n[used]
    return {
        "of": of,
        "predicted": _rounded(mean),
        "observed": _rounded(observed),
        "n": [int(x) for x in n[used]],
    }


def _on_grid(grid: Floats, fpr: Floats, tpr: Floats) -> Floats:
    """Return the true positive rate at each false positive rate of the grid.

    It is the highest that is reached there, and between two thresholds a straight line joins them.
    """
    last = np.searchsorted(fpr, grid, side="right") - 1
    following = np.minimum(last + 1, len(fpr) - 1)
    width, share = fpr[following] - fpr[last], np.zeros_like(grid)
    np.divide(grid - fpr[last], width, out=share, where=width > 0)
    return np.asarray(tpr[last] + share * (tpr[following] - tpr[last]), dtype=np.float64)


def _rounded(values: Floats) -> list[float]:
    return [round(float(x), 4) for x in values]
