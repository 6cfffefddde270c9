"""InnerFolds: the log loss of a head on each inner fold, one fold at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from featurebench.errors import ConfigError
from featurebench.heads.folds import Fold, needs_inner_folds, relative_inner
from featurebench.heads.tuning import log_loss

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sklearn.base import ClassifierMixin

    from featurebench.heads.folds import Array, Rows

    Pairs = Sequence[tuple[Rows, Rows]]


@dataclass(frozen=True, eq=False)
class InnerFolds:
    """Labelled rows and the inner folds that judge a configuration on them.

    Parameters
    ----------
    X
        Features, shape (n_rows, n_features).
    y
        Labels, shape (n_rows,).
    folds
        Each with the rows to fit on, the rows to judge on, and inner folds of its own: the other
        pairs, as far as they lie in its training rows. So a head that needs inner folds itself
        never meets a row that judges it, and patients stay together as they were.
    """

    X: Array
    y: npt.NDArray[Any]
    folds: tuple[Fold, ...]

    @classmethod
    def from_pairs(cls, X: Array, y: npt.NDArray[Any], pairs: Pairs) -> InnerFolds:
        """Take ``(train, validation)`` pairs of row numbers into X.

        Raises
        ------
        ValueError
            If a pair has no validation rows, or some that it trains on.
        """
        rows = [(np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)) for a, b in pairs]
        for i, (train, validation) in enumerate(rows):
            _check_pair(i, train, validation)
        return cls(X, y, tuple(_make_fold(i, rows) for i in range(len(rows))))

    def losses(self, head: ClassifierMixin) -> Iterator[float]:
        """Fit a clone of the head on each fold and yield its mean log loss in nats.

        A class that the training rows lack has probability 0.

        Raises
        ------
        ConfigError
            If the head needs inner folds itself and there is only this one.
        FloatingPointError
            If a predicted probability is not finite.
        """
        classes, codes = np.unique(self.y, return_inverse=True)
        for i, fold in enumerate(self.folds):
            fitted = clone(head)
            if needs_inner_folds(fitted):
                fitted.set_params(cv=_inner_of(head, fold))
            fitted.fit(self.X[fold.train], self.y[fold.train])
            p = np.zeros((len(fold.test), len(classes)))
            p[:, np.searchsorted(classes, fitted.classes_)] = fitted.predict_proba(
                self.X[fold.test]
            )
            loss = log_loss(p, codes[fold.test])
            if not np.isfinite(loss):
                raise FloatingPointError(f"inner fold {i}: predicted probabilities are not finite")
            yield loss


def _inner_of(head: ClassifierMixin, fold: Fold) -> Pairs:
    if not fold.inner:
        raise ConfigError(
            f"search: {type(head).__name__} needs inner folds itself, and no other pair is left "
            "for it: give two inner folds or more"
        )
    return relative_inner(fold)


def _make_fold(i: int, pairs: Pairs) -> Fold:
    train, validation = pairs[i]
    others = (_restrict(pair, train) for j, pair in enumerate(pairs) if j != i)
    inner = tuple(pair for pair in others if all(len(rows) for rows in pair))
    return Fold(train, validation, inner)


def _restrict(pair: tuple[Rows, Rows], rows: Rows) -> tuple[Rows, Rows]:
    train, validation = pair
    return train[np.isin(train, rows)], validation[np.isin(validation, rows)]


def _check_pair(i: int, train: Rows, validation: Rows) -> None:
    if not len(validation):
        raise ValueError(f"inner fold {i} has no validation rows: give some or drop the fold")
    n_shared = len(np.intersect1d(train, validation))
    if n_shared:
        raise ValueError(f"inner fold {i}: {n_shared} of its validation rows are training rows too")
