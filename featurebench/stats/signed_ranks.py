"""Arms compared pair by pair over several data sets: signed-rank tests, Wilcoxon's and Bayesian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats

from featurebench.stats.multiplicity import holm
from featurebench.stats.ranks import DECIMALS, checked_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Floats = npt.NDArray[np.float64]

PRIOR_STRENGTH = 0.5
"""What the pseudo-difference of 0 counts in `signed_rank_posterior`, where a data set counts 1."""


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test; the p-value is two-sided and exact.

    Parameters
    ----------
    r_plus, r_minus
        Sums of the ranks of positive and negative differences; those of zeros are split evenly.
    p_value
        NaN where every difference is zero: that is no evidence, so it gives no p-value of 1.
    n, n_zero
        Differences, and how many of them are zero.
    """

    r_plus: float
    r_minus: float
    p_value: float
    n: int
    n_zero: int

    @property
    def statistic(self) -> float:
        """The smaller of the two sums."""
        return min(self.r_plus, self.r_minus)


@dataclass(frozen=True)
class PairwiseRanks:
    """Every pair of k arms by Wilcoxon's test, shape (k, k) and symmetric, NaN on the diagonal.

    Parameters
    ----------
    p_values, p_adjusted
        As they are, and by Holm over all pairs.
    """

    p_values: Floats
    p_adjusted: Floats


def wilcoxon_signed_rank(differences: npt.ArrayLike) -> SignedRank:
    """Test paired differences by their signed ranks, exactly, also with ties and zeros.

    Sizes of differences are ranked, zeros included. Under the hypothesis that each difference is
    as likely to be positive as negative, the signs of those that are not zero are flipped in all
    ways; the p-value is twice the share of sign patterns whose sum is as extreme as the one found,
    and at most 1. With n differences other than zero it is at least ``2 ** (1 - n)``.

    Parameters
    ----------
    differences
        Shape (n,), one for each data set. They are rounded to nine decimals first, or float noise
        would break ties.

    Returns
    -------
    SignedRank
        The ranks of zeros go half to either sum, as Demsar does; where the number of zeros is odd
        he leaves one of them out, and this does not.

    Raises
    ------
    ValueError
        If the differences are not one-dimensional, there is none, or one is not finite.

    References
    ----------
    Wilcoxon F. Individual comparisons by ranking methods. Biometrics Bull 1945; 1: 80-83.
    Demsar 2006 as in `friedman`, section 3.1.3.

    Examples
    --------
    >>> result = wilcoxon_signed_rank([0.01, 0.02, -0.005, 0.03, 0.04, 0.015])
    >>> result.r_plus, result.p_value
    (20.0, 0.0625)
    """
    d = _checked(differences)
    # Mean ranks are multiples of a half, so that twice a rank is a whole number.
    doubled = np.rint(2 * stats.rankdata(np.abs(d))).astype(np.int64)
    zeros = int(doubled[d == 0].sum())
    plus, minus = int(doubled[d > 0].sum()), int(doubled[d < 0].sum())
    n_zero = int((d == 0).sum())
    p = _two_sided(doubled[d != 0], min(plus, minus)) if n_zero < d.size else math.nan
    return SignedRank(plus / 2 + zeros / 4, minus / 2 + zeros / 4, p, int(d.size), n_zero)


def wilcoxon_holm(scores: npt.ArrayLike) -> PairwiseRanks:
    """Compare every pair of arms by Wilcoxon's signed-rank test, with Holm's adjustment.

    Unlike a test on average ranks, what it says of two arms does not depend on which others are
    in the table, but for the number of pairs.

    Parameters
    ----------
    scores
        Shape (N, k), as for `friedman`; the direction of the metric does not matter.

    Returns
    -------
    PairwiseRanks
        NaN for a pair that ties on every data set; it does not count among those adjusted for.

    Raises
    ------
    ValueError
        As `friedman`.

    References
    ----------
    Benavoli A, Corani G, Mangili F. Should we really use post-hoc tests based on mean-ranks? J
    Mach Learn Res 2016; 17(5): 1-10.

    Examples
    --------
    >>> scores = [[i / 10, i / 10 + 0.1 + i / 100, i / 10] for i in range(8)]
    >>> wilcoxon_holm(scores).p_adjusted.round(4)[0]
    array([   nan, 0.0156,    nan])
    """
    table = checked_scores(scores)
    k = table.shape[1]
    pairs = list(combinations(range(k), 2))
    p = [wilcoxon_signed_rank(table[:, a] - table[:, b]).p_value for a, b in pairs]
    return PairwiseRanks(_symmetric(pairs, p, k), _symmetric(pairs, holm(p).tolist(), k))


@dataclass(frozen=True)
class SignedRankPosterior:
    """How probable it is that one arm is worse, practically equal or better on such data sets.

    Parameters
    ----------
    left, rope, right
        Posterior probability that of the three, "worse by more than the rope", "within it" and
        "better by more than it", each is the one that a pair of data sets most often shows.
    n
        Data sets.
    """

    left: float
    rope: float
    right: float
    n: int


