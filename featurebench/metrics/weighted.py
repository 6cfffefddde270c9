"""Metrics under cluster weights: sums by cluster made once, contracted with every replicate."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from featurebench.metrics.auc import roc_auc
from featurebench.metrics.average_precision import average_precision
from featurebench.metrics.confusion import CONFUSION, MACRO, ratio
from featurebench.metrics.losses import LOSSES, N_BINS, calibration_gaps
from featurebench.metrics.ranking import Ranking
from featurebench.metrics.replicates import Replicates
from featurebench.metrics.tested import Tested

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Kernel: TypeAlias = "Callable[[Floats], dict[str, Floats]]"
"""From float64 weights (B, n_clusters) to values (B,) by metric."""

_RANKINGS = {"roc_auc": roc_auc, "average_precision": average_precision}

RANKED = frozenset(_RANKINGS)
"""Metrics that are computed within each fold: scores of different models are not comparable."""

_SUMMED = frozenset({*LOSSES, "ece"})
_CHUNK = 2**18  # elements of a temporary array


def weighted_metric(
    name: str,
    y_true: npt.ArrayLike,
    y_prob: npt.ArrayLike,
    clusters: npt.ArrayLike,
    fold: npt.ArrayLike,
) -> Callable[[npt.ArrayLike], Floats]:
    """Prepare one metric for resampled clusters, as `weighted_metrics` does for several.

    Returns
    -------
    function
        From weights W of shape (B, n_clusters) to values of shape (B,).

    Examples
    --------
    >>> y_prob = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> accuracy = weighted_metric("accuracy", [0, 1, 1], y_prob, [0, 0, 1], [0, 0, 0])
    >>> accuracy([[1, 1], [1, 2], [0, 1]]).round(2).tolist()
    [0.67, 0.5, 0.0]
    """
    together = weighted_metrics((name,), y_true, y_prob, clusters, fold)
    return lambda weights: together(weights)[name]


def weighted_metrics(
    names: Sequence[str],
    y_true: npt.ArrayLike,
    y_prob: npt.ArrayLike,
    clusters: npt.ArrayLike,
    fold: npt.ArrayLike,
) -> Callable[[npt.ArrayLike], dict[str, Floats]]:
    """Prepare metrics for resampled clusters, as in a bootstrap over patients.

    With integer weights the result is the plain metric of the tiles with those of cluster p
    repeated W[b, p] times. Metrics in `RANKED` are computed in each fold and averaged over the
    folds in which they are defined for that replicate; all others are pooled over the folds. Means
    over classes are undefined in a replicate that lacks one of the tiles' classes: they would be
    means over other classes than those of the cohort.

    What metrics have in common is done once: the confusion tables, the sums, the order of the
    scores. So all of them together take far less time than one after the other.

    Parameters
    ----------
    names
        Keys of ``METRICS``.
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
        From weights W of shape (B, n_clusters), 0 or more, to values of shape (B,) by name, NaN
        where the metric is undefined. Column p of W belongs to cluster p.

    Raises
    ------
    ValueError
        If a name is unknown, shapes do not match, a code is no column of ``y_prob``, or a
        tested tile has no probability.

    Examples
    --------
    >>> y_prob = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> both = weighted_metrics(["recall", "brier"], [0, 1, 1], y_prob, [0, 0, 1], [0, 0, 0])
    >>> {name: values.round(2).tolist() for name, values in both([[1, 1], [1, 0]]).items()}
    {'recall': [0.75, 1.0], 'brier': [0.14, 0.02]}
    """
    for name in names:
        if name not in CONFUSION.keys() | _SUMMED | RANKED:
            raise ValueError(f"unknown metric {name!r}: choose one of featurebench.metrics.METRICS")
    tiles = Tested.of(y_true, y_prob, clusters, fold)
    n_columns = int(tiles.columns.max(initial=-1)) + 1
    makers = ((_from_tables, CONFUSION), (_from_sums, _SUMMED), (_from_rankings, RANKED))
    wanted = [(make, [name for name in names if name in known]) for make, known in makers]
    kernels = [make(tiles, chosen) for make, chosen in wanted if chosen]

    def evaluate(weights: npt.ArrayLike) -> dict[str, Floats]:
        table = np.asarray(weights)
        if table.ndim != 2 or table.shape[1] < n_columns:
            raise ValueError(f"weights have shape {table.shape}; need (B, {n_columns}) or wider")
        full = tiles.n_clusters == table.shape[1]
        used = (table if full else table[:, tiles.columns]).astype(np.float64, copy=False)
        found = {name: values for kernel in kernels for name, values in kernel(used).items()}
        return {name: found[name] for name in names}

    return evaluate


def _from_tables(tiles: Tested, names: Sequence[str]) -> Kernel:
    n_classes = tiles.n_classes
    counts = _tally(tiles, tiles.y_true * n_classes + tiles.called, n_classes**2)
    occur = counts.reshape(-1, n_classes, n_classes).sum(axis=(0, 2)) > 0

    def kernel(weights: Floats) -> dict[str, Floats]:
        tables = (weights @ counts).reshape(-1, n_classes, n_classes)
        lacking = (tables.sum(axis=2)[:, occur] == 0).any(axis=1)
        found = {name: CONFUSION[name](tables) for name in names}
        return {
            name: np.where(lacking, np.nan, values) if name in MACRO else values
            for name, values in found.items()
        }

    return _some_at_a_time(kernel, n_classes**2)


def _from_sums(tiles: Tested, names: Sequence[str]) -> Kernel:
    """Means over tiles; for the calibration error, over bins of the absolute sums in each."""
    whole = np.zeros_like(tiles.clusters)
    sums = {}
    for name in names:
        if name == "ece":
            gaps, bins = calibration_gaps(tiles.y_true, tiles.y_prob, tiles.called)
            sums[name] = _tally(tiles, bins, N_BINS, gaps)
        else:
            losses = LOSSES[name](tiles.y_true, tiles.y_prob)
            sums[name] = _tally(tiles, whole, 1, losses)
    sizes = _tally(tiles, whole, 1)[:, 0]

    def kernel(weights: Floats) -> dict[str, Floats]:
        total = weights @ sizes
        return {
            name: ratio(np.abs(weights @ columns).sum(axis=1), total, otherwise=np.nan)
            for name, columns in sums.items()
        }

    return _some_at_a_time(kernel, N_BINS)


def _from_rankings(tiles: Tested, names: Sequence[str]) -> Kernel:
    """Each fold by itself, of class 1 if there are two, else one-versus-rest over all classes."""
    classes = [1] if tiles.n_classes == 2 else list(range(tiles.n_classes))
    folds = []
    for part in tiles.by_fold():
        rankings = [
            Ranking.sort(part.y_prob[:, one], part.y_true == one, part.clusters, part.n_clusters)
            for one in classes
        ]
        kernels = {name: [_RANKINGS[name](one) for one in rankings] for name in names}
        folds.append((part.columns, kernels))

    def kernel(weights: Floats) -> dict[str, Floats]:
        values = {name: np.empty((len(folds), len(weights))) for name in names}
        for number, (columns, kernels) in enumerate(folds):
            own, places = Replicates.distinct(weights[:, columns])
            for name, by_class in kernels.items():
                values[name][number] = np.mean([one(own) for one in by_class], axis=0)[places]
        return {name: _mean_of_known(each) for name, each in values.items()}

    return kernel


def _mean_of_known(values: Floats) -> Floats:
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return ratio(total, known.sum(axis=0).astype(np.float64), otherwise=np.nan)


def _tally(tiles: Tested, cells: Ints, n_cells: int, values: Floats | None = None) -> Floats:
    """Count, or sum ``values``, by cluster and cell, shape (n_clusters, n_cells)."""
    places = tiles.clusters * n_cells + cells
    sums = np.bincount(places, values, minlength=tiles.n_clusters * n_cells)
    return sums.reshape(tiles.n_clusters, n_cells).astype(np.float64)


def _some_at_a_time(kernel: Kernel, width: int) -> Kernel:
    """Bound the memory of a kernel that needs ``width`` elements per replicate."""
    step = max(16, _CHUNK // width)

    def apply(weights: Floats) -> dict[str, Floats]:
        starts = range(0, max(len(weights), 1), step)
        parts = [kernel(weights[start : start + step]) for start in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return apply
