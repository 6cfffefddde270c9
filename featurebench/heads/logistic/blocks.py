"""Blocks: rows in an order in which whole blocks lie outside of as many training sets as can be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    Ints = npt.NDArray[np.int64]
    Sets = npt.NDArray[np.uint8]

BLOCK_ROWS = 1024
# Rows are not set apart for a set if so few of them are in it, or outside of it.
_LEAST_ROWS = 256


@dataclass(frozen=True, eq=False)
class Blocks:
    """Stretches of rows that a pass takes at a time.

    Parameters
    ----------
    bounds
        First row of each block, and one past its last.
    needed
        Whether any row of a block is in a training set, shape (n_blocks, n_sets).
    """

    bounds: tuple[tuple[int, int], ...]
    needed: npt.NDArray[np.bool_]


def in_order(sets: Sets) -> Blocks:
    """Cut the rows as they stand; ``sets`` as in `Design`."""
    return _blocks(_stretches(0, len(sets), _size(len(sets))), sets)


def by_membership(sets: Sets) -> tuple[Ints, Blocks]:
    """Order the rows by the sets they are in, set after set, and cut blocks between.

    A model's test rows then fill blocks of their own, which its pass leaves out: with k folds of
    one repeat, one k-th of the work.

    Returns
    -------
    order, blocks
        Old row of each new row, shape (n,), and the blocks of the new rows.
    """
    size = _size(len(sets))
    waiting: list[tuple[Ints, int]] = [(np.arange(len(sets)), 0)]
    order: list[Ints] = []
    bounds: list[tuple[int, int]] = []
    first = 0
    while waiting:
        rows, column = waiting.pop()
        split = _first_split(sets, rows, column) if len(rows) > size else None
        if split is not None:
            at, inside = split
            waiting += [(rows[inside], at + 1), (rows[~inside], at + 1)]
            continue
        order.append(rows)
        bounds += _stretches(first, first + len(rows), size)
        first += len(rows)
    new = np.concatenate(order)
    return new, _blocks(bounds, sets[new])


def _size(n_rows: int) -> int:
    return max(1, min(BLOCK_ROWS, -(-n_rows // 4)))


def _first_split(sets: Sets, rows: Ints, column: int) -> tuple[int, npt.NDArray[np.bool_]] | None:
    """Find the first set from ``column`` on that some of the rows are in and some are not."""
    for at in range(column, sets.shape[1]):
        inside = sets[rows, at] > 0
        n_inside = int(inside.sum())
        if min(n_inside, len(rows) - n_inside) >= _LEAST_ROWS:
            return at, inside
    return None


def _stretches(first: int, last: int, size: int) -> list[tuple[int, int]]:
    edges = np.linspace(first, last, -(-(last - first) // size) + 1).round().astype(int).tolist()
    return list(pairwise(edges))


def _blocks(bounds: list[tuple[int, int]], sets: Sets) -> Blocks:
    needed = np.array([sets[first:last].any(axis=0) for first, last in bounds])
    return Blocks(tuple(bounds), needed.reshape(len(bounds), sets.shape[1]))
