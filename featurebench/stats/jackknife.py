"""Errors, tests and intervals from a statistic without each patient: the jackknife."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, stdtrit

from featurebench.stats.resampled import TestResult, t_result

Floats = npt.NDArray[np.float64]

JACKKNIFE_T = "t over patients, jackknife error"
# A statistic that moves by less was not moved.
_ROUNDING = 1e-12


def jackknife_se(without: npt.ArrayLike) -> float:
    r"""Estimate a statistic's standard error from its values without each patient.

    .. math:: se^2 = \frac{P - 1}{P} \sum_p \left(\hat\theta_{(-p)} - \bar\theta\right)^2

    For a mean over patients of equal size it is the usual standard error, and otherwise not below
    it on average: what is left out is a whole patient, however large, and not an influence that
    was centred among the few others of a fold.

    Parameters
    ----------
    without
        Shape (P,): the statistic without patient p, or without group p of patients.

    Returns
    -------
    float
        NaN with fewer than two values, or where the statistic is undefined without one patient.

    References
    ----------
    Efron B, Stein C. The jackknife estimate of variance. Ann Stat 1981; 9: 586-596.

    Examples
    --------
    >>> x = np.array([0.1, 0.3, -0.1, 0.2])
    >>> without = (x.sum() - x) / 3
    >>> bool(np.isclose(jackknife_se(without), x.std(ddof=1) / 2))
    True
    """
    theta = np.asarray(without, dtype=np.float64)
    return float(np.sqrt((theta.size - 1) * np.var(theta))) if theta.size > 1 else float("nan")


def jackknife_test(
    estimate: float, without: npt.ArrayLike, *, df: float, n: int, alpha: float = 0.05
) -> TestResult:
    """T-test of a difference between two arms with patients as independent units.

    Parameters
    ----------
    estimate
        The difference.
    without
        Shape (P,): the difference without each patient.
    df
        Degrees of freedom, such as those of `patient_df`.
    n
        Patients.
    alpha
        The interval has level 1 - alpha.

    Returns
    -------
    TestResult
        Not estimable (NaN) where the difference is undefined without one of the patients, or where
        none of them moves it.

    Examples
    --------
    >>> x = np.array([0.1, 0.3, -0.1, 0.2])
    >>> found = jackknife_test(x.mean(), (x.sum() - x) / 3, df=3, n=4)
    >>> round(found.statistic, 3), round(found.p_value, 3)
    (1.464, 0.239)
    """
    se = jackknife_se(without)
    moved = se > _ROUNDING * max(1.0, abs(estimate))
    se = se if moved and df > 0 else float("nan")
    return t_result(JACKKNIFE_T, float(estimate), se, df=df, alpha=alpha, n=n)


def bounded_interval(
    value: float, se: float, *, df: float, limits: tuple[float, float], alpha: float = 0.05
) -> tuple[float, float]:
    r"""Interval of a value between two limits, by its standard error on the scale of its logit.

    With :math:`\ell` the logit of where the value lies between its limits, and se its standard
    error there (delta method), the ends are those of :math:`\ell \pm t_{1-\alpha/2,\,df}\,se`,
    taken back. They never lie beyond a limit, and near one the farther end lies farther off; a
    value within one standard error of a limit is taken to lie at that distance, since at the limit
    it has no logit. With an infinite upper limit the logarithm takes the place of the logit.

    Parameters
    ----------
    value, se
        Shared units; NaN where unknown.
    df
        Degrees of freedom of the standard error.
    limits
        The least and the largest possible value.
    alpha
        The interval has level 1 - alpha.

    Returns
    -------
    tuple of float
        Lower and upper bound; NaN where the error is unknown or 0.

    References
    ----------
    Agresti A. Categorical data analysis. 3rd ed. Wiley 2013, section 3.1 (intervals on the logit
    scale and the delta method).

    Examples
    --------
    >>> low, high = bounded_interval(0.9, 0.05, df=10, limits=(0, 1))
    >>> round(low, 3), round(high, 3)
    (0.723, 0.969)
    """
    low, high = limits
    if not (se > 0 and df > 0 and np.isfinite(value)):
        return float("nan"), float("nan")
    quantile = float(stdtrit(df, 1 - alpha / 2))
    if np.isinf(high):
        above = max(value - low, se)
        ends = low + above * np.exp(quantile * se / above * np.array([-1.0, 1.0]))
    else:
        width = high - low
        error = min(se / width, 0.5)
        place = float(np.clip((value - low) / width, error, 1 - error))
        step = quantile * error / (place * (1 - place))
        ends = low + width * expit(logit(place) + np.array([-step, step]))
    return min(float(ends[0]), value), max(float(ends[1]), value)
