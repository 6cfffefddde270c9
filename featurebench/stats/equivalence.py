"""Whether a difference lies within a margin: two one-sided tests on any estimate with its error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from featurebench.stats.resampled import TestResult


def narrow_interval(result: TestResult, alpha: float) -> tuple[float, float]:
    """Interval at level 1 - 2 alpha, which lies within +-margin where `tost` is below alpha.

    Parameters
    ----------
    result
        Of a t-test, with its standard error.
    alpha
        Of each of the two one-sided tests, below 0.5.

    Returns
    -------
    tuple of float
        Lower and upper bound; NaN where the test is not estimable.

    Raises
    ------
    ValueError
        If alpha is not between 0 and 0.5.

    Examples
    --------
    >>> from featurebench.stats import paired_t
    >>> low, high = narrow_interval(paired_t([0.02, 0.05, -0.01, 0.04, 0.03]), 0.05)
    >>> round(low, 4), round(high, 4)
    (0.0041, 0.0479)
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}: give a value between 0 and 0.5")
    half = float(stats.t.ppf(1 - alpha, result.df)) * result.se
    return result.estimate - half, result.estimate + half


def tost(estimate: float, se: float, df: float, margin: float) -> float:
    r"""Two one-sided t-tests: how compatible the data are with a difference beyond +-margin.

    .. math:: p = \max\{P(T \ge (\hat\theta + \delta) / se),\; P(T \le (\hat\theta - \delta) / se)\}

    with T Student's t with df degrees of freedom. The standard error must be that of the analysis
    (corrected for overlapping training sets, or over patients), not one over folds or tiles.

    Parameters
    ----------
    estimate, se
        Difference and its standard error.
    df
        Degrees of freedom; infinite for a normal reference.
    margin
        Largest difference without practical meaning, in the unit of the estimate, 0 or more.

    Returns
    -------
    float
        P-value of the null hypothesis that the true difference is the margin or more on either
        side; NaN where the standard error is NaN or 0.

    Raises
    ------
    ValueError
        If the margin is negative.

    References
    ----------
    Schuirmann DJ. A comparison of the two one-sided tests procedure and the power approach for
    assessing the equivalence of average bioavailability. J Pharmacokinet Biopharm 1987; 15:
    657-680.

    Examples
    --------
    >>> round(tost(0.002, 0.004, 20, 0.01), 4)
    0.0296
    """
    above = noninferiority(estimate, se, df, margin)
    below = noninferiority(-estimate, se, df, margin)
    return float(np.maximum(above, below))


def noninferiority(estimate: float, se: float, df: float, margin: float) -> float:
    """P-value of the null hypothesis that the true difference is -margin or less.

    Parameters
    ----------
    estimate, se, df, margin
        As in `tost`; the estimate is positive where the arm in question does better.

    Returns
    -------
    float
        One-sided p-value; NaN where the standard error is NaN or 0.

    Raises
    ------
    ValueError
        If the margin is negative.

    Examples
    --------
    >>> round(noninferiority(-0.002, 0.004, 20, 0.01), 4)
    0.0296
    """
    if not margin >= 0:
        raise ValueError(f"margin is {margin}: give a difference of 0 or more")
    return float(stats.t.sf((estimate + margin) / se, df)) if se > 0 else float("nan")
