"""The robustness index: whether a tile's neighbours share its class or its site."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.audit.whitening import unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]
    Rows = npt.NDArray[np.intp]

MAX_NEIGHBOURS = 600
# Of all subsets together, and the least in each class of each site.
MAX_TILES = 3000
LEAST_TILES = 10
MAX_SUBSETS = 12


@dataclass(frozen=True)
class RobustnessCurve:
    """The robustness index for several numbers of neighbours.

    Parameters
    ----------
    k
        Numbers of neighbours, rising.
    index
        Of the first k neighbours, over all tiles: those with the same class and another site, over
        those plus the ones with another class and the same site; NaN where there are neither.
    accuracy
        Balanced accuracy of the class that most of the k neighbours have.
    chance
        What the index is where neighbours are random: (S - 1) / (S + C - 2) with S sites and C
        classes, each as frequent.
    n_tiles, n_subsets
        Tiles looked at, and balanced subsets that they form.
    """

    k: tuple[int, ...]
    index: tuple[float, ...]
    accuracy: tuple[float, ...]
    chance: float
    n_tiles: int
    n_subsets: int

    @property
    def best_k(self) -> int:
        """The number of neighbours that tells the class best; the smallest of several."""
        return self.k[int(np.argmax(self.accuracy))]

    def at(self, k: float) -> float:
        """Return the index at the nearest number of neighbours."""
        return self.index[int(np.argmin(np.abs(np.asarray(self.k) - k)))]


def robustness_curve(
    X: Array, labels: Codes, sites: Codes, groups: npt.NDArray[Any], *, seed: int = 0
) -> RobustnessCurve | None:
    """Compute the robustness index of Koemen et al. (PathoROB).

    As published and in their code: embeddings scaled to unit length, Euclidean neighbours, none
    from the tile's own group, counts summed over all tiles and neighbours up to the k-th, k from
    1, 3, 5, 7, 9, 11, 21, 31 and so on below 600 with the best balanced accuracy of the class that
    most neighbours have; over several networks they take the median of their best k.

    What differs: a group is a patient here, where known, and a slide there. Their cohorts are
    balanced; here every class of every site gives the same number of tiles, drawn at random, or,
    where some class does not occur at some site, every two classes at two sites that do (at most
    12 such subsets, the largest). Neighbours of the own group are left out before the k nearest
    are taken, not after. At most 3000 tiles are looked at.

    Parameters
    ----------
    X
        Shape (n_tiles, dim); may be a memory map.
    labels, sites
        Codes from 0, shape (n_tiles,).
    groups
        Patient or slide of each tile, shape (n_tiles,).
    seed
        Of the tiles drawn.

    Returns
    -------
    RobustnessCurve or None
        None where no two classes have ten tiles each at two sites.

    References
    ----------
    J. Koemen et al., Towards robust foundation models for digital pathology, arXiv 2507.17845
    (2025).

    E. D. de Jong et al., Current pathology foundation models are unrobust to medical center
    differences, arXiv 2501.18055 (2025), where the index was a ratio of counts.
    """
    subsets = balanced_subsets(labels, sites, seed=seed)
    if not subsets:
        return None
    owners = np.unique(groups.astype(str), return_inverse=True)[1]
    found = [
        _Counts.of(X[rows], labels[rows], sites[rows], owners[rows])
        for rows in subsets
        if len(np.unique(owners[rows])) > 1
    ]
    if not found:
        return None
    grid = [k for k in _grid() if k <= min(each.same_class.size for each in found)]
    same = np.sum([each.same_class[: grid[-1]] for each in found], axis=0)
    other = np.sum([each.same_site[: grid[-1]] for each in found], axis=0)
    with np.errstate(invalid="ignore"):
        index = same / (same + other)
    accuracy = np.mean([[each.accuracy[k - 1] for k in grid] for each in found], axis=0)
    n_classes, n_sites = (len(np.unique(codes[subsets[0]])) for codes in (labels, sites))
    return RobustnessCurve(
        tuple(grid),
        tuple(float(index[k - 1]) for k in grid),
        tuple(float(value) for value in accuracy),
        (n_sites - 1) / (n_sites + n_classes - 2),
        sum(len(rows) for rows in subsets),
        len(found),
    )


def balanced_subsets(labels: Codes, sites: Codes, *, seed: int = 0) -> list[Rows]:
    """Draw rows with as many tiles in every class of every site.

    Returns
    -------
    list of ndarray
        One with all classes and sites where each class has ten tiles at each site; else one for
        each two classes and two sites that do; empty where there are none.
    """
    cells = {
        (int(c), int(s)): np.flatnonzero((labels == c) & (sites == s))
        for c in np.unique(labels)
        for s in np.unique(sites)
    }
    classes, places = sorted({c for c, _ in cells}), sorted({s for _, s in cells})
    if len(classes) < 2 or len(places) < 2:
        return []
    tables = [list(product(classes, places))]
    if min(len(rows) for rows in cells.values()) < LEAST_TILES:
        pairs = product(combinations(classes, 2), combinations(places, 2))
        tables = [list(product(*pair)) for pair in pairs]
        tables = [table for table in tables if _least(cells, table) >= LEAST_TILES]
        tables = sorted(tables, key=lambda table: -_least(cells, table))[:MAX_SUBSETS]
    rng = np.random.default_rng(seed)
    room = MAX_TILES // max(1, len(tables))
    return [_draw(cells, table, room, rng) for table in tables]


@dataclass(frozen=True, eq=False)
class _Counts:
    """Sums over a subset's tiles of the neighbours up to the k-th; element k - 1 is for k."""

    same_class: npt.NDArray[np.int64]
    same_site: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]

    @classmethod
    def of(cls, X: Array, labels: Codes, sites: Codes, owners: Codes) -> _Counts:
        near = neighbours(X, owners)
        same_class = labels[near] == labels[:, None]
        same_site = sites[near] == sites[:, None]
        return cls(
            np.cumsum((same_class & ~same_site).sum(axis=0)),
            np.cumsum((~same_class & same_site).sum(axis=0)),
            _accuracy(labels, labels[near]),
        )


