"""SteppedClassifier: what the heads have in common that are fitted one fold after another."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from featurebench.heads.features import make_features, parse_features

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from sklearn.pipeline import Pipeline

    from featurebench.heads.folds import Array, Codes

    Weights = npt.NDArray[np.float64]
    ClassWeight = Mapping[Any, float] | str | None


class Model(Protocol):
    """What is fitted behind the feature steps."""

    def predict_proba(self, X: Array) -> Array:
        """Class probabilities, shape (n_rows, n_classes)."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model, the feature steps before it, and the codes of its columns.

    Parameters
    ----------
    codes
        Classes that its training rows held, ascending, shape (n_model_classes,).
    """

    steps: Pipeline
    model: Model
    codes: Codes

    def predict_proba(self, X: Array, n_classes: int) -> Array:
        """Probabilities of all classes; one that the model never saw has zeros."""
        found = self.model.predict_proba(self.steps.transform(X))
        p: Array = np.zeros((len(X), n_classes), dtype=found.dtype)
        p[:, self.codes] = found
        return p


class SteppedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier behind feature steps, with class weights.

    A subclass has at least the parameters ``features`` and ``class_weight`` and gives the method
    `_fit_rows`. The weights of ``balanced`` come from all rows given to `fit`, also where the
    subclass then fits a part of them.
    """

    features: object
    class_weight: ClassWeight
    choices_: dict[str, Any]

    @abstractmethod
    def _fit_rows(self, X: Array, codes: Codes, weights: Weights) -> Fitted:
        """Fit rows X, shape (n_rows, n_features), and say in ``choices_`` what was chosen."""

    def fit(self, X: Array, y: npt.ArrayLike) -> Self:
        """Fit all rows.

        Parameters
        ----------
        X
            Features, shape (n_rows, n_features); float16 is computed with as float32.
        y
            Labels, shape (n_rows,).

        Raises
        ------
        ValueError
            If X is not finite, y has one class only, or inner folds are needed and ``cv`` is None.
        ConfigError
            If a feature step is unknown.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"all {len(X)} training rows are of class {self.classes_[0]}: give two classes"
            )
        self._check_inner_folds()
        self.choices_ = {}
        weights = compute_sample_weight(self.class_weight, y)
        self.fitted_ = self._fit_rows(X, codes, weights)
        return self

    def predict_proba(self, X: Array) -> Array:
        """Class probabilities, shape (n_rows, n_classes), columns in the order of ``classes_``."""
        check_is_fitted(self, "fitted_")
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        return self.fitted_.predict_proba(X, len(self.classes_))

    def predict(self, X: Array) -> npt.NDArray[Any]:
        """Most probable class of each row, shape (n_rows,)."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels

    @property
    def needs_inner_folds(self) -> bool:
        """Whether inner folds must be given as ``cv``."""
        return False

    def _check_inner_folds(self) -> None:
        if self.needs_inner_folds and not getattr(self, "cv", None):
            raise ValueError(f"{type(self).__name__} needs inner folds, but cv is {self.cv!r}")

    def _make_steps(self) -> Pipeline:
        return make_features(parse_features(self.features))
