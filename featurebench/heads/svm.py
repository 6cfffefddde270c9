"""LinearSvmProbe and RbfSvmProbe: support vector machines, made probabilities on inner folds."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC, LinearSVC

from featurebench.heads.sigmoid import fit_sigmoids
from featurebench.heads.stepped import Fitted, SteppedClassifier
from featurebench.heads.tuning import choose, log_loss

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sklearn.pipeline import Pipeline

    from featurebench.heads.folds import Array, Codes, Rows
    from featurebench.heads.sigmoid import Sigmoids
    from featurebench.heads.stepped import ClassWeight, Weights

    Doubles = npt.NDArray[np.float64]
    Penalty = float | str | Sequence[float]


# Up to so many rows (200 MB) the kernel is one matrix product; LIBSVM takes values one by one.
GRAM_ROWS = 5000


class HeldOut(NamedTuple):
    """Rows that an inner fold held out, and their scores.

    Parameters
    ----------
    rows
        Row numbers, shape (n_rows,).
    scores
        By value of C and class, shape (n_values, n_rows, n_classes); NaN of a class that the inner
        training rows lack.
    """

    rows: Rows
    scores: Doubles


class CalibratedSvm(SteppedClassifier):
    """A support vector machine whose scores are made probabilities by a sigmoid to each class.

    The sigmoids (Platt 1999, with his smoothed targets) are fitted to the scores of rows that an
    inner fold held out, all inner folds together; the machine that predicts is fitted to all rows.
    It equals scikit-learn's ``CalibratedClassifierCV(ensemble=False)``, but inner folds need not
    hold out every row, and ``class_weight`` weighs the rows of the sigmoids, too: those would
    otherwise undo it.
    """

    C: Penalty
    cv: Sequence[tuple[Rows, Rows]] | None

    @abstractmethod
    def _make_machine(self, C: float | str, X: Array) -> LinearSVC | SVC:
        """Make an unfitted machine for training rows X."""

    @property
    def needs_inner_folds(self) -> bool:
        """Always: the sigmoids need scores of rows that were held out."""
        return True

    def _fit_rows(self, X: Array, codes: Codes, weights: Weights) -> Fitted:
        self.choices_ = {"n_unconverged": 0}
        candidates = _candidates(self.C)
        parts = list(self._held_out(X, codes, weights, candidates))
        if not parts:
            raise ValueError("every inner fold trains on one class only: give other inner folds")
        rows = np.concatenate([part.rows for part in parts])
        scores = np.concatenate([part.scores for part in parts], axis=1)
        sigmoids = fit_sigmoids(scores, codes[rows], weights[rows])
        best = choose(_losses(parts, sigmoids, codes)) if len(candidates) > 1 else 0
        steps, machine = self._fit_machines(X, codes, weights, [candidates[best]])
        self.choices_["C"] = float(machine[0].C)
        model = _CalibratedModel(machine[0], sigmoids[best])
        return Fitted(steps, model, np.arange(len(self.classes_)))

    def _held_out(
        self, X: Array, codes: Codes, weights: Weights, candidates: Sequence[float | str]
    ) -> Iterator[HeldOut]:
        n_classes = len(self.classes_)
        for train, validation in self.cv or ():
            if len(np.unique(codes[train])) > 1 and len(validation):
                steps, machines = self._fit_machines(
                    X[train], codes[train], weights[train], candidates
                )
                rows = steps.transform(X[validation])
                scores = [_scores(machine, rows, n_classes) for machine in machines]
                yield HeldOut(np.asarray(validation), np.stack(scores))

    def _fit_machines(
        self, X: Array, codes: Codes, weights: Weights, candidates: Sequence[float | str]
    ) -> tuple[Pipeline, list[LinearSVC | SVC]]:
        """Fit the feature steps and, on what they give, a machine for every value of C."""
        steps = self._make_steps().fit(X)
        rows = steps.transform(X)
        machines = [self._make_machine(C, rows) for C in candidates]
        for machine in machines:
            with warnings.catch_warnings():
                # What it warns of is counted in choices_, which is kept with the run.
                warnings.simplefilter("ignore", ConvergenceWarning)
                machine.fit(rows, codes, sample_weight=weights)
            stopped = machine.max_iter > 0 and np.max(machine.n_iter_) >= machine.max_iter
            self.choices_["n_unconverged"] += int(stopped)
        return steps, machines


class LinearSvmProbe(CalibratedSvm):
    """Linear support vector machines, one class against the rest, calibrated by sigmoids.

    Minimises scikit-learn's `LinearSVC` objective (squared hinge loss), in its dual where there
    are fewer rows than columns.

    Parameters
    ----------
    C
        Inverse penalty; a sequence is chosen from by the log loss on the inner folds. ``"scale"``
        is ``1 / mean |x|^2`` over the training rows behind the feature steps, the default of
        SVMlight (Joachims 1999): 1 / n_features for standardised ones. It follows the features'
        unit, and it is in the range that wide embeddings want; with C = 1 they are separated
        without error, which takes ten times longer to solve and predicts worse.
    features
        Feature steps, fitted on the training rows; see `featurebench.heads.features`.
    class_weight
        As in scikit-learn: None, ``"balanced"`` or a weight of each label.
    cv
        Inner folds as ``(train, validation)`` row arrays into the rows given to `fit`.
    max_iter
        Of LIBLINEAR.
    random_state
        Seed of the order in which the dual's coordinates are visited.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    choices_ : dict
        ``C`` as used, and ``n_unconverged``: how many fits, inner ones too, ended at ``max_iter``.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.arange(8.0)[:, None], ["a"] * 4 + ["b"] * 4
    >>> even, odd = np.arange(0, 8, 2), np.arange(1, 8, 2)
    >>> LinearSvmProbe(cv=[(even, odd), (odd, even)]).fit(X, y).predict([[9.0]])
    array(['b'], dtype='<U1')
    """

    def __init__(
        self,
        *,
        C: Penalty = "scale",
        features: object = ("standardise",),
        class_weight: ClassWeight = None,
        cv: Sequence[tuple[Rows, Rows]] | None = None,
        max_iter: int = 5000,
        random_state: int | None = 0,
    ) -> None:
        self.C = C
        self.features = features
        self.class_weight = class_weight
        self.cv = cv
        self.max_iter = max_iter
        self.random_state = random_state

    def _make_machine(self, C: float | str, X: Array) -> LinearSVC:
        if C == "scale":
            C = 1 / (float(np.einsum("ij,ij->i", X, X, dtype=np.float64).mean()) or 1.0)
        dual = len(X) < X.shape[1]
        return LinearSVC(C=C, dual=dual, max_iter=self.max_iter, random_state=self.random_state)


class RbfSvmProbe(CalibratedSvm):
    """Support vector machine with a Gaussian kernel, calibrated by sigmoids.

    The machine is scikit-learn's `SVC`: its time grows with the square of the number of rows, so
    it is for some thousands of them at most.

    Parameters
    ----------
    C
        Inverse penalty; a sequence is chosen from by the log loss on the inner folds.
    gamma
        As in `SVC`; ``"scale"`` is 1 / (n_features * variance of the features).
    features, class_weight, cv
        As in `LinearSvmProbe`.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    choices_ : dict
        ``C`` as used, and ``n_unconverged``, which is 0.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.arange(8.0)[:, None], ["a", "a", "b", "b", "b", "b", "a", "a"]
    >>> even, odd = np.arange(0, 8, 2), np.arange(1, 8, 2)
    >>> RbfSvmProbe(C=[1, 10], cv=[(even, odd), (odd, even)]).fit(X, y).predict([[3.5]])
    array(['b'], dtype='<U1')
    """

    def __init__(
        self,
        *,
        C: float | Sequence[float] = 1.0,
        gamma: float | str = "scale",
        features: object = ("standardise",),
        class_weight: ClassWeight = None,
        cv: Sequence[tuple[Rows, Rows]] | None = None,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.features = features
        self.class_weight = class_weight
        self.cv = cv

    def _make_machine(self, C: float | str, X: Array) -> SVC:
        if len(X) > GRAM_ROWS:
            return SVC(C=C, gamma=self.gamma)
        gamma = self.gamma
        if gamma == "scale":
            gamma = 1 / (X.shape[1] * (float(X.var(dtype=np.float64)) or 1.0))
        return SVC(C=C, kernel=partial(rbf_kernel, gamma=gamma))


def _candidates(C: Penalty) -> list[float | str]:
    """Values to choose from, from the strongest penalty to the weakest."""
    if isinstance(C, str):
        return [C]
    return [float(value) for value in np.sort(np.atleast_1d(C))]


def _scores(machine: LinearSVC | SVC, X: Array, n_classes: int) -> Doubles:
    """Scores of all classes, shape (n_rows, n_classes); of two, each is the other's negative."""
    found = machine.decision_function(X)
    scores = np.full((len(X), n_classes), np.nan)
    scores[:, machine.classes_] = np.stack([-found, found], 1) if found.ndim == 1 else found
    return scores


def _losses(parts: Sequence[HeldOut], sigmoids: Sequence[Sigmoids], codes: Codes) -> Doubles:
    """Mean log loss of each inner fold and value of C, shape (n_inner, n_values)."""
    every = np.arange(parts[0].scores.shape[2])
    return np.array(
        [
            [
                log_loss(sigmoid.probabilities(scores, every), codes[part.rows])
                for scores, sigmoid in zip(part.scores, sigmoids, strict=True)
            ]
            for part in parts
        ]
    )


@dataclass(frozen=True, eq=False)
class _CalibratedModel:
    machine: Any
    sigmoids: Sigmoids

    def predict_proba(self, X: Array) -> Doubles:
        classes = self.machine.classes_
        return self.sigmoids.probabilities(_scores(self.machine, X, len(classes)), classes)
