"""Posterior probabilities for a difference over folds: worse, practically equal, better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from featurebench.stats.resampled import mean_test


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
