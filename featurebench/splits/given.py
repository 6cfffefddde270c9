"""A split that is given as a column: which side every tile is on, and whether it can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from featurebench.errors import SplitError

if TYPE_CHECKING:
    from featurebench.splits.groups import Groups

# Positions of train, validation and test; what other software calls validation is read, too.
SIDES: Final = {"train": 0, "val": 1, "validation": 1, "test": 2}
SHOWN_ROWS: Final = 5


def code_sides(values: npt.ArrayLike, n_tiles: int, column: str) -> npt.NDArray[np.int64]:
    """Read a column of ``train``, ``val`` (or ``validation``) and ``test``.

    Returns
    -------
    numpy.ndarray
        0, 1 and 2, shape (n_tiles,).

    Raises
    ------
    SplitError
        The length differs, a tile has another value, or no tile is in train or in test.
    """
    texts = [str(value) for value in np.asarray(values, dtype=object).tolist()]
    if len(texts) != n_tiles:
        raise SplitError(f"column {column!r} has {len(texts)} values for {n_tiles} tiles")
    sides = np.array([SIDES.get(text, -1) for text in texts], dtype=np.int64)
    other = np.flatnonzero(sides < 0)
    if other.size:
        # Rows and no values: if the wrong column was named, these may be ids of patients.
        shown = ", ".join(map(str, other[:SHOWN_ROWS].tolist()))
        raise SplitError(
            f"column {column!r} has {other.size} tiles with another value than "
            f"{', '.join(SIDES)} (rows {shown}{', ...' if other.size > SHOWN_ROWS else ''}): mend "
            "them, or name the column that holds the split"
        )
    for side in ("train", "test"):
        if not (sides == SIDES[side]).any():
            raise SplitError(f"column {column!r} has no tile with the value {side!r}")
    return sides


def check_sides(table: Groups, sides: npt.NDArray[np.int64], column: str) -> None:
    """Refuse a split that tears groups apart, or trains without some class.

    Raises
    ------
    SplitError
        With the numbers; ids are not named.
    """
    pairs = np.unique(np.stack([table.codes, sides]), axis=1)[0]
    torn = np.flatnonzero(np.bincount(pairs, minlength=table.n_groups) > 1)
    if torn.size:
        n_tiles = int(np.isin(table.codes, torn).sum())
        raise SplitError(
            f"{torn.size} {table.noun} ({n_tiles} tiles) stand on more than one side of the split "
            f"in column {column!r}: what is tested would have been seen in training, so mend the "
            "column, or draw the split with holdout"
        )
    trained = np.bincount(table.labels[sides == SIDES["train"]], minlength=len(table.classes))
    absent = [name for name, count in zip(table.classes, trained, strict=True) if not count]
    if absent:
        raise SplitError(
            f"no tile of class {', '.join(map(repr, absent))} is in train in column {column!r}: "
            "add some, or remove that class"
        )
