"""Area under the ROC curve, with its error where tiles share patients and where they do not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from featurebench.stats.patients import small_sample_factors

Floats = npt.NDArray[np.float64]

_NAN = float("nan")
_ROUNDING = 1e-12


@dataclass(frozen=True)
class AucInfluence:
    """An AUC and what each cluster (patient) adds to its error.

    Parameters
    ----------
    auc
        NaN without a positive or without a negative case.
    positive, negative
        Float64, shape (n_clusters,): sum over the cluster's positive (negative) cases of their
        placement minus the AUC, over the number of all positive (negative) cases. Each sums to 0;
        all NaN where the AUC is.
    """

    auc: float
    positive: Floats
    negative: Floats


@dataclass(frozen=True)
class ClusteredAuc:
    """AUCs of several arms on the same cases, shape (A,), and their covariance, shape (A, A)."""

    auc: Floats
    covariance: Floats

    def difference(self, a: int, b: int) -> tuple[float, float]:
        """Return AUC of arm a minus that of arm b, with its standard error."""
        v = self.covariance
        variance = float(v[a, a] + v[b, b] - 2 * v[a, b])
        # Two arms that rank alike leave a variance of rounding, of either sign.
        alike = variance <= _ROUNDING * float(max(v[a, a], v[b, b]))
        return float(self.auc[a] - self.auc[b]), 0.0 if alike else float(np.sqrt(variance))


@dataclass(frozen=True)
class DelongResult:
    """DeLong's test of two AUCs on the same cases; NaN where not estimable.

    Parameters
    ----------
    auc1, auc2, difference
        The AUCs, and first minus second.
    se, z, p_value
        Standard error of the difference, and its two-sided test against the normal distribution;
        z and p are NaN where the variance is zero.
    n
        Cases.
    """

    auc1: float
    auc2: float
    difference: float
    se: float
    z: float
    p_value: float
    n: int


def auc_influence(
    is_positive: npt.ArrayLike, score: npt.ArrayLike, clusters: npt.ArrayLike, n_clusters: int
) -> AucInfluence:
    r"""AUC of one arm on one test set with the influence of each cluster.

    The placement of a positive case is :math:`V_{10}`, the share of negative cases that score
    lower (ties count half); that of a negative case is :math:`V_{01}`, the share of positive ones
    that score higher. With M positives and N negatives in all, :math:`m_p` and :math:`n_p` of them
    in cluster p, and A the AUC,

    .. math:: x_p = \frac{\sum_{i \in p} V_{10,i} - m_p A}{M}, \qquad
              y_p = \frac{\sum_{j \in p} V_{01,j} - n_p A}{N}.

    Two sorts and four binary searches: O(n log n).

    Parameters
    ----------
    is_positive
        Bool, shape (n,).
    score
        Shape (n,): larger for cases that are called positive.
    clusters
        Integer codes from 0 to n_clusters - 1, shape (n,).
    n_clusters
        Length of the result; clusters without a case have influence 0.

    Raises
    ------
    ValueError
        If the arrays do not have one value for each case, or a score is NaN.

    References
    ----------
    DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more correlated
    receiver operating characteristic curves. Biometrics 1988; 44: 837-845.
    Obuchowski NA. Nonparametric analysis of clustered ROC curve data. Biometrics 1997; 53: 567-578.
    Sun X, Xu W. Fast implementation of DeLong's algorithm. IEEE Signal Process Lett 2014; 21:
    1389-1393 (placements from ranks).

    Examples
    --------
    >>> found = auc_influence([1, 1, 0, 0], [0.9, 0.4, 0.5, 0.1], [0, 1, 0, 1], 2)
    >>> found.auc, found.positive.tolist(), found.negative.tolist()
    (0.75, [0.125, -0.125], [-0.125, 0.125])
    """
    truth, values = np.asarray(is_positive, dtype=bool), np.asarray(score, dtype=np.float64)
    codes = np.asarray(clusters)
    if values.ndim != 1 or not truth.shape == values.shape == codes.shape:
        raise ValueError(
            f"arrays have shapes {truth.shape}, {values.shape}, {codes.shape}: give one value for "
            "each case in each"
        )
    if np.isnan(values).any():
        raise ValueError("a score is NaN: leave cases without a score out")
    if truth.all() or not truth.any():
        unknown = np.full(n_clusters, _NAN)
        return AucInfluence(_NAN, unknown, unknown.copy())
    # Sorted values are found several times as fast by binary search.
    order = np.argsort(values)
    values, truth, codes = values[order], truth[order], codes[order]
    v10, v01 = _placements(values[truth], values[~truth])
    auc = float(v10.mean())
    positive = np.bincount(codes[truth], v10 - auc, n_clusters) / v10.size
    negative = np.bincount(codes[~truth], v01 - auc, n_clusters) / v01.size
    return AucInfluence(auc, positive, negative)


def clustered_auc(
    is_positive: npt.ArrayLike, scores: npt.ArrayLike, clusters: npt.ArrayLike
) -> ClusteredAuc:
    r"""AUCs of several arms on one test set of correlated cases, with their covariance.

    With x and y the influences of `auc_influence`, arms r and s have the covariance

    .. math:: \frac{I_{10}}{I_{10} - 1} \sum_p x_{rp} x_{sp}
              + \frac{I_{01}}{I_{01} - 1} \sum_p y_{rp} y_{sp}
              + \frac{I}{I - 1} \sum_p (x_{rp} y_{sp} + y_{rp} x_{sp}),

    where :math:`I_{10}` and :math:`I_{01}` clusters have positive and negative cases and I is the
    number of clusters. With one case in each cluster it is the covariance of DeLong.

    Parameters
    ----------
    is_positive
        Bool, shape (n,).
    scores
        Shape (n_arms, n).
    clusters
        Shape (n,): what is equal belongs together.

    Returns
    -------
    ClusteredAuc
        The covariance is NaN with fewer than two clusters of either kind, and all is NaN without a
        positive or without a negative case.

    Raises
    ------
    ValueError
        If the scores are no table, or as in `auc_influence`.

    References
    ----------
    Obuchowski NA. Nonparametric analysis of clustered ROC curve data. Biometrics 1997; 53: 567-578.

    Examples
    --------
    >>> y, patients = [1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 2, 2]
    >>> found = clustered_auc(y, [[0.9, 0.2, 0.8, 0.6, 0.4, 0.5]], patients)
    >>> found.auc.round(4).tolist(), found.covariance.round(4).tolist()
    ([0.7778], [[0.0864]])
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"scores have shape {table.shape}: give one row for each arm")
    truth = np.asarray(is_positive, dtype=bool)
    values, codes = np.unique(np.asarray(clusters), return_inverse=True)
    arms = [auc_influence(truth, row, codes, len(values)) for row in table]
    x = np.stack([arm.positive for arm in arms])
    y = np.stack([arm.negative for arm in arms])
    has_x, has_y = (np.bincount(codes[side], minlength=len(values)) > 0 for side in (truth, ~truth))
    factors = small_sample_factors(has_x, has_y)
    cross = x @ y.T
    covariance = factors[0] * x @ x.T + factors[1] * y @ y.T + factors[2] * (cross + cross.T)
    return ClusteredAuc(np.array([arm.auc for arm in arms]), covariance)


