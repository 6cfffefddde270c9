"""Agreement between two sets of calls on the same cases: Cohen's kappa, Stuart-Maxwell, Bowker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.sparse.csgraph import connected_components

Floats = npt.NDArray[np.float64]
Weights = Literal["none", "linear", "quadratic"]

_NAN = float("nan")
_ROUNDING = 1e-15


@dataclass(frozen=True)
class KappaResult:
    """Cohen's kappa with its asymptotic error; NaN where it is not estimable.

    Parameters
    ----------
    kappa, se
        Kappa and its standard error.
    ci_low, ci_high
        Interval by the normal distribution, at level 1 - alpha, not beyond -1 and 1.
    se_null, z, p_value
        Standard error where kappa is 0, and the two-sided test of that.
    n
        Cases.
    """

    kappa: float
    se: float
    ci_low: float
    ci_high: float
    se_null: float
    z: float
    p_value: float
    n: int


@dataclass(frozen=True)
class SymmetryResult:
    """A chi-square statistic with its degrees of freedom and p-value; NaN without disagreement."""

    statistic: float
    df: float
    p_value: float
    n: int


def cohen_kappa(
    table: npt.ArrayLike, *, weights: Weights = "none", alpha: float = 0.05
) -> KappaResult:
    r"""Cohen's kappa of two sets of calls, plain or weighted, with its asymptotic standard error.

    With :math:`p_{ij}` the share of cases in cell (i, j), :math:`w_{ij}` the agreement weights,
    :math:`p_e = \sum w_{ij} p_{i\cdot} p_{\cdot j}` and
    :math:`\bar w_{i\cdot} = \sum_j w_{ij} p_{\cdot j}`,
    :math:`\bar w_{\cdot j} = \sum_i w_{ij} p_{i\cdot}`,

    .. math:: \kappa = \frac{\sum w_{ij} p_{ij} - p_e}{1 - p_e}, \qquad
              se^2 = \frac{\sum p_{ij} [w_{ij} - (\bar w_{i\cdot} + \bar w_{\cdot j})(1 - \kappa)]^2
              - [\kappa - p_e (1 - \kappa)]^2}{n (1 - p_e)^2}.

    The error takes cases as independent, which tiles of one patient are not.

    Parameters
    ----------
    table
        Counts, shape (k, k): first call in rows, second in columns, classes in the same order.
    weights
        ``none``: only the same class agrees; ``linear`` or ``quadratic``: the weight falls with
        the distance, or squared distance, between two classes in their order.
    alpha
        The interval has level 1 - alpha.

    Returns
    -------
    KappaResult
        NaN for an empty table and where both calls are always the same single class. The error
        and the interval are NaN where the error would be 0: with perfect agreement, and where one
        side always calls the same class.

    Raises
    ------
    ValueError
        If the table is not square, or a count is negative or not finite, or the weights are
        unknown, or alpha is not between 0 and 1.

    References
    ----------
    Fleiss JL, Cohen J, Everitt BS. Large sample standard errors of kappa and weighted kappa.
    Psychol Bull 1969; 72: 323-327.

    Examples
    --------
    >>> result = cohen_kappa([[20, 5], [10, 15]])
    >>> round(result.kappa, 3), round(result.se, 4), round(result.p_value, 4)
    (0.4, 0.127, 0.0039)
    """
    counts = _square(table)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: give a value between 0 and 1")
    w, n = _agreement(len(counts), weights), float(counts.sum())
    if n == 0:
        return KappaResult(*(_NAN,) * 7, 0)
    p = counts / n
    chance = np.outer(p.sum(axis=1), p.sum(axis=0))
    expected = float((w * chance).sum())
    if expected >= 1 - 1e-12:
        return KappaResult(*(_NAN,) * 7, round(n))
    kappa = (float((w * p).sum()) - expected) / (1 - expected)
    mean = (w @ p.sum(axis=0))[:, None] + (p.sum(axis=1) @ w)[None, :]
    scale = n * (1 - expected) ** 2
    spread = float((p * (w - mean * (1 - kappa)) ** 2).sum())
    variance = (spread - (kappa - expected * (1 - kappa)) ** 2) / scale
    null = (float((chance * (w - mean) ** 2).sum()) - expected**2) / scale
    se, se_null = (float(np.sqrt(v)) if v > _ROUNDING else _NAN for v in (variance, null))
    z = kappa / se_null
    half = float(stats.norm.ppf(1 - alpha / 2)) * se
    low, high = (float(np.clip(kappa + side, -1, 1)) for side in (-half, half))
    return KappaResult(kappa, se, low, high, se_null, z, float(2 * stats.norm.sf(abs(z))), round(n))


def stuart_maxwell(table: npt.ArrayLike) -> SymmetryResult:
    r"""Stuart-Maxwell test that two sets of calls use each class equally often.

    With d the row totals minus the column totals and V their covariance under the hypothesis,
    :math:`V_{ii} = n_{i\cdot} + n_{\cdot i} - 2 n_{ii}` and :math:`V_{ij} = -(n_{ij} + n_{ji})`,
    the statistic is :math:`d' V^- d`. Its degrees of freedom are the rank of V: one less than the
    number of classes, or fewer where classes are never confused with each other. Cases are taken
    as independent, which tiles of one patient are not; it says nothing of which call is right.

    Parameters
    ----------
    table
        Counts, shape (k, k): first call in rows, second in columns, classes in the same order.

    Raises
    ------
    ValueError
        If the table is not square, or a count is negative or not finite.

    References
    ----------
    Stuart A. A test for homogeneity of the marginal distributions in a two-way classification.
    Biometrika 1955; 42: 412-416.
    Maxwell AE. Comparing the classification of subjects by two independent judges. Br J Psychiatry
    1970; 116: 651-655.

    Examples
    --------
    >>> result = stuart_maxwell([[20, 10, 5], [3, 30, 15], [0, 5, 40]])
    >>> round(result.statistic, 2), result.df, round(result.p_value, 4)
    (13.76, 2.0, 0.001)
    """
    counts = _square(table)
    confused = counts + counts.T
    np.fill_diagonal(confused, 0)
    n_groups, _ = connected_components(confused, directed=False)
    df = len(counts) - n_groups
    shift = counts.sum(axis=1) - counts.sum(axis=0)
    covariance = np.diag(confused.sum(axis=1)) - confused
    return _chi_square(float(shift @ np.linalg.pinv(covariance) @ shift), df, counts)


def bowker(table: npt.ArrayLike) -> SymmetryResult:
    r"""Bowker's test that each confusion is as frequent one way as the other.

    .. math:: \chi^2 = \sum_{i < j} \frac{(n_{ij} - n_{ji})^2}{n_{ij} + n_{ji}},

    with one degree of freedom for each pair of classes that are confused at all. With two classes
    it is McNemar's test by chi-square without correction for continuity. Cases are taken as
    independent, which tiles of one patient are not.

    Parameters
    ----------
    table
        As for `stuart_maxwell`.

    Raises
    ------
    ValueError
        If the table is not square, or a count is negative or not finite.

    References
    ----------
    Bowker AH. A test for symmetry in contingency tables. J Am Stat Assoc 1948; 43: 572-574.

    Examples
    --------
    >>> result = bowker([[20, 10, 5], [3, 30, 15], [0, 5, 40]])
    >>> round(result.statistic, 2), result.df, round(result.p_value, 4)
    (13.77, 3.0, 0.0032)
    """
    counts = _square(table)
    above = np.triu_indices(len(counts), 1)
    one_way, other_way = counts[above], counts.T[above]
    both = one_way + other_way
    seen = both > 0
    statistic = float((((one_way - other_way)[seen]) ** 2 / both[seen]).sum())
    return _chi_square(statistic, int(seen.sum()), counts)


def _chi_square(statistic: float, df: int, counts: Floats) -> SymmetryResult:
    n = round(float(counts.sum()))
    if df == 0:
        return SymmetryResult(_NAN, 0.0, _NAN, n)
    return SymmetryResult(statistic, float(df), float(stats.chi2.sf(statistic, df)), n)


def _agreement(k: int, weights: Weights) -> Floats:
    distance = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
    farthest = max(k - 1, 1)
    if weights == "none":
        return np.eye(k)
    if weights == "linear":
        return 1 - distance / farthest
    if weights == "quadratic":
        return 1 - (distance / farthest) ** 2
    raise ValueError(f"weights are {weights!r}: choose none, linear or quadratic")


def _square(table: npt.ArrayLike) -> Floats:
    counts = np.array(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise ValueError(f"the table has shape {counts.shape}: give a row and a column a class")
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError("the table holds a negative or undefined count: give 0 or more")
    return counts
