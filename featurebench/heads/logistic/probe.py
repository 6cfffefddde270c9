"""LogisticProbe: the linear probe, its penalty chosen on inner folds, for many folds at once."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from featurebench.heads.logistic.fewrows import solve_few_rows
from featurebench.heads.logistic.solver import Problem, solve_logistic
from featurebench.heads.manyfold import Job, ManyFoldClassifier
from featurebench.heads.rows import RowSource
from featurebench.heads.weights import class_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from featurebench.heads.folds import Array, Codes, Rows
    from featurebench.heads.logistic.solver import Models
    from featurebench.heads.tuning import Rule

    Floats = npt.NDArray[np.float64]

DEFAULT_CS = (1e-4, 3.6e-4, 1.3e-3, 4.6e-3, 1.7e-2, 6e-2, 0.22, 0.77, 2.8, 10.0)
PRESET = "dK/100"
# A training set with fewer of the rows than this is cheaper to read than to mask.
_FEW = 0.1


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Coefficients of the classes ``present``; one row for the second of two classes.

    Parameters
    ----------
    coef, intercept
        Float64, shapes (K, d) and (K,), K = 1 if there are two classes.
    present
        Codes of the classes, shape (n_present,), among ``n_classes``.
    """

    coef: Floats
    intercept: Floats
    present: npt.NDArray[np.int64]
    n_classes: int

    def predict_proba(self, X: Array) -> Floats:
        """Probabilities of rows of X, shape (n_rows, n_classes)."""
        p: Floats = predict_candidates([self], X)[0]
        return p


def predict_candidates(models: Sequence[LinearModel], X: Array) -> Floats:
    """Probabilities of several models of the same classes, shape (n_models, n_rows, n_classes)."""
    first = models[0]
    coef = np.concatenate([model.coef for model in models])
    dtype = np.result_type(X.dtype, np.float32)
    decision = X.astype(dtype, copy=False) @ coef.T.astype(dtype)
    decision = decision + np.concatenate([model.intercept for model in models])
    by_model = decision.reshape(len(X), len(models), len(first.coef)).swapaxes(0, 1)
    p = np.zeros((len(models), len(X), first.n_classes))
    if by_model.shape[2] == 1:
        second = expit(by_model)
        p[:, :, first.present] = np.concatenate([1 - second, second], axis=2)
    else:
        p[:, :, first.present] = softmax(by_model, axis=2)
    return p


