"""solve_few_rows(): training sets of few rows, each solved in the space that its rows span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from sklearn.preprocessing import StandardScaler

from featurebench.heads.logistic.solver import Models, Problem, solve_logistic
from featurebench.heads.rows import RowSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from featurebench.heads.folds import Codes, Rows

    Doubles = npt.NDArray[np.float64]

# Directions with less than this share of the largest variance are rounding.
_RANK = 1e-12
# Sets are solved together up to so many rows: a pass then costs about as much as its overhead.
_STACKED_ROWS = 4096
_STACKED_SETS = 128


@dataclass(frozen=True, eq=False)
class _Span:
    """Rows of one set in coordinates of their span, and the way back to features.

    Parameters
    ----------
    rows
        Coordinates, shape (n_rows, r).
    basis
        Orthonormal directions, shape (r, d); None where coordinates are the features.
    scaler
        Standardisation of the features.
    """

    rows: Doubles
    basis: Doubles | None
    scaler: StandardScaler

    def to_features(self, coef: Doubles, intercept: Doubles) -> tuple[Doubles, Doubles]:
        """Turn coefficients (K, r) and intercepts of the span into those (K, d) of features."""
        width = self.rows.shape[1]
        wide = coef[..., :width] if self.basis is None else coef[..., :width] @ self.basis
        if not self.scaler.with_mean:
            return wide, intercept
        wide = wide / self.scaler.scale_
        return wide, intercept - wide @ self.scaler.mean_


def solve_few_rows(
    source: RowSource,
    y: Codes,
    problem: Problem,
    trains: Sequence[Rows],
    **settings: Any,  # noqa: ANN401
) -> Models:
    """Solve training sets that are much smaller than X, without passes over all of X.

    The optimal weights lie in the span of the (standardised) rows; so a set with fewer rows than
    features becomes a problem with as many features as rows and the same optimum. Many such
    problems, one below the other, are one problem of the multi-fold solver.

    Parameters
    ----------
    source, y, problem
        As in `solve_logistic`; the models of a set stand together, in the order of the sets.
    trains
        Rows of each training set.
    settings
        Keyword arguments of `solve_logistic`.
    """
    parts = [
        _solve_stacked(source, y, problem, trains, sets, settings) for sets in _batches(trains)
    ]
    fields = ("coef", "intercept", "objective", "gap", "n_iter")
    return Models(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def _batches(trains: Sequence[Rows]) -> Iterator[list[int]]:
    batch: list[int] = []
    n_rows = 0
    for i, train in enumerate(trains):
        if batch and (n_rows + len(train) > _STACKED_ROWS or len(batch) == _STACKED_SETS):
            yield batch
            batch, n_rows = [], 0
        batch.append(i)
        n_rows += len(train)
    yield batch


def _solve_stacked(  # noqa: PLR0917
    source: RowSource,
    y: Codes,
    problem: Problem,
    trains: Sequence[Rows],
    batch: list[int],
    settings: dict[str, Any],
) -> Models:
    spans = [_span(source.read(trains[i]), standardise=problem.standardise) for i in batch]
    rows = np.concatenate([trains[i] for i in batch])
    members = np.isin(problem.set_of, batch)
    set_of = problem.set_of[members] - batch[0]
    row_weight, class_weight = problem.row_weight, problem.class_weight
    stacked = Problem(
        _one_block_each([len(span.rows) for span in spans]),
        set_of,
        problem.C[members],
        problem.n_classes,
        standardise=False,
        row_weight=None if row_weight is None else row_weight[rows],
        class_weight=None if class_weight is None else class_weight[batch],
    )
    found = solve_logistic(RowSource(_stack(spans)), y[rows], stacked, **settings)
    back = [
        spans[s].to_features(coef, intercept)
        for s, coef, intercept in zip(set_of, found.coef, found.intercept, strict=True)
    ]
    coef, intercept = (np.stack(values) for values in zip(*back, strict=True))
    return Models(coef, intercept, found.objective, found.gap, found.n_iter)


def _span(X: npt.NDArray[np.float32], *, standardise: bool) -> _Span:
    scaler = StandardScaler(with_mean=standardise, with_std=standardise)
    Z = scaler.fit_transform(X.astype(np.float64))
    if Z.shape[0] >= Z.shape[1]:
        return _Span(Z, None, scaler)
    values, left = eigh(Z @ Z.T)
    # the largest first, so that columns of several sets are alike
    kept = np.flatnonzero(values > _RANK * max(values[-1], 1e-300))[::-1]
    length = np.sqrt(values[kept])
    return _Span(left[:, kept] * length, (left[:, kept] / length).T @ Z, scaler)


def _one_block_each(sizes: list[int]) -> npt.NDArray[np.uint8]:
    """Membership of stacked rows, shape (sum of sizes, number of sets)."""
    of_row = np.repeat(np.arange(len(sizes)), sizes)
    members: npt.NDArray[np.uint8] = (of_row[:, None] == np.arange(len(sizes))).astype(np.uint8)
    return members


def _stack(spans: Sequence[_Span]) -> Doubles:
    """Put coordinates one below the other; columns that a span lacks are 0, and so get weight 0."""
    width = max(1, *(span.rows.shape[1] for span in spans))
    padded = [np.pad(span.rows, ((0, 0), (0, width - span.rows.shape[1]))) for span in spans]
    return np.concatenate(padded)
