"""roc_auc(): the area under the ROC curve of one ranking under cluster weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.metrics.confusion import ratio
from featurebench.metrics.costs import cost_of_pairs, cost_of_wins
from featurebench.metrics.ranking import some_at_a_time

if TYPE_CHECKING:
    from featurebench.metrics.ranking import Kernel, Ranking
    from featurebench.metrics.replicates import Replicates

Floats = npt.NDArray[np.float64]


def roc_auc(ranking: Ranking) -> Kernel:
    """Area under the ROC curve: P(positive scores above negative), ties one half.

    With few clusters every replicate is a quadratic form: K[i, j] counts the positive tiles of
    cluster i that win against negative ones of j, and AUC = w'Kw / (w'n1 * w'n0), whatever the
    number of tiles. With many, the weights are summed along the sorted scores.

    Returns
    -------
    kernel
        NaN where a class has no weight.
    """
    counts = ranking.class_counts
    cheap = ranking.fits_table() and cost_of_pairs(ranking) <= cost_of_wins(ranking)
    won = _quadratic_form(ranking) if cheap else _mann_whitney(ranking)

    def kernel(replicates: Replicates) -> Floats:
        sides = counts @ replicates.weights
        return ratio(won(replicates), sides[0] * sides[1], otherwise=np.nan)

    return kernel


def _quadratic_form(ranking: Ranking) -> Kernel:
    """Weight of the pairs that positive tiles win, by pairs of clusters."""
    n_positive, n_negative = ranking.class_counts
    # What is beside a positive tile is taken off with what is above it: half is given back.
    wins = np.outer(n_positive, n_negative) + _ties(ranking) / 2
    for block in ranking.blocks:
        k = len(block.times)
        wins[block.owner] -= block.times @ (block.counts[k:, :-1] - block.counts[:k, :-1])

    def won(replicates: Replicates) -> Floats:
        return np.asarray(((wins @ replicates.weights) * replicates.weights).sum(axis=0))

    return won


def _ties(ranking: Ranking) -> Floats:
    """Pairs of a positive and a negative tile with one score, by pairs of clusters."""
    beside = ~ranking.positive & (ranking.reached < ranking.passed)
    levels = np.unique(ranking.reached[beside])
    is_tied = np.zeros(ranking.n_levels + 1, dtype=bool)
    is_tied[levels] = True
    shape = (len(levels), ranking.n_clusters)
    sides = []
    for side in (ranking.positive & is_tied[ranking.reached], beside):
        cells = np.searchsorted(levels, ranking.reached[side]) * shape[1] + ranking.clusters[side]
        counts = np.bincount(cells, minlength=shape[0] * shape[1])
        sides.append(counts.reshape(shape).astype(np.float64))
    return np.asarray(sides[0].T @ sides[1])


def _mann_whitney(ranking: Ranking) -> Kernel:
    """Weight of the pairs that positive tiles win, by passing over the tiles."""
    negative = ~ranking.positive
    winners, losers = ranking.clusters[~negative], ranking.clusters[negative]
    levels = ranking.reached[~negative]
    above, beside = (
        np.searchsorted(level[negative], levels, side="right")
        for level in (ranking.passed, ranking.reached)
    )

    def won(weights: Floats) -> Floats:
        lost = np.zeros((len(losers) + 1, weights.shape[1]))
        np.cumsum(weights[losers], axis=0, out=lost[1:])
        middle = lost[above]
        middle += lost[beside]
        middle /= -2
        middle += lost[-1]
        middle *= weights[winners]
        return np.asarray(middle.sum(axis=0))

    return some_at_a_time(won, len(ranking.clusters))
