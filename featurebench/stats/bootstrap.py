"""Bootstrap intervals that resample whole clusters (patients) of correlated rows (tiles)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = npt.NDArray[np.float64]
# A cluster is drawn more than 255 times with a probability below 1 / 255!.
Counts = npt.NDArray[np.uint8]
Method = Literal["BCa", "percentile", "not estimable"]

# Equal in exact arithmetic, apart by rounding: such values are ties.
_ROUNDING = 1e-9
# A statistic undefined in most resamples has no interval worth printing.
_MIN_DEFINED = 0.5
# Above this the jackknife leaves out groups of clusters, so that its cost stays bounded.
_MAX_JACKKNIFE = 400
_CHUNK_ELEMENTS = 2**21


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval; the bounds are NaN where it is not estimable.

    Parameters
    ----------
    value
        The statistic on the clusters as observed.
    ci_low, ci_high
        Bounds of the interval.
    method
        ``BCa``, ``percentile`` where BCa is degenerate, or ``not estimable``.
    n_undefined
        Resamples left out because the statistic was NaN there.
    """

    value: float
    ci_low: float
    ci_high: float
    method: Method
    n_undefined: int = 0


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
        rows = max(1, _CHUNK_ELEMENTS // self.n_clusters)
        starts = range(0, len(self.weights), rows)
        chunks = (self.weights[start : start + rows].astype(np.float64) for start in starts)
        return np.concatenate([np.asarray(statistic(chunk), dtype=np.float64) for chunk in chunks])

    def interval(self, values: npt.ArrayLike, *, alpha: float = 0.05) -> Interval:
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
            If there is not one value for each row, or alpha is not between 0 and 1.

        References
        ----------
        Efron B. Better bootstrap confidence intervals. J Am Stat Assoc 1987; 82: 171-185.
        Field CA, Welsh AH. Bootstrapping clustered data. J R Stat Soc B 2007; 69: 369-390.
        """
        theta = np.asarray(values, dtype=np.float64)
        if theta.shape != (len(self.weights),):
            raise ValueError(f"values have shape {theta.shape}: give {len(self.weights)} of them")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}: give a value between 0 and 1")
        value = float(theta[0])
        jackknife, replicates = np.split(theta[1:], [self.n_jackknife])
        defined = replicates[np.isfinite(replicates)]
        n_undefined = int(replicates.size - defined.size)
        if not (np.isfinite(value) and _has_spread(defined, replicates.size)):
            nan = float("nan")
            return Interval(value, nan, nan, "not estimable", n_undefined)
        tails = np.array([alpha / 2, 1 - alpha / 2])
        levels = _bca_levels(value, jackknife, defined, tails)
        method: Method = "percentile" if levels is None else "BCa"
        low, high = np.quantile(defined, tails if levels is None else levels)
        return Interval(value, float(low), float(high), method, n_undefined)


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
    for row in weights:
        drawn = [m[rng.integers(m.size, size=m.size)] for m in members]
        row[:] = np.bincount(np.concatenate(drawn), minlength=row.size)


def _has_spread(defined: Floats, n_boot: int) -> bool:
    if defined.size < max(2, _MIN_DEFINED * n_boot):
        return False
    return float(np.ptp(defined)) > _ROUNDING * max(1.0, float(np.abs(defined).max()))


def _bca_levels(value: float, jackknife: Floats, defined: Floats, tails: Floats) -> Floats | None:
    tie = _ROUNDING * max(1.0, abs(value))
    below = (np.mean(defined < value - tie) + np.mean(defined <= value + tie)) / 2
    influence = jackknife.mean() - jackknife
    scale = float(np.sum(influence**2)) ** 1.5
    if not (0 < below < 1 and np.isfinite(scale) and scale > 0):
        return None
    z0 = ndtri(below)
    z = z0 + ndtri(tails)
    shrink = 1 - float(np.sum(influence**3)) / (6 * scale) * z
    if np.any(shrink <= 0):
        return None
    levels: Floats = ndtr(z0 + z / shrink)
    return levels
