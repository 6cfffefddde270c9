"""What all arms share: tested rows, independent units, folds and resamples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from featurebench.stats import Resamples

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from featurebench.results import ResultsTable, RunResult

Made = TypeVar("Made")
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
    _made: dict[tuple[int, Hashable], tuple[RunResult, Any]] = field(
        default_factory=dict, repr=False, compare=False
    )

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

    def remember(self, run: RunResult, what: Hashable, make: Callable[[], Made]) -> Made:
        """Give what ``make`` makes of a run; the same again when it is asked for once more."""
        # The run is kept too, so that no other one can get its number.
        key = (id(run), what)
        if key not in self._made:
            self._made[key] = (run, make())
        made: Made = self._made[key][1]
        return made

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
        for folds in self.test_fold[:n_repeats]:
            sides = self._sides(folds)
            whole = sides.sum(axis=1)
            for side in sides.T[-self.n_folds :]:
                n_test += self._count(side)
                n_train += self._count(whole - side)
        return n_test / n_train

    def _sides(self, folds: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Count the tiles of each unit on each side, the test folds last."""
        n_below = max(0, -int(folds.min()))
        n_sides = n_below + self.n_folds
        cells = self.clusters * n_sides + n_below + folds
        size = (int(self.clusters.max()) + 1) * n_sides
        return np.bincount(cells, minlength=size).reshape(-1, n_sides)

    def _count(self, tiles: npt.NDArray[np.int64]) -> int:
        return int(np.count_nonzero(tiles) if self.grouped else tiles.sum())


def _is_grouped(test_fold: npt.NDArray[np.int16], patients: npt.NDArray[np.int64]) -> bool:
    _, first, inverse = np.unique(patients, return_index=True, return_inverse=True)
    side = np.maximum(test_fold, -1)
    return bool(np.all(side == side[:, first[inverse]]))
