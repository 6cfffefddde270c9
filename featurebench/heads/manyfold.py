"""ManyFoldClassifier: what all heads have in common that are solved for many folds at once."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from featurebench.heads.features import make_features, parse_features, split_features
from featurebench.heads.folds import Fold, FoldPrediction, predict_one_by_one, take_rows
from featurebench.heads.rows import RowSource
from featurebench.heads.tuning import choose, log_loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

    from featurebench.heads.folds import Array, Codes, Progress, Rows

    Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Job:
    """Rows to fit on, rows to predict, and the candidates of the hyper-parameter to do it with.

    A class that is absent from ``train`` is predicted with probability 0.
    """

    train: Rows
    test: Rows
    candidates: tuple[Any, ...]


class ManyFoldClassifier(ClassifierMixin, BaseEstimator):
    """A classifier with at most one tuned hyper-parameter, that shares work between folds.

    A subclass has at least the parameters ``features``, ``rule`` and ``cv``, and gives the methods
    `_candidates`, `_predict_jobs`, `_fit_model` and `_model_proba`; ``_tuned`` names the
    hyper-parameter and ``_shared_steps`` the feature steps (after l2) that it can share.
    """

    _tuned: str = ""
    _shared_steps: tuple[tuple[str, ...], ...] = ((), ("standardise",))

    features: object
    rule: Any
    cv: Sequence[tuple[Rows, Rows]] | None

    @abstractmethod
    def _candidates(self, n_features: int, n_classes: int) -> tuple[Any, ...]:
        """Values of the hyper-parameter to choose from, from the simplest to the most flexible."""

    @abstractmethod
    def _predict_jobs(
        self, source: RowSource, y: Codes, jobs: Sequence[Job], n_classes: int, *, scale: bool
    ) -> Iterator[Probabilities]:
        """Yield probabilities of each job in order, shape (n_candidates, n_test, n_classes).

        ``scale`` asks for features standardised on the job's own training rows.
        """

    @abstractmethod
    def _fit_model(self, X: Array, y: Codes, candidate: Any, n_classes: int) -> Any:  # noqa: ANN401
        """Fit all rows of X, shape (n_rows, n_features), with one candidate."""

    @abstractmethod
    def _model_proba(self, model: Any, X: Array) -> Array:  # noqa: ANN401
        """Probabilities of a fitted model, shape (n_rows, n_classes)."""

    @property
    def needs_inner_folds(self) -> bool:
        """Whether there is a choice to make, for which ``cv`` must be given."""
        return len(self._candidates(1, 2)) > 1

    def fit(self, X: Array, y: npt.ArrayLike) -> Self:
        """Choose the hyper-parameter on the inner folds and fit all rows with it.

        Parameters
        ----------
        X
            Features, shape (n_rows, n_features).
        y
            Labels, shape (n_rows,).

        Raises
        ------
        ValueError
            If X is not finite, y has one class only, or there is a choice to make but no ``cv``.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        rows = np.arange(len(X))
        fold = Fold(rows, rows[:0], tuple((rows[a], rows[b]) for a, b in self.cv or ()))
        check_folds(self, codes, [fold])
        steps = parse_features(self.features)
        candidate = self._choose(X, codes, [fold], n_classes)[0]
        self.steps_ = make_features(steps).fit(X)
        self.model_ = self._fit_model(self.steps_.transform(X), codes, candidate, n_classes)
        self.choices_ = {self._tuned: candidate} if self._tuned else {}
        return self

    def predict_proba(self, X: Array) -> Array:
        """Class probabilities, shape (n_rows, n_classes), columns in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        return self._model_proba(self.model_, self.steps_.transform(X))

    def predict(self, X: Array) -> npt.NDArray[Any]:
        """Most probable class of each row, shape (n_rows,)."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels

    def predict_folds(
        self,
        X: Array,
        y: Codes,
        folds: Sequence[Fold],
        *,
        n_classes: int,
        progress: Progress | None = None,
    ) -> list[FoldPrediction]:
        """Fit and predict all folds at once; each fold alone gives the same, up to rounding.

        Parameters
        ----------
        X
            Features, shape (n_rows, n_features); a memory map is read in blocks.
        y
            Codes 0 to ``n_classes`` - 1, shape (n_rows,).
        folds
            With inner folds where `needs_inner_folds`.
        progress
            Called with the number of folds done.

        Raises
        ------
        ValueError
            If a training fold has one class only, or inner folds are needed and absent.
        """
        l2, rest = split_features(parse_features(self.features))
        check_folds(self, y, folds)
        if rest not in self._shared_steps:
            return counted(predict_one_by_one(self, X, y, folds, n_classes=n_classes), progress)
        chosen = self._choose(X, y, folds, n_classes)
        jobs = [Job(f.train, f.test, (c,)) for f, c in zip(folds, chosen, strict=True)]
        found = self._predict_jobs(RowSource(X, l2), y, jobs, n_classes, scale=bool(rest))
        choices = [{self._tuned: c} if self._tuned else {} for c in chosen]
        return counted(
            (FoldPrediction(p[0], c) for p, c in zip(found, choices, strict=True)), progress
        )

    def _choose(self, X: Array, y: Codes, folds: Sequence[Fold], n_classes: int) -> list[Any]:
        """Choose a candidate for every fold."""
        candidates = self._candidates(X.shape[1], n_classes)
        if len(candidates) == 1:
            return [candidates[0]] * len(folds)
        pairs = [pair for fold in folds for pair in fold.inner]
        jobs = [Job(train, test, candidates) for train, test in pairs]
        losses = list(self._losses(X, y, jobs, n_classes))
        chosen, start = [], 0
        for fold in folds:
            stop = start + len(fold.inner)
            chosen.append(candidates[choose(np.stack(losses[start:stop]), self.rule)])
            start = stop
        return chosen

    def _losses(
        self, X: Array, y: Codes, jobs: Sequence[Job], n_classes: int
    ) -> Iterator[npt.NDArray[np.float64]]:
        """Yield each job's mean log loss by candidate, shape (n_candidates,)."""
        l2, rest = split_features(parse_features(self.features))
        if rest in self._shared_steps:
            found = self._predict_jobs(RowSource(X, l2), y, jobs, n_classes, scale=bool(rest))
            for job, p in zip(jobs, found, strict=True):
                yield np.array([log_loss(each, y[job.test]) for each in p])
            return
        for job in jobs:
            steps = make_features(parse_features(self.features)).fit(take_rows(X, job.train))
            both = np.concatenate([job.train, job.test])
            inside = np.arange(len(both))
            alone = Job(inside[: len(job.train)], inside[len(job.train) :], job.candidates)
            source = RowSource(steps.transform(take_rows(X, both)))
            (p,) = self._predict_jobs(source, y[both], [alone], n_classes, scale=False)
            yield np.array([log_loss(each, y[job.test]) for each in p])


def check_folds(head: ManyFoldClassifier, y: Codes, folds: Sequence[Fold]) -> None:
    """Refuse folds that cannot be fitted.

    Raises
    ------
    ValueError
        If training rows have one class only, or inner folds are needed and absent.
    """
    for i, fold in enumerate(folds):
        n_present = len(np.unique(y[fold.train]))
        if n_present < 2:
            raise ValueError(f"fold {i}: its {len(fold.train)} training rows have one class only")
        if head.needs_inner_folds and not fold.inner:
            raise ValueError(
                f"fold {i}: {type(head).__name__} has values to choose from but no inner folds (cv)"
            )


def counted(
    predictions: Iterable[FoldPrediction], progress: Progress | None
) -> list[FoldPrediction]:
    """Collect predictions; tell ``progress`` of each."""
    done = []
    for prediction in predictions:
        done.append(prediction)
        if progress is not None:
            progress(1)
    return done
