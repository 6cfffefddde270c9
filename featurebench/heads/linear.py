"""LinearScores and solve_shifted(): what the heads that solve linear systems have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError

from featurebench.heads.positive import solve_positive
from featurebench.heads.rows import BLOCK_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.heads.folds import Rows
    from featurebench.heads.rows import RowSource

    Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearScores:
    """One linear score of a row for every candidate and class.

    Parameters
    ----------
    centre
        Subtracted from every row, shape (n_features,).
    coef
        Shape (n_candidates, n_features, n_classes).
    intercept
        Shape (n_candidates, n_classes).
    """

    centre: Doubles
    coef: Doubles
    intercept: Doubles

    def scores(self, source: RowSource, rows: Rows) -> npt.NDArray[np.float32]:
        """Scores of rows, shape (n_candidates, n_rows, n_classes)."""
        n_candidates, n_features, n_classes = self.coef.shape
        coef = self.coef.transpose(1, 0, 2).reshape(n_features, -1).astype(np.float32)
        centre = self.centre.astype(np.float32)
        scores = np.empty((n_candidates, len(rows), n_classes), dtype=np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            found = (source.read(rows[part]) - centre) @ coef
            scores[:, part] = found.reshape(-1, n_candidates, n_classes).transpose(1, 0, 2)
        scores += self.intercept[:, None].astype(np.float32)
        return scores


# From so many systems on one eigendecomposition is less work than a decomposition of each.
_MANY = 20


def solve_shifted(matrix: Doubles, rhs: Doubles, terms: Sequence[tuple[float, float]]) -> Doubles:
    """Solve ``(factor * matrix + shift * identity) x = rhs`` for several factors and shifts.

    Few by a Cholesky decomposition each, which is least work; many by one eigendecomposition. In
    float64 either is exact at weak penalties.

    Parameters
    ----------
    matrix
        Symmetric and positive semi-definite, shape (n, n).
    rhs
        Shape (n, n_columns).
    terms
        Factor and shift of each system.

    Returns
    -------
    array of shape (n_terms, n, n_columns)

    Raises
    ------
    ValueError
        If a shift is too small for the system to be solved.

    Examples
    --------
    >>> solve_shifted(np.eye(2), np.ones((2, 1)), [(1.0, 1.0)]).ravel()
    array([0.5, 0.5])
    """
    solve = _by_eigenbasis if len(terms) >= _MANY else _by_cholesky
    try:
        return solve(matrix, rhs, terms)
    except LinAlgError:
        least = min(shift for _, shift in terms)
        largest = np.einsum("ii->i", matrix).max()
        raise ValueError(
            f"a penalty of {least:g} is too small beside features whose squares sum up to "
            f"{largest:.3g}: use a larger one"
        ) from None


def _by_cholesky(matrix: Doubles, rhs: Doubles, terms: Sequence[tuple[float, float]]) -> Doubles:
    solutions = np.empty((len(terms), *rhs.shape))
    for solution, (factor, shift) in zip(solutions, terms, strict=True):
        shifted = factor * matrix
        np.einsum("ii->i", shifted)[:] += shift
        solution[:] = solve_positive(shifted, rhs)
    return solutions


def _by_eigenbasis(matrix: Doubles, rhs: Doubles, terms: Sequence[tuple[float, float]]) -> Doubles:
    values, vectors = np.linalg.eigh(matrix)
    factor, shift = np.array(terms).T[:, :, None]
    shifted = factor * values + shift
    if (shifted <= np.finfo(np.float64).eps * np.abs(factor * values).max()).any():
        raise LinAlgError
    rotated = vectors.T @ rhs
    # one product for all terms
    columns = (rotated[:, None, :] / shifted.T[:, :, None]).reshape(len(values), -1)
    solved = (vectors @ columns).reshape(len(values), len(terms), -1)
    solutions: Doubles = solved.swapaxes(0, 1)
    return solutions
