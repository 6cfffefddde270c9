"""Plain metrics, and their values by fold, by arm and by patient."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.metrics.tested import as_floats, check, number
from featurebench.metrics.weighted import RANKED, weighted_metric, weighted_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
occur. ``kappa`` and ``mcc`` are NaN where truth and prediction are one and the same class.
``log_loss`` is in nats, ``brier`` summed over classes but halved for two, ``ece`` in 15 bins of the
largest probability.
"""

GREATER_IS_BETTER: dict[str, bool] = {
    name: name not in {"log_loss", "brier", "ece"} for name in METRICS
}

_MOST = {"log_loss": float("inf"), "brier": 2.0}

LIMITS: dict[str, tuple[float, float]] = {
    name: (-1.0 if name in {"kappa", "mcc"} else 0.0, _MOST.get(name, 1.0)) for name in METRICS
}
"""The least and the largest value that each metric can have, with any number of classes.

``brier`` reaches 2 with three classes or more; with two it is halved and stays below 1.
"""


def chance_level(metric: str, n_classes: int) -> float:
    """Give what a metric is where nothing is learnt and all classes are as frequent.

    That is 1 / K for shares of tiles, 0.5 for ROC AUC, 0 for Cohen's kappa and the Matthews
    correlation, and for losses those of equal probabilities; 0 for the calibration error.

    Examples
    --------
    >>> chance_level("balanced_accuracy", 4), chance_level("roc_auc", 4), chance_level("brier", 2)
    (0.25, 0.5, 0.25)
    """
    share = 1 / n_classes
    brier = 1 - share
    known = {
        "roc_auc": 0.5,
        "log_loss": float(np.log(n_classes)),
        "brier": brier / 2 if n_classes == 2 else brier,
    }
    return known.get(metric, 0.0 if metric in {"kappa", "mcc", "ece"} else share)


SUGGESTED_MARGINS: dict[str, float] = {
    name: 0.01 if name in {"roc_auc", "brier", "ece"} else 0.02 for name in METRICS
}
"""A margin to start from for each metric, in its own units.

They are a start and no standard: which difference is too small to matter is a clinical judgement,
so they are written into a new experiment file to be judged and never used silently.
"""


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
    rows = []
    for repeat, fold in enumerate(_tested_folds(probs, test_fold)):
        found, sizes = np.unique(fold[fold >= 0], return_counts=True)
        values = fold_values(_NAMES, codes, probs[repeat], fold)
        rows += [
            (repeat, int(one), name, float(values[name][place]), int(sizes[place]))
            for place, one in enumerate(found)
            for name in _NAMES
        ]
    return rows


def fold_values(
    names: Sequence[str],
    y_true: npt.ArrayLike,
    y_prob: npt.ArrayLike,
    fold: npt.ArrayLike,
    *,
    patients: npt.ArrayLike | None = None,
) -> dict[str, Floats]:
    """Value of each metric in every test fold of one repeat.

    Parameters
    ----------
    names
        Keys of ``METRICS``.
    y_true, y_prob
        Class codes (n_tiles,) and probabilities (n_tiles, n_classes).
    fold
        Test fold of every tile, below 0 if it is not tested, shape (n_tiles,).
    patients
        Code of every tile's patient, shape (n_tiles,): each then counts the same in its fold,
        whatever its number of tiles. None where each tile counts the same.

    Returns
    -------
    values
        By metric, one value for each fold that occurs, in ascending order; NaN where undefined.
    """
    codes, probs, folds = np.asarray(y_true), np.asarray(y_prob), np.asarray(fold)
    members = np.zeros(len(codes), dtype=np.int64) if patients is None else np.asarray(patients)
    found = []
    for one in np.unique(folds[folds >= 0]):
        rows = np.flatnonzero(folds == one)
        places = number(members[rows])[1]
        kernel = weighted_metrics(names, codes[rows], probs[rows], places, np.zeros(len(rows), int))
        weights = np.ones(1) if patients is None else 1 / np.bincount(places)
        found.append(kernel(weights[None]))
    return {name: np.array([values[name][0] for values in found]) for name in names}


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
    for repeat, fold in enumerate(_tested_folds(probs, test_fold)):
        n_folds = len(np.unique(fold[fold >= 0]))
        parts = fold if name in RANKED else np.minimum(fold, 0)
        scores = fold_values((name,), codes, probs[repeat], parts)[name]
        known = ~np.isnan(scores)
        n_undefined += int((~known).sum()) * n_folds // len(scores)
        values += [float(scores[known].mean())] if known.any() else []
    return (float(np.mean(values)) if values else float("nan")), n_undefined


def _tested_folds(
    y_prob: npt.NDArray[np.floating], test_fold: npt.ArrayLike
) -> npt.NDArray[np.integer]:
    """Test folds of each repeat that has probabilities, shape (n_repeats, n_tiles)."""
    table = np.asarray(test_fold)
    if y_prob.ndim != 3 or len(table) < len(y_prob) or table.shape[1] != y_prob.shape[1]:
        raise ValueError(f"y_prob has shape {y_prob.shape} for folds of shape {table.shape}")
    return table[: len(y_prob)]
