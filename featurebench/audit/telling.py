"""How well an embedding tells a column, on patients that were not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from featurebench.audit.robustness import LEAST_TILES
from featurebench.splits import SplitPlan

if TYPE_CHECKING:
    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]

# An interval that reaches beyond half the way from chance to certainty does not show that a probe
# is at chance.
WIDE = 0.5


@dataclass(frozen=True)
class Predictability:
    """How well a linear probe tells a column from an embedding, on patients not trained on.

    Parameters
    ----------
    accuracy, ci_low, ci_high
        Balanced accuracy over the values, with its 95 % interval over patients.
    chance
        One over the number of values.
    n_values, n_tiles, n_patients
        Values that could be told at all, because some other fold has them to train on; tested
        tiles with one of them; their patients (tiles where patients are unknown).
    """

    accuracy: float
    ci_low: float
    ci_high: float
    chance: float
    n_values: int
    n_tiles: int
    n_patients: int

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval is above chance."""
        return self.ci_low > self.chance

    @property
    def settled(self) -> bool:
        """Whether this is above chance, or its interval too narrow to hide that it is.

        Below chance, the interval is laid at chance: a probe cannot tell less than nothing.
        """
        reach = max(self.accuracy, self.chance) + self.ci_high - self.accuracy - self.chance
        return self.above_chance or reach <= WIDE * (1 - self.chance)


def first_repeat(plan: SplitPlan, rows: npt.NDArray[np.intp] | None = None) -> SplitPlan | None:
    """Cut a plan down to its first repeat and some rows; None where a test fold is then empty."""
    kept = np.arange(plan.n_tiles) if rows is None else rows
    folds = plan.test_fold[:1, kept]
    tested = np.unique(folds[folds >= 0])
    if len(tested) < plan.n_folds or not (folds != tested[0]).any():
        return None
    return SplitPlan(folds, plan.tile_ids[kept], plan.group, plan.seed, plan.scheme)


def held_out_calls(X: Array, codes: Codes, plan: SplitPlan | None, *, threads: int = 1) -> Codes:
    """Cross-validate a linear discriminant with balanced classes and a shrunk covariance.

    It has nothing to choose, so that it needs no inner folds, and its linear algebra is shared
    between folds.

    Parameters
    ----------
    X
        Shape (n_tiles, dim), finite.
    codes
        From 0, shape (n_tiles,).
    plan
        Of one repeat, or None for no folds.

    Returns
    -------
    ndarray
        The code called, shape (n_tiles,); -1 where a tile was not tested or its value is in no
        training tile of its fold, so that it could not be called.
    """
    called = np.full(len(codes), -1, dtype=np.int64)
    if plan is None:
        return called
    from featurebench.evaluation import make_folds, predict_folds
    from featurebench.heads import make_head

    folds = make_folds(plan, codes, tune=False)
    usable = [fold for fold in folds if len(np.unique(codes[fold.train])) > 1]
    if not usable:
        return called
    head = make_head("lda", class_weight="balanced")
    n_classes = int(codes.max()) + 1
    predictions = predict_folds(head, X, codes, usable, n_classes=n_classes, threads=threads)
    for fold, prediction in zip(usable, predictions, strict=True):
        told = np.isin(codes[fold.test], np.unique(codes[fold.train]))
        called[fold.test[told]] = prediction.y_prob[told].argmax(axis=1)
    return called


def balanced_within(
    truth: Codes, called: Codes, owners: Codes | None, labels: Codes
) -> Predictability | None:
    """Score the calls among tiles of one class, on classes with several values."""
    cells = labels * (int(truth.max()) + 1) + truth
    tested = np.flatnonzero(called >= 0)
    names, n = np.unique(cells[tested], return_counts=True)
    enough = names[n >= LEAST_TILES]
    classes, n_values = np.unique(enough // (int(truth.max()) + 1), return_counts=True)
    several = np.isin(labels, classes[n_values > 1]) & np.isin(cells, enough)
    return balanced(
        np.where(several, truth, -1), np.where(several, called, -1), owners, cells=cells
    )


def balanced(
    truth: Codes, called: Codes, owners: Codes | None, *, cells: Codes | None = None
) -> Predictability | None:
    """Balanced accuracy with the standard error of a sum of ratios over patients.

    With cells, which tell class and value: the mean over cells of the share called right, and as
    chance what calling by the class alone would give.
    """
    rows = np.flatnonzero(called >= 0)
    strata = truth if cells is None else cells
    values, at = np.unique(strata[rows], return_inverse=True)
    if len(values) < 2:
        return None
    patients, of = np.unique(rows if owners is None else owners[rows], return_inverse=True)
    right, n = np.zeros((2, len(patients), len(values)))
    np.add.at(n, (of, at), 1.0)
    np.add.at(right, (of, at), truth[rows] == called[rows])
    recall = right.sum(axis=0) / n.sum(axis=0)
    influence = ((right - recall * n) / n.sum(axis=0)).mean(axis=1)
    accuracy, df = float(recall.mean()), len(patients) - len(values)
    half = float("nan")
    if df > 0:
        se = np.sqrt((influence**2).sum() * len(patients) / (len(patients) - 1))
        half = float(t.ppf(0.975, df) * se)
    n_groups = 1 if cells is None else len(np.unique(values // (int(truth.max()) + 1)))
    return Predictability(
        accuracy,
        float(np.clip(accuracy - half, 0, 1)),
        float(np.clip(accuracy + half, 0, 1)),
        n_groups / len(values),
        len(values),
        len(rows),
        len(patients),
    )
