"""Metrics that are functions of the confusion matrix alone, for stacks of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = npt.NDArray[np.float64]


def ratio(numerator: Floats, denominator: Floats, *, otherwise: float) -> Floats:
    """Divide element by element; ``otherwise`` where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    filled = np.full(shape, otherwise, dtype=np.float64)
    return np.divide(numerator, denominator, out=filled, where=denominator != 0)


def accuracy(tables: Floats) -> Floats:
    """Share of tiles on the diagonal."""
    return ratio(_hits(tables).sum(axis=-1), tables.sum(axis=(-2, -1)), otherwise=np.nan)


def balanced_accuracy(tables: Floats) -> Floats:
    """Recall, averaged over the classes that occur."""
    truth = tables.sum(axis=-1)
    recalls = ratio(_hits(tables), truth, otherwise=0.0)
    return ratio(recalls.sum(axis=-1), (truth > 0).sum(axis=-1).astype(float), otherwise=np.nan)


def precision(tables: Floats) -> Floats:
    """Precision, averaged over the classes that occur or are predicted; 0 if never predicted."""
    return _macro(tables, _hits(tables), tables.sum(axis=-2))


def recall(tables: Floats) -> Floats:
    """Recall, averaged over the classes that occur or are predicted; 0 if it does not occur."""
    return _macro(tables, _hits(tables), tables.sum(axis=-1))


def f1(tables: Floats) -> Floats:
    """F1, averaged over the classes that occur or are predicted."""
    return _macro(tables, 2 * _hits(tables), tables.sum(axis=-1) + tables.sum(axis=-2))


def kappa(tables: Floats) -> Floats:
    """Cohen's kappa (1960); NaN if all tiles are of one class and predicted as such."""
    n, chance = _totals(tables)
    return ratio(n * _hits(tables).sum(axis=-1) - chance, n**2 - chance, otherwise=np.nan)


def mcc(tables: Floats) -> Floats:
    """Matthews correlation, multi-class (Gorodkin 2004); 0 if truth or prediction is constant.

    NaN, as Cohen's kappa, if all tiles are of one class and predicted as such.
    """
    n, chance = _totals(tables)
    spread = [np.sqrt(_spread(tables.sum(axis=axis))) for axis in (-1, -2)]
    covariance = n * _hits(tables).sum(axis=-1) - chance
    value = ratio(covariance, spread[0] * spread[1], otherwise=0.0)
    return np.where(chance < n**2, value, np.nan)


CONFUSION: dict[str, Callable[[Floats], Floats]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "kappa": kappa,
    "mcc": mcc,
}
"""Functions of tables (..., n_classes, n_classes), true class by predicted class, to (...)."""

MACRO = frozenset({"balanced_accuracy", "precision", "recall", "f1"})
"""Means over classes."""


def _hits(tables: Floats) -> Floats:
    return np.diagonal(tables, axis1=-2, axis2=-1)


def _totals(tables: Floats) -> tuple[Floats, Floats]:
    """Count the tiles; add up true times predicted ones over the classes."""
    chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1)
    return tables.sum(axis=(-2, -1)), chance


def _spread(margins: Floats) -> Floats:
    """Square of the total less the squares of the classes; exactly 0 where there is one class."""
    others = margins.sum(axis=-1, keepdims=True) - margins
    return np.asarray((margins * others).sum(axis=-1))


def _macro(tables: Floats, numerator: Floats, denominator: Floats) -> Floats:
    counted = (tables.sum(axis=-1) + tables.sum(axis=-2) > 0).sum(axis=-1).astype(np.float64)
    per_class = ratio(numerator, denominator, otherwise=0.0)
    return ratio(per_class.sum(axis=-1), counted, otherwise=np.nan)
