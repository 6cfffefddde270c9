"""What all arms share: tested rows, independent units, folds and resamples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from featurebench.stats import Resamples

if TYPE_CHECKING:
    from featurebench.results import ResultsTable

Unit = Literal["patients", "tiles"]


@dataclass(frozen=True)
class Design:
    """The part of a `ResultsTable` that does not depend on the arm.

    Parameters
    ----------
    y_true
        Int64 class codes, shape (n_tiles,).
    test_fold
        The plan's table, shape (n_repeats, n_tiles), negative where a tile is not tested.
    clusters
        Int64 code of each tile's independent unit, shape (n_tiles,); the units that are tested
        have 0..n_units-1, those that never are (hold-out) come after them.
    unit
        What is resampled: ``patients``, or ``tiles`` where no patient is known.
    grouped
        Whether patients are known and none has tiles on both sides of a fold.
    resamples
        Weights of the units, the same for every arm and metric, so that differences are paired.
    """

    y_true: npt.NDArray[np.int64]
    test_fold: npt.NDArray[np.int16]
    clusters: npt.NDArray[np.int64]
    unit: Unit
    grouped: bool
    resamples: Resamples

    @classmethod
    def of(cls, results: ResultsTable, *, n_boot: int, seed: int) -> Design:
        """Read the design off the results and draw the resamples."""
        patients = results.patients
        codes = np.arange(len(results.y_true)) if patients is None else patients
        tested = np.unique(codes[(results.test_fold >= 0).any(axis=0)])
        units = np.concatenate([tested, np.setdiff1d(codes, tested)])
        clusters = np.zeros(int(units.max()) + 1, dtype=np.int64)
        clusters[units] = np.arange(len(units))
        return cls(
            results.y_true,
            results.test_fold,
            clusters[codes],
            "tiles" if patients is None else "patients",
            patients is not None and _is_grouped(results.test_fold, patients),
            Resamples.draw(len(tested), n_boot=n_boot, seed=seed),
        )

    @property
    def n_units(self) -> int:
        """Independent units that are tested."""
        return self.resamples.n_clusters

    @property
    def n_folds(self) -> int:
        """Test folds of one repeat."""
        return int(self.test_fold.max()) + 1

    def rows(self, repeat: int) -> npt.NDArray[np.intp]:
        """Rows of the tiles tested in a repeat."""
        return np.flatnonzero(self.test_fold[repeat] >= 0)

    def fold_rows(self, repeat: int) -> list[npt.NDArray[np.intp]]:
        """Rows of the tiles tested in each fold of a repeat."""
        return [np.flatnonzero(self.test_fold[repeat] == fold) for fold in range(self.n_folds)]

    def test_train_ratio(self, n_repeats: int) -> float:
        """Size of the test sets over that of the training sets, in patients where grouped.

        With k folds it is 1 / (k - 1) whatever the sizes of the single folds.
        """
        n_test = n_train = 0
        for repeat in range(n_repeats):
            for rows in self.fold_rows(repeat):
                trained = np.setdiff1d(np.arange(len(self.y_true)), rows)
                n_test += self._count(rows)
                n_train += self._count(trained)
        return n_test / n_train

    def _count(self, rows: npt.NDArray[np.intp]) -> int:
        return len(np.unique(self.clusters[rows])) if self.grouped else len(rows)


def _is_grouped(test_fold: npt.NDArray[np.int16], patients: npt.NDArray[np.int64]) -> bool:
    _, first, inverse = np.unique(patients, return_index=True, return_inverse=True)
    side = np.maximum(test_fold, -1)
    return bool(np.all(side == side[:, first[inverse]]))
