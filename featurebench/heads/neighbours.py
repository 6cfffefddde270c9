"""KnnProbe: the votes of the nearest training rows, found for all folds in one search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs
from sklearn.base import clone

from featurebench.heads.candidates import Metric, Points
from featurebench.heads.features import parse_features, split_features
from featurebench.heads.folds import FoldPrediction
from featurebench.heads.manyfold import Job, ManyFoldClassifier, check_folds
from featurebench.heads.nearest import nearest_rows
from featurebench.heads.rows import RowSource
from featurebench.heads.tuning import Rule, choose, log_loss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featurebench.heads.folds import Array, Codes, Fold, Progress, Rows

    Probabilities = npt.NDArray[np.float32]

Weights = Literal["uniform", "distance"]


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What is kept of a fit: the training rows and their classes.

    Parameters
    ----------
    rows
        Float32, shape (n_train, n_features).
    codes
        Shape (n_train,).
    k
        Number of neighbours asked.
    n_classes
        Of the codes.
    """

    rows: npt.NDArray[np.float32]
    codes: Codes
    k: int
    n_classes: int


class KnnProbe(ManyFoldClassifier):
    """Votes of the k nearest training rows, as of scikit-learn's ``KNeighborsClassifier``.

    Rows are compared as float32. The neighbours are exact: their order is that of distances
    computed pair by pair, not by a matrix product, so it depends neither on the folds searched
    together nor on the number of threads, and of rows at the same distance the one with the lower
    row number is nearer. scikit-learn leaves such ties open and is subject to the rounding of its
    products; where neither matters the predictions are the same.

    Parameters
    ----------
    k
        Number of neighbours, or several to choose from on the inner folds by their log loss.
        More than there are training rows means all of them.
    metric
        ``cosine``: 1 - the cosine of the angle; a row of zeros is at distance 1 from all.
        ``euclidean``.
    weights
        Of the votes: ``uniform``, or ``distance`` for its inverse; where neighbours are at
        distance 0, only these vote.
    features
        Feature steps inside the fold. Other steps than l2 change the distances, so that folds
        share no search.
    class_weight
        Factor of the votes of a class: None, ``balanced`` (the inverse of its share of the
        training rows) or ``{label: weight}``, 1 for a label that is absent; positive.
    rule
        How to choose k: ``best`` or ``one_se``, which prefers more neighbours.
    cv
        Inner folds as ``(train, validation)`` row arrays into the rows given to `fit`; needed
        where ``k`` has several values.
    n_jobs
        Threads, as scikit-learn counts them.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    choices_ : dict
        The chosen ``k``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[3.0, 0.0], [2.0, 0.1], [0.1, 2.0], [0.0, 1.0]])
    >>> head = KnnProbe(k=3).fit(X, ["stroma", "stroma", "tumour", "tumour"])
    >>> head.predict_proba([[0.2, 1.0]]).round(2)
    array([[0.33, 0.67]], dtype=float32)
    """

    _tuned = "k"
    _shared_steps = ((),)

    def __init__(
        self,
        k: int | Sequence[int] = 20,
        *,
        metric: Metric = "cosine",
        weights: Weights = "uniform",
        features: object = (),
        class_weight: str | Mapping[Any, float] | None = None,
        rule: Rule = "best",
        cv: Sequence[tuple[Rows, Rows]] | None = None,
        n_jobs: int | None = 1,
    ) -> None:
        self.k = k
        self.metric = metric
        self.weights = weights
        self.features = features
        self.class_weight = class_weight
        self.rule = rule
        self.cv = cv
        self.n_jobs = n_jobs

    def predict_folds(
        self,
        X: Array,
        y: Codes,
        folds: Sequence[Fold],
        *,
        n_classes: int,
        progress: Progress | None = None,
    ) -> list[FoldPrediction]:
        """Fit and predict all folds, the inner ones too, from one search.

        Parameters
        ----------
        X
            Features, shape (n_rows, n_features); copied as float32.
        y
            Codes 0 to ``n_classes`` - 1, shape (n_rows,).
        folds
            With inner folds where `needs_inner_folds`.
        progress
            Called with the number of folds done.

        Raises
        ------
        ValueError
            If a training fold has one class only, inner folds are needed and absent, a row is not
            finite or a parameter is out of range.
        """
        head = clone(self)  # without classes_: here labels are codes
        l2, rest = split_features(parse_features(self.features))
        if rest or not self.needs_inner_folds:
            return super(KnnProbe, head).predict_folds(
                X, y, folds, n_classes=n_classes, progress=progress
            )
        check_folds(head, y, folds)
        done = []
        for prediction in head._choose_and_predict(RowSource(X, l2), y, folds, n_classes):
            done.append(prediction)
            if progress is not None:
                progress(1)
        return done

    def _choose_and_predict(
        self, source: RowSource, y: Codes, folds: Sequence[Fold], n_classes: int
    ) -> Iterator[FoldPrediction]:
        ks = self._candidates(source.shape[1], n_classes)
        pairs = [pair for fold in folds for pair in (*fold.inner, (fold.train, fold.test))]
        jobs = [Job(train, test, ks) for train, test in pairs]
        found = self._predict_jobs(source, y, jobs, n_classes)
        for fold in folds:
            losses = [
                [log_loss(p, y[validation]) for p in next(found)] for _, validation in fold.inner
            ]
            best = choose(np.array(losses), self.rule)
            yield FoldPrediction(next(found)[best], {"k": ks[best]})

    def _candidates(self, n_features: int, n_classes: int) -> tuple[int, ...]:
        ks = self.k if isinstance(self.k, Sequence | np.ndarray) else [self.k]
        if len(ks) == 0 or not all(isinstance(k, int | np.integer) and k >= 1 for k in ks):
            raise ValueError(f"k={self.k!r}: give a number of neighbours, 1 or more, or several")
        return tuple(sorted({int(k) for k in ks}, reverse=True))

    def _predict_jobs(
        self,
        source: RowSource,
        y: Codes,
        jobs: Sequence[Job],
        n_classes: int,
        *,
        scale: bool = False,
    ) -> Iterator[Probabilities]:
        if not jobs:
            return
        self._check_names()
        points = Points.read(source, self.metric)
        ks = sorted({k for job in jobs for k in job.candidates})
        found = nearest_rows(points, jobs, ks, effective_n_jobs(self.n_jobs))
        for job, nearest in zip(jobs, found, strict=True):
            weight = self._class_weights(y[job.train], n_classes)[y[nearest]]
            distance = None
            if self.weights == "distance":
                distance = _distances(points, job.test, nearest, self.metric)
            yield np.stack(
                [_vote(y[nearest], weight, distance, k, n_classes) for k in job.candidates]
            )

    def _class_weights(self, y: Codes, n_classes: int) -> npt.NDArray[np.float64]:
        """Factor of each code's votes, shape (n_classes,)."""
        if self.class_weight is None:
            return np.ones(n_classes)
        if isinstance(self.class_weight, Mapping):
            labels = getattr(self, "classes_", np.arange(n_classes)).tolist()
            unknown = set(self.class_weight) - set(labels)
            if unknown or min(self.class_weight.values(), default=1) <= 0:
                raise ValueError(
                    f"class_weight={self.class_weight!r}: give labels of {labels} weights above 0"
                )
            return np.array([float(self.class_weight.get(label, 1)) for label in labels])
        _check("class_weight", self.class_weight, ("balanced",))
        count = np.bincount(y, minlength=n_classes)
        return len(y) / (np.count_nonzero(count) * np.maximum(count, 1))

    def _check_names(self) -> None:
        _check("metric", self.metric, get_args(Metric))
        _check("weights", self.weights, get_args(Weights))

    def _fit_model(self, X: Array, y: Codes, candidate: int, n_classes: int) -> Neighbourhood:
        self._check_names()
        self._class_weights(y, n_classes)
        return Neighbourhood(np.array(X, dtype=np.float32), y, candidate, n_classes)

    def _model_proba(self, model: Neighbourhood, X: Array) -> Array:
        rows = np.concatenate([model.rows, np.asarray(X, dtype=np.float32)])
        number = np.arange(len(rows))
        job = Job(number[: len(model.rows)], number[len(model.rows) :], (model.k,))
        (p,) = self._predict_jobs(RowSource(rows), model.codes, [job], model.n_classes)
        found: Array = p[0]
        return found


def _check(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown: use one of {', '.join(known)}")


def _distances(
    points: Points, rows: Rows, nearest: Rows, metric: Metric
) -> npt.NDArray[np.float64]:
    squared = points.squared(rows, nearest)
    return squared / 2 if metric == "cosine" else np.sqrt(squared)


def _vote(
    codes: Codes,
    weight: npt.NDArray[np.float64],
    distance: npt.NDArray[np.float64] | None,
    k: int,
    n_classes: int,
) -> Probabilities:
    """Share of the votes of the first k neighbours, shape (n_rows, n_classes)."""
    codes, weight = codes[:, :k], weight[:, :k]
    if distance is not None:
        near = distance[:, :k]
        same = near == 0
        inverse = 1 / np.where(same, 1, near)
        weight = weight * np.where(same.any(axis=1, keepdims=True), same, inverse)
    n_rows = len(codes)
    place = np.arange(n_rows)[:, None] * n_classes + codes
    votes = np.bincount(place.ravel(), weight.ravel(), minlength=n_rows * n_classes)
    votes = votes.reshape(n_rows, n_classes)
    shares: Probabilities = (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
