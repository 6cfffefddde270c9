"""CentroidProbe: the nearest class mean after centring and normalising, for many folds at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from featurebench.heads.manyfold import Job, ManyFoldClassifier
from featurebench.heads.rows import BLOCK_ROWS, RowSource
from featurebench.heads.sums import column_means, deviation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from featurebench.heads.folds import Array, Codes, Rows
    from featurebench.heads.tuning import Rule

    Doubles = npt.NDArray[np.float64]
    Probabilities = npt.NDArray[np.float32]

Transform = Literal["un", "l2n", "cl2n"]
Metric = Literal["euclidean", "cosine"]

# In units of the mean squared distance between a row and its class mean, from even to certain.
TEMPERATURES = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
# Numbers held at a time: class means of the jobs taken together, weights of a row, memberships.
_MOST_MEANS = 1 << 23
_MOST_COLUMNS = 4096
_MOST_MEMBERS = 1 << 27
# A squared length this small beside what it was taken from is rounding: the row is the mean.
_ROUNDING = 1e-12


class CentroidProbe(ManyFoldClassifier):
    """Nearest class mean, as in SimpleShot.

    Every row is centred with the mean of the training rows and brought to length 1 (``cl2n``),
    only brought to length 1 (``l2n``) or left as it is (``un``). The predicted class is the one
    whose mean of such rows is nearest. Probabilities are the softmax of the negative squared
    distances over a temperature; it changes no predicted class. It counts in units of the mean
    squared distance of training rows to their class mean, so it does not depend on the features'
    scale.

    Parameters
    ----------
    transform
        ``"cl2n"``, ``"l2n"`` or ``"un"``.
    metric
        ``"euclidean"``, or ``"cosine"``: class means are brought to length 1, too, so that the
        angle decides.
    temperature
        One, or several to choose from on the inner folds by log loss. Fitted to the training rows
        themselves it would be too low, since their class means contain them.
    features
        Feature steps inside the fold, before the transform.
    rule
        ``best`` or ``one_se``, see `featurebench.heads.tuning.choose`.
    cv
        Inner folds as ``(train, validation)`` row arrays into the rows given to `fit`. Needed where
        there are several temperatures.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    choices_ : dict with ``temperature``

    References
    ----------
    Y. Wang, W.-L. Chao, K. Weinberger and L. van der Maaten, SimpleShot: Revisiting
    nearest-neighbor classification for few-shot learning, arXiv:1911.04623 (2019).

    Examples
    --------
    >>> X = np.array([[1.0, 0.1], [2.0, 0.0], [0.1, 1.0], [0.0, 3.0]])
    >>> CentroidProbe(temperature=1.0).fit(X, [0, 0, 1, 1]).predict([[9.0, 1.0]])
    array([0])
    """

    _tuned = "temperature"

    def __init__(
        self,
        transform: Transform = "cl2n",
        *,
        metric: Metric = "euclidean",
        temperature: float | Sequence[float] = TEMPERATURES,
        features: object = (),
        rule: Rule = "best",
        cv: Sequence[tuple[Rows, Rows]] | None = None,
    ) -> None:
        self.transform = transform
        self.metric = metric
        self.temperature = temperature
        self.features = features
        self.rule = rule
        self.cv = cv

    def _candidates(self, n_features: int, n_classes: int) -> tuple[float, ...]:
        _check_kind(self.transform, self.metric)
        values = sorted(np.atleast_1d(self.temperature).astype(float).tolist(), reverse=True)
        if not values or values[-1] <= 0:
            raise ValueError(f"temperature {self.temperature!r}: use numbers above 0")
        return tuple(values)

    def _predict_jobs(
        self, source: RowSource, y: Codes, jobs: Sequence[Job], n_classes: int, *, scale: bool
    ) -> Iterator[Probabilities]:
        for some in _batches(jobs, n_classes, source):
            models = self._solve_jobs(source, y, some, n_classes, scale=scale)
            for job, model in zip(some, models, strict=True):
                scores = model.scores(source, job.test)
                temperatures = np.array(job.candidates, dtype=np.float32)
                yield softmax(scores / temperatures[:, None, None], axis=-1)

    def _fit_model(
        self, X: Array, y: Codes, candidate: float, n_classes: int
    ) -> tuple[Centroids, float]:
        rows = np.arange(len(X))
        jobs = [Job(rows, rows[:0], (candidate,))]
        (model,) = self._solve_jobs(RowSource(X), y, jobs, n_classes, scale=False)
        return model, candidate

    def _model_proba(self, model: tuple[Centroids, float], X: Array) -> Array:
        centroids, temperature = model
        scores = centroids.scores(RowSource(X), np.arange(len(X)))
        p: Array = softmax(scores / np.float32(temperature), axis=-1)
        return p

    def _solve_jobs(
        self, source: RowSource, y: Codes, jobs: Sequence[Job], n_classes: int, *, scale: bool
    ) -> list[Centroids]:
        frames = _frames(source, jobs, centre=self.transform == "cl2n", scale=scale)
        sums = _transformed_sums(source, y, frames, n_classes, unit=self.transform != "un")
        return [self._centroids(frames, sums, j) for j in range(len(jobs))]

    def _centroids(self, frames: _Frames, sums: _Sums, j: int) -> Centroids:
        counts, total = sums.counts[j], sums.counts[j].sum()
        means = sums.rows[j] / np.maximum(counts, 1)[:, None]
        if self.metric == "cosine":
            length = np.linalg.norm(means, axis=1, keepdims=True)
            means = means / np.where(length > 0, length, 1)
        lengths = np.einsum("kj,kj->k", means, means)
        cross = np.einsum("kj,kj->", sums.rows[j], means)
        spread = float(sums.squares[j] - 2 * cross + counts @ lengths) / total
        size = float(sums.squares[j]) / total
        if spread <= _ROUNDING * size:
            # Every row is its class mean: distances count in the rows' own squared length.
            spread = size if size > 0 else 1.0
        bias = np.where(counts > 0, -lengths / spread, -np.inf)
        return Centroids(
            frames.origin[j] + frames.shift,
            frames.unit[j],
            2 * means / spread,
            bias,
            normalise=self.transform != "un",
        )


@dataclass(frozen=True, eq=False)
class Centroids:
    """Class means of one training set, and how rows are brought to them.

    Parameters
    ----------
    origin, unit
        Subtracted from a row, then multiplied with it, shape (n_features,).
    coef, bias
        Twice the class means and minus their squared lengths, both over the mean squared distance
        of training rows, shapes (n_classes, n_features) and (n_classes,).
    normalise
        Whether rows are brought to length 1.
    """

    origin: Doubles
    unit: Doubles
    coef: Doubles
    bias: Doubles
    normalise: bool

    def scores(self, source: RowSource, rows: Rows) -> npt.NDArray[np.float32]:
        """Negative squared distances, but for a row's own part, shape (n_rows, n_classes)."""
        origin, unit = self.origin.astype(np.float32), self.unit.astype(np.float32)
        coef = self.coef.T.astype(np.float32)
        scores = np.empty((len(rows), len(self.bias)), dtype=np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            block = (source.read(rows[part]) - origin) * unit
            found = block @ coef
            if self.normalise:
                length = np.sqrt(np.einsum("ij,ij->i", block, block))
                found /= np.where(length > 0, length, 1)[:, None]
            scores[part] = found
        scores += self.bias.astype(np.float32)
        return scores


@dataclass(frozen=True, eq=False)
class _Frames:
    """Origin (about ``shift``) and unit of the features of every job, shape (n_jobs, n_features).

    ``members`` counts how often a row is in a training set, shape (n_rows, n_jobs).
    """

    shift: Doubles
    origin: Doubles
    unit: Doubles
    members: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Of transformed training rows of every job: class sums, squared lengths and counts."""

    rows: Doubles
    squares: Doubles
    counts: npt.NDArray[np.int64]


def _frames(source: RowSource, jobs: Sequence[Job], *, centre: bool, scale: bool) -> _Frames:
    n_rows, n_features = source.shape
    members = np.stack(
        [np.bincount(job.train, minlength=n_rows).astype(np.uint8) for job in jobs], axis=1
    )
    shift = column_means(source)
    sums = np.zeros((len(jobs), n_features))
    if not centre and not scale:
        return _Frames(np.zeros(n_features), sums, np.ones_like(sums), members)
    squares = np.zeros_like(sums)
    for rows, block in source.blocks():
        moved, inside = block - shift, members[rows].T.astype(np.float64)
        sums += inside @ moved
        if scale:
            squares += inside @ moved**2
    counts = np.array([len(job.train) for job in jobs])[:, None]
    origin = sums / counts
    if not scale:
        return _Frames(shift, origin, np.ones_like(sums), members)
    return _Frames(shift, origin, 1 / deviation(sums, squares, counts), members)


def _transformed_sums(
    source: RowSource, y: Codes, frames: _Frames, n_classes: int, *, unit: bool
) -> _Sums:
    """Sum up the transformed rows of all jobs, in one pass.

    The squared length of a row in the frame of every job is expanded, so that lengths and class
    sums of all jobs are two matrix products of the rows as they are.
    """
    n_jobs, n_features = frames.origin.shape
    metric = frames.unit**2
    pull, own = frames.origin * metric, (frames.origin**2 * metric).sum(axis=1)
    rows_sum = np.zeros((n_jobs * n_classes, n_features))
    factor_sum = np.zeros((n_jobs, n_classes))
    squares, counts = np.zeros(n_jobs), np.zeros((n_jobs, n_classes), dtype=np.int64)
    for rows, block in source.blocks():
        moved, inside = block - frames.shift, frames.members[rows].astype(np.float64)
        size = moved**2 @ metric.T + own
        length = size - 2 * (moved @ pull.T)
        length[length <= _ROUNDING * size] = 0
        factor = inside
        if unit:
            factor = inside * np.where(length > 0, 1 / np.sqrt(np.where(length > 0, length, 1)), 0)
            length = (length > 0).astype(np.float64)
        squares += (inside * length).sum(axis=0)
        by_class = np.zeros((len(block), n_jobs, n_classes))
        by_class[np.arange(len(block)), :, y[rows]] = factor
        rows_sum += by_class.reshape(len(block), -1).T @ moved
        factor_sum += by_class.sum(axis=0)
        one_hot = y[rows, None] == np.arange(n_classes)
        counts += (inside.T @ one_hot).astype(np.int64)
    moved_back = factor_sum[:, :, None] * frames.origin[:, None]
    class_sums = (rows_sum.reshape(n_jobs, n_classes, -1) - moved_back) * frames.unit[:, None]
    return _Sums(class_sums, squares, counts)


def _batches(jobs: Sequence[Job], n_classes: int, source: RowSource) -> Iterator[Sequence[Job]]:
    n_rows, n_features = source.shape
    columns = min(_MOST_COLUMNS, _MOST_MEANS // n_features)
    size = max(1, min(columns // n_classes, _MOST_MEMBERS // max(n_rows, 1)))
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]


def _check_kind(transform: str, metric: str) -> None:
    if transform not in get_args(Transform):
        raise ValueError(f"transform {transform!r}: use one of {', '.join(get_args(Transform))}")
    if metric not in get_args(Metric):
        raise ValueError(f"metric {metric!r}: use one of {', '.join(get_args(Metric))}")
    if metric == "cosine" and transform == "un":
        raise ValueError("metric 'cosine' compares directions: use transform 'l2n' or 'cl2n'")
