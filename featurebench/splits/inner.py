"""Folds inside a training fold, for choosing a penalty or stopping early."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featurebench.errors import SplitError
from featurebench.splits.draw import find
from featurebench.splits.groups import Groups, tabulate
from featurebench.splits.plan import TRAIN, SplitPlan, name_tiles

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def inner_folds(
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    folds: int = 5,
    seed: int = 0,
    *,
    group_name: str = "patient_id",
) -> SplitPlan:
    """Draw one repeat of at most ``folds`` inner folds; never tears a group apart.

    The training side of every fold holds every class. Where `SplitPlan.draw` would refuse, the
    number of folds is lowered, to 2 at the least. A class that occurs in one group only cannot be
    on both sides: that group is always trained on (its tiles have `TRAIN` in ``test_fold``) and no
    validation part has the class. The same is done with further groups of the rarest class, one by
    one, where classes overlap in such a way that even 2 folds cannot each have all of them.

    Parameters
    ----------
    labels
        Class of every tile, shape (n_tiles,).
    groups
        Group of every tile, shape (n_tiles,); without them every tile is its own group.
    folds
        Wished for, at least 2.
    seed
        0 or more.
    group_name
        Column that the groups come from.

    Raises
    ------
    SplitError
        If fewer than two groups can be spared from training, so that nothing can be validated.
    """
    table = tabulate(labels, groups, group_name=group_name)
    kept = _sole_holders(table)
    while True:
        rest, members = _without(table, kept)
        if rest.n_groups < 2:
            raise SplitError(
                f"{table.n_groups} {table.noun} are too few for inner folds: every class must stay "
                f"in training and 2 {table.noun} must be left; add {table.noun} or do not tune"
            )
        parts = _most_folds(rest, folds, seed)
        if parts is not None:
            break
        kept[members[_next_to_keep(rest)]] = True
    fold_of_group = np.full(table.n_groups, TRAIN, dtype=np.int16)
    fold_of_group[members] = parts
    group = None if groups is None else group_name
    test_fold = fold_of_group[table.codes][None]
    return SplitPlan(test_fold, name_tiles(None, table.labels), group, seed, "kfold")


def _sole_holders(table: Groups) -> Bools:
    """Mark the groups that have a class to themselves, shape (n_groups,)."""
    kept = np.zeros(table.n_groups, dtype=bool)
    sole = table.groups_per_class() == 1
    kept[table.codes[sole[table.labels]]] = True
    return kept


def _without(table: Groups, kept: Bools) -> tuple[Groups, Ints]:
    """Return the table of the other groups, and which groups these are."""
    rows = ~kept[table.codes]
    members, codes = np.unique(table.codes[rows], return_inverse=True)
    rest = Groups(table.labels[rows], codes, len(members), table.classes, table.noun)
    return rest, members


def _most_folds(rest: Groups, folds: int, seed: int) -> Ints | None:
    per_class = rest.groups_per_class()
    required = per_class >= 2
    most = min(folds, rest.n_groups, *per_class[required].tolist())
    for n_folds in range(most, 1, -1):
        found = find(rest, np.full(n_folds, 1 / n_folds), required, repeats=1, seed=seed)
        if found:
            return found[0]
    return None


def _next_to_keep(rest: Groups) -> int:
    """Group that has the rarest class and, among those, the most classes."""
    has = rest.tile_counts() > 0
    per_class = np.where(has.any(axis=0), has.sum(axis=0), rest.n_groups + 1)
    holders = np.flatnonzero(has[:, per_class.argmin()])
    return int(holders[has[holders].sum(axis=1).argmax()])
