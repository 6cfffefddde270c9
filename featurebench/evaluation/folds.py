"""make_folds(): what a head has to do on each fold of a plan, inner folds included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.heads import Fold
from featurebench.splits import Split, SplitPlan, inner_folds

if TYPE_CHECKING:
    Codes = npt.NDArray[np.int64]


def make_folds(
    plan: SplitPlan,
    y: Codes,
    groups: npt.NDArray[Any] | None = None,
    *,
    inner: int = 3,
    seed: int = 0,
    tune: bool = True,
) -> list[Fold]:
    """Lay out every fold of every repeat, in the plan's order.

    Rows are fitted on if they are not tested: in a hold-out the validation part serves as the one
    inner fold, and is fitted on with what was chosen.

    Parameters
    ----------
    plan
        Test folds, of n_tiles tiles.
    y
        Codes, shape (n_tiles,).
    groups
        Patient (or site) of each tile, shape (n_tiles,), that inner folds do not tear apart.
    inner
        Inner folds wished for; fewer where there are too few groups.
    seed
        Of the inner folds; repeat r has ``seed + r``.
    tune
        Whether inner folds are wanted.

    Raises
    ------
    SplitError
        If a training side has too few groups for inner folds.
    """
    return [
        Fold(
            _not_tested(split),
            split.test,
            inner_of(split, y, groups, inner=inner, seed=seed) if tune else (),
        )
        for split in plan.splits()
    ]


def inner_of(
    split: Split, y: Codes, groups: npt.NDArray[Any] | None, *, inner: int, seed: int
) -> tuple[tuple[Codes, Codes], ...]:
    """Give a split's inner folds: in a hold-out its own validation part is the one there is."""
    if split.validation is not None:
        return ((split.train, split.validation),)
    return inner_pairs(split.train, y, groups, inner=inner, seed=seed + split.repeat)


def inner_pairs(
    train: Codes, y: Codes, groups: npt.NDArray[Any] | None, *, inner: int, seed: int
) -> tuple[tuple[Codes, Codes], ...]:
    """Draw grouped inner folds of some rows, as row numbers of the whole."""
    of_rows = None if groups is None else groups[train]
    drawn = inner_folds(y[train], of_rows, folds=inner, seed=seed)
    return tuple((train[a], train[b]) for a, b in drawn)


def _not_tested(split: Split) -> Codes:
    if split.validation is None:
        return split.train
    return np.concatenate([split.train, split.validation])
