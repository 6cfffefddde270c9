"""predict_folds(): fit a head on every fold and predict its test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from featurebench.heads import ManyFoldHead, predict_one_by_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sklearn.base import ClassifierMixin

    from featurebench.evaluation.views import Views
    from featurebench.heads import Fold, FoldPrediction

    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]


def predict_folds(
    head: ClassifierMixin,
    X: Array,
    y: Codes,
    folds: Sequence[Fold],
    *,
    n_classes: int,
    views: Views | None = None,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[FoldPrediction]:
    """Fit a head on every fold and predict its test rows.

    Parameters
    ----------
    head, X, y, views, threads
        As in `cross_validate`.
    folds
        With inner folds where the head needs them.
    progress
        Called with the number of folds done.

    Returns
    -------
    list of FoldPrediction
        In the order of the folds.
    """
    if views is not None:
        wide = [views.spread(fold, len(X)) for fold in folds]
        X, y = views.stack(X), np.tile(y, len(views.X) + 1)
        found = predict_folds(
            head, X, y, wide, n_classes=n_classes, threads=threads, progress=progress
        )
        return [views.gather(prediction) for prediction in found]
    with threadpool_limits(threads):
        if isinstance(head, ManyFoldHead):
            many: ManyFoldHead = clone(head)
            return many.predict_folds(X, y, folds, n_classes=n_classes, progress=progress)
        predictions = []
        for prediction in predict_one_by_one(head, X, y, folds, n_classes=n_classes):
            predictions.append(prediction)
            if progress is not None:
                progress(1)
    return predictions


def count_trials(predictions: Iterable[FoldPrediction]) -> int:
    """Count the configurations that searches tried in all folds; 0 where none was made."""
    return sum(int(each.choices.get("trials", 0)) for each in predictions)