def signed_rank_posterior(
    differences: npt.ArrayLike, *, rope: float, n_samples: int = 50_000, seed: int = 0
) -> SignedRankPosterior:
    r"""Bayesian signed-rank test: a Dirichlet process on the differences of the data sets.

    With a pseudo-difference :math:`z_0 = 0` of prior strength :math:`s = 0.5` and weights
    :math:`w \sim \mathrm{Dir}(s, 1, \dots, 1)`, the share of pairs of data sets whose mean
    difference lies above the rope is

    .. math:: \theta_r = \sum_{i,j} w_i w_j \, I\!\left[(z_i + z_j) / 2 > \mathrm{rope}\right],

    and so on for the others; a mean on the edge counts half on either side. A probability is the
    share of draws of w in which its :math:`\theta` is the largest. Differences enter as they are,
    without their own standard errors.

    Parameters
    ----------
    differences
        Shape (n,), one for each data set: first arm minus second arm.
    rope
        Half-width of the region of practical equivalence, in the unit of the differences; with 0
        only left and right remain.
    n_samples, seed
        Draws of the weights, and their seed; the Monte Carlo error of a probability is at most
        ``0.5 / sqrt(n_samples)``.

    Returns
    -------
    SignedRankPosterior

    Raises
    ------
    ValueError
        If the differences are not one-dimensional, there is none, one is not finite, or the rope
        is negative.

    References
    ----------
    Benavoli A, Mangili F, Corani G, Zaffalon M, Ruggeri F. A Bayesian Wilcoxon signed-rank test
    based on the Dirichlet process. ICML 2014: 1026-1034.
    Benavoli A, Corani G, Demsar J, Zaffalon M. Time for a change: a tutorial for comparing
    multiple classifiers through Bayesian analysis. J Mach Learn Res 2017; 18 (77).

    Examples
    --------
    >>> found = signed_rank_posterior([0.02, 0.03, 0.01, 0.02, -0.01], rope=0.01)
    >>> round(found.left, 1), round(found.rope, 1), round(found.right, 1)
    (0.0, 0.3, 0.7)
    """
    d = _checked(differences)
    if not 0 <= rope < math.inf:
        raise ValueError(f"rope is {rope}: give a half-width of 0 or more")
    z = np.concatenate([[0.0], d])
    sums = (z[:, None] + z).round(DECIMALS)
    edge = round(2 * rope, DECIMALS)
    below, above = (_above(side * sums, edge) for side in (-1, 1))
    alpha = np.ones(len(z))
    alpha[0] = PRIOR_STRENGTH
    w = np.random.default_rng(seed).dirichlet(alpha, n_samples)
    left, right = (((w @ matrix) * w).sum(axis=1) for matrix in (below, above))
    largest = np.stack([left, 1 - left - right, right]).argmax(axis=0)
    p_left, p_rope, p_right = (np.bincount(largest, minlength=3) / n_samples).tolist()
    return SignedRankPosterior(p_left, p_rope, p_right, len(d))


def _above(sums: Floats, edge: float) -> Floats:
    """Mark pairs above the edge; those on it count half."""
    marks: Floats = (sums > edge) + 0.5 * (sums == edge)
    return marks


def _checked(differences: npt.ArrayLike) -> Floats:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not d.size or not np.isfinite(d).all():
        raise ValueError(
            f"differences of shape {d.shape} hold {int((~np.isfinite(d)).sum())} undefined values: "
            "give one finite value for each data set"
        )
    rounded: Floats = d.round(DECIMALS)
    return rounded


def cliques(told_apart: npt.ArrayLike) -> list[tuple[int, ...]]:
    """Find the largest groups of arms of which no two are told apart.

    Parameters
    ----------
    told_apart
        Bool, shape (k, k), symmetric, such as ``p_adjusted < alpha`` (NaN compares as False).

    Returns
    -------
    list of tuple of int
        Groups of two arms or more, each as large as it can be, in ascending order. They may
        overlap. A group need not be arms of neighbouring ranks: a pairwise test can tell the
        second arm from the third and not the first.

    Raises
    ------
    ValueError
        If the matrix is not square and symmetric.

    References
    ----------
    Bron C, Kerbosch J. Algorithm 457: finding all cliques of an undirected graph. Commun ACM 1973;
    16: 575-577.

    Examples
    --------
    >>> apart = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    >>> cliques(apart)
    [(0, 1), (1, 2)]
    """
    apart = np.asarray(told_apart, dtype=bool)
    if apart.ndim != 2 or not np.array_equal(apart, apart.T):
        raise ValueError(f"told_apart of shape {apart.shape} is not symmetric: give every pair")
    k = len(apart)
    alike = [{j for j in range(k) if j != i and not apart[i, j]} for i in range(k)]
    found = _maximal(alike, set(), set(range(k)), set())
    return sorted(tuple(sorted(group)) for group in found if len(group) > 1)


def _maximal(
    alike: list[set[int]], group: set[int], candidates: set[int], excluded: set[int]
) -> Iterator[set[int]]:
    """Yield the maximal cliques that hold ``group`` and none of ``excluded``."""
    if not candidates and not excluded:
        yield group
        return
    pivot = max(candidates | excluded, key=lambda arm: len(alike[arm] & candidates))
    for arm in sorted(candidates - alike[pivot]):
        yield from _maximal(alike, group | {arm}, candidates & alike[arm], excluded & alike[arm])
        candidates, excluded = candidates - {arm}, excluded | {arm}


def _two_sided(doubled: npt.NDArray[np.int64], smaller: int) -> float:
    """Twice the share of sign patterns whose positive ranks sum to ``smaller`` or less."""
    share = np.zeros(int(doubled.sum()) + 1)
    share[0] = 1.0
    for rank in doubled:
        flipped = share / 2
        share = flipped.copy()
        share[rank:] += flipped[: len(flipped) - rank]
    return min(1.0, 2 * float(share[: smaller + 1].sum()))


def _symmetric(pairs: Sequence[tuple[int, int]], values: Sequence[float], k: int) -> Floats:
    matrix = np.full((k, k), np.nan)
    for (a, b), value in zip(pairs, values, strict=True):
        matrix[a, b] = matrix[b, a] = value
    return matrix