class LogisticProbe(ManyFoldClassifier):
    """L2-penalised multinomial logistic regression, solved for many folds and penalties at once.

    Minimises scikit-learn's objective, the sum of cross-entropies plus ``|W|^2 / (2 C)`` with free
    intercepts, to a relative gap of about ``tol``. With several ``Cs`` the one with the least mean
    log loss on the inner folds is taken; means and standard deviations come from the training side
    of every inner fold, too.

    Parameters
    ----------
    C
        Inverse penalty; ``"dK/100"`` is the number of features times the number of classes over
        100, a convention of pathology benchmarks that is not tuned. None means to choose.
    Cs
        Inverse penalties to choose from, where ``C`` is None.
    features
        Feature steps, see `featurebench.heads.features.parse_features`.
    class_weight
        None, ``"balanced"`` or a weight per label, as in scikit-learn.
    rule
        ``best`` or ``one_se``, see `featurebench.heads.tuning.choose`.
    cv
        Inner folds as ``(train, test)`` row arrays into the rows given to `fit`, patient-grouped
        by whoever draws them. Needed where there is a choice to make.
    tol, max_iter
        Relative gap to the optimum, and most passes over X per model.
    device
        ``cpu``, or a device of torch such as ``cuda``.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coef_, intercept_ : arrays of shape (K, n_features) and (K,), K = 1 if there are two classes
        On the features after all steps.
    C_ : float
        The chosen inverse penalty.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> LogisticProbe(C=1.0).fit(X, [0, 0, 1, 1]).predict([[3.0]])
    array([1])
    """

    _tuned = "C"

    def __init__(
        self,
        C: float | str | None = None,
        *,
        Cs: Sequence[float] = DEFAULT_CS,
        features: object = ("standardise",),
        class_weight: Mapping[Any, float] | str | None = None,
        rule: Rule = "best",
        cv: Sequence[tuple[Rows, Rows]] | None = None,
        tol: float = 2e-7,
        max_iter: int = 1000,
        device: str = "cpu",
    ) -> None:
        self.C = C
        self.Cs = Cs
        self.features = features
        self.class_weight = class_weight
        self.rule = rule
        self.cv = cv
        self.tol = tol
        self.max_iter = max_iter
        self.device = device

    def fit(self, X: Array, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Choose C on the inner folds and fit all rows with it.

        Parameters
        ----------
        X
            Features, shape (n_rows, n_features).
        y
            Labels, shape (n_rows,).
        sample_weight
            Shape (n_rows,); multiplies the class weights.

        Raises
        ------
        ValueError
            If X is not finite, y has one class only, C is not positive, or there is a choice to
            make but no ``cv``.
        """
        self._row_weight = None
        if sample_weight is not None:
            self._row_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            _check_weighted_classes(np.asarray(y), self._row_weight)
        try:
            super().fit(X, y)
        finally:
            self._row_weight = None
        self.coef_, self.intercept_ = self.model_.coef, self.model_.intercept
        self.C_ = self.choices_["C"]
        return self

    def decision_function(self, X: Array) -> Floats:
        """Logits, shape (n_rows, n_classes), or of the second of two classes, shape (n_rows,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        decision: Floats = self.steps_.transform(X) @ self.coef_.T + self.intercept_
        return decision[:, 0] if len(self.coef_) == 1 else decision

    def _candidates(self, n_features: int, n_classes: int) -> tuple[float, ...]:
        if self.C is None:
            values = np.unique(np.asarray(self.Cs, dtype=float))
        else:
            values = np.array([_preset(self.C, n_features, n_classes)])
        if not len(values) or values[0] <= 0 or not np.isfinite(values).all():
            given = self.Cs if self.C is None else self.C
            raise ValueError(f"C must be positive and finite, not {given}")
        return tuple(values.tolist())

    def _predict_jobs(
        self, source: RowSource, y: Codes, jobs: Sequence[Job], n_classes: int, *, scale: bool
    ) -> Iterator[npt.NDArray[np.float32]]:
        solved = self._solve(source, y, jobs, n_classes, scale=scale)
        for job, models in zip(jobs, solved, strict=True):
            X = source.read(job.test)
            yield predict_candidates(models, X).astype(np.float32)

    def _fit_model(self, X: Array, y: Codes, candidate: float, n_classes: int) -> LinearModel:
        rows = np.arange(len(X))
        job = Job(rows, rows[:0], (candidate,))
        return self._solve(RowSource(X), y, [job], n_classes, scale=False)[0][0]

    def _model_proba(self, model: LinearModel, X: Array) -> Floats:
        return model.predict_proba(X)

    def _solve(
        self, source: RowSource, y: Codes, jobs: Sequence[Job], n_classes: int, *, scale: bool
    ) -> list[list[LinearModel]]:
        """Solve every job's candidates; jobs with the same classes share the passes over X."""
        alike: dict[tuple[bool, bytes], list[int]] = defaultdict(list)
        for i, job in enumerate(jobs):
            few = len(jobs) > 1 and len(job.train) < _FEW * len(y)
            alike[few, np.unique(y[job.train]).tobytes()].append(i)
        solved: list[list[LinearModel]] = [[] for _ in jobs]
        n_stuck = 0
        for (few, present), members in alike.items():
            codes = np.frombuffer(present, dtype=y.dtype)
            chosen = [jobs[i] for i in members]
            models = self._solve_alike(source, y, chosen, codes, few=few, scale=scale)
            n_stuck += int((models.gap > 10 * self.tol).sum())
            split = iter(zip(models.coef, models.intercept, strict=True))
            for i in members:
                solved[i] = [
                    LinearModel(*next(split), codes, n_classes) for _ in jobs[i].candidates
                ]
        if n_stuck:
            message = f"{n_stuck} models have not converged: raise max_iter from {self.max_iter}"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return solved

    def _solve_alike(
        self,
        source: RowSource,
        y: Codes,
        jobs: Sequence[Job],
        present: Codes,
        *,
        few: bool,
        scale: bool,
    ) -> Models:
        place = np.zeros(int(y.max()) + 1, dtype=np.int64)
        place[present] = np.arange(len(present))
        row_weight = getattr(self, "_row_weight", None)
        problem = Problem(
            _membership(jobs, 0 if few else len(y)),
            np.repeat(np.arange(len(jobs)), [len(job.candidates) for job in jobs]),
            np.concatenate([job.candidates for job in jobs]).astype(np.float64),
            len(present),
            standardise=scale,
            row_weight=row_weight,
            class_weight=self._weights_of_sets(y, jobs, present),
        )
        settings: dict[str, Any] = {
            "tol": self.tol,
            "max_iter": self.max_iter,
            "device": self.device,
        }
        if few:
            return solve_few_rows(
                source, place[y], problem, [job.train for job in jobs], **settings
            )
        return solve_logistic(source, place[y], problem, **settings)

    def _weights_of_sets(self, y: Codes, jobs: Sequence[Job], present: Codes) -> Floats | None:
        if self.class_weight is None:
            return None
        labels = getattr(self, "classes_", np.arange(int(y.max()) + 1)).tolist()
        weight = getattr(self, "_row_weight", None)
        weight = np.ones(len(y)) if weight is None else weight
        counts = [np.bincount(y[job.train], weight[job.train], len(labels)) for job in jobs]
        return np.array([class_weights(self.class_weight, n, labels)[present] for n in counts])


def _check_weighted_classes(y: npt.NDArray[Any], weight: Floats) -> None:
    for label in np.setdiff1d(y, y[weight > 0]):
        raise ValueError(f"all rows of class {label} have sample weight 0: leave them out")


def _preset(C: float | str, n_features: int, n_classes: int) -> float:
    if isinstance(C, str):
        if C != PRESET:
            raise ValueError(f"C must be a number or {PRESET!r}, not {C!r}")
        return n_features * n_classes / 100
    return float(C)


def _membership(jobs: Sequence[Job], n_rows: int) -> npt.NDArray[np.uint8]:
    """Mark the rows of each job's training set; few rows are read by their numbers instead."""
    sets = np.zeros((n_rows, len(jobs)), dtype=np.uint8)
    if n_rows:
        for i, job in enumerate(jobs):
            sets[job.train, i] = 1
    return sets
