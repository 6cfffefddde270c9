"""Average ranks of arms over several data sets: Friedman, Iman-Davenport and Nemenyi."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
# Scores that agree in exact arithmetic differ by rounding: 0.305 - 0.300 != 0.205 - 0.200.
DECIMALS = 9


@dataclass(frozen=True)
class FriedmanResult:
    """Average ranks of k arms over N data sets, and whether they differ.

    Parameters
    ----------
    average_ranks
        Shape (k,): 1 is the best arm, ties share their mean rank.
    chi2, chi2_p
        Friedman's statistic as Demsar writes it, without a correction for ties, and its p-value.
    chi2_ties, chi2_ties_p
        The same corrected for ties, as scipy and R give it; NaN where all arms tie everywhere.
    f, f_df, f_p
        Iman and Davenport's F, its two degrees of freedom, and its p-value.
    n
        Number of data sets.
    """

    average_ranks: Floats
    chi2: float
    chi2_p: float
    chi2_ties: float
    chi2_ties_p: float
    f: float
    f_df: tuple[int, int]
    f_p: float
    n: int


def friedman(scores: npt.ArrayLike, *, greater_is_better: bool = True) -> FriedmanResult:
    r"""Rank the arms within each data set and test whether their average ranks differ.

    With average ranks :math:`R_j` of k arms over N data sets,

    .. math::
        \chi_F^2 = \frac{12 N}{k (k + 1)} \left(\sum_j R_j^2 - \frac{k (k + 1)^2}{4}\right),
        \qquad F_F = \frac{(N - 1)\, \chi_F^2}{N (k - 1) - \chi_F^2},

    the first with k - 1 degrees of freedom, the second with k - 1 and (k - 1)(N - 1). The tie
    correction divides the first by :math:`1 - \sum (t^3 - t) / (N k (k^2 - 1))` over all groups
    of t tied scores.

    Parameters
    ----------
    scores
        Shape (N, k): one score of every arm on every data set. Equal to nine decimals is a tie.
    greater_is_better
        Whether rank 1 goes to the largest score.

    Returns
    -------
    FriedmanResult
        The p-value of F is not below :math:`(k!)^{1-N}`, the chance that all data sets order the
        arms alike when there is nothing to find; otherwise it would be 0 there.

    Raises
    ------
    ValueError
        If there are fewer than two data sets or arms, or a score is not finite.

    References
    ----------
    Demsar J. Statistical comparisons of classifiers over multiple data sets. J Mach Learn Res
    2006; 7: 1-30, section 3.2.2.
    Iman RL, Davenport JM. Approximations of the critical region of the Friedman statistic. Commun
    Stat 1980; A9: 571-595.

    Examples
    --------
    >>> result = friedman([[0.7, 0.8, 0.9], [0.6, 0.7, 0.7], [0.8, 0.7, 0.9]])
    >>> result.average_ranks.round(2), round(result.f, 2)
    (array([2.67, 2.17, 1.17]), 2.8)
    """
    table = checked_scores(scores)
    n, k = table.shape
    ranks = stats.rankdata(-table if greater_is_better else table, axis=1)
    average = ranks.mean(axis=0)
    chi2 = 12 * n / (k * (k + 1)) * (float(np.square(average).sum()) - k * (k + 1) ** 2 / 4)
    # The sum of squares is at its least when all ranks are equal; below it lies only rounding.
    chi2 = max(chi2, 0.0)
    untied = 1 - _tied(table) / (n * k * (k * k - 1))
    chi2_ties = chi2 / untied if untied > 0 else math.nan
    f, f_df, f_p = iman_davenport(chi2, n, k)
    return FriedmanResult(
        average,
        chi2,
        float(stats.chi2.sf(chi2, k - 1)),
        chi2_ties,
        float(stats.chi2.sf(chi2_ties, k - 1)),
        f,
        f_df,
        f_p,
        n,
    )


def iman_davenport(chi2: float, n: int, k: int) -> tuple[float, tuple[int, int], float]:
    """Turn Friedman's uncorrected statistic into Iman and Davenport's F.

    Parameters
    ----------
    chi2
        Of `friedman`.
    n, k
        Data sets and arms.

    Returns
    -------
    tuple
        F, infinite where all data sets order the arms alike; its two degrees of freedom; and its
        p-value. Equation, bound on the p-value and references as in `friedman`.

    Examples
    --------
    >>> f, df, p = iman_davenport(9.28, n=14, k=4)
    >>> round(f, 2), df, round(p, 3)
    (3.69, (3, 39), 0.02)
    """
    df = (k - 1, (k - 1) * (n - 1))
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 * n * k else math.inf
    least = math.exp((1 - n) * math.lgamma(k + 1))
    return f, df, max(float(stats.f.sf(f, *df)), least)


def nemenyi_critical_difference(k: int, n: int, alpha: float = 0.05) -> float:
    r"""Difference of two average ranks from which Nemenyi's test tells the arms apart.

    .. math:: CD = q_{\alpha} \sqrt{k (k + 1) / (6 N)}

    with q the upper quantile of the studentized range of k groups with infinite degrees of
    freedom, divided by :math:`\sqrt 2`.

    Parameters
    ----------
    k, n
        Arms, two or more, and data sets.
    alpha
        Family-wise level over all pairs.

    Raises
    ------
    ValueError
        If there are fewer than two arms or no data set, or alpha is not between 0 and 1.

    References
    ----------
    Demsar 2006 as in `friedman`, section 3.2.2 and table 5.

    Examples
    --------
    >>> round(nemenyi_critical_difference(4, 14), 2)
    1.25
    """
    if k < 2 or n < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"{k} arms, {n} data sets, alpha {alpha}: give 2 arms or more, a data set, and an "
            "alpha between 0 and 1"
        )
    q = float(stats.studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * n))


def checked_scores(scores: npt.ArrayLike) -> Floats:
    """Give scores of shape (N, k) rounded to nine decimals, so that float noise breaks no tie.

    Raises
    ------
    ValueError
        As `friedman`.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"scores have shape {table.shape}: give two or more data sets and arms")
    if not np.isfinite(table).all():
        raise ValueError("scores hold NaN or infinite values: leave those arms or data sets out")
    rounded: Floats = table.round(DECIMALS)
    return rounded


def _tied(table: Floats) -> float:
    """Sum of t^3 - t over the groups of t tied scores in every row."""
    sizes = [np.unique(row, return_counts=True)[1] for row in table]
    return float(sum((t.astype(np.float64) ** 3 - t).sum() for t in sizes))
