"""What each patient adds to the difference between two arms, averaged over repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurebench.metrics import tile_losses

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]

LINEAR = frozenset({"accuracy", "balanced_accuracy", "log_loss", "brier"})
"""Metrics that are a mean over tiles, or a mean over classes of means over their tiles."""


def tile_contributions(
    design: Design, pair: tuple[RunResult, RunResult], metric: str, n_repeats: int
) -> tuple[Floats, Floats]:
    """Split the difference between two arms by independent unit, tiles weighed as scores do.

    Returns
    -------
    contributions, shares
        Shape (n_units, n_groups); groups are the classes for balanced accuracy, else there is one.
        A column of contributions sums to the group's mean difference, and the metric's difference
        is the mean over groups; shares are those of the group's tiles that a unit has.
    """
    groups = np.zeros_like(design.y_true)
    if metric == "balanced_accuracy":
        tested = (design.test_fold[:n_repeats] >= 0).any(axis=0)
        present = np.unique(design.y_true[tested])
        groups = np.searchsorted(present, design.y_true).clip(max=len(present) - 1)
    n_groups = int(groups.max(initial=0)) + 1
    found = [
        _of_repeat(design, pair, metric, repeat, (groups, n_groups)) for repeat in range(n_repeats)
    ]
    parts, shares = (np.mean(each, axis=0) for each in zip(*found, strict=True))
    return parts, shares


def _of_repeat(
    design: Design,
    pair: tuple[RunResult, RunResult],
    metric: str,
    repeat: int,
    grouping: tuple[npt.NDArray[np.int64], int],
) -> tuple[Floats, Floats]:
    rows, (groups, n_groups) = design.rows(repeat), grouping
    values = [_values(metric, design.y_true[rows], run.y_prob[repeat, rows]) for run in pair]
    places = design.clusters[rows] * n_groups + groups[rows]
    size, weights = design.n_units * n_groups, design.tile_weights[rows]
    sums = np.bincount(places, weights * (values[0] - values[1]), minlength=size)
    counts = np.bincount(places, weights, minlength=size).reshape(-1, n_groups)
    totals = counts.sum(axis=0)
    totals[totals == 0] = 1.0
    return sums.reshape(-1, n_groups) / totals, counts / totals


def _values(metric: str, y_true: npt.NDArray[np.int64], y_prob: npt.NDArray[np.float32]) -> Floats:
    if metric in {"log_loss", "brier"}:
        return tile_losses(metric, y_true, y_prob)
    return np.asarray(y_prob.argmax(axis=1) == y_true, dtype=np.float64)
