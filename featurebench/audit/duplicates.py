"""Near-identical tiles that are trained on in one fold and tested in the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.audit.separation import Folds, crossing
from featurebench.audit.whitening import COMPONENTS, fit_whitening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Array = npt.NDArray[np.floating[Any]]
    Rows = npt.NDArray[np.intp]

# See docs/adr/0010 for what this was measured on.
THRESHOLD = 0.75
# Pairs from here on are kept, to be compared as pictures.
LEAST = 0.3
WORST = 100
BLOCK_ROWS = 2048
_ROUNDING = 1e-6
# Multiplications and additions a second that two cores of a workplace do on blocks of this size.
_FLOPS_PER_SECOND = 2e10


@dataclass(frozen=True)
class Pair:
    """Two tiles, by row; ``similarity`` is their cosine in the whitened space."""

    a: int
    b: int
    similarity: float


@dataclass(frozen=True)
class Duplicates:
    """Near-identical tiles on both sides of a fold.

    Parameters
    ----------
    threshold, n_components
        Least cosine, in a whitened space of that many components.
    n_pairs, n_tiles
        Pairs of tiles at least so similar that lie on both sides of some fold, and the tiles in
        them.
    n_between_patients
        Those pairs whose patients differ; None where no patient is known.
    worst
        The most similar pairs on both sides of some fold, falling; also some below the threshold,
        which a look at the tiles may confirm.
    n_copies_within, n_copies_between
        Tiles whose embedding is another tile's to the bit: of the same patient, and of another
        one. Without patients all count as within.
    """

    threshold: float
    n_components: int
    n_pairs: int
    n_tiles: int
    n_between_patients: int | None
    worst: tuple[Pair, ...]
    n_copies_within: int
    n_copies_between: int


def find_duplicates(
    X: Array,
    test_fold: Folds,
    patients: npt.NDArray[np.int64] | None = None,
    *,
    threshold: float = THRESHOLD,
    worst: int = WORST,
    block_rows: int = BLOCK_ROWS,
) -> Duplicates:
    """Compare every tile with every other one, block by block.

    Each pair is looked at, none is skipped; embeddings are brought to 64 whitened components
    first (`fit_whitening`), which is what makes one threshold serve all networks. Memory: the
    components (256 bytes a tile) and one block of ``block_rows`` squared similarities, wherever
    ``X`` lies. Time grows with the square of the tiles, see `seconds_needed`.

    Parameters
    ----------
    X
        Embeddings, shape (n_tiles, dim), finite; may be a memory map.
    test_fold
        The plan's table, shape (n_repeats, n_tiles).
    patients
        Codes, shape (n_tiles,), or None.
    threshold
        Least similarity of a pair that counts, in (0, 1].
    worst
        How many pairs are kept, of a similarity of at least 0.3.
    block_rows
        Rows compared at a time.

    Raises
    ------
    ValueError
        If the threshold is out of range or the lengths differ.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 16))
    >>> X[70] = X[3]
    >>> folds = np.repeat([[0, 1]], 50, axis=1).astype(np.int16)
    >>> found = find_duplicates(X, folds)
    >>> found.n_pairs, found.worst[0].a, found.worst[0].b
    (1, 3, 70)
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}: give a cosine above 0, at most 1")
    if test_fold.shape[1] != len(X):
        raise ValueError(f"{len(X)} embeddings for a plan of {test_fold.shape[1]} tiles")
    Z = fit_whitening(X, COMPONENTS).apply(X) if len(X) > 1 else np.zeros((len(X), 1), np.float32)
    kept = _Worst(worst)
    involved = np.zeros(len(X), dtype=bool)
    n_pairs = n_between = 0
    for i, j, cosine in similar_pairs(Z, lambda: min(threshold, kept.least), block_rows=block_rows):
        torn = crossing(test_fold, i, j)
        kept.offer(i[torn], j[torn], cosine[torn])
        counted = torn & (cosine >= threshold - _ROUNDING)
        a, b = i[counted], j[counted]
        n_pairs += len(a)
        n_between += 0 if patients is None else int((patients[a] != patients[b]).sum())
        involved[a] = involved[b] = True
    within, between = copies(X, patients)
    return Duplicates(
        threshold,
        Z.shape[1],
        n_pairs,
        int(involved.sum()),
        None if patients is None else n_between,
        kept.pairs(),
        within,
        between,
    )


def similar_pairs(
    Z: npt.NDArray[np.float32], least: Callable[[], float], *, block_rows: int = BLOCK_ROWS
) -> Iterator[tuple[Rows, Rows, npt.NDArray[np.float32]]]:
    """Yield all pairs of unit rows with at least this cosine, each pair once.

    Parameters
    ----------
    Z
        Unit rows, shape (n, dim).
    least
        Asked for the least cosine before every block; compared with an allowance of 1e-6 for
        rounding.
    block_rows
        Rows of a block; a block of this many squared cosines is in memory.

    Yields
    ------
    a, b, cosine
        Of one pair of blocks, ``a < b``, each of shape (n_found,).
    """
    for top in range(0, len(Z), block_rows):
        left = Z[top : top + block_rows]
        for start in range(top, len(Z), block_rows):
            right = Z[start : start + block_rows]
            cosines = left @ right.T
            at = np.flatnonzero(cosines.ravel() >= least() - _ROUNDING)
            i, j = np.divmod(at, len(right))
            a, b = i + top, j + start
            once = a < b
            if once.any():
                yield a[once], b[once], np.minimum(cosines.ravel()[at[once]], np.float32(1.0))


def copies(X: Array, patients: npt.NDArray[np.int64] | None) -> tuple[int, int]:
    """Count tiles whose embedding is, to the bit, that of a tile before them.

    Returns
    -------
    within, between
        Where the first such tile is of the same patient, and where it is of another one.
    """
    first: dict[int, list[int]] = {}
    within = between = 0
    for row in range(len(X)):
        # A hash finds the candidates, the numbers decide.
        here = np.asarray(X[row])
        seen = first.setdefault(hash(here.tobytes()), [])
        same = next((other for other in seen if np.array_equal(X[other], here)), None)
        if same is None:
            seen.append(row)
        elif patients is None or patients[same] == patients[row]:
            within += 1
        else:
            between += 1
    return within, between


def seconds_needed(n_tiles: int) -> float:
    """Estimate the seconds that `find_duplicates` takes on two processor cores.

    From 64 multiplications and additions for every pair; measured on two busy cores: 1.2 s for
    20,000 tiles, which makes less than an hour for a million.
    """
    return n_tiles**2 * COMPONENTS / _FLOPS_PER_SECOND


class _Worst:
    """The most similar pairs so far; ties go to those found first."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.least = LEAST
        self._a = self._b = np.zeros(0, dtype=np.intp)
        self._similarity = np.zeros(0, dtype=np.float32)

    def offer(self, a: Rows, b: Rows, similarity: npt.NDArray[np.float32]) -> None:
        all_a, all_b = np.concatenate([self._a, a]), np.concatenate([self._b, b])
        values = np.concatenate([self._similarity, similarity])
        best = np.argsort(-values, kind="stable")[: self._number]
        self._a, self._b, self._similarity = all_a[best], all_b[best], values[best]
        if len(best) == self._number > 0:
            self.least = max(LEAST, float(self._similarity[-1]))

    def pairs(self) -> tuple[Pair, ...]:
        return tuple(
            Pair(int(a), int(b), float(s))
            for a, b, s in zip(self._a, self._b, self._similarity, strict=True)
        )
