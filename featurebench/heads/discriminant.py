"""LdaProbe: linear discriminant analysis with a shrunk covariance, for many folds at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.base import clone

from featurebench.heads.linear import LinearScores, solve_shifted
from featurebench.heads.manyfold import Job, ManyFoldClassifier
from featurebench.heads.rows import BLOCK_ROWS, RowSource
from featurebench.heads.sums import FoldSums, GramMoments, RowMoments, by_union
from featurebench.heads.threads import own_threads
from featurebench.heads.weights import class_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from featurebench.heads.folds import Array, Codes, Fold, FoldPrediction, Progress, Rows
    from featurebench.heads.tuning import Rule

    Doubles = npt.NDArray[np.float64]
    Probabilities = npt.NDArray[np.float32]

# A variance below this part of the variance between the classes would only carry rounding.
_LEAST_VARIANCE = 1e-10
_LEAST_SHRINKAGE = 1e-8


class LdaProbe(ManyFoldClassifier):
    """Gaussian classes with one covariance, shrunk towards a multiple of the identity.

    The covariance of the rows about their class means, S (divided by the number of rows), is
    replaced by ``(1 - s) S + s v I``, v being the mean of its diagonal. For a fixed s that is
    ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s)``, whose prior-weighted mean of shrunk
    class covariances is the same matrix. ``"auto"`` takes s from Ledoit and Wolf's formula for the
    rows about their class means, once for all classes; scikit-learn's ``shrinkage="auto"``
    estimates and shrinks each class by itself, after standardising each by itself, which needs
    more rows per class and is not what is done here.

    Parameters
    ----------
    shrinkage
        ``"auto"``, a number above 0 and at most 1, or several to choose from on the inner folds.
    features
        Feature steps inside the fold. Shrinking treats all features alike, so they are
        standardised by default.
    class_weight
        None, ``"balanced"`` or ``{label: weight}``: weights of the rows in priors and covariance.
        ``"balanced"`` is scikit-learn's ``priors`` of 1 / n_classes.
    rule
        ``best`` or ``one_se``, see `featurebench.heads.tuning.choose`.
    cv
        Inner folds as ``(train, validation)`` row arrays into the rows given to `fit`. Needed where
        there are several values of ``shrinkage``.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    shrinkage_ : float
        The one that the covariance of all training rows was shrunk by.
    choices_ : dict with ``shrinkage``

    References
    ----------
    O. Ledoit and M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
    Journal of Multivariate Analysis 88 (2004).

    Examples
    --------
    >>> X = np.array([[0.0, 1.0], [1.0, 1.1], [3.0, 1.2], [4.0, 0.9]])
    >>> LdaProbe(shrinkage=0.5).fit(X, ["a", "a", "b", "b"]).predict([[3.2, 1.0]])
    array(['b'], dtype='<U1')
    """

    _tuned = "shrinkage"

    def __init__(
        self,
        shrinkage: str | float | Sequence[float] = "auto",
        *,
        features: object = ("standardise",),
        class_weight: str | Mapping[Any, float] | None = None,
        rule: Rule = "best",
        cv: Sequence[tuple[Rows, Rows]] | None = None,
    ) -> None:
        self.shrinkage = shrinkage
        self.features = features
        self.class_weight = class_weight
        self.rule = rule
        self.cv = cv

    @property
    def shrinkage_(self) -> float:
        """The shrinkage of the fitted covariance."""
        shrinkage: float = self.model_.shrinkages[0]
        return shrinkage

    def predict_folds(
        self,
        X: Array,
        y: Codes,
        folds: Sequence[Fold],
        *,
        n_classes: int,
        progress: Progress | None = None,
    ) -> list[FoldPrediction]:
        """Fit and predict all folds at once, see `ManyFoldClassifier.predict_folds`."""
        coded = clone(self)
        coded.classes_ = np.arange(n_classes)
        return ManyFoldClassifier.predict_folds(
            coded, X, y, folds, n_classes=n_classes, progress=progress
        )

    def _candidates(self, n_features: int, n_classes: int) -> tuple[float | str, ...]:
        if isinstance(self.shrinkage, str):
            if self.shrinkage == "auto":
                return ("auto",)
            raise ValueError(f"shrinkage {self.shrinkage!r}: use 'auto' or numbers up to 1")
        values = sorted(np.atleast_1d(self.shrinkage).astype(float).tolist(), reverse=True)
        if not values or not 0 < values[-1] <= values[0] <= 1:
            raise ValueError(f"shrinkage {self.shrinkage!r}: use numbers above 0 and at most 1")
        return tuple(values)

    def _predict_jobs(
        self, source: RowSource, y: Codes, jobs: Sequence[Job], n_classes: int, *, scale: bool
    ) -> Iterator[Probabilities]:
        sums = self._sums(source, y, n_classes)

        def run(batch: Sequence[Job]) -> list[Probabilities]:
            models = [
                _solve(moments, job, source, y, scale=scale)
                for job, moments in zip(batch, sums.of_jobs(batch), strict=True)
            ]
            return [
                _probabilities(model, source, job.test)
                for job, model in zip(batch, models, strict=True)
            ]

        with own_threads() as pool:
            sums.expect(jobs)
            for found in pool(run, by_union(jobs)):
                yield from found

    def _fit_model(self, X: Array, y: Codes, candidate: float | str, n_classes: int) -> _Model:
        rows = np.arange(len(X))
        source, job = RowSource(X), Job(rows, rows[:0], (candidate,))
        with own_threads(1):
            (moments,) = self._sums(source, y, n_classes).of_jobs([job])
            return _solve(moments, job, source, y, scale=False)

    def _model_proba(self, model: _Model, X: Array) -> Array:
        p: Array = _probabilities(model, RowSource(X), np.arange(len(X)))[0]
        return p

    def _sums(self, source: RowSource, y: Codes, n_classes: int) -> FoldSums:
        return FoldSums(source, y, n_classes, self._weigh if self.class_weight else None)

    def _weigh(self, counts: npt.NDArray[np.int64]) -> Doubles:
        return class_weights(self.class_weight, counts, self.classes_.tolist())


@dataclass(frozen=True, eq=False)
class _Model:
    linear: LinearScores
    shrinkages: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Within:
    """Covariance of the rows about their class means.

    Parameters
    ----------
    matrix
        The covariance; or, of fewer rows than features, the products of ``rows`` with each other,
        which have the same trace and the same sum of squares.
    rows
        Then the rows, scaled so that their outer products sum up to the covariance.
    variance
        Mean of the covariance's diagonal.
    """

    matrix: Doubles
    rows: Doubles | None
    variance: float

    def solve(self, means: Doubles, shrinkages: Sequence[float]) -> Doubles:
        """Shrunk covariance inverse times class means, shape (n_shrinkages, n_features, K)."""
        terms = [(1 - s, s * self.variance) for s in shrinkages]
        if self.rows is None:
            return solve_shifted(self.matrix, means.T, terms)
        # Woodbury's identity: the system among the rows instead of among the features.
        inner = solve_shifted(self.matrix, self.rows @ means.T, terms)
        factor, shift = np.array(terms).T[:, :, None, None]
        solved: Doubles = (means.T - factor * (self.rows.T @ inner)) / shift
        return solved


def _solve(
    moments: GramMoments | RowMoments, job: Job, source: RowSource, y: Codes, *, scale: bool
) -> _Model:
    """All shrinkages from the sums of one training set; an absent class scores -inf."""
    mass, mean = moments.mass, moments.mean
    prior = mass / mass.sum()
    unit = 1 / moments.deviation if scale else np.ones(len(mean))
    means = np.where(mass[:, None] > 0, (moments.class_means - mean) * unit, 0)
    within = _within(moments, unit, means)
    shrinkages = job.candidates
    if shrinkages == ("auto",):
        lengths = _lengths(moments, job.train, source, y, unit)
        shrinkages = (_ledoit_wolf(within, lengths, len(mean)),)
    coef = within.solve(means, shrinkages)
    intercept = np.log(np.where(mass > 0, prior, 1)) - 0.5 * np.einsum("kj,ajk->ak", means, coef)
    intercept = np.where(mass > 0, intercept, -np.inf)
    linear = LinearScores(mean + moments.shift, coef * unit[:, None], intercept)
    return _Model(linear, shrinkages)


def _within(moments: GramMoments | RowMoments, unit: Doubles, means: Doubles) -> _Within:
    mass, total = moments.mass, moments.mass.sum()
    if isinstance(moments, RowMoments):
        root = np.sqrt(moments.weights[moments.codes] / total)[:, None]
        rows = root * (moments.rows - moments.class_means[moments.codes]) * unit
        matrix = rows @ rows.T
    else:
        rows = None
        centres = np.sqrt(mass)[:, None] * moments.class_means
        matrix = (moments.gram - centres.T @ centres) * np.outer(unit, unit) / total
    between = float(mass @ (means**2).sum(axis=1) / total)
    if np.trace(matrix) > _LEAST_VARIANCE * between:
        return _Within(matrix, rows, float(np.trace(matrix)) / len(unit))
    # All rows are their class means, up to rounding: the nearest mean is as good as certain.
    floor = _LEAST_VARIANCE * between / len(unit)
    return _Within(
        np.zeros_like(matrix),
        None if rows is None else np.zeros_like(rows),
        floor if floor > 0 else 1.0,
    )


def _lengths(
    moments: GramMoments | RowMoments, train: Rows, source: RowSource, y: Codes, unit: Doubles
) -> Doubles:
    """Weighted squared lengths of rows about their class means, shape (n_rows,)."""
    centres = (moments.class_means + moments.shift).astype(np.float32)
    unit32 = unit.astype(np.float32)
    lengths = np.empty(len(train))
    for start in range(0, len(train), BLOCK_ROWS):
        rows = train[start : start + BLOCK_ROWS]
        block = (source.read(rows) - centres[y[rows]]) * unit32
        lengths[start : start + BLOCK_ROWS] = np.einsum("ij,ij->i", block, block)
    weights = moments.weights[y[train]]
    scaled: Doubles = lengths * weights * (len(train) / moments.mass.sum())
    return scaled


def _ledoit_wolf(within: _Within, lengths: Doubles, n_features: int) -> float:
    """Ledoit and Wolf's shrinkage, equations 14 and 15, for centred rows of these squared lengths.

    A covariance that is a multiple of the identity already is shrunk all the way.
    """
    squares = float((within.matrix**2).sum())
    distance = squares - float(np.trace(within.matrix)) ** 2 / n_features
    error = ((lengths**2).mean() - squares) / len(lengths)
    if distance <= error:
        return 1.0
    return max(float(error / distance), _LEAST_SHRINKAGE)


def _probabilities(model: _Model, source: RowSource, rows: Rows) -> Probabilities:
    scores = model.linear.scores(source, rows)
    p: Probabilities = softmax(scores, axis=-1)
    return p