def neighbours(X: Array, owners: Codes, most: int = MAX_NEIGHBOURS) -> Rows:
    """List every row's nearest rows of other owners, nearest first.

    Returns
    -------
    ndarray
        Shape (n, k), k being ``most`` or what the row with the fewest others has.
    """
    Z = unit(np.asarray(X, dtype=np.float32))
    cosines = Z @ Z.T
    cosines[owners[:, None] == owners[None]] = -np.inf
    k = min(most, len(Z) - int(np.bincount(owners).max()))
    near = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(cosines, near, axis=1), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1)


def _accuracy(labels: Codes, near: Codes) -> npt.NDArray[np.float64]:
    """Balanced accuracy of the most frequent class among the first k, for each k."""
    classes = np.unique(labels)
    votes = np.stack([np.cumsum(near == c, axis=1, dtype=np.int32) for c in classes])
    right = classes[votes.argmax(axis=0)] == labels[:, None]
    return np.asarray(np.mean([right[labels == c].mean(axis=0) for c in classes], axis=0))


def _least(cells: dict[tuple[int, int], Rows], table: Sequence[tuple[int, int]]) -> int:
    return min(len(cells[cell]) for cell in table)


def _draw(
    cells: dict[tuple[int, int], Rows],
    table: Sequence[tuple[int, int]],
    room: int,
    rng: np.random.Generator,
) -> Rows:
    each = min(_least(cells, table), max(1, room // len(table)))
    return np.sort(np.concatenate([rng.choice(cells[cell], each, replace=False) for cell in table]))


def _grid() -> list[int]:
    return [1, 3, 5, 7, 9, *range(11, MAX_NEIGHBOURS + 1, 10)]
