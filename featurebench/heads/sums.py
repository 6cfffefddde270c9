"""FoldSums: class sums and second moments of many training sets, each from as few rows as it takes.

A training set's second moments are those of all rows less those of the rows left out, or the
sums over its own rows, whichever are the fewer. Inner folds are taken from their outer training
rows in the same way. One set is worked on at a time, in float64 and about the mean of all rows, so
nothing cancels that was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.heads.rows import BLOCK_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from featurebench.heads.folds import Codes, Rows
    from featurebench.heads.manyfold import Job
    from featurebench.heads.rows import RowSource

    Doubles = npt.NDArray[np.float64]

# With class weights, a downdate needs one matrix per class: at most this many numbers (128 MiB).
_MOST_PER_CLASS = 1 << 24
# A variance this small beside the square sums that it was taken from is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over one training set, of rows about ``shift``.

    Parameters
    ----------
    counts
        Rows of each class, shape (n_classes,).
    weights
        Weight of a row of each class, shape (n_classes,); all ones without class weights.
    sums
        Sum of the rows of each class, shape (n_classes, n_features); without weights.
    squares
        Sum of the squared rows, shape (n_features,); without weights.
    magnitude
        The largest square sums on the way to ``squares``, which bound its rounding.
    shift
        What the rows are taken about, shape (n_features,).
    """

    counts: npt.NDArray[np.int64]
    weights: Doubles
    sums: Doubles
    squares: Doubles
    magnitude: Doubles
    shift: Doubles

    @property
    def mass(self) -> Doubles:
        """Total weight of each class, shape (n_classes,)."""
        mass: Doubles = self.weights * self.counts
        return mass

    @property
    def mean(self) -> Doubles:
        """Weighted mean about ``shift``, shape (n_features,)."""
        mean: Doubles = self.weights @ self.sums / self.mass.sum()
        return mean

    @property
    def class_means(self) -> Doubles:
        """Mean of each class about ``shift``, shape (n_classes, n_features); 0 if it is absent."""
        means: Doubles = self.sums / np.maximum(self.counts, 1)[:, None]
        return means

    @property
    def deviation(self) -> Doubles:
        """Standard deviation without weights, 1 where constant, as `StandardScaler` has it."""
        sums, n_rows = self.sums.sum(axis=0), self.counts.sum()
        return deviation(sums, self.squares, n_rows, self.magnitude)


@dataclass(frozen=True, eq=False)
class GramMoments(Moments):
    """Moments of at least as many rows as there are features.

    Parameters
    ----------
    gram
        Weighted sum of the outer products of rows, shape (n_features, n_features).
    """

    gram: Doubles


@dataclass(frozen=True, eq=False)
class RowMoments(Moments):
    """Moments of fewer rows than features, with these rows instead of their outer products.

    Parameters
    ----------
    rows
        Rows about ``shift``, shape (n_rows, n_features).
    codes
        Their classes, shape (n_rows,).
    """

    rows: Doubles
    codes: Codes


class FoldSums:
    """Moments of training sets among the rows of one matrix.

    Parameters
    ----------
    source
        The rows, shape (n_rows, n_features).
    y
        Codes 0 to ``n_classes`` - 1, shape (n_rows,).
    weigh
        Gives the weight of a row of each class from the counts of a training set; None is 1.

    Raises
    ------
    ValueError
        If a feature is not finite.
    """

    def __init__(
        self,
        source: RowSource,
        y: Codes,
        n_classes: int,
        weigh: Callable[[npt.NDArray[np.int64]], Doubles] | None = None,
    ) -> None:
        self.source = source
        self.y = y
        self.n_classes = n_classes
        self.weigh = weigh
        self.shift = column_means(source)
        n_features = source.shape[1]
        self._by_class = weigh is not None and n_classes * n_features**2 <= _MOST_PER_CLASS
        self._can_subtract = weigh is None or self._by_class
        self._totals: _Sums | None = None

    def expect(self, jobs: Sequence[Job]) -> None:
        """Sum all rows now, once, if that will save more for these jobs than it takes."""
        if self._totals is not None:
            return
        wide = self.source.shape[1]
        saved = sum(max(0, 2 * len(j.train) - len(self.y)) for j in jobs if len(j.train) >= wide)
        if self._can_subtract and saved > len(self.y):
            self._totals = self._sum(np.arange(len(self.y)))

    def of_jobs(self, jobs: Sequence[Job]) -> Iterator[GramMoments | RowMoments]:
        """Yield the moments of each job's training rows, in order.

        Jobs that share training and test rows taken together, as the inner folds of one outer
        fold do, share work where they stand next to each other; see `by_union`.
        """
        self.expect(jobs)
        n_features = self.source.shape[1]
        with_gram = self._with_gram([job for job in jobs if len(job.train) >= n_features])
        for job in jobs:
            yield next(with_gram) if len(job.train) >= n_features else self._with_rows(job.train)

    def _with_gram(self, jobs: Sequence[Job]) -> Iterator[GramMoments]:
        ledger = _Ledger(len(self.y), totals=self._totals is not None)
        for members in by_union(jobs):
            union = _union(members[0])
            base = None
            if self._can_subtract and ledger.pays(union, members):
                base = self._of_rows(union, ledger)
            for _, same in groupby(members, key=lambda job: job.train.tobytes()):
                repeats = list(same)
                yield from [self._moments(repeats[0].train, union, base, ledger)] * len(repeats)

    def _moments(
        self, train: Rows, union: Rows, base: _Sums | None, ledger: _Ledger
    ) -> GramMoments:
        counts = np.bincount(self.y[train], minlength=self.n_classes)
        weights = self._weights(counts)
        if not self._can_subtract:
            found = self._sum(train, np.sqrt(weights))
        else:
            left_out = np.setdiff1d(union, train)
            # Where rows are repeated, what is left out does not tell what is in.
            distinct = len(left_out) + len(train) == len(union)
            if base is not None and distinct:
                found = base - self._sum(left_out)
            else:
                found = self._of_rows(train, ledger)
        gram = np.tensordot(weights, found.grams, 1) if self._by_class else found.grams[0]
        return GramMoments(
            counts, weights, found.sums, found.squares, found.magnitude, self.shift, gram
        )

    def _with_rows(self, train: Rows) -> RowMoments:
        rows, codes = self._read(train), self.y[train]
        counts = np.bincount(codes, minlength=self.n_classes)
        sums = _class_sums(rows, codes, self.n_classes)
        squares = np.einsum("ij,ij->j", rows, rows)
        weights = self._weights(counts)
        return RowMoments(counts, weights, sums, squares, squares, self.shift, rows, codes)

    def _weights(self, counts: npt.NDArray[np.int64]) -> Doubles:
        return np.ones(self.n_classes) if self.weigh is None else self.weigh(counts)

    def _of_rows(self, rows: Rows, ledger: _Ledger) -> _Sums:
        """Sum over the rows themselves, or take those outside from all."""
        if self._totals is not None and ledger.cost(len(rows)) < len(rows):
            outside = _outside(rows, len(self.y))
            if len(outside) + len(rows) == len(self.y):
                return self._totals - self._sum(outside)
        return self._sum(rows)

    def _sum(self, rows: Rows, roots: Doubles | None = None) -> _Sums:
        """Sum over rows, in blocks; ``roots`` scales the rows of each class in the Gram."""
        n_features = self.source.shape[1]
        sums = np.zeros((self.n_classes, n_features))
        squares = np.zeros(n_features)
        grams = np.zeros((self.n_classes if self._by_class else 1, n_features, n_features))
        if self._by_class:
            rows = rows[np.argsort(self.y[rows], kind="stable")]
        for start in range(0, len(rows), BLOCK_ROWS):
            part = rows[start : start + BLOCK_ROWS]
            block, codes = self._read(part), self.y[part]
            sums += _class_sums(block, codes, self.n_classes)
            squares += np.einsum("ij,ij->j", block, block)
            if roots is not None:
                block *= roots[codes][:, None]
            for group in np.unique(codes) if self._by_class else (0,):
                members = block[codes == group] if self._by_class else block
                grams[group] += members.T @ members
        return _Sums(sums, squares, squares, grams)

    def _read(self, rows: Rows) -> Doubles:
        return self.source.read(rows) - self.shift


