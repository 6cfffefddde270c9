"""The linear probe: multinomial logistic regression, its penalty chosen on inner folds."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    Floats = npt.NDArray[np.floating[Any]]
    Splits = Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]

DEFAULT_CS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class LogisticProbe(ClassifierMixin, BaseEstimator):
    """L2-penalised multinomial logistic regression on standardised features.

    The inverse penalty C is the one of ``Cs`` with the least log loss on the inner folds; means
    and standard deviations are taken from the training side of every inner fold, too. Minimises
    scikit-learn's objective, the sum of cross-entropies plus ``|W|^2 / (2 C)``.

    Parameters
    ----------
    Cs
        Inverse penalties to choose from; one value means no choice.
    cv
        Inner folds as ``(train, test)`` row arrays into the rows given to `fit`, patient-grouped
        by whoever draws them. Needed where ``Cs`` has several values.
    tol, max_iter
        Of the L-BFGS solver.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    C_ : float
        The chosen inverse penalty.
    inner_log_loss_ : array of shape (n_Cs,)
        Mean inner log loss of each C; NaN where there was no choice.
    n_iter_ : int
        Iterations of the final fit.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> LogisticProbe(Cs=[1.0]).fit(X, [0, 0, 1, 1]).predict([[3.0]])
    array([1])
    """

    def __init__(
        self,
        Cs: Sequence[float] = DEFAULT_CS,
        cv: Splits | None = None,
        tol: float = 1e-4,
        max_iter: int = 2000,
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Floats, y: npt.ArrayLike) -> Self:
        """Choose C on the inner folds and fit all rows with it.

        Parameters
        ----------
        X
            Features, shape (n_rows, n_features).
        y
            Labels, shape (n_rows,).

        Raises
        ------
        ValueError
            If there are several ``Cs`` and no inner folds.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        self.classes_, codes = np.unique(y, return_inverse=True)
        candidates = np.sort(np.asarray(self.Cs, dtype=float))
        if len(candidates) > 1 and self.cv is None:
            raise ValueError(f"{len(candidates)} values of C to choose from, but cv is None")
        self.inner_log_loss_ = self._inner_log_loss(X, codes, candidates)
        best = int(np.argmin(self.inner_log_loss_)) if len(candidates) > 1 else 0
        self.C_ = float(candidates[best])
        self.scaler_ = StandardScaler().fit(X)
        self.model_ = self._fit_path(self.scaler_.transform(X), codes, candidates[best:][:1])[0]
        self.n_iter_ = int(self.model_.n_iter_.max())
        return self

    def predict_proba(self, X: Floats) -> Floats:
        """Class probabilities, shape (n_rows, n_classes), columns in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        return _probabilities(self.model_, self.scaler_.transform(X), len(self.classes_))

    def predict(self, X: Floats) -> npt.NDArray[Any]:
        """Most probable class of each row, shape (n_rows,)."""
        labels: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    @property
    def needs_inner_folds(self) -> bool:
        """Whether there is a choice to make, for which ``cv`` must be given."""
        return len(self.Cs) > 1

    def _inner_log_loss(
        self,
        X: Floats,
        y: npt.NDArray[np.int64],
        candidates: Floats,
    ) -> Floats:
        if len(candidates) == 1 or self.cv is None:
            return np.full(len(candidates), np.nan)
        loss, n_rows = np.zeros(len(candidates)), 0
        for train, test in self.cv:
            scaler = StandardScaler().fit(X[train])
            models = self._fit_path(scaler.transform(X[train]), y[train], candidates)
            held_out = scaler.transform(X[test])
            for i, model in enumerate(models):
                p = _probabilities(model, held_out, len(self.classes_))
                loss[i] -= np.log(np.maximum(p[np.arange(len(test)), y[test]], 1e-7)).sum()
            n_rows += len(test)
        return loss / n_rows

    def _fit_path(
        self,
        X: Floats,
        y: npt.NDArray[np.int64],
        candidates: Floats,
    ) -> list[LogisticRegression]:
        """One model per C from strong to weak penalty, each started where the last one ended."""
        models: list[LogisticRegression] = []
        for C in candidates:
            model = LogisticRegression(
                C=C, tol=self.tol, max_iter=self.max_iter, warm_start=bool(models)
            )
            if models:
                model.classes_ = models[-1].classes_
                model.coef_ = models[-1].coef_.copy()
                model.intercept_ = models[-1].intercept_.copy()
            with warnings.catch_warnings():
                # n_iter_ == max_iter says the same, and it is kept with the run.
                warnings.simplefilter("ignore", ConvergenceWarning)
                models.append(model.fit(X, y))
        return models


def _probabilities(model: LogisticRegression, X: Floats, n_classes: int) -> Floats:
    """Probabilities over all classes; one that the inner training rows lack gets zero."""
    p = np.zeros((len(X), n_classes), dtype=X.dtype)
    p[:, model.classes_] = model.predict_proba(X)
    return p
