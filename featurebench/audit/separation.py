"""Which patients, slides or sites stand on both sides of a fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping

# Values of these columns on both sides of a fold are leakage; of others it is usual.
LEAKING = ("patient_id", "slide_id")
_WORST = 5

Folds = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Torn:
    """A value that is trained on where others of its tiles are tested.

    Parameters
    ----------
    value
        Such as a patient's id.
    n_tiles, n_folds
        Its tiles, and the test folds that these lie in.
    """

    value: str
    n_tiles: int
    n_folds: int


@dataclass(frozen=True)
class Separation:
    """How one column lies on the folds of one repeat.

    Parameters
    ----------
    column, repeat
        Of the manifest; counted from 0.
    leaks
        Whether a torn value of this column is leakage: patients and slides.
    n_values, n_torn, n_tiles
        Values in all; those on both sides of a fold; the tiles of these.
    worst
        Up to five torn values, those with the most tiles first.
    """

    column: str
    repeat: int
    leaks: bool
    n_values: int
    n_torn: int
    n_tiles: int
    worst: tuple[Torn, ...] = ()


def separations(
    columns: Mapping[str, npt.NDArray[Any]], test_fold: Folds
) -> tuple[Separation, ...]:
    """Look at every column on every repeat.

    Parameters
    ----------
    columns
        By name, one value a tile, shape (n_tiles,); tiles with an empty value are left out.
    test_fold
        The plan's table, shape (n_repeats, n_tiles); below 0 where a tile is never tested.

    Returns
    -------
    tuple of Separation
        Column by column, repeat by repeat.

    Examples
    --------
    >>> folds = np.array([[0, 0, 1, 1]], dtype=np.int16)
    >>> found, = separations({"patient_id": np.array(["a", "b", "b", "c"])}, folds)
    >>> found.n_torn, found.worst[0].value
    (1, 'b')
    """
    return tuple(
        _separation(name, values.astype(str), repeat, row)
        for name, values in columns.items()
        for repeat, row in enumerate(test_fold)
    )


def crossing(
    test_fold: Folds, a: npt.NDArray[np.intp], b: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    """Tell of pairs of tiles whether one is trained on where the other is tested.

    Parameters
    ----------
    test_fold
        Shape (n_repeats, n_tiles).
    a, b
        Rows of the two tiles of each pair, shape (n_pairs,).

    Returns
    -------
    ndarray of bool
        Shape (n_pairs,): whether it is so in any repeat.
    """
    apart = np.zeros(len(a), dtype=bool)
    for row in test_fold:
        apart |= (row[a] != row[b]) & ((row[a] >= 0) | (row[b] >= 0))
    return apart


def _separation(
    column: str, values: npt.NDArray[np.str_], repeat: int, row: npt.NDArray[np.int16]
) -> Separation:
    known = values != ""
    names, codes = np.unique(values[known], return_inverse=True)
    sides, at = np.unique(row[known], return_inverse=True)
    counts = np.zeros((len(names), len(sides)), dtype=np.int64)
    np.add.at(counts, (codes, at), 1)
    n_folds = (counts[:, sides >= 0] > 0).sum(axis=1)
    # A value in training and validation only is tested nowhere.
    torn = np.flatnonzero(((counts > 0).sum(axis=1) > 1) & (n_folds > 0))
    n_tiles = counts.sum(axis=1)
    order = torn[np.argsort(-n_tiles[torn], kind="stable")]
    worst = tuple(Torn(str(names[k]), int(n_tiles[k]), int(n_folds[k])) for k in order[:_WORST])
    return Separation(
        column, repeat, column in LEAKING, len(names), len(torn), int(n_tiles[torn].sum()), worst
    )
