"""ForestProbe: scikit-learn's random forest behind feature steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.heads.delegated import DelegatedClassifier
from featurebench.heads.stepped import Fitted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featurebench.heads.folds import Array, Codes
    from featurebench.heads.stepped import ClassWeight, Weights


class ForestProbe(DelegatedClassifier):
    """Random forest.

    Any parameter of `sklearn.ensemble.RandomForestClassifier` may be given. By default a split
    looks at the square root of the number of columns, and a leaf holds two rows at least: trees
    grown to single rows give probabilities that are too far from one half.

    Parameters
    ----------
    features
        Feature steps, fitted on the training rows; see `featurebench.heads.features`.
    class_weight
        As in scikit-learn: None, ``"balanced"`` or a weight of each label.
    random_state
        Seed of the drawn rows and columns.
    n_jobs
        Threads. They change the order in which trees are summed, so the last digit at most.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]] * 5), ["a", "a", "b", "b"] * 5
    >>> ForestProbe(n_estimators=20, max_depth=3).fit(X, y).predict([[3.0]])
    array(['b'], dtype='<U1')
    """

    _withheld = frozenset({"verbose", "warm_start"})

    def __init__(
        self,
        *,
        n_estimators: int = 300,
        min_samples_leaf: float = 2,
        features: object = (),
        class_weight: ClassWeight = None,
        random_state: int | None = 0,
        n_jobs: int | None = 1,
        **params: Any,  # noqa: ANN401
    ) -> None:
        self.n_estimators = n_estimators
        self.min_samples_leaf = min_samples_leaf
        self.features = features
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._store_delegated(params)

    @classmethod
    def _library_params(cls) -> Mapping[str, Any]:
        from sklearn.ensemble import RandomForestClassifier

        params: dict[str, Any] = RandomForestClassifier().get_params()
        return params

    def _fit_rows(self, X: Array, codes: Codes, weights: Weights) -> Fitted:
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            **self._delegated(),
            n_estimators=self.n_estimators,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        steps = self._make_steps().fit(X)
        model = forest.fit(steps.transform(X), codes, sample_weight=weights)
        return Fitted(steps, model, np.arange(len(self.classes_)))
