"""crossing(): from which size on one learning curve lies above another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

Course = Literal["overtakes", "above", "below"]
# Of the draws that cross, this share lies below and above the spread.
_TAIL = 0.1


@dataclass(frozen=True)
class Crossing:
    """Where a second curve overtakes a first one.

    Parameters
    ----------
    course
        ``overtakes``: the second is above from ``size`` on, and is not at some smaller size;
        ``above``: it is above at all sizes; ``below``: it is not above at the largest.
    size
        Where the means cross, interpolated between sizes; None unless it overtakes.
    low, high
        10th and 90th percentile of the crossings of single draws, among those that overtake; None
        where fewer than two do. Draws share their patients, so this is no confidence interval.
    share
        Part of the draws in which the second curve is above at the largest size.
    """

    course: Course
    size: float | None
    low: float | None
    high: float | None
    share: float


def crossing(sizes: Sequence[float], first: Doubles, second: Doubles) -> Crossing:
    """Find from which size on the second curve lies above the first.

    Differences are interpolated linearly in the logarithm of the size. What counts is the last
    change of sign: a curve that is above only in between does not overtake.

    Parameters
    ----------
    sizes
        Ascending, above 0, shape (n_sizes,).
    first, second
        Scores of which larger is better, paired by draw, shape (n_draws, n_sizes); finite.

    Raises
    ------
    ValueError
        If the sizes do not ascend, or shapes differ.

    Examples
    --------
    >>> crossing([1, 4], np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])).size
    2.0
    """
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    difference = np.atleast_2d(np.asarray(second, dtype=np.float64) - first)
    if difference.shape[1] != len(logs) or (np.diff(logs) <= 0).any():
        raise ValueError(
            f"{difference.shape[1]} scores for sizes {list(sizes)}: give one per ascending size"
        )
    mean = difference.mean(axis=0)
    places = [_last_crossing(logs, row) for row in difference]
    found = [place for place in places if place is not None]
    low, high = np.quantile(found, [_TAIL, 1 - _TAIL]) if len(found) > 1 else (None, None)
    size = _last_crossing(logs, mean)
    return Crossing(
        "below" if mean[-1] <= 0 else "above" if size is None else "overtakes",
        None if size is None else float(np.exp(size)),
        None if low is None else float(np.exp(low)),
        None if high is None else float(np.exp(high)),
        float((difference[:, -1] > 0).mean()),
    )


def _last_crossing(logs: Doubles, difference: Doubles) -> float | None:
    """Logarithm of the size where the difference last turns positive, if it stays so."""
    below = np.flatnonzero(difference <= 0)
    if not len(below) or below[-1] == len(logs) - 1:
        return None
    at = int(below[-1])
    part = -difference[at] / (difference[at + 1] - difference[at])
    return float(logs[at] + part * (logs[at + 1] - logs[at]))
