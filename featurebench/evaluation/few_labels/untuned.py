"""without_tuning(): a head with fixed settings, for training sets too small for inner folds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from featurebench.heads import needs_inner_folds

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

_FIXED: dict[str, dict[str, Any]] = {
    "LogisticProbe": {"C": "dK/100"},
    "LdaProbe": {"shrinkage": "auto"},
    "KnnProbe": {"k": 5},
    "CentroidProbe": {"temperature": 0.1},
    "MlpProbe": {"patience": None},
    "LightGBMProbe": {"early_stopping_rounds": None},
    "XGBoostProbe": {"early_stopping_rounds": None},
}


def without_tuning(head: ClassifierMixin) -> ClassifierMixin | None:
    """Give the form of a head that needs no inner folds.

    ======================= =====================================================================
    head                    instead of choosing
    ======================= =====================================================================
    logistic                C is the number of features times the number of classes over 100
    lda                     the shrinkage of Ledoit and Wolf
    knn                     5 neighbours
    centroid                temperature 0.1, which the predicted class does not depend on
    mlp, xgboost, lightgbm  all epochs or rounds, without an early stop
    a searched head         the head as given, which is the search's first trial
    ======================= =====================================================================

    Returns
    -------
    ClassifierMixin or None
        Unfitted; the head itself where it has nothing to choose. None where there is no such form:
        ridge and the support vector machines fit their probabilities to rows held out.

    Examples
    --------
    >>> from featurebench.heads import make_head
    >>> without_tuning(make_head("logistic"))
    LogisticProbe(C='dK/100')
    >>> without_tuning(make_head("ridge")) is None
    True
    """
    if not needs_inner_folds(head):
        return head
    if type(head).__name__ == "SearchedHead":
        return without_tuning(head.estimator)
    for ancestor in type(head).__mro__:
        if ancestor.__name__ in _FIXED:
            fixed: ClassifierMixin = clone(head).set_params(**_FIXED[ancestor.__name__])
            return fixed
    return None
