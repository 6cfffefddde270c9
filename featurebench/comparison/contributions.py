"""What each patient adds to the difference between two arms, averaged over repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featurebench.metrics import tile_losses
from featurebench.stats import auc_influence

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

LINEAR = frozenset({"accuracy", "balanced_accuracy", "log_loss", "brier"})
"""Metrics that are a mean over tiles, or a mean over classes of means over their tiles."""


@dataclass(frozen=True)
class AucInfluences:
    """One arm's ROC AUC and each patient's influence on it; see `auc_influence`.

    With more than two classes the influences on all of them are summed in ``positive``.
    """

    auc: float
    positive: Floats
    negative: Floats
    has_positive: Flags
    has_negative: Flags


def tile_contributions(
    design: Design, pair: tuple[RunResult, RunResult], metric: str, n_repeats: int
) -> tuple[Floats, Floats]:
    """Split the difference between two arms by patient.

    Returns
    -------
    contributions, shares
        Shape (n_units, n_groups); groups are the classes for balanced accuracy, else there is one.
        A column of contributions sums to the group's mean difference, and the metric's difference
        is the mean over groups; shares are those of the group's tiles that a patient has.
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


def auc_influences(design: Design, run: RunResult, n_repeats: int) -> AucInfluences:
    r"""Average the influence of every patient over folds, classes and repeats.

    As for the metric itself, a fold counts where all classes occur in it, and a repeat where a
    fold does. Influences sum to zero within a fold, so those of its n patients with positive (or
    negative) tiles vary less than they would among all I such patients. Of the variance of
    independent patients, the mean over R repeats has

    .. math:: (1 - 1/n)^2 + \frac{n-1}{n^2}
        \left(\frac1R + \Big(1 - \frac1R\Big) \frac{n-1}{I-1}\right),

    as has the mean of anything that is centred among companions drawn anew in every repeat. The
    influences are divided by the root of that over (I - 1) / I, which the test over patients
    allows for itself; with one fold and one repeat nothing changes.
    """
    return design.remember(
        run, ("influences", n_repeats), lambda: _influences(design, run, n_repeats)
    )


def _influences(design: Design, run: RunResult, n_repeats: int) -> AucInfluences:
    n_classes = run.y_prob.shape[2]
    columns = {
        column: _scales(design, column, n_repeats)
        for column in ([1] if n_classes == 2 else range(n_classes))
    }
    per_repeat = [_of_folds(design, run, repeat, columns) for repeat in range(n_repeats)]
    known = [found for found in per_repeat if found is not None]
    has_positive, has_negative = _sides(design, n_repeats, binary=n_classes == 2)
    if not known:
        nothing = np.full(design.n_units, np.nan)
        return AucInfluences(float("nan"), nothing, nothing, has_positive, has_negative)
    auc = float(np.mean([found[0] for found in known]))
    positive = np.mean([found[1] for found in known], axis=0)
    negative = np.mean([found[2] for found in known], axis=0)
    if n_classes > 2:
        positive, negative = positive + negative, np.zeros_like(negative)
    return AucInfluences(auc, positive, negative, has_positive, has_negative)


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
    size = design.n_units * n_groups
    sums = np.bincount(places, values[0] - values[1], minlength=size).reshape(-1, n_groups)
    counts = np.bincount(places, minlength=size).reshape(-1, n_groups).astype(np.float64)
    totals = np.maximum(counts.sum(axis=0), 1.0)
    return sums / totals, counts / totals


def _values(metric: str, y_true: npt.NDArray[np.int64], y_prob: npt.NDArray[np.float32]) -> Floats:
    if metric in {"log_loss", "brier"}:
        return tile_losses(metric, y_true, y_prob)
    return np.asarray(y_prob.argmax(axis=1) == y_true, dtype=np.float64)


def _of_folds(
    design: Design, run: RunResult, repeat: int, columns: Mapping[int, tuple[float, float]]
) -> tuple[float, Floats, Floats] | None:
    found = []
    for rows in design.fold_rows(repeat):
        y_true = design.y_true[rows]
        parts = [
            auc_influence(
                y_true == column,
                run.y_prob[repeat, rows, column],
                design.clusters[rows],
                design.n_units,
            )
            for column in columns
        ]
        if not any(np.isnan(part.auc) for part in parts):
            found.append(parts)
    if not found:
        return None
    scaled = [
        (part.auc, part.positive * up, part.negative * down)
        for parts in found
        for part, (up, down) in zip(parts, columns.values(), strict=True)
    ]
    auc, positive, negative = (np.mean(each, axis=0) for each in zip(*scaled, strict=True))
    return float(auc), positive, negative


def _scales(design: Design, column: int, n_repeats: int) -> tuple[float, float]:
    """Give what the influences of patients with positive, and negative, tiles are scaled by."""
    tested = (design.test_fold[:n_repeats] >= 0).any(axis=0)
    scales = []
    for positive in (True, False):
        rows = tested & ((design.y_true == column) == positive)
        n_all = len(np.unique(design.clusters[rows]))
        n = n_all / design.n_folds
        if n <= 1 or n_all < 2:
            scales.append(float("nan"))
            continue
        companions = 1 / n_repeats + (1 - 1 / n_repeats) * (n - 1) / (n_all - 1)
        kept = (1 - 1 / n) ** 2 + (n - 1) / n**2 * companions
        scales.append(float(np.sqrt((n_all - 1) / (n_all * kept))))
    return scales[0], scales[1]


def _sides(design: Design, n_repeats: int, *, binary: bool) -> tuple[Flags, Flags]:
    """Tell which patients have tested tiles of class 1, and of class 0 (all, if not binary)."""
    tested = (design.test_fold[:n_repeats] >= 0).any(axis=0)
    sides = []
    for label in (1, 0):
        rows = tested & (design.y_true == label) if binary else tested
        sides.append(
            np.bincount(design.clusters[rows], minlength=design.n_units)[: design.n_units] > 0
        )
    return sides[0], sides[1]
