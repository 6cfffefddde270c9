"""Orders: the tiles of a training side in the order in which a draw would label them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Order:
    """Tiles of one training side; the training set of a size is a beginning of them.

    Parameters
    ----------
    rows
        Places among the tiles of the training side, in the order of the draw.
    ends
        Number of tiles of size 1, 2, ...; 0 where a class would be missing.
    """

    rows: npt.NDArray[np.integer[Any]]
    ends: Ints


def by_patients(y: Ints, patients: Ints, rng: np.random.Generator) -> Order:
    """Order whole patients: first some of every class, then in the classes' proportions.

    Patients that have the same classes are a stratum; strata take turns by the divisor method of
    Sainte-Lague, so that every beginning of the order has them in proportion.

    Parameters
    ----------
    y, patients
        Class code and patient code (0 to P - 1) of every tile, shape (n,).
    """
    cells = patients * (y.max() + 1) + y
    table = np.bincount(cells, minlength=(patients.max() + 1) * (y.max() + 1))
    counts = table.reshape(patients.max() + 1, -1)
    strata = np.unique(counts > 0, axis=0, return_inverse=True)[1].reshape(-1)
    order, n_first = _cover(_interleave(strata, rng), counts[:, counts.any(axis=0)] > 0)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ends = np.cumsum(counts.sum(axis=1)[order])
    ends[: n_first - 1] = 0
    return Order(np.argsort(place[patients], kind="stable"), ends)


def by_tiles(y: Ints, patients: Ints, rng: np.random.Generator) -> Order:
    """Order single tiles: first one of every class, then in the classes' proportions."""
    classes, codes = np.unique(y, return_inverse=True)
    order, n_first = _cover(_interleave(codes, rng), codes[:, None] == np.arange(len(classes)))
    ends = np.arange(1, len(y) + 1)
    ends[: n_first - 1] = 0
    return Order(order, ends)


def by_shots(y: Ints, patients: Ints, rng: np.random.Generator) -> Order:
    """Order single tiles so that classes take turns, as long as all have tiles left."""
    return _take_turns(y, rng.permutation(len(y)))


def by_patient_shots(y: Ints, patients: Ints, rng: np.random.Generator) -> Order:
    """Order tiles as `by_shots`; within a class, patients take turns in a drawn order."""
    shuffled = rng.permutation(len(y))
    cells = patients * (y.max() + 1) + y
    turn = np.empty_like(shuffled)
    turn[shuffled] = _rank(cells[shuffled])
    drawn = rng.random(int(cells.max()) + 1)
    return _take_turns(y, np.lexsort((drawn[cells], turn)))


ORDERS: dict[str, Callable[[Ints, Ints, np.random.Generator], Order]] = {
    "patients": by_patients,
    "tiles": by_tiles,
    "shots": by_shots,
    "patient_shots": by_patient_shots,
}
"""How each kind of training set is drawn."""


def _take_turns(y: Ints, order: Ints) -> Order:
    """Keep the order within each class; ends are where every class has had the same number."""
    turn = _rank(y[order])
    classes, counts = np.unique(y, return_counts=True)
    ends = len(classes) * np.arange(1, counts.min() + 1)
    return Order(order[np.lexsort((y[order], turn))], ends)


def _interleave(strata: Ints, rng: np.random.Generator) -> Ints:
    """Order units so that each beginning has the strata in proportion; within one by chance."""
    order = rng.permutation(len(strata))
    shares = (_rank(strata[order]) + 0.5) / np.bincount(strata)[strata[order]]
    # Equal shares are in the order of the permutation, so no stratum always goes first.
    ordered: Ints = order[np.argsort(shares, kind="stable")]
    return ordered


def _rank(labels: Ints) -> Ints:
    """Count, for each place, the earlier ones with the same label."""
    by_label = np.argsort(labels, kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_label] = np.arange(len(labels)) - starts
    return rank


def _cover(order: Ints, holds: Bools) -> tuple[Ints, int]:
    """Bring those units to the front that have a class which none before them has.

    Parameters
    ----------
    holds
        Whether a unit has a class, shape (n_units, n_classes); every class occurs.

    Returns
    -------
    order, n_first
        The new order, and how many of its units it takes to have every class.
    """
    lacking = np.ones(holds.shape[1], dtype=bool)
    first: list[int] = []
    for place, unit in enumerate(order):
        if (holds[unit] & lacking).any():
            lacking &= ~holds[unit]
            first.append(place)
        if not lacking.any():
            break
    return np.concatenate([order[first], np.delete(order, first)]), len(first)
