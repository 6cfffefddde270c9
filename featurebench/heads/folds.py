"""Fold and predict_one_by_one(): what a head does on a fold, and the plain way to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sklearn.base import ClassifierMixin

    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]
    Progress = Callable[[int], None]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold: the rows to fit on, the rows to predict, and the inner folds of the former.

    Parameters
    ----------
    train, test
        Row numbers into the X of all rows, shapes (n_train,) and (n_test,).
    inner
        ``(train, validation)`` pairs of row numbers into the X of all rows, inside ``train``; for
        choosing hyper-parameters and for stopping early. Empty where there is nothing to choose.
    """

    train: Rows
    test: Rows
    inner: tuple[tuple[Rows, Rows], ...] = ()


@dataclass(frozen=True, eq=False)
class FoldPrediction:
    """What a head predicted on one fold.

    Parameters
    ----------
    y_prob
        Float32, shape (n_test, n_classes); a class that the training rows lack has zeros.
    choices
        What was chosen on the inner folds, JSON-ready.
    """

    y_prob: npt.NDArray[np.float32]
    choices: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ManyFoldHead(Protocol):
    """A classifier that shares work between folds; fitting each fold alone gives the same."""

    def predict_folds(
        self,
        X: Array,
        y: Codes,
        folds: Sequence[Fold],
        *,
        n_classes: int,
        progress: Progress | None = None,
    ) -> list[FoldPrediction]:
        """Fit and predict all folds; ``progress`` is called with the number of folds done."""


def needs_inner_folds(head: ClassifierMixin) -> bool:
    """Tell whether a head chooses something on inner folds, given to it as ``cv``."""
    answer: bool = getattr(head, "needs_inner_folds", "cv" in head.get_params(deep=False))
    return answer


def predict_one_by_one(
    head: ClassifierMixin,
    X: Array,
    y: Codes,
    folds: Sequence[Fold],
    *,
    n_classes: int,
) -> Iterator[FoldPrediction]:
    """Fit a clone of the head on every fold, in order.

    Parameters
    ----------
    head
        Any unfitted scikit-learn classifier with ``predict_proba``.
    X
        Features, shape (n_rows, n_features); a memory map is read row by row as needed.
    y
        Codes 0 to ``n_classes`` - 1, shape (n_rows,).
    """
    wants_cv = needs_inner_folds(head)
    for fold in folds:
        fitted = clone(head)
        if wants_cv:
            fitted.set_params(cv=relative_inner(fold))
        fitted.fit(take_rows(X, fold.train), y[fold.train])
        p = np.zeros((len(fold.test), n_classes), dtype=np.float32)
        if len(fold.test):
            p[:, fitted.classes_.astype(int)] = fitted.predict_proba(take_rows(X, fold.test))
        yield FoldPrediction(p, choices_of(fitted))


def choices_of(fitted: ClassifierMixin) -> dict[str, Any]:
    """Give what a fitted head says that it chose: its ``choices_``, a JSON-ready dict, if any."""
    return dict(getattr(fitted, "choices_", {}))


def take_rows(X: Array, rows: Rows) -> npt.NDArray[np.float32]:
    """Copy rows as float32, shape (len(rows), n_features)."""
    return np.ascontiguousarray(X[rows], dtype=np.float32)


def relative_inner(fold: Fold) -> list[tuple[Rows, Rows]]:
    """Inner folds as row numbers into the fold's training rows, as ``cv`` takes them."""
    place = {row: i for i, row in enumerate(fold.train.tolist())}
    return [
        (
            np.array([place[row] for row in train.tolist()], dtype=np.int64),
            np.array([place[row] for row in validation.tolist()], dtype=np.int64),
        )
        for train, validation in fold.inner
    ]
