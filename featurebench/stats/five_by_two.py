"""Five repeats of two-fold cross-validation: Dietterich's t and Alpaydin's F."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

_NAN = float("nan")
_ROUNDING = 1e-12


@dataclass(frozen=True)
class FiveByTwoResult:
    """Mean of the ten differences, and a test; NaN where it is not estimable.

    Parameters
    ----------
    estimate
        Mean of the ten differences.
    statistic, df, df_error, p_value
        t with 5 degrees of freedom (``df_error`` is NaN), or F with 10 and 5; p is two-sided.
    """

    estimate: float
    statistic: float
    df: float
    df_error: float
    p_value: float


def five_by_two_t(differences: npt.ArrayLike) -> FiveByTwoResult:
    r"""Dietterich's 5x2cv paired t-test.

    With :math:`d_{rj}` the difference in fold j of repeat r and
    :math:`s_r^2 = \sum_j (d_{rj} - \bar d_r)^2`,

    .. math:: t = d_{11} \Big/ \sqrt{\tfrac15 \sum_r s_r^2}, \qquad df = 5.

    The numerator is one of the ten differences, so the result depends on which repeat and which
    fold come first. Use `five_by_two_f`, or rather `corrected_resampled_t`.

    Parameters
    ----------
    differences
        Shape (5, 2): first arm minus second arm, a row for each repeat.

    Returns
    -------
    FiveByTwoResult
        Not estimable (NaN) where a difference is NaN, or the two of each repeat are equal.

    Raises
    ------
    ValueError
        If the shape is another.

    References
    ----------
    Dietterich TG. Approximate statistical tests for comparing supervised classification learning
    algorithms. Neural Comput 1998; 10: 1895-1923.

    Examples
    --------
    >>> d = [[0.02, 0.01], [0.03, -0.01], [0.01, 0.02], [0.0, 0.02], [0.02, 0.03]]
    >>> result = five_by_two_t(d)
    >>> round(result.statistic, 3), round(result.p_value, 3)
    (1.319, 0.244)
    """
    d, spread = _spread(differences)
    if np.isnan(spread):
        return FiveByTwoResult(_mean(d), _NAN, 5.0, _NAN, _NAN)
    t = float(d[0, 0]) / float(np.sqrt(spread / 5))
    return FiveByTwoResult(_mean(d), t, 5.0, _NAN, float(2 * stats.t.sf(abs(t), 5)))


def five_by_two_f(differences: npt.ArrayLike) -> FiveByTwoResult:
    r"""Alpaydin's combined 5x2cv F-test, which uses all ten differences.

    .. math:: F = \frac{\sum_{rj} d_{rj}^2}{2 \sum_r s_r^2}, \qquad df = (10, 5),

    with :math:`s_r^2` as for `five_by_two_t`.

    Parameters
    ----------
    differences
        Shape (5, 2): first arm minus second arm, a row for each repeat.

    Returns
    -------
    FiveByTwoResult
        Not estimable (NaN) where a difference is NaN, or the two of each repeat are equal.

    Raises
    ------
    ValueError
        If the shape is another.

    References
    ----------
    Alpaydin E. Combined 5 x 2 cv F test for comparing supervised classification learning
    algorithms. Neural Comput 1999; 11: 1885-1892.

    Examples
    --------
    >>> d = [[0.02, 0.01], [0.03, -0.01], [0.01, 0.02], [0.0, 0.02], [0.02, 0.03]]
    >>> result = five_by_two_f(d)
    >>> round(result.statistic, 3), round(result.p_value, 3)
    (1.609, 0.313)
    """
    d, spread = _spread(differences)
    if np.isnan(spread):
        return FiveByTwoResult(_mean(d), _NAN, 10.0, 5.0, _NAN)
    f = float((d**2).sum()) / (2 * spread)
    return FiveByTwoResult(_mean(d), f, 10.0, 5.0, float(stats.f.sf(f, 10, 5)))


def _spread(differences: npt.ArrayLike) -> tuple[Floats, float]:
    """Return the differences and the sum over repeats of s_r^2; NaN where it is only rounding."""
    d = np.asarray(differences, dtype=np.float64)
    if d.shape != (5, 2):
        raise ValueError(f"differences have shape {d.shape}: give 5 repeats of 2 folds")
    apart = float(np.abs(d[:, 0] - d[:, 1]).max())
    if not apart > _ROUNDING * max(1.0, float(np.abs(d).max())):
        return d, _NAN
    return d, float(((d[:, 0] - d[:, 1]) ** 2).sum() / 2)


def _mean(d: Floats) -> float:
    return float(d.mean())
