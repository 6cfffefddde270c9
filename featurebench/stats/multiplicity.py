"""P-values adjusted for the number of comparisons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjust p-values by Holm's step-down procedure, which bounds the family-wise error.

    The i-th smallest of m p-values becomes ``max_{j <= i} min(1, (m - j + 1) p_(j))``, whatever
    the dependence between the tests.

    Parameters
    ----------
    p_values
        Shape (n,), in [0, 1]. A NaN is a test that could not be computed: it stays NaN and does
        not count among the m.

    Returns
    -------
    ndarray
        Float64, shape (n,), in the order given.

    Raises
    ------
    ValueError
        If a value lies outside [0, 1] or the input is not one-dimensional.

    References
    ----------
    Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 1979; 6: 65-70.

    Examples
    --------
    >>> holm([0.01, float("nan"), 0.04, 0.03])
    array([0.03,  nan, 0.06, 0.06])
    """
    return _adjusted(p_values, "holm")


def benjamini_hochberg(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjust p-values by Benjamini and Hochberg's step-up procedure, for exploratory tables.

    It bounds the false discovery rate, the expected share of false ones among the rejected, where
    tests are independent or positively dependent; a claim needs `holm`. The i-th smallest of m
    p-values becomes ``min_{j >= i} min(1, m p_(j) / j)``.

    Parameters
    ----------
    p_values
        As for `holm`.

    Returns
    -------
    ndarray
        Float64, shape (n,), in the order given.

    Raises
    ------
    ValueError
        As `holm`.

    References
    ----------
    Benjamini Y, Hochberg Y. Controlling the false discovery rate: a practical and powerful
    approach to multiple testing. J R Stat Soc B 1995; 57: 289-300.
    Benjamini Y, Yekutieli D. The control of the false discovery rate in multiple testing under
    dependency. Ann Stat 2001; 29: 1165-1188.

    Examples
    --------
    >>> benjamini_hochberg([0.01, float("nan"), 0.04, 0.03])
    array([0.03,  nan, 0.04, 0.04])
    """
    return _adjusted(p_values, "fdr_bh")


def _adjusted(p_values: npt.ArrayLike, method: str) -> npt.NDArray[np.float64]:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise ValueError(f"p-values have shape {p.shape}: give one dimension")
    computed = ~np.isnan(p)
    if np.any((p[computed] < 0) | (p[computed] > 1)):
        raise ValueError(f"p-values {p.tolist()} include one outside [0, 1]")
    adjusted = np.full(p.shape, np.nan)
    if computed.any():
        # Imported here: it takes over a second, and nothing else needs it.
        from statsmodels.stats.multitest import multipletests

        adjusted[computed] = multipletests(p[computed], method=method)[1]
    return adjusted
