"""solve_positive(): LAPACK's Cholesky solver, called so that other threads can work meanwhile."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import LinAlgError, cython_lapack

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

_INT = ctypes.POINTER(ctypes.c_int)
_ARGUMENTS = (ctypes.c_char_p, _INT, _INT, ctypes.c_void_p, _INT, ctypes.c_void_p, _INT, _INT)


def solve_positive(matrix: Doubles, rhs: Doubles) -> Doubles:
    """Solve ``matrix @ x = rhs`` by a Cholesky decomposition (LAPACK's ``dposv``).

    scipy's own functions keep the interpreter's lock while they work, so that two threads are not
    faster than one; numpy's do not, but take twice the time.

    Parameters
    ----------
    matrix
        Symmetric and positive definite, float64, C-contiguous, shape (n, n); overwritten.
    rhs
        Shape (n, n_columns).

    Returns
    -------
    array of shape (n, n_columns)

    Raises
    ------
    LinAlgError
        If the matrix is not positive definite.
    """
    x = np.asfortranarray(rhs, dtype=np.float64).copy(order="F")
    n, n_columns, info = (ctypes.c_int(value) for value in (len(matrix), x.shape[1], 0))
    # symmetric, so its upper triangle by columns is its lower one by rows
    _dposv()(b"U", n, n_columns, matrix.ctypes.data, n, x.ctypes.data, n, info)
    if info.value:
        raise LinAlgError(f"the leading minor of order {info.value} is not positive")
    return x


@cache
def _dposv() -> Any:  # noqa: ANN401
    """Take the function behind scipy's interface for Cython; ctypes calls it without the lock."""
    capsule = cython_lapack.__pyx_capi__["dposv"]
    interface = ctypes.pythonapi
    interface.PyCapsule_GetName.restype = ctypes.c_char_p
    interface.PyCapsule_GetName.argtypes = [ctypes.py_object]
    interface.PyCapsule_GetPointer.restype = ctypes.c_void_p
    interface.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name = interface.PyCapsule_GetName(capsule)
    return ctypes.CFUNCTYPE(None, *_ARGUMENTS)(interface.PyCapsule_GetPointer(capsule, name))
