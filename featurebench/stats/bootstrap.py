"""Bootstrap intervals that resample whole clusters (patients) of correlated rows (tiles)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from featurebench.stats.bca import Interval, Method, bca_constants, bca_levels, has_spread, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Floats = npt.NDArray[np.float64]
# A cluster is drawn more than 255 times with a probability below 1 / 255!.
Counts = npt.NDArray[np.uint8]

# Above this the jackknife leaves out groups of clusters, so that its cost stays bounded.
_MAX_JACKKNIFE = 400
_CHUNK_ELEMENTS = 2**21
_DRAWN_AT_ONCE = 2**16


@dataclass(frozen=True)
class Resamples:
    """Cluster weights drawn once and shared, so that every statistic sees the same resamples.

    Differences between statistics evaluated on the same `Resamples` are therefore paired.

    Parameters
    ----------
    weights
        Uint8, shape (1 + n_jackknife + n_boot, n_clusters): how often each cluster counts. Row 0
        is the data as observed, then the jackknife, then the bootstrap, whose rows each sum to
        n_clusters.
    n_jackknife
        Rows in which one cluster (or one group of clusters) counts zero times.

    Examples
    --------
    >>> scores = np.array([0.9, 0.8, 0.6, 0.7, 0.95])
    >>> resamples = Resamples.draw(5, n_boot=1000, seed=0)
    >>> values = resamples.evaluate(lambda w: w @ scores / w.sum(axis=1))
    >>> interval = resamples.interval(values)
    >>> round(interval.value, 2), interval.method
    (0.79, 'BCa')
    """

    weights: Counts
    n_jackknife: int

    @classmethod
    def draw(
        cls,
        n_clusters: int,
        *,
        n_boot: int = 2000,
        seed: int = 0,
        strata: npt.ArrayLike | None = None,
    ) -> Resamples:
        """Draw clusters with replacement, n_clusters at a time.

        Parameters
        ----------
        n_clusters
            Number of independent units.
        n_boot
            Number of resamples.
        seed
            The same seed gives the same resamples.
        strata
            Shape (n_clusters,): clusters are redrawn within their stratum only; None for one.

        Raises
        ------
        ValueError
            If there is no cluster, no resample, or not one stratum for each cluster.
        """
        if n_clusters < 1 or n_boot < 1:
            raise ValueError(f"{n_clusters} clusters and n_boot={n_boot}: give at least 1 of each")
        stratum = np.zeros(n_clusters) if strata is None else np.asarray(strata)
        if stratum.shape != (n_clusters,):
            raise ValueError(f"strata have shape {stratum.shape}: give one for {n_clusters} each")
        jackknife = _leave_one_out(n_clusters)
        weights = np.ones((1 + len(jackknife) + n_boot, n_clusters), dtype=np.uint8)
        weights[1 : 1 + len(jackknife)] = jackknife
        _fill_bootstrap(weights[1 + len(jackknife) :], stratum, np.random.default_rng(seed))
        return cls(weights, len(jackknife))

    @property
    def n_clusters(self) -> int:
        """Number of independent units."""
        return int(self.weights.shape[1])

    @property
    def n_boot(self) -> int:
        """Number of bootstrap rows."""
        return int(self.weights.shape[0]) - 1 - self.n_jackknife

    @property
    def left_out(self) -> Resamples:
        """The data as observed and the jackknife alone."""
        return Resamples(self.weights[: 1 + self.n_jackknife], self.n_jackknife)

    def evaluate(self, statistic: Callable[[Floats], Floats]) -> Floats:
        """Apply a statistic to every row of weights, some rows at a time.

        Parameters
        ----------
        statistic
            Maps float64 weights of shape (b, n_clusters) to b values; NaN where undefined.

        Returns
        -------
        ndarray
            Float64, shape (1 + n_jackknife + n_boot,), for `interval`.
        """
        return self.evaluate_all(lambda weights: {"": statistic(weights)})[""]

    def evaluate_all(
        self, statistics: Callable[[Floats], Mapping[str, npt.ArrayLike]]
    ) -> dict[str, Floats]:
        """Apply several statistics at once to every row of weights, some rows at a time.

        Parameters
        ----------
        statistics
            Maps float64 weights of shape (b, n_clusters) to b values of each statistic by name;
            NaN where undefined.

        Returns
        -------
        dict
            By name, as from `evaluate`.

        Examples
        --------
        >>> resamples = Resamples.draw(3, n_boot=4, seed=0)
        >>> found = resamples.evaluate_all(lambda w: {"sum": w.sum(axis=1), "first": w[:, 0]})
        >>> found["sum"].tolist()
        [3.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0]
        """
        rows = max(1, _CHUNK_ELEMENTS // self.n_clusters)
        starts = range(0, len(self.weights), rows)
        chunks = (self.weights[start : start + rows].astype(np.float64) for start in starts)
        found = [statistics(chunk) for chunk in chunks]
        return {
            name: np.concatenate([np.asarray(part[name], dtype=np.float64) for part in found])
            for name in found[0]
        }

    def interval(
        self, values: npt.ArrayLike, *, alpha: float = 0.05, df: float = np.inf
    ) -> Interval:
        r"""Bias-corrected and accelerated (BCa) interval from the values of `evaluate`.

        The bounds are the quantiles of the bootstrap distribution at

        .. math:: \Phi\!\left(z_0 + \frac{z_0 + z_{\alpha/2}}{1 - a (z_0 + z_{\alpha/2})}\right)

        and the same with :math:`z_{1-\alpha/2}`. The bias :math:`z_0` is the normal quantile of
        the share of resamples below the observed value (ties count half); the acceleration is
        :math:`a = \sum d_p^3 / (6 (\sum d_p^2)^{3/2})` with :math:`d_p` the mean of the
        leave-one-cluster-out values minus the p-th of them.

        Parameters
        ----------
        values
            Shape (1 + n_jackknife + n_boot,). Resamples in which the value is NaN are left out
            and counted.
        alpha
            The interval has level 1 - alpha.
        df
            Quantiles of Student's t with so many degrees of freedom stand in place of the normal
            ones :math:`z_{\alpha/2}`, as in Hesterberg's expanded percentile interval: with few
            clusters the spread itself is uncertain. Infinite for BCa as published.

        Returns
        -------
        Interval
            ``percentile`` where the bias or the acceleration is not finite (such as a statistic
            undefined without one of the clusters). ``not estimable``, with NaN bounds, where the
            observed value is undefined, the statistic is constant over resamples, there is one
            cluster only, or fewer than half of the resamples are defined.

        Raises
        ------
        ValueError
            If there is not one value for each row, alpha is not between 0 and 1, or df not above 0.

        References
        ----------
        Efron B. Better bootstrap confidence intervals. J Am Stat Assoc 1987; 82: 171-185.
        Field CA, Welsh AH. Bootstrapping clustered data. J R Stat Soc B 2007; 69: 369-390.
        Hesterberg TC. What teachers should know about the bootstrap. Am Stat 2015; 69: 371-386.
        """
        theta = np.asarray(values, dtype=np.float64)
        if theta.shape != (len(self.weights),):
            raise ValueError(f"values have shape {theta.shape}: give {len(self.weights)} of them")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}: give a value between 0 and 1")
        if not df > 0:
            raise ValueError(f"df is {df}: give a value above 0")
        value = float(theta[0])
        jackknife, replicates = np.split(theta[1:], [self.n_jackknife])
        defined = replicates[np.isfinite(replicates)]
        n_undefined = int(replicates.size - defined.size)
        if not (np.isfinite(value) and has_spread(defined, replicates.size)):
            nan = float("nan")
            return Interval(value, nan, nan, "not estimable", n_undefined)
        tails = stdtrit(df, alpha / 2) * np.array([1, -1])
        constants = bca_constants(value, jackknife, defined)
        levels = None if constants is None else bca_levels(tails, *constants)
        low, high = np.quantile(defined, ndtr(tails) if levels is None else levels)
        method: Method = "percentile" if levels is None else "BCa"
        return Interval(value, float(low), float(high), method, n_undefined)

    def centred(self, values: npt.ArrayLike) -> Floats:
        """Move the replicates so that their median is the observed value.

        For a statistic that any noise makes larger, such as a calibration error: drawing clusters
        again adds noise, so that nearly all replicates lie above the observed value, and BCa would
        take its bounds from the few that do not.

        Parameters
        ----------
        values
            As in `interval`.

        Returns
        -------
        ndarray
            Float64, of the same shape, for `interval` and `p_below`.
        """
        theta = np.asarray(values, dtype=np.float64).copy()
        replicates = theta[1 + self.n_jackknife :]
        if np.isfinite(replicates).any():
            replicates += theta[0] - np.nanmedian(replicates)
        return theta

    def p_below(self, values: npt.ArrayLike, bound: float, *, df: float = np.inf) -> float:
        r"""Confidence that the statistic lies below a bound: where `interval` would end there.

        It is the level :math:`\Phi(z)` (with df, that of Student's t) at which the BCa bound is
        the given one,

        .. math:: z = \frac{w}{1 + a w} - z_0, \qquad w = \Phi^{-1}(\hat G(bound)) - z_0

        with :math:`\hat G` the share of resamples below, ties counted half and kept one resample
        away from 0 and 1. Beyond all resamples z grows in proportion to the bound's distance from
        their median, as normal tails do, so that their number sets no limit.

        So it is the one-sided p-value of the claim that the statistic lies above, and twice the
        smaller of it and its complement is a two-sided one.

        Parameters
        ----------
        values
            As in `interval`.
        bound
            In the unit of the statistic.
        df
            As in `interval`.

        Returns
        -------
        float
            Between 0 and 1; NaN where the interval is not estimable.

        References
        ----------
        Efron B, Tibshirani RJ. An introduction to the bootstrap. Chapman and Hall 1993, chapter 14
        (BCa) and section 12.3 (intervals and tests).
        """
        theta = np.asarray(values, dtype=np.float64)
        if not np.isfinite(self.interval(theta).ci_low):
            return float("nan")
        jackknife, replicates = np.split(theta[1:], [self.n_jackknife])
        defined = replicates[np.isfinite(replicates)]
        least = 1 / (defined.size + 1)
        below = (np.mean(defined < bound) + np.mean(defined <= bound)) / 2
        share = float(np.clip(below, least, 1 - least))
        constants = bca_constants(float(theta[0]), jackknife, defined)
        z = float(ndtri(share))
        if constants is not None:
            z0, acceleration = constants
            w = z - z0
            if 1 + acceleration * w > 0:
                z = w / (1 + acceleration * w) - z0
        return float(stdtr(df, z * reach(defined, bound)))


def cluster_bootstrap(
    statistic: Callable[[Floats], Floats],
    n_clusters: int,
    *,
    n_boot: int = 2000,
    alpha: float = 0.05,
    seed: int = 0,
    strata: npt.ArrayLike | None = None,
) -> Interval:
    """BCa bootstrap interval of a statistic when whole clusters are resampled.

    Parameters
    ----------
    statistic
        Maps float64 weights of shape (b, n_clusters), how often each cluster counts, to b values;
        NaN where the statistic is undefined.
    n_clusters, n_boot, seed, strata
        As in `Resamples.draw`.
    alpha
        The interval has level 1 - alpha.

    Returns
    -------
    Interval
        As in `Resamples.interval`.

    Raises
    ------
    ValueError
        As in `Resamples.draw` and `Resamples.interval`.

    Examples
    --------
    >>> tiles, correct = np.array([10, 20, 5, 15, 30]), np.array([8, 15, 5, 9, 24])
    >>> interval = cluster_bootstrap(lambda w: (w @ correct) / (w @ tiles), 5, seed=0)
    >>> round(interval.value, 4)
    0.7625
    """
    resamples = Resamples.draw(n_clusters, n_boot=n_boot, seed=seed, strata=strata)
    return resamples.interval(resamples.evaluate(statistic), alpha=alpha)


def _leave_one_out(n_clusters: int) -> Counts:
    n_groups = min(n_clusters, _MAX_JACKKNIFE)
    group = np.arange(n_clusters) % n_groups
    kept: Counts = (group[None, :] != np.arange(n_groups)[:, None]).view(np.uint8)
    return kept


def _fill_bootstrap(
    weights: Counts, stratum: npt.NDArray[np.generic], rng: np.random.Generator
) -> None:
    members = [np.flatnonzero(stratum == value) for value in np.unique(stratum)]
    n = weights.shape[1]
    rows = max(1, _DRAWN_AT_ONCE // n) if len(members) == 1 else 1
    for start in range(0, len(weights), rows):
        some = weights[start : start + rows]
        # One call for many rows draws the same numbers as a call for each.
        drawn = [m[rng.integers(m.size, size=(len(some), m.size))] for m in members]
        cells = np.concatenate(drawn, axis=1) + n * np.arange(len(some))[:, None]
        some[:] = np.bincount(cells.ravel(), minlength=some.size).reshape(some.shape)
