"""Hold back part of the training patients, so that early stopping never sees a test tile."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featurebench.errors import SplitError
from featurebench.splits import inner_folds

Rows = npt.NDArray[np.intp]


def hold_back(
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64] | None,
    train: Rows,
    *,
    fraction: float,
    seed: int,
) -> tuple[Rows, Rows]:
    """Split the training rows of a fold, stratified by class and grouped by patient.

    Parameters
    ----------
    labels, groups
        Class and patient code of all tiles, shape (n_tiles,); without groups tiles are split.
    train
        Rows that may be used.
    fraction
        Share to hold back; the nearest 1/k that the patients of the scarcest class allow is taken.
    seed
        Of the draw.

    Returns
    -------
    rows, validation
        Disjoint parts of ``train``; the latter is empty if ``fraction`` is 0.

    Raises
    ------
    SplitError
        If no patients can be spared.
    """
    if fraction == 0:
        return train, train[:0]
    of_train = None if groups is None else groups[train]
    try:
        plan = inner_folds(labels[train], of_train, folds=max(2, round(1 / fraction)), seed=seed)
    except SplitError as error:
        raise SplitError(f"{error}; or set validation_fraction to 0") from error
    inside, held = next(iter(plan))
    return train[inside], train[held]
