"""RidgeProbe: scikit-learn's RidgeClassifier with Platt's sigmoid, for many folds at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from featurebench.heads.features import make_features, parse_features, split_features
from featurebench.heads.folds import Fold, FoldPrediction, predict_one_by_one, take_rows
from featurebench.heads.linear import LinearScores, solve_shifted
from featurebench.heads.manyfold import Job, counted
from featurebench.heads.rows import RowSource
from featurebench.heads.sigmoid import Sigmoids, fit_sigmoids
from featurebench.heads.sums import FoldSums, GramMoments, RowMoments
from featurebench.heads.threads import own_threads
from featurebench.heads.tuning import Rule, choose, log_loss
from featurebench.heads.weights import class_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from sklearn.pipeline import Pipeline

    from featurebench.heads.folds import Array, Codes, Progress, Rows

    Doubles = npt.NDArray[np.float64]
    Probabilities = npt.NDArray[np.float32]

ALPHAS = (1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1.0, 0.1)


class RidgeProbe(ClassifierMixin, BaseEstimator):
    """Ridge regression of one-vs-rest targets -1 and 1, calibrated with a sigmoid per class.

    Minimises scikit-learn's objective, the (class-weighted) sum of squared errors plus
    ``alpha |w|^2``, with a free intercept. Decision values of the rows that each inner fold leaves
    out are pooled, and Platt's sigmoid is fitted to them for every class and penalty; the penalty
    with the least inner log loss of these probabilities is taken, and its sigmoids go on top of the
    ridge regression of all training rows. With one penalty that is
    ``CalibratedClassifierCV(RidgeClassifier(alpha), method="sigmoid", cv=cv, ensemble=False)``.
    Class weights count in the regression and in the sigmoids, so the probabilities are those of
    the weighted classes. Decision values of inner folds whose training rows lack a class are left
    out of that class's sigmoid.

    Parameters
    ----------
    alphas
        Penalties to choose from. The default spans, for standardised features, from next to no
        shrinkage to nearly the class means for up to some 100,000 rows.
    features
        Feature steps inside the fold; standardise and leading l2 cost nothing.
    rule
        ``best`` or ``one_se``, see `featurebench.heads.tuning.choose`.
    class_weight
        None, ``"balanced"`` or ``{label: weight}``, as in scikit-learn.
    cv
        Inner folds as ``(train, validation)`` row arrays into the rows given to `fit`,
        patient-grouped by whoever draws them; one pair will do. Always needed, for the sigmoids.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coef_ : array of shape (n_classes, n_features)
    intercept_ : array of shape (n_classes,)
    choices_ : dict with the chosen ``alpha``

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [0.2], [1.2], [0.1], [1.1]])
    >>> halves = [(np.array([0, 1]), np.array([2, 3, 4, 5]))]
    >>> probe = RidgeProbe(cv=halves).fit(X, [0, 1, 0, 1, 0, 1])
    >>> probe.predict([[1.3]])
    array([1])
    """

    def __init__(
        self,
        alphas: Sequence[float] = ALPHAS,
        *,
        features: object = ("standardise",),
        rule: Rule = "best",
        class_weight: str | Mapping[Any, float] | None = None,
        cv: Sequence[tuple[Rows, Rows]] | None = None,
    ) -> None:
        self.alphas = alphas
        self.features = features
        self.rule = rule
        self.class_weight = class_weight
        self.cv = cv

    @property
    def needs_inner_folds(self) -> bool:
        """Always: the sigmoids are fitted to rows that were not trained on."""
        return True

    def fit(self, X: Array, y: npt.ArrayLike) -> Self:
        """Choose the penalty and fit the sigmoids on the inner folds, then fit all rows.

        Parameters
        ----------
        X
            Features, shape (n_rows, n_features).
        y
            Labels, shape (n_rows,).

        Raises
        ------
        ValueError
            If X is not finite, y has one class only, ``cv`` is None, or none of its training
            sides has two classes.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64, np.float16])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        rows = np.arange(len(X))
        fold = Fold(rows, rows[:0], tuple((rows[a], rows[b]) for a, b in self.cv or ()))
        steps = parse_features(self.features)
        shared, self.l2_, scale = _shared(steps)
        if shared:
            self.steps_ = make_features(())
            source = RowSource(X, self.l2_)
            fits = self._lay_out(source, codes, [fold], self.classes_)
            with own_threads(1):
                self.model_ = self._fit_fold(fits, 0, scale=scale)
        else:
            self.steps_, self.model_ = self._fit_steps(X, codes, fold, steps)
        self.choices_ = {"alpha": self.model_.alpha}
        return self

    def predict_proba(self, X: Array) -> Array:
        """Class probabilities, shape (n_rows, n_classes), columns in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64, np.float16], reset=False)
        source = RowSource(self.steps_.transform(X), self.l2_)
        p: Array = self.model_.probabilities(source, np.arange(len(X)))
        return p

    def predict(self, X: Array) -> npt.NDArray[Any]:
        """Most probable class of each row, shape (n_rows,)."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels

    @property
    def coef_(self) -> Doubles:
        """Weights of the features as they are after leading l2, or after all steps with pca."""
        coef: Doubles = self.model_.linear.coef[0].T
        return coef

    @property
    def intercept_(self) -> Doubles:
        """Decision values of a row of zeros, before the sigmoids."""
        linear = self.model_.linear
        intercept: Doubles = linear.intercept[0] - linear.centre @ linear.coef[0]
        return intercept

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
            With inner folds.
        progress
            Called with the number of folds done.

        Raises
        ------
        ValueError
            If a training fold has one class only, or has no inner folds.
        """
        shared, l2, scale = _shared(parse_features(self.features))
        if not shared:
            alone = predict_one_by_one(self, X, y, folds, n_classes=n_classes)
            return counted(alone, progress)
        fits = self._lay_out(RowSource(X, l2), y, folds, np.arange(n_classes))

        def run(i: int) -> FoldPrediction:
            model = self._fit_fold(fits, i, scale=scale)
            p = model.probabilities(fits.source, folds[i].test)
            return FoldPrediction(p, {"alpha": model.alpha})

        with own_threads() as pool:
            fits.sums.expect([job for jobs in fits.jobs for job in jobs])
            return counted(pool(run, range(len(folds))), progress)

    def _lay_out(
        self, source: RowSource, y: Codes, folds: Sequence[Fold], labels: npt.NDArray[Any]
    ) -> _Fits:
        alphas = self._sorted_alphas()
        pairs = [_usable_pairs(i, fold, y) for i, fold in enumerate(folds)]
        jobs = [
            [*(Job(a, b, alphas) for a, b in each), Job(fold.train, fold.test[:0], alphas)]
            for fold, each in zip(folds, pairs, strict=True)
        ]
        sums = FoldSums(source, y, len(labels), self._weigh(labels))
        return _Fits(source, y, labels, pairs, jobs, sums)

    def _fit_fold(self, fits: _Fits, i: int, *, scale: bool) -> _Model:
        """Fit a fold; its own sums are those that its inner folds start from."""
        alphas, pairs = self._sorted_alphas(), fits.pairs[i]
        moments = fits.sums.of_jobs(fits.jobs[i])
        values = [
            _solve(next(moments), alphas, scale=scale).scores(fits.source, test)
            for _, test in pairs
        ]
        train = fits.jobs[i][-1].train
        alpha, sigmoids = self._calibrate(fits.y, train, values, pairs, fits.labels)
        linear = _solve(next(moments), [alpha], scale=scale)
        return _Model(linear, alpha, sigmoids, np.unique(fits.y[train]))

    def _fit_steps(
        self, X: Array, y: Codes, fold: Fold, steps: Sequence[str]
    ) -> tuple[Pipeline, _Model]:
        """Fit one fold with feature steps that are fitted anew for every inner fold."""
        alphas = self._sorted_alphas()
        pairs = _usable_pairs(0, fold, y)
        values = []
        for train, test in pairs:
            fitted, linear = self._fit_linear(X, y, train, steps, alphas)
            source = RowSource(fitted.transform(take_rows(X, test)))
            values.append(linear.scores(source, np.arange(len(test))))
        alpha, sigmoids = self._calibrate(y, fold.train, values, pairs, self.classes_)
        fitted, linear = self._fit_linear(X, y, fold.train, steps, [alpha])
        return fitted, _Model(linear, alpha, sigmoids, np.unique(y))

    def _fit_linear(
        self, X: Array, y: Codes, train: Rows, steps: Sequence[str], alphas: Sequence[float]
    ) -> tuple[Pipeline, LinearScores]:
        rows, inside = take_rows(X, train), np.arange(len(train))
        fitted = make_features(steps).fit(rows)
        source = RowSource(fitted.transform(rows))
        sums = FoldSums(source, y[train], len(self.classes_), self._weigh(self.classes_))
        (moments,) = sums.of_jobs([Job(inside, inside[:0], tuple(alphas))])
        return fitted, _solve(moments, alphas, scale=False)

    def _calibrate(
        self,
        y: Codes,
        train: Rows,
        values: Sequence[Probabilities],
        pairs: Sequence[tuple[Rows, Rows]],
        labels: npt.NDArray[Any],
    ) -> tuple[float, Sigmoids]:
        """Fit the sigmoids of every penalty to the pooled values of one fold, and choose one."""
        weigh = self._weigh(labels)
        pooled_y = np.concatenate([y[test] for _, test in pairs])
        weights = np.ones(len(pooled_y))
        if weigh is not None:
            weights = weigh(np.bincount(y[train], minlength=len(labels)))[pooled_y]
        sigmoids = fit_sigmoids(np.concatenate(values, axis=1), pooled_y, weights)
        losses = np.empty((len(pairs), len(sigmoids)))
        present = np.unique(y[train])
        for row, of_pair, (_, test) in zip(losses, values, pairs, strict=True):
            for i, each in enumerate(sigmoids):
                row[i] = log_loss(each.probabilities(of_pair[i], present), y[test])
        best = choose(losses, self.rule)
        return self._sorted_alphas()[best], sigmoids[best]

    def _sorted_alphas(self) -> tuple[float, ...]:
        alphas = tuple(sorted((float(alpha) for alpha in self.alphas), reverse=True))
        if not alphas or alphas[-1] <= 0:
            raise ValueError(f"alphas {self.alphas!r}: give one or more penalties above 0")
        return alphas

    def _weigh(self, labels: npt.NDArray[Any]) -> Callable[[npt.NDArray[np.int64]], Doubles] | None:
        if self.class_weight is None:
            return None
        return partial(class_weights, self.class_weight, labels=labels.tolist())


@dataclass(frozen=True, eq=False)
class _Fits:
    """What all folds share, and each fold's inner pairs and jobs: the inner ones, then its own."""

    source: RowSource
    y: Codes
    labels: npt.NDArray[Any]
    pairs: Sequence[Sequence[tuple[Rows, Rows]]]
    jobs: Sequence[Sequence[Job]]
    sums: FoldSums


