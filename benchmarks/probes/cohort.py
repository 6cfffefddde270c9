"""Cohort: features drawn like those of a pooled network, with patients, and folds of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.heads import Fold
from featurebench.splits import SplitPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    Features = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]
    Rows = npt.NDArray[np.int64]

# Directions that tissues, patients and tiles differ in; tiles by a deviation of 1 in each.
RANK = 64
# Length of a tissue's vector, all at right angles, and deviation of a patient's in each direction.
TISSUE, PATIENT = 4.4, 0.4
# Deviation at every position of a feature, and how many positions are pooled.
NOISE, POSITIONS = 2.0, 4
# Share of labels that are wrong: weak penalties learn these by heart and lose accuracy.
MISLABELLED = 0.01
_DRAWN_ROWS = 4096


@dataclass(frozen=True)
class Shape:
    """Rows, columns, classes (64 at most) and patients of a cohort."""

    rows: int
    columns: int
    classes: int = 9
    patients: int = 86


@dataclass(frozen=True, eq=False)
class Task:
    """What every side of a comparison gets: rows, codes, and row numbers of the folds.

    Parameters
    ----------
    X
        Float32, shape (n_rows, n_columns).
    y
        Codes, shape (n_rows,).
    splits
        ``(train, test)`` row numbers of every fold.
    n_classes
        Of the codes.
    """

    X: Features
    y: Codes
    splits: Sequence[tuple[Rows, Rows]]
    n_classes: int

    @property
    def folds(self) -> list[Fold]:
        """The folds as heads take them, without inner ones."""
        return [Fold(train, test) for train, test in self.splits]

    @property
    def sets(self) -> npt.NDArray[np.uint8]:
        """1 where a row is trained on, shape (n_rows, n_folds)."""
        return membership(self.splits, len(self.y))

    def first(self, n_folds: int | None) -> Task:
        """Return the task of the first folds only; of all with None."""
        return replace(self, splits=self.splits[:n_folds])


@dataclass(frozen=True, eq=False)
class Cohort:
    """Labels, tissues and patients of all rows, from which the features are drawn.

    Parameters
    ----------
    y, tissue
        Code of the label and of what is seen, shape (n_rows,); few differ.
    patients
        Shape (n_rows,), ascending.
    """

    shape: Shape
    seed: int
    y: Codes
    tissue: Codes
    patients: Codes

    @classmethod
    def draw(cls, shape: Shape, *, seed: int) -> Cohort:
        """Draw tissues and patients; a patient has several tissues, in shares of its own."""
        rng = np.random.default_rng([seed, 0])
        patients = np.sort(rng.integers(shape.patients, size=shape.rows))
        shares = rng.dirichlet(np.ones(shape.classes), size=shape.patients).cumsum(axis=1)
        tissue = (rng.random(shape.rows)[:, None] > shares[patients, :-1]).sum(axis=1)
        wrong = rng.random(shape.rows) < MISLABELLED
        other = tissue + rng.integers(1, shape.classes, size=shape.rows)
        y = np.where(wrong, other % shape.classes, tissue)
        return cls(shape, seed, y, tissue, patients)

    def splits(self, folds: int, repeats: int = 1) -> list[tuple[Rows, Rows]]:
        """Draw repeated folds, grouped by patient."""
        plan = SplitPlan.draw(self.y, self.patients, folds=folds, repeats=repeats, seed=self.seed)
        return list(plan)

    def fill(self, target: Features) -> None:
        """Draw the features into an array of any float type, a block at a time.

        Each feature sees tissue, patient and tile through its own loadings, with noise at every
        position, and is log(1 + x) of the mean of the positions' ReLUs.

        Parameters
        ----------
        target
            Shape (n_rows, n_columns); it may be a memory map.
        """
        rng = np.random.default_rng([self.seed, 1])
        basis, _ = np.linalg.qr(rng.standard_normal((RANK, self.shape.classes)))
        tissues = (TISSUE * basis.T).astype(np.float32)
        habits = PATIENT * rng.standard_normal((self.shape.patients, RANK), dtype=np.float32)
        loadings = rng.standard_normal((RANK, self.shape.columns), dtype=np.float32) / RANK**0.5
        bias = rng.normal(-0.5, 0.5, self.shape.columns).astype(np.float32)
        for start in range(0, self.shape.rows, _DRAWN_ROWS):
            part = slice(start, start + _DRAWN_ROWS)
            seen = tissues[self.tissue[part]] + habits[self.patients[part]]
            seen += rng.standard_normal(seen.shape, dtype=np.float32)
            signal = seen @ loadings + bias
            pooled = np.zeros_like(signal)
            for _ in range(POSITIONS):
                noise = rng.standard_normal(signal.shape, dtype=np.float32)
                pooled += np.maximum(signal + NOISE * noise, 0)
            target[part] = np.log1p(pooled / POSITIONS)


def make_task(shape: Shape, *, folds: int = 5, repeats: int = 1, seed: int = 0) -> Task:
    """Draw a cohort in memory and its patient-grouped folds."""
    cohort = Cohort.draw(shape, seed=seed)
    X = np.empty((shape.rows, shape.columns), dtype=np.float32)
    cohort.fill(X)
    return Task(X, cohort.y, cohort.splits(folds, repeats), shape.classes)


def membership(splits: Sequence[tuple[Rows, Rows]], n_rows: int) -> npt.NDArray[np.uint8]:
    """Mark the training rows of every fold with 1, shape (n_rows, n_folds)."""
    sets = np.zeros((n_rows, len(splits)), dtype=np.uint8)
    for i, (train, _) in enumerate(splits):
        sets[train, i] = 1
    return sets
