"""LAPACK's Cholesky solver as it is called past scipy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.linalg import LinAlgError

from featurebench.heads.positive import solve_positive

if TYPE_CHECKING:
    import numpy.typing as npt


def system(n: int, n_columns: int, seed: int = 0) -> tuple[npt.NDArray[np.float64], ...]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(2 * n, n))
    return rows.T @ rows, rng.normal(size=(n, n_columns))


@pytest.mark.parametrize(("n", "n_columns"), [(1, 1), (7, 3), (130, 9)])
def test_solution_is_that_of_gaussian_elimination(n: int, n_columns: int) -> None:
    matrix, rhs = system(n, n_columns)
    expected = np.linalg.solve(matrix, rhs)
    kept = rhs.copy()
    np.testing.assert_allclose(solve_positive(matrix, rhs), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(rhs, kept)


def test_columns_in_either_order() -> None:
    matrix, rhs = system(20, 4)
    expected = np.linalg.solve(matrix, rhs)
    found = solve_positive(matrix.copy(), np.asfortranarray(rhs))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_threads_do_not_disturb_each_other() -> None:
    systems = [system(60, 2, seed) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: solve_positive(pair[0].copy(), pair[1]), systems))
    for x, (matrix, rhs) in zip(found, systems, strict=True):
        np.testing.assert_allclose(matrix @ x, rhs, atol=1e-9)


@pytest.mark.parametrize("smallest", [0.0, -1.0])
def test_matrix_that_is_not_positive_is_refused(smallest: float) -> None:
    with pytest.raises(LinAlgError, match="order 3"):
        solve_positive(np.diag([1.0, 2.0, smallest, 4.0]), np.ones((4, 1)))
