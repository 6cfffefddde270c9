"""solve_few_rows(): a training set of few rows, solved in the space that its rows span."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import eigh
from sklearn.preprocessing import StandardScaler

from featurebench.heads.logistic.solver import Models, solve_logistic
from featurebench.heads.rows import RowSource

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.heads.folds import Codes, Rows
    from featurebench.heads.logistic.solver import Problem

# Directions with less than this share of the largest variance are rounding.
_RANK = 1e-12


def solve_few_rows(
    source: RowSource,
    y: Codes,
    problem: Problem,
    rows: Rows,
    **settings: Any,  # noqa: ANN401
) -> Models:
    """Solve the one training set of a problem by its own rows alone.

    The optimal weights lie in the span of the (standardised) rows; so with fewer rows than
    features the problem is turned into one with as many features as rows, with the same optimum.

    Parameters
    ----------
    source, y, problem
        As in `solve_logistic`; the problem has one training set.
    rows
        Its rows.
    settings
        Keyword arguments of `solve_logistic`.
    """
    Z = source.read(rows).astype(np.float64)
    scaler = StandardScaler(with_mean=problem.standardise, with_std=problem.standardise).fit(Z)
    Z = scaler.transform(Z)
    back = None
    if Z.shape[0] < Z.shape[1]:
        Z, back = _rotate_to_span(Z)
    weight = None if problem.row_weight is None else problem.row_weight[rows]
    everything = np.ones((len(rows), 1), dtype=np.uint8)
    inside = replace(problem, sets=everything, standardise=False, row_weight=weight)
    found = solve_logistic(RowSource(Z), y[rows], inside, **settings)
    coef = found.coef if back is None else found.coef @ back
    if problem.standardise:
        coef = coef / scaler.scale_
        return replace(found, coef=coef, intercept=found.intercept - coef @ scaler.mean_)
    return replace(found, coef=coef)


def _rotate_to_span(
    Z: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Coordinates (n, r) of the rows in an orthonormal basis (r, d) of their span, and it."""
    values, left = eigh(Z @ Z.T)
    kept = values > _RANK * max(values[-1], 1e-300)
    length = np.sqrt(values[kept])
    return left[:, kept] * length, (left[:, kept] / length).T @ Z
