"""Every metric under cluster weights: one set of sums per cluster, contracted with the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.metrics.confusion import CONFUSION, ratio
from featurebench.metrics.losses import N_BINS, brier_losses, calibration_gaps, log_losses
from featurebench.metrics.ranking import Ranking, average_precision, roc_auc

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Probs = npt.NDArray[np.floating]

_RANKINGS = {"roc_auc": roc_auc, "average_precision": average_precision}
_LOSSES = {"log_loss": log_losses, "brier": brier_losses}

RANKED = frozenset(_RANKINGS)
"""Metrics that are computed within each fold: scores of different models are not comparable."""

_CHUNK = 2**18  # elements of a temporary array


def weighted_metric(
    name: str,
    y_true: npt.ArrayLike,
    y_prob: npt.ArrayLike,
    clusters: npt.ArrayLike,
    fold: npt.ArrayLike,
) -> Callable[[npt.ArrayLike], Floats]:
    """Prepare a metric for resampled clusters, as in a bootstrap over patients.

    With integer weights the result is the plain metric of the tiles with those of cluster p
    repeated W[b, p] times. Metrics in `RANKED` are computed in each fold and averaged over the
    folds in which they are defined for that replicate; all others are pooled over the folds.

    Parameters
    ----------
    name
        Key of ``METRICS``.
    y_true
        Class codes, shape (n,).
    y_prob
        Class probabilities, shape (n, n_classes).
    clusters
        Cluster of every tile, 0 or more, shape (n,).
    fold
        Test fold of every tile, shape (n,); tiles below 0 are not tested and left out.

    Returns
    -------
    function
        From weights W of shape (B, n_clusters), 0 or more, to values of shape (B,); NaN where the
        metric is undefined. Column p of W belongs to cluster p.

    Raises
    ------
    ValueError
        If the name is unknown, shapes do not match, a code is no column of ``y_prob``, or a
        tested tile has no probability.

    Examples
    --------
    >>> y_prob = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> accuracy = weighted_metric("accuracy", [0, 1, 1], y_prob, [0, 0, 1], [0, 0, 0])
    >>> accuracy([[1, 1], [1, 2], [0, 1]]).round(2).tolist()
    [0.67, 0.5, 0.0]
    """
    if name not in CONFUSION.keys() | _LOSSES.keys() | _RANKINGS.keys() | {"ece"}:
        raise ValueError(f"unknown metric {name!r}: choose one of featurebench.metrics.METRICS")
    codes, folds = np.asarray(y_true, dtype=np.int64), np.asarray(fold)
    members, probs = np.asarray(clusters), as_floats(y_prob)
    if not len(codes) == len(probs) == len(members) == len(folds):
        raise ValueError("y_true, y_prob, clusters and fold must have one entry per tile")
    tested = folds >= 0
    codes, probs, folds = codes[tested], probs[tested], folds[tested]
    check(codes, probs)
    columns, members = np.unique(members[tested], return_inverse=True)
    n_columns = int(columns.max(initial=-1)) + 1
    if name in _RANKINGS:
        kernel = _mean_over_folds(name, codes, probs, members, folds)
    else:
        kernel = _pooled(name, codes, probs, members, len(columns))

    def evaluate(weights: npt.ArrayLike) -> Floats:
        table = np.asarray(weights)
        if table.ndim != 2 or table.shape[1] < n_columns:
            raise ValueError(f"weights have shape {table.shape}; need (B, {n_columns}) or wider")
        full = len(columns) == table.shape[1]
        return kernel((table if full else table[:, columns]).astype(np.float64, copy=False))

    return evaluate


def as_floats(y_prob: npt.ArrayLike) -> Probs:
    """Probabilities as float32 or float64, which decides where log loss clips."""
    probs = np.asarray(y_prob)
    return probs if probs.dtype in (np.float32, np.float64) else probs.astype(np.float64)


def check(y_true: Ints, y_prob: Probs) -> None:
    """Make sure that codes and probabilities fit together.

    Raises
    ------
    ValueError
        With the shapes or the number of tiles at fault.
    """
    if y_prob.ndim != 2 or y_prob.shape[1] < 2 or len(y_prob) != len(y_true):
        raise ValueError(f"y_prob has shape {y_prob.shape}; need ({len(y_true)}, 2 or more)")
    if y_true.size and not 0 <= y_true.min() <= y_true.max() < y_prob.shape[1]:
        raise ValueError(
            f"y_true has codes {y_true.min()} to {y_true.max()}, y_prob {y_prob.shape[1]} classes"
        )
    missing = int((~np.isfinite(y_prob).all(axis=1)).sum())
    if missing:
        raise ValueError(f"{missing} of {len(y_prob)} tested tiles have no probability")


def _pooled(
    name: str, y_true: Ints, y_prob: Probs, clusters: Ints, n_clusters: int
) -> Callable[[Floats], Floats]:
    if name in CONFUSION:
        n_classes = y_prob.shape[1]
        cells = y_true * n_classes + y_prob.argmax(axis=1)
        counts = _tally(clusters, cells, n_clusters, n_classes**2)
        measure, shape = CONFUSION[name], (-1, n_classes, n_classes)
        return _chunked(lambda weights: measure((weights @ counts).reshape(shape)), n_classes**2)
    sizes = np.bincount(clusters, minlength=n_clusters).astype(np.float64)
    if name == "ece":
        gaps, bins = calibration_gaps(y_true, y_prob)
        sums, width = _tally(clusters, bins, n_clusters, N_BINS, gaps), N_BINS
    else:
        losses = _LOSSES[name](y_true, y_prob)
        sums, width = _tally(clusters, np.zeros_like(clusters), n_clusters, 1, losses), 1

    def kernel(weights: Floats) -> Floats:
        return ratio(np.abs(weights @ sums).sum(axis=1), weights @ sizes, otherwise=np.nan)

    return _chunked(kernel, width)


def _tally(
    clusters: Ints, cells: Ints, n_clusters: int, n_cells: int, values: Floats | None = None
) -> Floats:
    """Count, or sum ``values``, by cluster and cell, shape (n_clusters, n_cells)."""
    places = clusters * n_cells + cells
    sums = np.bincount(places, values, minlength=n_clusters * n_cells)
    return sums.reshape(n_clusters, n_cells).astype(np.float64)


def _mean_over_folds(
    name: str, y_true: Ints, y_prob: Probs, clusters: Ints, folds: Ints
) -> Callable[[Floats], Floats]:
    kernels = []
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        columns, members = np.unique(clusters[rows], return_inverse=True)
        kernels.append((columns, _one_fold(name, y_true[rows], y_prob[rows], members)))

    def kernel(weights: Floats) -> Floats:
        values = np.empty((len(kernels), len(weights)))
        for row, (columns, one) in zip(values, kernels, strict=True):
            row[:] = one(weights[:, columns])
        known = ~np.isnan(values)
        total = np.where(known, values, 0.0).sum(axis=0)
        return ratio(total, known.sum(axis=0).astype(np.float64), otherwise=np.nan)

    return kernel


def _one_fold(name: str, y_true: Ints, y_prob: Probs, clusters: Ints) -> Callable[[Floats], Floats]:
    """Kernel of one fold: of class 1 if there are two, else one-versus-rest averaged over all."""
    n_classes = y_prob.shape[1]
    kernels = [
        _RANKINGS[name](Ranking.sort(y_prob[:, one], y_true == one, clusters))
        for one in ([1] if n_classes == 2 else range(n_classes))
    ]

    def kernel(weights: Floats) -> Floats:
        return np.asarray(np.mean([one(weights) for one in kernels], axis=0))

    return _chunked(kernel, len(y_true))


def _chunked(kernel: Callable[[Floats], Floats], width: int) -> Callable[[Floats], Floats]:
    """Bound the memory of a kernel that needs ``width`` elements per replicate."""
    step = max(16, _CHUNK // max(width, 1))

    def apply(weights: Floats) -> Floats:
        starts = range(0, max(len(weights), 1), step)
        return np.concatenate([kernel(weights[start : start + step]) for start in starts])

    return apply
