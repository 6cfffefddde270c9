"""How alike two sets of features of the same rows are: linear centred kernel alignment (CKA)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def linear_cka(x: npt.ArrayLike, y: npt.ArrayLike, *, debiased: bool = False) -> float:
    """Compare two representations of the same n rows, whatever their axes and scales.

    With centred columns, ``CKA = ||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F)``: the cosine between the two
    n x n matrices of inner products. It does not change when either side is rotated, reflected or
    scaled as a whole. It is computed through those matrices or through the features' own products,
    whichever takes less work.

    For few rows and many features the plain value is too high: unrelated features of n rows and
    d >> n columns come out near 1. The debiased one replaces each term by its unbiased estimate,
    so that unrelated features come out near 0, on either side of it.

    Parameters
    ----------
    x, y
        Shapes (n, d1) and (n, d2), row i of both the same thing; computed in float64.
    debiased
        Take the unbiased estimator of the Hilbert-Schmidt independence criterion (HSIC).

    Returns
    -------
    float
        0 to 1, or -1 to 1 if ``debiased``; NaN where a side does not vary: all rows are the same
        or, if ``debiased``, all pairs of rows are equally alike.

    Raises
    ------
    ValueError
        If the shapes do not belong together, a value is not finite, or there are fewer than 2
        rows (4 if ``debiased``).

    References
    ----------
    Kornblith S, Norouzi M, Lee H, Hinton G. Similarity of neural network representations
    revisited. ICML 2019, PMLR 97: 3519-3529 (linear CKA).
    Song L, Smola A, Gretton A, Bedo J, Borgwardt K. Feature selection via dependence maximization.
    J Mach Learn Res 2012; 13: 1393-1434, eq. 5 (unbiased HSIC).
    Nguyen T, Raghu M, Kornblith S. Do wide and deep networks learn the same things? ICLR 2021
    (CKA with the unbiased HSIC).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(20, 500)), rng.normal(size=(20, 500))
    >>> round(linear_cka(x, 3 * x[:, ::-1]), 6)
    1.0
    >>> linear_cka(x, y) > 0.9, abs(linear_cka(x, y, debiased=True)) < 0.2
    (True, True)
    """
    x, y = _centred(x), _centred(y)
    least = 4 if debiased else 2
    if len(x) != len(y) or len(x) < least:
        raise ValueError(
            f"features of {len(x)} and {len(y)} rows: give both for the same rows, {least} or more"
        )
    own = _own_dependence(x, debiased=debiased) * _own_dependence(y, debiased=debiased)
    if own == 0:
        return math.nan
    cka = _dependence(x, y, debiased=debiased) / math.sqrt(own)
    return min(1.0, max(-1.0 if debiased else 0.0, cka))


def _centred(features: npt.ArrayLike) -> Floats:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"features have shape {x.shape}: give rows and columns")
    if not np.isfinite(x).all():
        raise ValueError("features hold NaN or infinite values: leave those rows out")
    if not x.size:
        return x
    centred: Floats = x - x.mean(axis=0)
    # The mean of equal numbers may be off by a rounding error, which must not count as spread.
    centred[:, x.min(axis=0) == x.max(axis=0)] = 0
    # Fourth powers follow; scaled, they neither overflow nor vanish.
    centred /= np.abs(centred).max() or 1.0
    return centred


def _dependence(x: Floats, y: Floats, *, debiased: bool) -> float:
    """HSIC with linear kernels, up to a factor that depends on the number of rows only.

    With centred columns the rows of each kernel matrix sum to 0, which leaves of Song's equation
    the trace of the product, its diagonal's part, and the product of the two traces.
    """
    total = _squared_products(x, y)
    if not debiased:
        return total
    n = len(x)
    of_x, of_y = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    traces = of_x.sum() * of_y.sum() / ((n - 1) * (n - 2))
    return float(total - n / (n - 2) * (of_x @ of_y) + traces)


def _own_dependence(x: Floats, *, debiased: bool) -> float:
    """Dependence of x on itself; a rest that rounding alone can leave counts as 0."""
    value = _dependence(x, x, debiased=debiased)
    rounding = len(x) * np.finfo(np.float64).eps * np.square(x).sum() ** 2
    return value if value > rounding else 0.0


def _squared_products(x: Floats, y: Floats) -> float:
    """Give ``||Y'X||_F^2``, which is also the sum of ``XX' * YY'``, by the shorter way."""
    n, d1, d2 = len(x), x.shape[1], y.shape[1]
    if n * (d1 + d2) < d1 * d2:
        return float(np.vdot(x @ x.T, y @ y.T))
    return float(np.square(y.T @ x).sum())