def delong(is_positive: npt.ArrayLike, scores: npt.ArrayLike) -> DelongResult:
    """DeLong's test of a difference between two AUCs, as if all cases were independent.

    Tiles of one patient are not; use `clustered_auc` or, over the folds of a cross-validation,
    `influence_test`.

    Parameters
    ----------
    is_positive
        Bool, shape (n,).
    scores
        Shape (2, n): of the two arms.

    Returns
    -------
    DelongResult
        z and p are NaN where the variance of the difference is zero, such as two arms that both
        separate the classes perfectly: that is not a p-value of 0 or 1.

    Raises
    ------
    ValueError
        If there are not two arms, or as in `auc_influence`.

    References
    ----------
    DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more correlated
    receiver operating characteristic curves. Biometrics 1988; 44: 837-845.

    Examples
    --------
    >>> y = [1, 1, 1, 0, 0, 0]
    >>> found = delong(y, [[0.9, 0.8, 0.4, 0.5, 0.2, 0.1], [0.7, 0.3, 0.6, 0.5, 0.4, 0.2]])
    >>> round(found.difference, 3), round(found.p_value, 3)
    (0.111, 0.724)
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) != 2:
        raise ValueError(f"scores have shape {table.shape}: give one row for each of two arms")
    found = clustered_auc(is_positive, table, np.arange(table.shape[1]))
    difference, se = found.difference(0, 1)
    z = difference / se if se > 0 else _NAN
    p = float(2 * stats.norm.sf(abs(z)))
    auc1, auc2 = found.auc.tolist()
    return DelongResult(auc1, auc2, difference, se, z, p, table.shape[1])


def hand_till(y_true: npt.ArrayLike, y_prob: npt.ArrayLike) -> float:
    r"""Multi-class AUC of Hand and Till: mean over all pairs of classes.

    With :math:`A(i|j)` the probability that a random case of class j has a lower probability of
    class i than a random case of class i,

    .. math:: M = \frac{2}{K (K - 1)} \sum_{i < j} \frac{A(i|j) + A(j|i)}{2}.

    It does not depend on how frequent the classes are; with two classes it is the AUC where the
    two probabilities sum to 1.

    Parameters
    ----------
    y_true
        Class codes from 0 to K - 1, shape (n,).
    y_prob
        Shape (n, K).

    Returns
    -------
    float
        NaN where a class has no case.

    Raises
    ------
    ValueError
        If there are not n rows of two classes or more.

    References
    ----------
    Hand DJ, Till RJ. A simple generalisation of the area under the ROC curve for multiple class
    classification problems. Mach Learn 2001; 45: 171-186.

    Examples
    --------
    >>> y_prob = [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.2, 0.3, 0.5], [0.3, 0.4, 0.3]]
    >>> hand_till([0, 1, 2, 1], y_prob)
    1.0
    """
    truth, prob = np.asarray(y_true), np.asarray(y_prob, dtype=np.float64)
    if prob.ndim != 2 or prob.shape[1] < 2 or truth.shape != prob.shape[:1]:
        raise ValueError(
            f"classes have shape {truth.shape} and probabilities {prob.shape}: give one row of two "
            "or more probabilities for each case"
        )
    members = [prob[truth == k] for k in range(prob.shape[1])]
    if min(len(rows) for rows in members) == 0:
        return _NAN
    both = [
        _placements(members[i][:, k], members[j][:, k])[0].mean()
        for a, b in combinations(range(prob.shape[1]), 2)
        for i, j, k in ((a, b, a), (b, a, b))
    ]
    return float(np.mean(both))


def _placements(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Share of negatives below each positive, and of positives above each negative."""
    v10 = _share_below(np.sort(negative), positive)
    v01 = 1.0 - _share_below(np.sort(positive), negative)
    return v10, v01


def _share_below(ordered: Floats, values: Floats) -> Floats:
    below = np.searchsorted(ordered, values, side="left")
    share: Floats = (below + np.searchsorted(ordered, values, side="right")) / (2 * ordered.size)
    return share
