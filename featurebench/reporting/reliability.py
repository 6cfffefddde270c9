"""Calibration in bins with intervals over patients, all repeats together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.metrics import probability_bins
from featurebench.reporting.diagnostics import N_BINS

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]

# In fewer resamples than this share a bin holds a tile: its interval says nothing.
_MIN_DEFINED = 0.5


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
