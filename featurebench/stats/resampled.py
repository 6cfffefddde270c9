"""Tests on differences between two arms over the folds of a repeated cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

CORRECTED_T = "Nadeau-Bengio corrected resampled t"
# Fold scores that agree in exact arithmetic differ by rounding: 0.305 - 0.300 != 0.205 - 0.200.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class TestResult:
    """What a test found; NaN wherever it is not estimable.

    Parameters
    ----------
    name
        Of the test.
    estimate
        Mean difference, in the units of the metric.
    statistic, df, p_value
        Test statistic, its degrees of freedom, and the two-sided p-value.
    ci_low, ci_high
        Interval for the mean difference that belongs to the test, at level 1 - alpha.
    n
        Differences, or patients, used.
    n_undefined
        Differences left out because they are NaN.
    se
        Standard error of the estimate.
    """

    name: str
    estimate: float
    statistic: float
    df: float
    p_value: float
    ci_low: float
    ci_high: float
    n: int
    n_undefined: int = 0
    se: float = float("nan")

    @property
    def estimable(self) -> bool:
        """Whether there is a p-value."""
        return bool(np.isfinite(self.p_value))


def corrected_resampled_t(
    differences: npt.ArrayLike,
    *,
    test_train_ratio: float,
    alpha: float = 0.05,
    max_df: float = np.inf,
) -> TestResult:
    r"""Corrected resampled t-test of a mean difference over the folds of all repeats.

    Training sets of different folds overlap, so the J differences d_j are correlated and their
    plain standard error is far too small. With q the size of a test set over that of its training
    set,

    .. math:: t = \bar d \Big/ \sqrt{(1/J + q)\, s^2}, \qquad df = J - 1.

    Parameters
    ----------
    differences
        Shape (J,): first arm minus second arm, one value for each fold of each repeat. NaN marks a
        fold in which the metric is undefined; it is left out and counted.
    test_train_ratio
        q, counted in units that are independent of each other (patients): 1 / (k - 1) for k folds.
    alpha
        The interval has level 1 - alpha.
    max_df
        Upper limit of the degrees of freedom, such as the number of independent units less one:
        folds that are dealt again and again from few units vary as these do.

    Returns
    -------
    TestResult
        P-value, statistic and interval are NaN (not estimable) with fewer than two differences or
        when all are equal: neither is evidence, so neither gives a p-value of 0.

    Raises
    ------
    ValueError
        If the differences are not one-dimensional, the ratio is not positive, or alpha is not
        between 0 and 1.

    References
    ----------
    Nadeau C, Bengio Y. Inference for the generalization error. Mach Learn 2003; 52: 239-281.
    Bouckaert RR, Frank E. Evaluating the replicability of significance tests for comparing
    learning algorithms. PAKDD 2004: 3-12 (repeated k-fold, df = J - 1).

    Examples
    --------
    >>> result = corrected_resampled_t([0.02, 0.05, -0.01, 0.04, 0.03], test_train_ratio=0.25)
    >>> round(result.statistic, 3), round(result.p_value, 3)
    (1.684, 0.168)
    """
    if not test_train_ratio > 0:
        raise ValueError(f"test_train_ratio is {test_train_ratio}: give n_test / n_train, above 0")
    return mean_test(CORRECTED_T, differences, overlap=test_train_ratio, alpha=alpha, max_df=max_df)


def mean_test(
    name: str,
    differences: npt.ArrayLike,
    *,
    overlap: float,
    alpha: float = 0.05,
    max_df: float = np.inf,
) -> TestResult:
    """Test a mean of J differences whose variance is s^2 (1 / J + overlap), with df = J - 1.

    Parameters
    ----------
    name
        What the result is called.
    differences, alpha, max_df
        As in `corrected_resampled_t`.
    overlap
        What the dependence between differences adds to 1 / J; 0 for independent ones.
    """
    d = np.asarray(differences, dtype=np.float64)
    _check(d, alpha)
    kept = d[~np.isnan(d)]
    n, n_undefined = kept.size, int(d.size - kept.size)
    mean = float(kept.mean()) if n else float("nan")
    constant = n < 2 or float(np.ptp(kept)) <= _ROUNDING * max(1.0, float(np.abs(kept).max()))
    se = float("nan") if constant else float(np.sqrt((1 / n + overlap) * kept.var(ddof=1)))
    df = float(min(max(n - 1, 0), max_df))
    return t_result(name, mean, se, df=df, alpha=alpha, n=n, n_undefined=n_undefined)


def adjusted(
    result: TestResult, *, alpha: float, variance_factor: float = 1.0, max_df: float = np.inf
) -> TestResult:
    r"""Refer a t-test's estimate to a larger error, or to fewer degrees of freedom.

    A statistic without one of few sites still rests on models that were trained with it. As the
    corrected resampled t adds q to the 1 / k of the k folds of a repeat, its squared error is
    multiplied by :math:`1 + k q`: by 2.25 with five folds.

    Parameters
    ----------
    result
        Of a t-test.
    alpha
        The interval has level 1 - alpha.
    variance_factor
        Of the squared standard error.
    max_df
        Upper limit of the degrees of freedom, such as the patients of the rarest class less one.

    References
    ----------
    Nadeau C, Bengio Y. Inference for the generalization error. Mach Learn 2003; 52: 239-281.

    Examples
    --------
    >>> found = t_result("t", 0.04, 0.02, df=5, alpha=0.05, n=6)
    >>> more = adjusted(found, alpha=0.05, variance_factor=2.25, max_df=4)
    >>> round(more.se, 4), more.df
    (0.03, 4)
    """
    se, df = result.se * float(np.sqrt(variance_factor)), min(result.df, max_df)
    return t_result(result.name, result.estimate, se, df=df, alpha=alpha, n=result.n)


def t_result(
    name: str, estimate: float, se: float, *, df: float, alpha: float, n: int, n_undefined: int = 0
) -> TestResult:
    """Refer an estimate over its standard error to Student's t.

    Parameters
    ----------
    name, estimate, df, n, n_undefined
        As in `TestResult`.
    se
        Standard error of the estimate; NaN where it is not estimable, and then so is the test.
    alpha
        The interval has level 1 - alpha.
    """
    statistic = estimate / se
    half = float(stats.t.ppf(1 - alpha / 2, df)) * se
    p = float(2 * stats.t.sf(abs(statistic), df))
    low, high = estimate - half, estimate + half
    return TestResult(name, estimate, statistic, df, p, low, high, n, n_undefined, se)


def _check(d: npt.NDArray[np.float64], alpha: float) -> None:
    if d.ndim != 1:
        raise ValueError(f"differences have shape {d.shape}: give one dimension, fold by fold")
    if np.any(np.isinf(d)):
        raise ValueError("differences include an infinite value: mark an undefined fold with NaN")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: give a value between 0 and 1")
