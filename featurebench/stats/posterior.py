"""How probable it is that one arm is better: over folds a posterior, over repeats a share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from featurebench.stats.resampled import mean_test

MIN_PAIRS = 10
"""Pairs below which `outperformance` gives nothing: its interval would be far too narrow."""

MEANINGFUL = 0.75
"""How often an arm must outperform another for it to matter (Bouthillier et al. 2021)."""


@dataclass(frozen=True)
class Outperformance:
    """How often one arm does better than another in pairs of runs.

    Parameters
    ----------
    p
        Share of pairs in which the first arm scores better, ties counted half; NaN with fewer than
        `MIN_PAIRS` pairs.
    ci_low, ci_high
        Interval at level 1 - alpha.
    n, n_tied
        Pairs in which both scores are defined, and those that tie.
    """

    p: float
    ci_low: float
    ci_high: float
    n: int
    n_tied: int

    @property
    def meaningful(self) -> bool:
        """Whether the share reaches `MEANINGFUL` and the interval lies above one half."""
        return self.p >= MEANINGFUL and self.ci_low > 0.5


@dataclass(frozen=True)
class Posterior:
    """Where the mean difference lies; NaN where it is not estimable.

    Parameters
    ----------
    below, within, above
        Posterior probability that it is below -rope, between -rope and +rope, and above +rope.
    location, scale, df
        Of the posterior, a Student t.
    """

    below: float
    within: float
    above: float
    location: float
    scale: float
    df: float


def correlated_t_posterior(differences: npt.ArrayLike, *, rho: float, rope: float) -> Posterior:
    r"""Bayesian correlated t-test of a mean difference over the folds of all repeats.

    With J differences of mean :math:`\bar d` and variance :math:`s^2`, any two of which have
    correlation :math:`\rho`, and a flat prior on mean and log variance, the mean difference has
    the posterior

    .. math:: t_{J-1}\!\left(\bar d,\; (1/J + \rho / (1 - \rho))\, s^2\right).

    At rope 0, the smaller tail is the one-sided p-value of `corrected_resampled_t` with
    q = rho / (1 - rho). The probabilities are no p-values.

    Parameters
    ----------
    differences
        Shape (J,): first arm minus second arm, one for each fold of each repeat; NaN marks an
        undefined fold, which is left out.
    rho
        Share of the independent units (patients) in a test set: 1 / k for k folds.
    rope
        Half-width of the region of practical equivalence, in the unit of the differences.

    Returns
    -------
    Posterior
        NaN with fewer than two differences or when all are equal.

    Raises
    ------
    ValueError
        If rho is not between 0 and 1, the rope is negative, or the differences are not
        one-dimensional or infinite.

    References
    ----------
    Corani G, Benavoli A. A Bayesian approach for comparing cross-validated algorithms on multiple
    data sets. Mach Learn 2015; 100: 285-304.
    Benavoli A, Corani G, Demsar J, Zaffalon M. Time for a change: a tutorial for comparing
    multiple classifiers through Bayesian analysis. J Mach Learn Res 2017; 18 (77).

    Examples
    --------
    >>> found = correlated_t_posterior([0.02, 0.05, -0.01, 0.04, 0.03], rho=0.2, rope=0.01)
    >>> round(found.below, 3), round(found.within, 3), round(found.above, 3)
    (0.04, 0.139, 0.821)
    """
    if not 0 < rho < 1:
        raise ValueError(f"rho is {rho}: give the share of patients in a test set")
    if not rope >= 0:
        raise ValueError(f"rope is {rope}: give a half-width of 0 or more")
    test = mean_test("posterior", differences, overlap=rho / (1 - rho))
    nan = float("nan")
    if not test.estimable:
        return Posterior(nan, nan, nan, test.estimate, nan, test.df)
    low, high = (np.array([-rope, rope]) - test.estimate) / test.se
    below, above = float(stats.t.cdf(low, test.df)), float(stats.t.sf(high, test.df))
    within = max(0.0, 1.0 - below - above)
    return Posterior(below, within, above, test.estimate, test.se, test.df)


def outperformance(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    greater_is_better: bool = True,
    alpha: float = 0.05,
    n_boot: int = 10_000,
    seed: int = 0,
) -> Outperformance:
    """Estimate P(A > B): how often A does better than B where all that can vary varies at once.

    A pair is the scores of both arms on the same split; from pair to pair the split changes, and
    with it the seeds. The share of pairs that A wins has a percentile bootstrap interval over
    pairs. Where one arm wins all of them, resampling pairs has no spread, and the end that faces
    one half is the exact binomial one instead, ``(alpha / 2) ** (1 / n)`` (Clopper and Pearson).

    Parameters
    ----------
    first, second
        Scores of A and B, shape (n,); pairs in which one is NaN are left out.
    greater_is_better
        Direction of the metric.
    alpha
        The interval has level 1 - alpha.
    n_boot, seed
        Number of resamples, and their seed.

    Returns
    -------
    Outperformance
        NaN with fewer than `MIN_PAIRS` pairs. The interval takes pairs as independent; pairs that
        share patients are so only given these patients, and tell nothing of others.

    Raises
    ------
    ValueError
        If the scores are not one-dimensional, or of different lengths.

    References
    ----------
    Bouthillier X, Delaunay P, Bronzi M, et al. Accounting for variance in machine learning
    benchmarks. MLSys 2021. There a result is meaningful if the interval
    lies above one half and reaches beyond 0.75; here the share itself must reach it.

    Examples
    --------
    >>> a = [0.81, 0.79, 0.84, 0.80, 0.82, 0.78, 0.83, 0.85, 0.80, 0.79]
    >>> b = [0.80, 0.78, 0.80, 0.81, 0.80, 0.77, 0.81, 0.82, 0.79, 0.76]
    >>> found = outperformance(a, b)
    >>> found.p, found.ci_low, found.ci_high, found.meaningful
    (0.9, 0.7, 1.0, True)
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"scores of shapes {a.shape} and {b.shape}: give one of each per pair")
    gain = (a - b)[~np.isnan(a - b)].round(9)
    wins = np.where(gain == 0, 0.5, (gain > 0) == greater_is_better)
    n, n_tied = len(wins), int((gain == 0).sum())
    if n < MIN_PAIRS:
        return Outperformance(float("nan"), float("nan"), float("nan"), n, n_tied)
    p = float(wins.mean())
    drawn = np.random.default_rng(seed).integers(n, size=(n_boot, n))
    low, high = np.quantile(wins[drawn].mean(axis=1), [alpha / 2, 1 - alpha / 2]).tolist()
    exact = (alpha / 2) ** (1 / n)
    if p == 1:
        low = exact
    elif p == 0:
        high = 1 - exact
    return Outperformance(p, low, high, n, n_tied)
