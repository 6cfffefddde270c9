"""EarlyStoppedClassifier: heads that train round by round and stop on inner validation rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from featurebench.heads.stepped import Fitted, Model, SteppedClassifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.heads.folds import Array, Codes, Rows
    from featurebench.heads.stepped import Weights


class Table(NamedTuple):
    """Rows behind the feature steps.

    Parameters
    ----------
    X
        Shape (n_rows, n_columns).
    codes
        Classes 0 to K - 1, where K counts the classes of the rows trained on.
    weights
        Of rows to train on; watched rows have none.
    """

    X: Array
    codes: Codes
    weights: Weights


class EarlyStoppedClassifier(SteppedClassifier):
    """Trains round by round, and stops when the log loss on inner validation rows falls no more.

    The training rows of the first inner fold are trained on until the unweighted log loss of its
    validation rows has had no new minimum for a number of rounds. All rows given to `fit` are then
    trained on anew for the rounds up to the minimum (``refit``), as many as that fewer rows
    needed. Feature steps come from the rows trained on, never from those watched.

    A subclass gives `_train`; ``_rounds`` and ``_patience`` name its parameters for the number of
    rounds and for the rounds to wait.
    """

    _rounds: str
    _patience: str

    refit: bool
    cv: Sequence[tuple[Rows, Rows]] | None

    @abstractmethod
    def _train(self, table: Table, watched: Table | None, n_rounds: int) -> tuple[Model, int]:
        """Train at most ``n_rounds``; return the model of the best round and its number from 1."""

    @property
    def needs_inner_folds(self) -> bool:
        """Whether training stops early, for which ``cv`` must be given."""
        return getattr(self, self._patience) is not None

    def _fit_rows(self, X: Array, codes: Codes, weights: Weights) -> Fitted:
        every = np.arange(len(X))
        n_rounds: int = getattr(self, self._rounds)
        if self.needs_inner_folds:
            train, watch = stopping_rows(self.cv or (), codes)
            fitted, n_rounds = self._fit_part(X, codes, weights, train, watch, n_rounds)
            self.choices_ = {self._rounds: n_rounds}
            if not self.refit:
                return fitted
        return self._fit_part(X, codes, weights, every, None, n_rounds)[0]

    def _fit_part(  # noqa: PLR0917
        self,
        X: Array,
        codes: Codes,
        weights: Weights,
        rows: Rows,
        watch: Rows | None,
        n_rounds: int,
    ) -> tuple[Fitted, int]:
        steps = self._make_steps().fit(X[rows])
        present = np.unique(codes[rows])

        def table(part: Rows) -> Table:
            dense = np.searchsorted(present, codes[part])
            return Table(steps.transform(X[part]), dense, weights[part])

        watched = None if watch is None else table(watch)
        model, n_rounds = self._train(table(rows), watched, n_rounds)
        return Fitted(steps, model, present), n_rounds


def stopping_rows(cv: Sequence[tuple[Rows, Rows]], codes: Codes) -> tuple[Rows, Rows]:
    """Choose the rows to train on and the rows to watch for stopping early.

    It is the first inner fold whose training rows hold two classes. Rows of a class that its
    training rows lack are not watched: whatever the model learns, their probability is 0, so they
    add the same to the loss of every round.

    Parameters
    ----------
    cv
        ``(train, validation)`` pairs of row numbers.
    codes
        Classes of the rows so numbered, shape (n_rows,).

    Raises
    ------
    ValueError
        If no inner fold can be used.

    Examples
    --------
    >>> train, watch = stopping_rows([([0, 1], [2, 3])], np.array([0, 1, 1, 2]))
    >>> watch
    array([2])
    """
    for pair in cv:
        train, validation = (np.asarray(rows, dtype=np.int64) for rows in pair)
        present = np.unique(codes[train])
        watch = validation[np.isin(codes[validation], present)]
        if len(present) > 1 and len(watch):
            return train, watch
    raise ValueError(
        f"none of {len(cv)} inner folds has two classes to train on and one of them to validate: "
        "give other inner folds or do not stop early"
    )