@dataclass(frozen=True, eq=False)
class _Sums:
    sums: Doubles
    squares: Doubles
    magnitude: Doubles
    grams: Doubles

    def __sub__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.sums - other.sums,
            self.squares - other.squares,
            self.magnitude,
            self.grams - other.grams,
        )


@dataclass(frozen=True)
class _Ledger:
    """How many rows each way of summing takes; ``totals`` tells whether all rows are summed."""

    n_rows: int
    totals: bool

    def cost(self, n_rows: int) -> int:
        return min(n_rows, self.n_rows - n_rows) if self.totals else n_rows

    def pays(self, union: Rows, jobs: Sequence[Job]) -> bool:
        """Tell whether summing the union first, then what each job leaves out of it, is less."""
        left_out = sum(max(0, len(union) - len(job.train)) for job in jobs)
        alone = sum(self.cost(len(job.train)) for job in jobs)
        return self.cost(len(union)) + left_out < alone


def by_union(jobs: Sequence[Job]) -> list[list[Job]]:
    """Put jobs that follow each other and have the same rows in training or test together."""
    if len(jobs) == 1:
        return [list(jobs)]
    return [list(members) for _, members in groupby(jobs, key=lambda job: _union(job).tobytes())]


def _outside(rows: Rows, n_rows: int) -> Rows:
    """Rows that are not among some, ascending."""
    mask = np.ones(n_rows, dtype=bool)
    mask[rows] = False
    return np.flatnonzero(mask)


def _union(job: Job) -> Rows:
    """Rows that are in training or test, ascending."""
    rows = np.concatenate([job.train, job.test])
    mask = np.zeros(int(rows.max()) + 1, dtype=bool)
    mask[rows] = True
    return np.flatnonzero(mask)


def column_means(source: RowSource) -> Doubles:
    """Mean of every feature over all rows, shape (n_features,).

    Raises
    ------
    ValueError
        If a feature is not finite.
    """
    total = np.zeros(source.shape[1])
    for _, block in source.blocks():
        total += block.sum(axis=0, dtype=np.float64)
    mean: Doubles = total / max(source.shape[0], 1)
    if not np.isfinite(mean).all():
        column = int(np.flatnonzero(~np.isfinite(mean))[0])
        raise ValueError(f"X has NaN or infinity in column {column}: leave those rows out")
    return mean


def deviation(
    sums: Doubles,
    squares: Doubles,
    n_rows: npt.ArrayLike,
    magnitude: Doubles | None = None,
) -> Doubles:
    """Find standard deviations from sums and square sums, 1 where there is nothing but rounding.

    ``magnitude`` is what the square sums were taken from, which bounds their rounding.
    """
    n_rows = np.asarray(n_rows, dtype=np.float64)
    variance = squares / n_rows - (sums / n_rows) ** 2
    constant = variance <= _ROUNDING * (squares if magnitude is None else magnitude) / n_rows
    found: Doubles = np.sqrt(np.where(constant, 1.0, variance))
    return found


def _class_sums(rows: Doubles, codes: Codes, n_classes: int) -> Doubles:
    members = (codes[:, None] == np.arange(n_classes)).astype(np.float64)
    sums: Doubles = members.T @ rows
    return sums
