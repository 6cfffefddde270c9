"""Ranking: the tiles of one fold by the score of one class, and tables of them by cluster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from featurebench.metrics.replicates import LARGEST_WHOLE, Replicates

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Table = npt.NDArray[np.float32]

Kernel: TypeAlias = "Callable[[Replicates], Floats]"
"""From replicates to their values, shape (B,)."""

_LARGEST_TABLE = 2**23  # elements of a table of positive tiles by clusters
_CHUNK = 2**18  # elements of a temporary array


BLOCK_ROWS = 64
"""Levels of a block: for some 2000 replicates, what is made of them stays in a core's cache."""


@dataclass(frozen=True)
class Block:
    """Some positive tiles of one cluster, those of one level together.

    Parameters
    ----------
    owner
        The cluster.
    times
        Number of them at each level, shape (k,).
    counts
        Positive tiles at each level or above by cluster, then all tiles, shape
        (2 k, n_clusters + 1). The last column, for a weight of 1, is tiny for all tiles: it keeps
        their sum above 0 and changes no other one.
    """

    owner: int
    times: Floats
    counts: Table


@dataclass(frozen=True)
class Ranking:
    """Tiles of one fold in descending order of the score of one class.

    A level is a score that some positive tile has; levels are numbered from the highest.

    Parameters
    ----------
    positive
        Whether the tile is of the class, shape (n,).
    clusters
        Cluster of every tile, 0 to n_clusters - 1, shape (n,).
    reached, passed
        First level that is not above (is below) the tile's score, n_levels if there is none; in
        ascending order, shape (n,).
    n_levels, n_clusters
        Number of levels, and of clusters in this fold.
    """

    positive: npt.NDArray[np.bool_]
    clusters: Ints
    reached: Ints
    passed: Ints
    n_levels: int
    n_clusters: int

    @classmethod
    def sort(
        cls,
        score: npt.NDArray[np.floating],
        positive: npt.NDArray[np.bool_],
        clusters: Ints,
        n_clusters: int,
    ) -> Ranking:
        """Bring tiles into descending order of their score."""
        order = np.argsort(score)[::-1]
        truth = positive[order]
        reached, passed, n_levels = _reached_levels(score[order], truth)
        return cls(truth, clusters[order], reached, passed, n_levels, n_clusters)

    @cached_property
    def class_counts(self) -> Floats:
        """Positive and negative tiles by cluster, shape (2, n_clusters)."""
        sides = [self.clusters[self.positive], self.clusters[~self.positive]]
        counts = [np.bincount(side, minlength=self.n_clusters) for side in sides]
        return np.stack(counts).astype(np.float64)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All positive tiles but those above every negative one, by cluster."""
        owners, levels, times = self._owned_levels()
        places = np.arange(self.n_clusters + 1)
        ends = np.searchsorted(owners, places).tolist()
        counts = self._counts()
        return tuple(
            Block(owner, times[rows], counts[:, levels[rows]].reshape(-1, counts.shape[2]))
            for owner, (start, stop) in enumerate(pairwise(ends))
            for rows in _pieces(start, stop)
        )

    @property
    def first_beaten(self) -> int:
        """First level that a negative tile reaches, n_levels if there is none."""
        return int(self.reached[~self.positive].min(initial=self.n_levels))

    def _owned_levels(self) -> tuple[Ints, Ints, Floats]:
        """Cluster and level of the positive tiles that are not above all others, and how many."""
        kept = self.positive & (self.reached >= self.first_beaten)
        clusters, levels = self.clusters[kept], self.reached[kept]
        # Levels are in ascending order already; small codes are sorted by their digits.
        codes = clusters.astype(np.uint16) if self.n_clusters < 2**16 else clusters
        order = np.argsort(codes, kind="stable")
        owners, levels = clusters[order], levels[order]
        starts = np.ones(len(order), dtype=bool)
        starts[1:] = (owners[1:] != owners[:-1]) | (levels[1:] != levels[:-1])
        first = np.flatnonzero(starts)
        times = np.diff(first, append=len(order)).astype(np.float64)
        return owners[first], levels[first], times

    def _counts(self) -> Table:
        """Positive and all tiles at each level or above, see `Block`."""
        shape = (self.n_levels, self.n_clusters + 1)
        counts = np.empty((2, *shape), dtype=np.float32)
        hits = (self.reached[self.positive], self.clusters[self.positive])
        every = (self.reached, self.clusters)
        for table, (levels, clusters) in zip(counts, (hits, every), strict=True):
            # In ascending order, so that those that no level reaches are the last ones.
            end = int(np.searchsorted(levels, shape[0]))
            cells = levels[:end] * shape[1] + clusters[:end]
            table[:] = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
            np.cumsum(table, axis=0, out=table)
        counts[1, :, -1] = np.finfo(np.float32).tiny
        return counts

    def fits_table(self) -> bool:
        """Whether tables of positive tiles by clusters are small, and hold whole numbers only."""
        cells = self.n_clusters * max(self.n_levels, int(np.count_nonzero(self.positive)))
        return cells <= _LARGEST_TABLE and len(self.clusters) < LARGEST_WHOLE


def some_at_a_time(kernel: Callable[[Floats], Floats], width: int) -> Kernel:
    """Bound the memory of a kernel that needs ``width`` elements per replicate."""
    step = max(16, _CHUNK // max(width, 1))

    def apply(replicates: Replicates) -> Floats:
        weights = replicates.weights
        starts = range(0, max(len(replicates), 1), step)
        parts = [np.ascontiguousarray(weights[:, start : start + step]) for start in starts]
        return np.concatenate([kernel(part) for part in parts])

    return apply


def _reached_levels(
    score: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]
) -> tuple[Ints, Ints, int]:
    """Find the place of every tile among the levels, which are numbered from the highest.

    Parameters
    ----------
    score
        In descending order, shape (n,), n at least 1.
    positive
        Shape (n,).

    Returns
    -------
    reached, passed, n_levels
        First level that is not above the tile's score, and first that is below it; n_levels if
        there is none. Both in ascending order, shape (n,).
    """
    starts = np.ones(len(score), dtype=bool)
    np.not_equal(score[1:], score[:-1], out=starts[1:])
    group = np.cumsum(starts) - 1
    is_level = np.zeros(int(group[-1]) + 1, dtype=np.int64)
    is_level[group[positive]] = 1
    below = np.cumsum(is_level)
    return (below - is_level)[group], below[group], int(below[-1])


def _pieces(start: int, stop: int) -> list[slice]:
    """Cut rows into pieces of about the same size, as few as blocks of that many rows allow."""
    n_pieces = -(-(stop - start) // BLOCK_ROWS)
    edges = [start + (stop - start) * i // max(n_pieces, 1) for i in range(n_pieces + 1)]
    return [slice(*both) for both in pairwise(edges)]
