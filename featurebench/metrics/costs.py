"""What each way of ranking many replicates costs, to choose one; all give the same values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from featurebench.metrics.ranking import Ranking

# Nanoseconds on one core with AVX-512, for so many replicates. They need not be right for another
# machine, nor for another number.
_REPLICATES = 2000
_WIN = 7.0  # tile and replicate: sum the weights below, along the sorted scores
_REACH = 4.0  # tile and replicate: sum the weights at and above it
_PRECISION = 25.0  # positive tile and replicate: look that up, and divide
_QUOTIENT = 1.0  # positive tile and replicate; of two replicates in three its cluster is drawn
_PRODUCT = 0.025  # the same, and cluster
_CELL = 8.0  # level and cluster, to make a table
_PICK = 1.5  # cluster and replicate, to pick those in which another cluster was drawn
_BLOCK = 20_000.0
_SETUP = 500_000.0


def cost_of_wins(ranking: Ranking) -> float:
    """Sum the weights of the pairs won along the sorted scores."""
    return _REPLICATES * len(ranking.clusters) * _WIN


def cost_of_pairs(ranking: Ranking) -> float:
    """Count the pairs won by pairs of clusters, once, and then take quadratic forms."""
    n = ranking.n_clusters
    tables = n * ranking.n_levels * (2 * _CELL + n * _PRODUCT)
    return _SETUP + tables + _REPLICATES * n * (1 + n * _PRODUCT)


def cost_of_precisions(ranking: Ranking) -> float:
    """Sum the weights above every positive tile along the sorted scores."""
    n_positive = int(np.count_nonzero(ranking.positive))
    return _REPLICATES * (len(ranking.clusters) * _REACH + n_positive * _PRECISION)


def cost_of_tables(ranking: Ranking) -> float:
    """Tabulate the tiles by level and cluster, once, and then take products."""
    n, owners = ranking.n_clusters, ranking.clusters[ranking.positive]
    if n == 1:  # its weight changes nothing, so that there are few replicates
        return float("inf")
    quotients = _REPLICATES * len(owners) * (_QUOTIENT + n * _PRODUCT)
    blocks = len(np.unique(owners)) * (_BLOCK + _REPLICATES * n * _PICK)
    return _SETUP + 2 * _CELL * n * ranking.n_levels + quotients + blocks
