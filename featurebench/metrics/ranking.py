"""ROC AUC and average precision of one score under cluster weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from featurebench.metrics.confusion import ratio

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Kernel: TypeAlias = "Callable[[Floats], Floats]"
ByLevel: TypeAlias = "Callable[[Floats], tuple[Floats, Floats]]"
"""From weights (n_clusters, B) to those of positive tiles at, and of all at or above, a level."""

_LARGEST_TABLE = 2**23  # elements of a table of levels by clusters


@dataclass(frozen=True)
class Ranking:
    """Tiles of one fold in ascending order of the score of one class.

    Parameters
    ----------
    score
        Score of every tile, shape (n,).
    positive
        Whether the tile is of the class, shape (n,).
    clusters
        Cluster of every tile, 0 to n_clusters - 1, shape (n,).
    n_clusters
        Number of clusters in this fold.
    """

    score: npt.NDArray[np.floating]
    positive: npt.NDArray[np.bool_]
    clusters: Ints
    n_clusters: int

    @classmethod
    def sort(
        cls, score: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_], clusters: Ints
    ) -> Ranking:
        """Bring tiles into ascending order of their score."""
        order = np.argsort(score, kind="stable")
        n_clusters = int(clusters.max()) + 1
        return cls(score[order], positive[order], clusters[order], n_clusters)

    def class_counts(self) -> Floats:
        """Positive and negative tiles by cluster, shape (n_clusters, 2)."""
        sides = [self.clusters[self.positive], self.clusters[~self.positive]]
        counts = [np.bincount(side, minlength=self.n_clusters) for side in sides]
        return np.stack(counts, axis=1).astype(np.float64)

    @cached_property
    def levels(self) -> npt.NDArray[np.floating]:
        """Scores that some positive tile has, ascending."""
        return np.unique(self.score[self.positive])

    def fits_table(self) -> bool:
        """Whether tables of levels by clusters are small."""
        return self.n_clusters * len(self.levels) <= _LARGEST_TABLE


def roc_auc(ranking: Ranking) -> Kernel:
    """Area under the ROC curve: P(positive scores above negative), ties one half.

    With few clusters every replicate is a quadratic form: K[i, j] counts the positive tiles of
    cluster i that win against negative ones of j, and AUC = w'Kw / (w'n1 * w'n0), whatever the
    number of tiles. With many, the weights are summed along the sorted scores.

    Returns
    -------
    kernel
        From weights (B, n_clusters) to values (B,); NaN where a class has no weight.
    """
    counts = ranking.class_counts()
    # Matrix products against passes over the tiles, for some 2000 replicates.
    pairwise = ranking.n_clusters**2 * (len(ranking.levels) + 2000)
    cheap = pairwise <= 40_000 * len(ranking.score) and ranking.fits_table()
    won = _quadratic_form(ranking) if cheap else _mann_whitney(ranking)
    return lambda weights: ratio(won(weights), (weights @ counts).prod(axis=1), otherwise=np.nan)


def average_precision(ranking: Ranking) -> Kernel:
    """Precision averaged over the positive tiles, tied scores taken together.

    Returns
    -------
    kernel
        From weights (B, n_clusters) to values (B,); NaN where a class has no weight: without
        negative tiles the 1.0 of the formula says nothing about the ranking.
    """
    counts = ranking.class_counts()
    cheap = ranking.n_clusters <= 64 and ranking.fits_table()
    by_level = _levels_by_table(ranking) if cheap else _levels_by_order(ranking)

    def kernel(weights: Floats) -> Floats:
        at_level, reached = by_level(np.ascontiguousarray(weights.T))
        precision = np.cumsum(at_level, axis=0)
        precision /= np.maximum(reached, np.finfo(np.float64).tiny)
        precision *= at_level
        sides = weights @ counts
        value = ratio(precision.sum(axis=0), sides[:, 0], otherwise=np.nan)
        return np.where((sides > 0).all(axis=1), value, np.nan)

    return kernel


def _level_tables(ranking: Ranking) -> tuple[Floats, Floats, Floats]:
    """Tables (n_levels, n_clusters), levels descending.

    Positive tiles at the level; negative ones above it; negative ones above or at it.
    """
    positive, shape = ranking.positive, (len(ranking.levels), ranking.n_clusters)

    def tally(side: Literal["left", "right"], which: npt.NDArray[np.bool_]) -> Floats:
        passed = np.searchsorted(ranking.levels, ranking.score[which], side=side)
        inside = passed > 0
        cells = (shape[0] - passed[inside]) * shape[1] + ranking.clusters[which][inside]
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)

    above, reached = tally("left", ~positive), tally("right", ~positive)
    return tally("right", positive), above.cumsum(axis=0), reached.cumsum(axis=0)


def _quadratic_form(ranking: Ranking) -> Kernel:
    """From weights (B, n_clusters) to the weight of pairs won, (B,), by pairs of clusters."""
    positives, above, reached = _level_tables(ranking)
    wins = positives.T @ (ranking.class_counts()[:, 1] - (above + reached) / 2)
    return lambda weights: np.asarray(((weights @ wins) * weights).sum(axis=1))


def _mann_whitney(ranking: Ranking) -> Kernel:
    """From weights (B, n_clusters) to the weight of pairs won, (B,), by passing over the tiles."""
    positive, negative = ranking.positive, ~ranking.positive
    winners, losers = ranking.clusters[positive], ranking.clusters[negative]
    below = np.searchsorted(ranking.score[negative], ranking.score[positive], side="left")
    not_above = np.searchsorted(ranking.score[negative], ranking.score[positive], side="right")

    def won(weights: Floats) -> Floats:
        columns = np.ascontiguousarray(weights.T)
        beaten = np.zeros((len(losers) + 1, len(weights)))
        np.cumsum(columns[losers], axis=0, out=beaten[1:])
        middle = beaten[below]
        middle += beaten[not_above]
        middle *= columns[winners]
        return np.asarray(middle.sum(axis=0) / 2)

    return won


def _levels_by_table(ranking: Ranking) -> ByLevel:
    positives, _, reached = _level_tables(ranking)
    reached += positives.cumsum(axis=0)
    return lambda columns: (positives @ columns, reached @ columns)


def _levels_by_order(ranking: Ranking) -> ByLevel:
    levels = ranking.levels[::-1]
    clusters = ranking.clusters[::-1]
    owners = clusters[ranking.positive[::-1]]
    last = len(clusters) - 1 - np.searchsorted(ranking.score, levels, side="left")
    scores = ranking.score[ranking.positive]
    first = len(owners) - np.searchsorted(scores, levels, side="right")

    def by_level(columns: Floats) -> tuple[Floats, Floats]:
        reached = columns[clusters]
        np.cumsum(reached, axis=0, out=reached)
        at_level = columns[owners]
        if len(first) < len(owners):
            at_level = np.add.reduceat(at_level, first, axis=0)
        return at_level, reached[last]

    return by_level
