"""average_precision(): that of one ranking under cluster weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.metrics.confusion import ratio
from featurebench.metrics.costs import cost_of_precisions, cost_of_tables
from featurebench.metrics.ranking import some_at_a_time
from featurebench.metrics.replicates import LARGEST_WHOLE

if TYPE_CHECKING:
    from featurebench.metrics.ranking import Block, Kernel, Ranking
    from featurebench.metrics.replicates import Replicates

Floats = npt.NDArray[np.float64]


def average_precision(ranking: Ranking) -> Kernel:
    """Precision averaged over the positive tiles, tied scores taken together.

    With few clusters, the weights above every level are products of the replicates with tables of
    tiles by level and cluster; with many, they are summed along the sorted scores.

    Returns
    -------
    kernel
        NaN where a class has no weight: without negative tiles the 1.0 of the formula says
        nothing about the ranking.
    """
    counts = ranking.class_counts
    cheap = ranking.fits_table() and cost_of_tables(ranking) <= cost_of_precisions(ranking)
    summed = Precisions.of(ranking).sum if cheap else _precisions_in_order(ranking)

    def kernel(replicates: Replicates) -> Floats:
        sides = counts @ replicates.weights
        value = ratio(summed(replicates), sides[0], otherwise=np.nan)
        return np.where((sides > 0).all(axis=0), value, np.nan)

    return kernel


def _precisions_in_order(ranking: Ranking) -> Kernel:
    """Sum of the precisions at the positive tiles, by passing over all tiles."""
    clusters, every = ranking.clusters, np.arange(ranking.n_levels)
    owners, levels = clusters[ranking.positive], ranking.reached[ranking.positive]
    last = np.searchsorted(ranking.reached, every, side="right") - 1
    first = np.searchsorted(levels, every, side="left")

    def summed(weights: Floats) -> Floats:
        reached = weights[clusters]
        np.cumsum(reached, axis=0, out=reached)
        at_level = weights[owners]
        if len(first) < len(owners):
            at_level = np.add.reduceat(at_level, first, axis=0)
        precision = np.cumsum(at_level, axis=0)
        precision /= np.maximum(reached[last], np.finfo(np.float64).tiny)
        precision *= at_level
        return np.asarray(precision.sum(axis=0))

    return some_at_a_time(summed, len(clusters))


@dataclass(frozen=True)
class Precisions:
    """Tables from which the precision at every positive tile follows for any weights.

    Parameters
    ----------
    blocks
        All positive tiles but those above every negative one, whose precision is always 1.
    perfect, sizes
        These, and all tiles, by cluster, shape (n_clusters,).
    """

    blocks: tuple[Block, ...]
    perfect: Floats
    sizes: Floats

    @classmethod
    def of(cls, ranking: Ranking) -> Precisions:
        """Tabulate a ranking of fewer than 2**24 tiles."""
        certain = ranking.positive & (ranking.reached < ranking.first_beaten)
        perfect, sizes = (
            np.bincount(some, minlength=ranking.n_clusters).astype(np.float64)
            for some in (ranking.clusters[certain], ranking.clusters)
        )
        return cls(ranking.blocks, perfect, sizes)

    def sum(self, replicates: Replicates) -> Floats:
        """Sum of the precisions at the positive tiles, shape (B,)."""
        weights = replicates.weights
        total = self.perfect @ weights
        # Whole numbers that small are exact in float32, whose products take half the time.
        small = float((self.sizes @ weights).max(initial=0.0)) < LARGEST_WHOLE
        single = small and replicates.are_whole
        # To get memory anew for every block takes longer than to use it.
        size = len(replicates) * max((len(block.times) for block in self.blocks), default=0)
        products = np.empty(2 * size, np.float32 if single else np.float64)
        quotients = np.empty(size)
        for block in self.blocks:
            which, table = replicates.drawn(block.owner, single=single)
            shape = (len(block.times), len(which))
            size = shape[0] * shape[1]
            found = products[: 2 * size].reshape(2 * shape[0], shape[1])
            np.matmul(block.counts.astype(table.dtype, copy=False), table, out=found)
            precision = quotients[:size].reshape(shape)
            hits, reached = found[: shape[0]], found[shape[0] :]
            np.divide(hits, reached, out=precision, dtype=np.float64)
            total[which] += weights[block.owner, which] * (block.times @ precision)
        return total
