"""Tests that the literature uses on folds and tiles, each of which takes them as independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from featurebench.stats.resampled import TestResult, mean_test

Floats = npt.NDArray[np.float64]

PAIRED_T = "paired t"
_NAN = float("nan")
# Scores that agree in exact arithmetic differ by rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class AnovaResult:
    """What a repeated-measures analysis of variance found; NaN wherever it is not estimable.

    Parameters
    ----------
    statistic, df, df_error, p_value
        F, its two degrees of freedom, and its p-value under sphericity.
    epsilon, p_corrected
        Greenhouse-Geisser epsilon, from 1 / (k - 1) to 1 (sphericity), and the p-value with both
        degrees of freedom multiplied by it.
    sphericity_w, sphericity_p
        Mauchly's W and the p-value of its chi-square approximation; NaN with two arms, whose
        differences have one variance only, and with fewer folds than arms.
    n
        Folds used.
    n_undefined
        Folds left out because a score is NaN.
    """

    statistic: float
    df: float
    df_error: float
    p_value: float
    epsilon: float
    p_corrected: float
    sphericity_w: float
    sphericity_p: float
    n: int
    n_undefined: int = 0


@dataclass(frozen=True)
class McNemarResult:
    """Discordant pairs and their two-sided p-values; NaN where no pair is discordant."""

    b: int
    c: int
    exact_p: float
    mid_p: float


@dataclass(frozen=True)
class CochranResult:
    """Cochran's Q with its degrees of freedom and p-value; NaN where no case tells arms apart."""

    statistic: float
    df: float
    p_value: float
    n: int


def paired_t(differences: npt.ArrayLike, *, alpha: float = 0.05) -> TestResult:
    r"""Paired t-test of a mean difference, as if the J differences were independent.

    .. math:: t = \bar d \Big/ \sqrt{s^2 / J}, \qquad df = J - 1.

    Over the folds of a cross-validation they are not: training sets overlap, the standard error is
    far too small, and it shrinks with every further repeat of the same patients. Use
    `corrected_resampled_t`.

    Parameters
    ----------
    differences
        Shape (J,): first arm minus second arm. NaN marks an undefined fold; it is left out and
        counted.
    alpha
        The interval has level 1 - alpha.

    Returns
    -------
    TestResult
        Not estimable (NaN) with fewer than two differences or when all are equal.

    Raises
    ------
    ValueError
        If the differences are not one-dimensional or alpha is not between 0 and 1.

    References
    ----------
    Dietterich TG. Approximate statistical tests for comparing supervised classification learning
    algorithms. Neural Comput 1998; 10: 1895-1923.

    Examples
    --------
    >>> result = paired_t([0.02, 0.05, -0.01, 0.04, 0.03])
    >>> round(result.statistic, 3), round(result.p_value, 3)
    (2.525, 0.065)
    """
    return mean_test(PAIRED_T, differences, overlap=0.0, alpha=alpha)


