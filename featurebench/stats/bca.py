"""What a BCa interval is made of: bias, acceleration, levels; see `Resamples.interval`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

Floats = npt.NDArray[np.float64]
Method = Literal["BCa", "percentile", "not estimable"]

# Equal in exact arithmetic, apart by rounding: such values are ties.
_ROUNDING = 1e-9
# A statistic undefined in most resamples has no interval worth printing.
_MIN_DEFINED = 0.5


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


def has_spread(defined: Floats, n_boot: int) -> bool:
    """Tell whether enough of n_boot replicates are defined and differ by more than rounding."""
    if defined.size < max(2, _MIN_DEFINED * n_boot):
        return False
    return float(np.ptp(defined)) > _ROUNDING * max(1.0, float(np.abs(defined).max()))


def reach(defined: Floats, bound: float) -> float:
    """Tell how many times as far from the median as the outermost replicate a bound lies, or 1."""
    middle = float(np.median(defined))
    outermost = float(defined.min() if bound < middle else defined.max())
    return max(1.0, (bound - middle) / (outermost - middle)) if outermost != middle else 1.0


def bca_constants(value: float, jackknife: Floats, defined: Floats) -> tuple[float, float] | None:
    """Give bias z0 and acceleration a; None where either is not finite.

    Parameters
    ----------
    value
        The statistic as observed.
    jackknife, defined
        Its values without each of the clusters, and in the resamples where it is defined.
    """
    tie = _ROUNDING * max(1.0, abs(value))
    below = (np.mean(defined < value - tie) + np.mean(defined <= value + tie)) / 2
    influence = jackknife.mean() - jackknife
    scale = float(np.sum(influence**2)) ** 1.5
    if not (0 < below < 1 and np.isfinite(scale) and scale > 0):
        return None
    return float(ndtri(below)), float(np.sum(influence**3)) / (6 * scale)


def bca_levels(tails: Floats, z0: float, acceleration: float) -> Floats | None:
    """Give the levels of the bootstrap distribution at normal quantiles ``tails``, shape (2,).

    None where the acceleration is too large for them.
    """
    z = z0 + tails
    shrink = 1 - acceleration * z
    if np.any(shrink <= 0):
        return None
    levels: Floats = ndtr(z0 + z / shrink)
    return levels
