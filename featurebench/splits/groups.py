"""The table that folds are drawn from: which group has tiles of which class, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurebench.errors import SplitError

if TYPE_CHECKING:
    from collections.abc import Sequence

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Tiles by group and class; the group is the unit that never crosses a fold.

    Parameters
    ----------
    labels
        Class code of every tile, shape (n_tiles,).
    codes
        Group code of every tile, shape (n_tiles,); groups are numbered in the order of their ids,
        so that the numbering does not depend on the order of the rows.
    n_groups
        Number of groups.
    classes
        Name of every class.
    noun
        What a group is called in messages, in the plural.
    """

    labels: Ints
    codes: Ints
    n_groups: int
    classes: tuple[str, ...]
    noun: str

    @property
    def is_single(self) -> bool:
        """Whether every group has one tile."""
        return self.n_groups == len(self.labels)

    def tile_counts(self) -> Ints:
        """Tiles of every group and class, shape (n_groups, n_classes)."""
        n_classes = len(self.classes)
        cells = self.codes * n_classes + self.labels
        counts = np.bincount(cells, minlength=self.n_groups * n_classes)
        return counts.reshape(self.n_groups, n_classes)

    def groups_per_class(self) -> Ints:
        """Count the groups that have a tile of the class, shape (n_classes,)."""
        n_classes = len(self.classes)
        labels = self.labels
        if not self.is_single:
            labels = np.unique(self.codes * n_classes + self.labels) % n_classes
        return np.bincount(labels, minlength=n_classes)

    def label_of_single(self) -> Ints:
        """Class of every group where each has one tile, shape (n_groups,)."""
        labels = np.empty(self.n_groups, dtype=np.int64)
        labels[self.codes] = self.labels
        return labels


def tabulate(
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    *,
    classes: Sequence[str] | None = None,
    group_name: str | None = None,
) -> Groups:
    """Count tiles by group and class, and refuse what cannot be split.

    Raises
    ------
    SplitError
        If lengths differ, a tile has no group, or there are fewer than two classes.
    """
    codes, names = _code_labels(np.asarray(labels), classes)
    if len(names) < 2:
        raise SplitError(f"the tiles have {len(names)} class; folds need at least 2 classes")
    if groups is None:
        return Groups(codes, np.arange(len(codes)), len(codes), names, "tiles")
    group_codes, n_groups = code_groups(groups, len(codes), group_name or "group")
    return Groups(codes, group_codes, n_groups, names, plural(group_name or "group"))


def plural(group_name: str) -> str:
    """Name a group column's members: ``patient_id`` holds patients."""
    return group_name.removesuffix("_id") + "s"


def code_groups(groups: npt.ArrayLike, n_tiles: int, group_name: str) -> tuple[Ints, int]:
    """Give every group a number, in the order of their ids.

    Returns
    -------
    codes, n_groups
        Group code of every tile, shape (n_tiles,), and the number of groups.
    """
    column = pd.Series(np.asarray(groups).tolist())
    if len(column) != n_tiles:
        raise SplitError(f"{group_name} has {len(column)} values for {n_tiles} tiles")
    if column.dtype == object:
        column = column.where(column.isna(), column.astype(str).str.strip())
    missing = np.flatnonzero((column.isna() | (column == "")).to_numpy())
    if missing.size:
        shown = ", ".join(map(str, missing[:5].tolist())) + (", ..." if missing.size > 5 else "")
        raise SplitError(
            f"{missing.size} tiles have no {group_name} (rows {shown}): "
            "fill it in or draw the folds without groups"
        )
    codes, uniques = pd.factorize(column, sort=True)
    return codes.astype(np.int64), len(uniques)


def _code_labels(
    labels: npt.NDArray[Any], classes: Sequence[str] | None
) -> tuple[Ints, tuple[str, ...]]:
    if classes is None:
        names, codes = np.unique(labels, return_inverse=True)
        return codes.astype(np.int64), tuple(str(name) for name in names.tolist())
    codes = labels.astype(np.int64)
    if codes.size and not 0 <= codes.min() <= codes.max() < len(classes):
        raise SplitError(
            f"label codes run from {codes.min()} to {codes.max()}; {len(classes)} classes are named"
        )
    return codes, tuple(classes)