def repeated_measures_anova(scores: npt.ArrayLike) -> AnovaResult:
    r"""One-way repeated-measures analysis of variance of k arms over n folds.

    With :math:`x_{ij}` the score of arm j in fold i,

    .. math:: F = \frac{n \sum_j (\bar x_{\cdot j} - \bar x)^2 / (k - 1)}
              {\sum_{ij} (x_{ij} - \bar x_{i\cdot} - \bar x_{\cdot j} + \bar x)^2 / ((n-1)(k-1))}.

    With :math:`\lambda` the k - 1 eigenvalues of the covariance of orthonormal contrasts,
    :math:`\epsilon = (\sum \lambda)^2 / ((k - 1) \sum \lambda^2)` and Mauchly's
    :math:`W = \prod \lambda / (\sum \lambda / (k - 1))^{k - 1}`. Folds are taken as independent,
    which those of a cross-validation are not; with two arms F is the square of `paired_t`.

    Parameters
    ----------
    scores
        Shape (n_folds, n_arms), at least two arms. A fold in which a score is NaN is left out and
        counted.

    Returns
    -------
    AnovaResult
        Not estimable (NaN) with fewer than two folds, or where all arms differ by the same amount
        in every fold.

    Raises
    ------
    ValueError
        If the scores are no table of two arms or more, or include an infinite value.

    References
    ----------
    Greenhouse SW, Geisser S. On methods in the analysis of profile data. Psychometrika 1959; 24:
    95-112.
    Mauchly JW. Significance test for sphericity of a normal n-variate distribution. Ann Math Stat
    1940; 11: 204-209.

    Examples
    --------
    >>> result = repeated_measures_anova([[7, 9, 8], [3, 8, 6], [6, 9, 9], [6, 8, 7]])
    >>> round(result.statistic, 2), result.df, result.df_error, round(result.p_value, 4)
    (14.0, 2.0, 6.0, 0.0055)
    """
    x = np.asarray(scores, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 2:
        raise ValueError(f"scores have shape {x.shape}: give one row a fold, two arms or more")
    if np.any(np.isinf(x)):
        raise ValueError("scores include an infinite value: mark an undefined fold with NaN")
    kept = x[~np.isnan(x).any(axis=1)]
    (n, k), n_undefined = kept.shape, len(x) - len(kept)
    df, df_error = float(k - 1), float(max(n - 1, 0) * (k - 1))
    if n < 2 or _residuals(kept).std() <= _ROUNDING * max(1.0, float(np.abs(kept).max())):
        unknown = (_NAN,) * 5
        return AnovaResult(_NAN, df, df_error, *unknown, n, n_undefined)
    between = n * float(kept.mean(axis=0).var(ddof=1))
    f = between / (float((_residuals(kept) ** 2).sum()) / df_error)
    spread = _contrast_variances(kept)
    epsilon = float(spread.sum() ** 2 / (df * (spread**2).sum()))
    p = float(stats.f.sf(f, df, df_error))
    p_corrected = float(stats.f.sf(f, epsilon * df, epsilon * df_error))
    return AnovaResult(
        f, df, df_error, p, epsilon, p_corrected, *_mauchly(spread, n), n, n_undefined
    )


def mcnemar(b: int, c: int) -> McNemarResult:
    r"""McNemar's test of two classifiers on the same cases: exact conditional and mid-p.

    With m the smaller count and X binomial with b + c trials of probability 1/2,

    .. math:: p_{exact} = \min(1, 2 P(X \le m)), \qquad p_{mid} = p_{exact} - P(X = m),

    where b = c gives :math:`p_{mid} = 1 - P(X = m) / 2`. Cases are taken as independent, which
    tiles of one patient are not.

    Parameters
    ----------
    b, c
        Cases that only the first, and only the second classifier calls right.

    Raises
    ------
    ValueError
        If a count is negative.

    References
    ----------
    Fagerland MW, Lydersen S, Laake P. The McNemar test for binary matched-pairs data: mid-p and
    asymptotic are better than exact conditional. BMC Med Res Methodol 2013; 13: 91.

    Examples
    --------
    >>> result = mcnemar(1, 7)
    >>> round(result.exact_p, 4), round(result.mid_p, 4)
    (0.0703, 0.0391)
    """
    if min(b, c) < 0:
        raise ValueError(f"counts are {b} and {c}: give numbers of cases, 0 or more")
    if b + c == 0:
        return McNemarResult(b, c, _NAN, _NAN)
    at_most = float(stats.binom.cdf(min(b, c), b + c, 0.5))
    exactly = float(stats.binom.pmf(min(b, c), b + c, 0.5))
    exact = min(1.0, 2 * at_most)
    return McNemarResult(b, c, exact, exact - (exactly / 2 if b == c else exactly))


def cochran_q(correct: npt.ArrayLike) -> CochranResult:
    r"""Cochran's Q test of k classifiers on the same n cases.

    With :math:`C_j` the cases that classifier j calls right, :math:`R_i` the classifiers that call
    case i right and N the sum of either,

    .. math:: Q = (k - 1) \frac{k \sum_j C_j^2 - N^2}{k N - \sum_i R_i^2}, \qquad df = k - 1.

    Cases are taken as independent, which tiles of one patient are not. With two classifiers Q is
    McNemar's chi-square without correction for continuity.

    Parameters
    ----------
    correct
        Shape (n_cases, n_classifiers), at least two classifiers; true or 1 where called right.

    Raises
    ------
    ValueError
        If it is no table of two classifiers or more, or holds anything but 0 and 1.

    References
    ----------
    Cochran WG. The comparison of percentages in matched samples. Biometrika 1950; 37: 256-266.

    Examples
    --------
    >>> result = cochran_q([[1, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]])
    >>> round(result.statistic, 2), result.df
    (2.67, 2.0)
    """
    x = np.asarray(correct, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 2:
        raise ValueError(f"the table has shape {x.shape}: give one row a case, two columns or more")
    if not np.isin(x, (0, 1)).all():
        raise ValueError("the table holds other values than 0 and 1: give what was called right")
    n, k = x.shape
    total, columns, rows = float(x.sum()), x.sum(axis=0), x.sum(axis=1)
    split = k * total - float(rows @ rows)
    if split == 0:
        return CochranResult(_NAN, float(k - 1), _NAN, n)
    q = (k - 1) * (k * float(columns @ columns) - total**2) / split
    return CochranResult(q, float(k - 1), float(stats.chi2.sf(q, k - 1)), n)


def _residuals(x: Floats) -> Floats:
    rows, columns = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    residuals: Floats = x - rows - columns + x.mean()
    return residuals


def _contrast_variances(x: Floats) -> Floats:
    """Eigenvalues of the covariance of k - 1 orthonormal contrasts, smallest first."""
    # Double-centring projects on the same contrasts; its eigenvalue along the mean is zero.
    values = np.linalg.eigvalsh(np.cov(_residuals(x), rowvar=False))
    spread: Floats = np.maximum(np.delete(values, np.argmin(np.abs(values))), 0.0)
    return spread


def _mauchly(spread: Floats, n: int) -> tuple[float, float]:
    """Return W and the p-value of its first-order chi-square approximation."""
    p = len(spread)
    if p < 2 or n <= p or spread[0] <= _ROUNDING * spread[-1]:
        return _NAN, _NAN
    log_w = float(np.log(spread).sum() - p * np.log(spread.mean()))
    scale = n - 1 - (2 * p**2 + p + 2) / (6 * p)
    return float(np.exp(log_w)), float(stats.chi2.sf(-scale * log_w, p * (p + 1) / 2 - 1))
