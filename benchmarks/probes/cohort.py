"""Cohort: features drawn like those of a pooled network, with patients, and the folds of them."""

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

# Directions of the features that classes, patients and tiles differ in.
RANK = 64
# Distance of the classes, and what patients and features add to it; in units of a tile's own
# deviation in every one of the directions.
SEPARATION, PATIENT, NOISE = 0.58, 0.4, 1.0
# Share of the tiles that have another class than their patient's pathologist said.
MISLABELLED = 0.03
POSITIONS = 4
_DRAWN_ROWS = 4096


@dataclass(frozen=True)
class Shape:
    """Rows, columns, classes and patients of a cohort."""

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
        sets = np.zeros((len(self.y), len(self.splits)), dtype=np.uint8)
        for i, (train, _) in enumerate(self.splits):
            sets[train, i] = 1
        return sets

    def first(self, n_folds: int | None) -> Task:
        """Return the task of the first folds only; of all with None."""
        return replace(self, splits=self.splits[:n_folds])


def make_task(shape: Shape, *, folds: int = 5, repeats: int = 1, seed: int = 0) -> Task:
    """Draw a cohort in memory and its patient-grouped folds."""
    y, patients = draw_labels(shape, seed=seed)
    X = np.empty((shape.rows, shape.columns), dtype=np.float32)
    fill(X, y, patients, shape, seed=seed)
    y=mislabel(y,shape,seed)
    return Task(X, y, draw_splits(y, patients, folds, repeats, seed=seed), shape.classes)


def draw_labels(shape: Shape, *, seed: int) -> tuple[Codes, Codes]:
    """Draw the class and the patient of every row; a patient has several classes, unevenly."""
    rng = np.random.default_rng([seed, 0])
    patients = np.sort(rng.integers(shape.patients, size=shape.rows))
    shares = rng.dirichlet(np.ones(shape.classes), size=shape.patients).cumsum(axis=1)
    drawn = rng.random(shape.rows)[:, None] > shares[patients, :-1]
    return drawn.sum(axis=1), patients

def mislabel(y,shape,seed):
    rng=np.random.default_rng([seed,2])
    wrong=rng.random(len(y))<MISLABELLED
    return np.where(wrong,(y+rng.integers(1,shape.classes,size=len(y)))%shape.classes,y)


def draw_splits(
    y: Codes, patients: Codes, folds: int, repeats: int, *, seed: int
) -> list[tuple[Rows, Rows]]:
    """Draw repeated folds, grouped by patient."""
    return list(SplitPlan.draw(y, patients, folds=folds, repeats=repeats, seed=seed))


def fill(target: Features, y: Codes, patients: Codes, shape: Shape, *, seed: int) -> None:
    """Draw the features of every row into ``target``, of any float type, a block at a time.

    Classes, patients and tiles differ in `RANK` directions; each feature sees them through its
    own loadings, with noise at every position, and is log(1 + x) of the mean of some ReLUs.

    Parameters
    ----------
    target
        Shape (n_rows, n_columns); it may be a memory map.
    y, patients
        From `draw_labels`.
    """
    rng = np.random.default_rng([seed, 1])
    basis, _ = np.linalg.qr(rng.standard_normal((RANK, shape.classes)))
    centres = (SEPARATION * basis.T).astype(np.float32)
    habits = PATIENT * rng.standard_normal((shape.patients, RANK), dtype=np.float32)
    loadings = rng.standard_normal((RANK, shape.columns), dtype=np.float32) / RANK**0.5
    bias = rng.normal(-0.5, 0.5, shape.columns).astype(np.float32)
    for start in range(0, shape.rows, _DRAWN_ROWS):
        part = slice(start, start + _DRAWN_ROWS)
        latent = centres[y[part]] + habits[patients[part]]
        latent += rng.standard_normal(latent.shape, dtype=np.float32)
        signal = latent @ loadings + bias
        pooled = np.zeros_like(signal)
        for _ in range(POSITIONS):
            noise = rng.standard_normal(signal.shape, dtype=np.float32)
            pooled += np.maximum(signal + NOISE * noise, 0)
        target[part] = np.log1p(pooled / POSITIONS)
