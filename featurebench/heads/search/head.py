"""SearchedHead: any head, with its hyper-parameters searched on the inner folds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from featurebench.heads.folds import choices_of, needs_inner_folds
from featurebench.heads.search.inner import InnerFolds
from featurebench.heads.search.plan import SearchPlan
from featurebench.heads.search.space import Choice, Parameter, as_json, check_space, parse_space
from featurebench.heads.search.study import Search, SearchResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from featurebench.heads.folds import Array, Rows
    from featurebench.heads.search.plan import Method
    from featurebench.heads.tuning import Rule

_DTYPES = [np.float32, np.float64]


class SearchedHead(ClassifierMixin, BaseEstimator):
    """A head whose hyper-parameters are those with the least mean log loss on the inner folds.

    The first trial is the head as it is given, so that on the inner folds a search never does
    worse than none. A head that needs inner folds itself gets, inside a trial, the other inner
    folds as far as they lie in the trial's training rows; and in the last fit all of them.

    Parameters
    ----------
    estimator
        The head; it is cloned, never fitted.
    space
        Where to search: see `parse_space`.
    method, trials, seconds, rule, pruning
        How to search: see `SearchPlan`.
    random_state
        Seed of the suggestions. With ``seconds`` None, equal seeds give equal choices.
    cv
        Inner folds as ``(train, validation)`` row arrays into the rows given to `fit`,
        patient-grouped by whoever draws them.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    estimator_ : the head with the best parameters, fitted on all rows
    choices_ : dict
        JSON-ready: ``params``, ``inner_log_loss`` and ``default_log_loss`` (mean over the inner
        folds, in nats; None if the default configuration failed), ``trials`` of which ``pruned``
        and ``failed``, ``seconds``, ``method``, ``untried`` (points of the grid that the budget
        left out; None for other methods), ``estimator`` (what the head chose itself).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0]])
    >>> cv = [(np.arange(0, 8, 2), np.arange(1, 8, 2)), (np.arange(1, 8, 2), np.arange(0, 8, 2))]
    >>> head = SearchedHead(LogisticRegression(), {"C": [0.01, 1.0, 100.0]}, method="grid", cv=cv)
    >>> head.fit(X, [0, 0, 0, 0, 1, 1, 1, 1]).choices_["params"]
    {'C': 100.0}
    """

    def __init__(
        self,
        estimator: ClassifierMixin,
        space: Mapping[str, object],
        *,
        method: Method = "tpe",
        trials: int | None = 20,
        seconds: float | None = None,
        rule: Rule = "best",
        pruning: bool = True,
        random_state: int | None = 0,
        cv: Sequence[tuple[Rows, Rows]] | None = None,
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.method = method
        self.trials = trials
        self.seconds = seconds
        self.rule = rule
        self.pruning = pruning
        self.random_state = random_state
        self.cv = cv

    @property
    def needs_inner_folds(self) -> bool:
        """True: every configuration is judged on them."""
        return True

    def fit(self, X: Array, y: npt.ArrayLike) -> Self:
        """Search on the inner folds and fit all rows with the best configuration.

        Parameters
        ----------
        X
            Features, shape (n_rows, n_features).
        y
            Labels, shape (n_rows,).

        Raises
        ------
        ConfigError
            If the space or the plan cannot be used with this head.
        ValueError
            If X is not finite, y has one class only, or ``cv`` is absent or overlaps itself.
        ValueError, ArithmeticError
            The last trial's error, if all trials failed.
        """
        plan = SearchPlan(self.method, self.trials, self.seconds, self.rule, self.pruning)
        space = parse_space(self.space)
        check_space(space, self.estimator, plan.method)
        X, labels = validate_data(self, X, y, dtype=_DTYPES)
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"all {len(labels)} labels are {labels[0]}: give two classes")
        if not self.cv:
            raise ValueError("SearchedHead judges configurations on inner folds: give cv")
        found = self._search(InnerFolds.from_pairs(X, labels, self.cv), plan, space)
        best = found.best(plan.rule)
        self.estimator_ = self._configured(best.params)
        if needs_inner_folds(self.estimator_):
            self.estimator_.set_params(cv=self.cv)
        self.estimator_.fit(X, labels)
        self.choices_ = {
            "params": as_json(best.params),
            "inner_log_loss": best.loss,
            **_summary(found, plan, space),
            "estimator": choices_of(self.estimator_),
        }
        return self

    def predict_proba(self, X: Array) -> Array:
        """Class probabilities, shape (n_rows, n_classes), columns in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        y_prob: Array = self.estimator_.predict_proba(X)
        return y_prob

    def predict(self, X: Array) -> npt.NDArray[Any]:
        """Most probable class of each row, shape (n_rows,)."""
        labels: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def _search(
        self, folds: InnerFolds, plan: SearchPlan, space: Mapping[str, Parameter]
    ) -> SearchResult:
        search = Search(
            lambda params: folds.losses(self._configured(params)), len(folds.folds), plan
        )
        current = self.estimator.get_params(deep=True)
        return search.run({name: current[name] for name in space}, space, self.random_state)

    def _configured(self, params: Mapping[str, object]) -> ClassifierMixin:
        return clone(self.estimator).set_params(**params)


def _summary(
    found: SearchResult, plan: SearchPlan, space: Mapping[str, Parameter]
) -> dict[str, Any]:
    default = found.trials[0]
    return {
        "default_log_loss": default.loss if default.state == "complete" else None,
        "trials": len(found.trials),
        "pruned": found.count("pruned"),
        "failed": found.count("failed"),
        "seconds": found.seconds,
        "method": plan.method,
        "untried": _n_untried(found, space) if plan.method == "grid" else None,
    }


def _n_untried(found: SearchResult, space: Mapping[str, Parameter]) -> int:
    """Points of the grid that no trial reached; the default configuration may be none of them."""
    n_points = math.prod(len(each.values) for each in space.values() if isinstance(each, Choice))
    default = found.trials[0].params
    in_grid = all(each.encode(default[name]) is not None for name, each in space.items())
    return n_points - len(found.trials) + (not in_grid)
