"""Tested: the tiles of one repeat that were tested, with their clusters numbered without gaps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Probs = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Tested:
    """Tested tiles of one repeat.

    Parameters
    ----------
    y_true
        Class codes, shape (n,).
    y_prob
        Class probabilities, float32 or float64, shape (n, n_classes).
    clusters
        Place of every tile's cluster in ``columns``, shape (n,).
    fold
        Test fold of every tile, shape (n,).
    columns
        Clusters that have a tested tile, ascending, shape (n_clusters,).
    """

    y_true: Ints
    y_prob: Probs
    clusters: Ints
    fold: npt.NDArray[np.integer]
    columns: Ints

    @classmethod
    def of(
        cls,
        y_true: npt.ArrayLike,
        y_prob: npt.ArrayLike,
        clusters: npt.ArrayLike,
        fold: npt.ArrayLike,
    ) -> Tested:
        """Leave out tiles whose fold is below 0, and check the others.

        Raises
        ------
        ValueError
            If lengths differ, a code is no column of ``y_prob``, a cluster is negative, or a
            tested tile has no probability.
        """
        codes, folds = np.asarray(y_true, dtype=np.int64), np.asarray(fold)
        members, probs = np.asarray(clusters), as_floats(y_prob)
        if not len(codes) == len(probs) == len(members) == len(folds):
            raise ValueError("y_true, y_prob, clusters and fold must have one entry per tile")
        tested = folds >= 0
        if not tested.all():
            codes, probs, members = codes[tested], probs[tested], members[tested]
            folds = folds[tested]
        check(codes, probs)
        columns, places = number(members)
        return cls(codes, probs, places, folds, columns)

    @property
    def n_classes(self) -> int:
        """Columns of ``y_prob``."""
        return int(self.y_prob.shape[1])

    @property
    def n_clusters(self) -> int:
        """Clusters that have a tested tile."""
        return len(self.columns)

    @cached_property
    def called(self) -> Ints:
        """Class with the largest probability, the first one in a tie, shape (n,)."""
        return np.asarray(self.y_prob.argmax(axis=1), dtype=np.int64)

    def by_fold(self) -> Iterator[Tested]:
        """Split by test fold; ``columns`` of a part are places in those of the whole."""
        for fold in number(self.fold)[0]:
            rows = np.flatnonzero(self.fold == fold)
            columns, places = number(self.clusters[rows])
            yield Tested(self.y_true[rows], self.y_prob[rows], places, self.fold[rows], columns)


def number(codes: npt.NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Give the codes in ascending order, and every entry's place in them.

    The same as ``np.unique(codes, return_inverse=True)``, without a sort where the codes are not
    much larger than their number.

    Raises
    ------
    ValueError
        If a code is negative.
    """
    if codes.size and int(codes.min()) < 0:
        raise ValueError(f"clusters include {codes.min()}: give codes of 0 or more")
    if codes.size == 0 or int(codes.max()) > 16 * codes.size + 1024:
        found, places = np.unique(codes, return_inverse=True)
        return found.astype(np.int64), places.astype(np.int64)
    present = np.bincount(codes) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[codes]


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
    finite = np.isfinite(y_prob)
    if not finite.all():
        missing = int((~finite.all(axis=1)).sum())
        raise ValueError(f"{missing} of {len(y_prob)} tested tiles have no probability")
