"""Plain metrics, and their values by fold, by arm and by patient."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.metrics.weighted import RANKED, as_floats, check, weighted_metric

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _plain(name: str, y_true: npt.ArrayLike, y_prob: npt.ArrayLike) -> float:
    together = np.zeros(len(np.asarray(y_true)), dtype=np.int64)
    return float(weighted_metric(name, y_true, y_prob, together, together)(np.ones((1, 1)))[0])


_NAMES = (
    *("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc"),
    *("average_precision", "kappa", "mcc", "log_loss", "brier", "ece"),
)

METRICS: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], float]] = {
    name: partial(_plain, name) for name in _NAMES
}
"""Functions of class codes (n,) and class probabilities (n, n_classes); NaN where undefined.

The predicted class is the one with the largest probability, the first one in a tie. ``precision``,
``recall`` and ``f1`` are averaged over the classes that occur or are predicted, without weights;
``balanced_accuracy`` over those that occur. ``roc_auc`` and ``average_precision`` are those of
class 1 if there are two classes, else one-versus-rest averaged over all; NaN if a class does not
occur. ``kappa`` is NaN where truth and prediction are one and the same class. ``log_loss`` is in
nats, ``brier`` summed over classes but halved for two, ``ece`` in 15 bins of the largest
probability.
"""

GREATER_IS_BETTER: dict[str, bool] = {
    name: name not in {"log_loss", "brier", "ece"} for name in METRICS
}


def confusion_matrix(y_true: npt.ArrayLike, y_prob: npt.ArrayLike, n_classes: int) -> Ints:
    """Count tiles by true class (row) and predicted class (column).

    Returns
    -------
    counts
        Shape (n_classes, n_classes).
    """
    codes, probs = np.asarray(y_true, dtype=np.int64), as_floats(y_prob)
    check(codes, probs)
    if probs.shape[1] != n_classes:
        raise ValueError(f"y_prob has {probs.shape[1]} columns for {n_classes} classes")
    cells = codes * n_classes + probs.argmax(axis=1)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def score_folds(
    y_true: npt.ArrayLike, y_prob: npt.ArrayLike, test_fold: npt.ArrayLike
) -> list[tuple[int, int, str, float, int]]:
    """Score every fold of every repeat on every metric.

    Parameters
    ----------
    y_true
        Class codes, shape (n_tiles,).
    y_prob
        Out-of-fold probabilities, shape (n_repeats, n_tiles, n_classes).
    test_fold
        Fold in which a tile is tested, below 0 if it is not, shape (n_repeats or more, n_tiles).

    Returns
    -------
    rows
        ``(repeat, fold, metric, value, n_test)``; the value is NaN where the metric is undefined.
    """
    codes, probs = np.asarray(y_true), np.asarray(y_prob)
    return [
        (repeat, fold, name, metric(codes[rows], probs[repeat, rows]), len(rows))
        for repeat, folds in enumerate(_folds(probs, test_fold))
        for fold, rows in folds
        for name, metric in METRICS.items()
    ]


def arm_value(
    name: str, y_true: npt.ArrayLike, y_prob: npt.ArrayLike, test_fold: npt.ArrayLike
) -> tuple[float, int]:
    """Value of an arm on a metric: the mean over repeats of each repeat's own value.

    Within a repeat a metric is pooled over all tested tiles, except that those in ``RANKED`` are
    averaged over the folds in which they are defined. Averaging the probabilities over repeats
    first would score an ensemble that nobody proposes to use.

    Parameters
    ----------
    name
        Key of ``METRICS``.
    y_true, y_prob, test_fold
        As in `score_folds`.

    Returns
    -------
    value, n_undefined
        The value, NaN if it is defined nowhere; and the number of folds left out of it (all folds
        of a repeat in which a pooled metric is undefined).
    """
    codes, probs = np.asarray(y_true), np.asarray(y_prob)
    values, n_undefined = [], 0
    for repeat, folds in enumerate(_folds(probs, test_fold)):
        groups = [rows for _, rows in folds]
        parts = groups if name in RANKED else [np.concatenate(groups)]
        scores = np.array([METRICS[name](codes[rows], probs[repeat, rows]) for rows in parts])
        known = ~np.isnan(scores)
        n_undefined += int((~known).sum()) * len(groups) // len(parts)
        values += [float(scores[known].mean())] if known.any() else []
    return (float(np.mean(values)) if values else float("nan")), n_undefined


def patient_level(
    y_true: npt.ArrayLike, y_prob: npt.ArrayLike, patients: npt.ArrayLike
) -> tuple[Ints, Floats, int]:
    """Average the tiles' probabilities by patient.

    Parameters
    ----------
    y_true, y_prob, patients
        Class codes (n,), probabilities (n, n_classes) and patient of every tested tile (n,).

    Returns
    -------
    y_true, y_prob, n_mixed
        By patient in ascending order of their codes, shapes (m,) and (m, n_classes); patients
        whose tiles have more than one label are left out, ``n_mixed`` is their number.
    """
    codes, probs = np.asarray(y_true, dtype=np.int64), as_floats(y_prob)
    check(codes, probs)
    rows, n_mixed = patient_rows(codes, patients)
    _, first, members = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
    sizes = np.bincount(members)
    sums = [np.bincount(members, column, minlength=len(sizes)) for column in probs.T]
    means = np.stack(sums, axis=1) / sizes[:, None]
    return codes[rows], means[np.isin(first, rows)], n_mixed


def patient_rows(y_true: npt.ArrayLike, patients: npt.ArrayLike) -> tuple[Ints, int]:
    """Find one row of every patient that `patient_level` keeps, in the same order.

    Returns
    -------
    rows, n_mixed
        First row of each patient with one label, to look up the fold or site; shape (m,). And the
        number of patients with more than one label.
    """
    codes = np.asarray(y_true)
    _, first, members = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
    mixed = np.zeros(len(first), dtype=bool)
    mixed[members[codes != codes[first[members]]]] = True
    return first[~mixed], int(mixed.sum())


def _folds(
    y_prob: npt.NDArray[np.floating], test_fold: npt.ArrayLike
) -> list[list[tuple[int, Ints]]]:
    """Test folds of each repeat that has probabilities, with their rows."""
    table = np.asarray(test_fold)
    if y_prob.ndim != 3 or len(table) < len(y_prob) or table.shape[1] != y_prob.shape[1]:
        raise ValueError(f"y_prob has shape {y_prob.shape} for folds of shape {table.shape}")
    return [
        [(int(fold), np.flatnonzero(row == fold)) for fold in np.unique(row[row >= 0])]
        for row in table[: len(y_prob)]
    ]