@dataclass(frozen=True, eq=False)
class _Model:
    """A ridge regression, the sigmoids on top of it, and the codes that it was trained on."""

    linear: LinearScores
    alpha: float
    sigmoids: Sigmoids
    present: Codes

    def probabilities(self, source: RowSource, rows: Rows) -> Probabilities:
        (values,) = self.linear.scores(source, rows)
        return self.sigmoids.probabilities(values, self.present).astype(np.float32)


def _solve(
    moments: GramMoments | RowMoments, alphas: Sequence[float], *, scale: bool
) -> LinearScores:
    """Ridge regression of all classes and penalties from the sums of one training set.

    With fewer rows than features it is solved by its dual, among the rows. Scores of a class that
    the training rows lack are NaN.
    """
    mass, mean = moments.mass, moments.mean
    unit = 1 / moments.deviation if scale else np.ones(len(mean))
    terms = [(1.0, alpha) for alpha in alphas]
    if isinstance(moments, GramMoments):
        centred = (moments.gram - mass.sum() * np.outer(mean, mean)) * np.outer(unit, unit)
        rhs = 2 * mass[:, None] * (moments.class_means - mean) * unit
        coef = solve_shifted(centred, rhs.T, terms)
    else:
        root = np.sqrt(moments.weights[moments.codes])[:, None]
        rows = root * (moments.rows - mean) * unit
        targets = root * np.where(moments.codes[:, None] == np.arange(len(mass)), 1.0, -1.0)
        coef = rows.T @ solve_shifted(rows @ rows.T, targets, terms)
    intercept = np.where(mass > 0, 2 * mass / mass.sum() - 1, np.nan)
    return LinearScores(
        mean + moments.shift, coef * unit[:, None], np.tile(intercept, (len(terms), 1))
    )


def _usable_pairs(i: int, fold: Fold, y: Codes) -> list[tuple[Rows, Rows]]:
    """Inner folds that say something: two classes to train on, and rows to predict."""
    if len(np.unique(y[fold.train])) < 2:
        raise ValueError(f"fold {i}: its {len(fold.train)} training rows have one class only")
    if not fold.inner:
        raise ValueError(
            f"fold {i}: RidgeProbe calibrates on inner folds, but there are no inner folds (cv)"
        )
    pairs = [(a, b) for a, b in fold.inner if len(b) and len(np.unique(y[a])) > 1]
    if not pairs:
        raise ValueError(
            f"fold {i}: none of its {len(fold.inner)} inner folds has training rows of two classes "
            "and rows to validate: draw other inner folds (cv)"
        )
    return pairs


def _shared(steps: Sequence[str]) -> tuple[bool, bool, bool]:
    """Tell whether all folds can share sums, whether rows are brought to length 1, and scaled."""
    l2, rest = split_features(steps)
    shared = rest in ((), ("standardise",))
    return shared, l2 and shared, bool(rest) and shared
