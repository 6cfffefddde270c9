"""Replicates: the weights of one fold's clusters, and those in which a given cluster was drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Real = npt.NDArray[np.floating]
Drawn = tuple[Ints, Real]

LARGEST_WHOLE = 2**24
"""Float32 holds every whole number up to this one."""

_LARGEST_CACHE = 2**24  # elements


@dataclass(frozen=True)
class Replicates:
    """Weights of clusters in many replicates, a replicate a column.

    Parameters
    ----------
    weights
        0 or more, shape (n_clusters, B).
    """

    weights: Floats
    _drawn: dict[tuple[int, bool], Drawn] = field(default_factory=dict, repr=False)

    @classmethod
    def distinct(cls, weights: Floats) -> tuple[Replicates, Ints]:
        """Keep one of the replicates in which every cluster counts once.

        They are many: a patient whom the jackknife leaves out is missing in one fold, and all
        other folds are what they were.

        Parameters
        ----------
        weights
            Shape (B, n_clusters).

        Returns
        -------
        replicates, places
            And which of them each row is, shape (B,).
        """
        plain = np.flatnonzero((weights == 1).all(axis=1))
        kept = np.ones(len(weights), dtype=bool)
        kept[plain[1:]] = False
        places = np.cumsum(kept) - 1
        places[plain] = places[plain[:1]]
        return cls(np.ascontiguousarray(weights[kept].T)), places

    def __len__(self) -> int:
        return int(self.weights.shape[1])

    @cached_property
    def are_whole(self) -> bool:
        """Whether all weights are whole numbers."""
        return bool(np.array_equal(self.weights, np.rint(self.weights)))

    def drawn(self, cluster: int, *, single: bool) -> Drawn:
        """Replicates in which a cluster counts, and the weights of all clusters in them.

        Parameters
        ----------
        cluster
            Row of ``weights``.
        single
            Whether to give float32.

        Returns
        -------
        which, weights
            Shapes (n,) and (n_clusters + 1, n); the last row is of ones.
        """
        found = self._drawn.get((cluster, single))
        if found is None:
            which = np.flatnonzero(self.weights[cluster] > 0)
            found = which, self._table(single).take(which, axis=1)
            if self.weights.size * len(self.weights) <= _LARGEST_CACHE:
                self._drawn[cluster, single] = found
        return found

    def _table(self, single: bool) -> Real:
        return self._single if single else self._double

    @cached_property
    def _single(self) -> Real:
        return self._double.astype(np.float32)

    @cached_property
    def _double(self) -> Real:
        return np.concatenate([self.weights, np.ones((1, len(self)))])
