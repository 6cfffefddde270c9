"""What all arms share: tested rows, independent units, folds, weights of tiles and resamples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from featurebench.stats import Resamples

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from featurebench.results import ResultsTable, RunResult

Made = TypeVar("Made")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Unit = Literal["patients", "tiles", "sites", "groups"]
Weights = Literal["auto", "tiles", "patients"]

UNEQUAL = 0.5
"""Patients weigh the same where they count for fewer than this share of their number by tiles."""


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
        What is resampled: ``patients``; ``sites`` or other ``groups`` where folds keep these
        together; ``tiles`` where no patient is known.
    grouped
        Whether units are known and none has tiles on both sides of a fold.
    resamples
        Weights of the units, the same for every arm and metric, so that differences are paired.
    members
        Int64 code of each tile's patient, shape (n_tiles,); the tested ones have 0..n_members-1.
        As ``clusters`` where patients are the units, or are unknown.
    weights
        What counts the same in every score: ``tiles``, or ``patients`` with any number of them.
    sites
        Int64 code of each tile's site, shape (n_tiles,); None where it is unknown.
    """

    y_true: Ints
    test_fold: npt.NDArray[np.int16]
    clusters: Ints
    unit: Unit
    grouped: bool
    resamples: Resamples
    members: Ints
    weights: Literal["tiles", "patients"] = "tiles"
    sites: Ints | None = None
    _made: dict[tuple[int, Hashable], tuple[RunResult, Any]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(
        cls, results: ResultsTable, *, n_boot: int, seed: int, weights: Weights = "tiles"
    ) -> Design:
        """Read the design off the results and draw the resamples.

        Parameters
        ----------
        results
            Of one plan.
        n_boot, seed
            Number of bootstrap resamples, and their seed.
        weights
            What counts the same; ``auto`` for patients where tiles are very unequally spread over
            them, see `UNEQUAL`.
        """
        codes: Ints = np.arange(len(results.y_true))
        unit: Unit = "tiles"
        if results.groups is not None:
            codes, unit = results.groups, "sites" if results.grouped_by == "site" else "groups"
        elif results.patients is not None:
            codes, unit = results.patients, "patients"
        tested = np.asarray((results.test_fold >= 0).any(axis=0))
        clusters, n_units = _numbered(codes, tested)
        members = clusters
        if results.patients is not None:
            members = _numbered(results.patients, tested)[0]
        design = cls(
            results.y_true,
            results.test_fold,
            clusters,
            unit,
            unit != "tiles" and _is_grouped(results.test_fold, codes),
            Resamples.draw(n_units, n_boot=n_boot, seed=seed),
            members,
            sites=results.sites,
        )
        if unit == "tiles" or weights == "tiles":
            return design
        unequal = design.effective_members < UNEQUAL * design.n_members
        weighed = weights == "patients" or unequal
        return replace(design, weights="patients" if weighed else "tiles")

    @cached_property
    def by_sites(self) -> Design | None:
        """The same with sites as units; None where these are unknown, one, or the units already."""
        if self.sites is None or self.unit != "patients":
            return None
        clusters, n_sites = _numbered(self.sites, self.tested)
        if n_sites < 2:
            return None
        resamples = Resamples.draw(n_sites, n_boot=self.resamples.n_boot, seed=0)
        return replace(
            self,
            clusters=clusters,
            unit="sites",
            grouped=False,
            resamples=resamples,
            sites=None,
            _made={},
        )

    @property
    def n_units(self) -> int:
        """Independent units that are tested."""
        return self.resamples.n_clusters

    @property
    def n_folds(self) -> int:
        """Test folds of one repeat."""
        return int(self.test_fold.max()) + 1

    @property
    def n_members(self) -> int:
        """Tested patients; tiles where patients are unknown."""
        return len(self.member_tiles)

    @cached_property
    def tested(self) -> npt.NDArray[np.bool_]:
        """Whether a tile is tested in any repeat, shape (n_tiles,)."""
        return np.asarray((self.test_fold >= 0).any(axis=0))

    @cached_property
    def member_tiles(self) -> Ints:
        """Tested tiles of each tested patient, shape (n_members,)."""
        return np.bincount(self.members[self.tested])

    @property
    def effective_members(self) -> float:
        """Patients of equal size that would vary as much: Kish's effective number, by tiles."""
        n = self.member_tiles.astype(np.float64)
        return float(n.sum() ** 2 / (n @ n))

    @cached_property
    def tile_weights(self) -> Floats:
        """What each tile counts, shape (n_tiles,): 1, or 1 over the tiles of its patient."""
        if self.weights == "tiles":
            return np.ones(len(self.y_true))
        sizes = np.bincount(self.members, minlength=self.n_members).astype(np.float64)
        sizes[: self.n_members] = self.member_tiles
        return 1 / sizes[self.members]

    def shares(self, *, by_class: bool, inside: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Give each unit's share of the tested tiles, or of those of every class, as weighed.

        Parameters
        ----------
        by_class
            Whether classes are told apart.
        inside
            Shape (n_tiles,): which of the tested tiles count; all by default.

        Returns
        -------
        ndarray
            Float64, shape (n_units, 1) or (n_units, n_groups); a class that is never tested is
            left out. Columns sum to 1.
        """
        counted = self.tested if inside is None else self.tested & inside
        groups = self.y_true if by_class else np.zeros_like(self.y_true)
        n_groups = int(groups.max(initial=0)) + 1
        cells = self.clusters[counted] * n_groups + groups[counted]
        found = np.bincount(cells, self.tile_weights[counted], self.n_units * n_groups)
        table = found.reshape(self.n_units, n_groups)
        table = table[:, table.sum(axis=0) > 0]
        return np.asarray(table / table.sum(axis=0))

    def remember(self, run: RunResult, what: Hashable, make: Callable[[], Made]) -> Made:
        """Give what ``make`` makes of a run; the same again when it is asked for once more."""
        # The run is kept too, so that no other one can get its number.
        key = (id(run), what)
        if key not in self._made:
            self._made[key] = (run, make())
        made: Made = self._made[key][1]
        return made

    @cached_property
    def unit_of_member(self) -> Ints:
        """Unit of each tested patient, shape (n_members,)."""
        unit = np.zeros(self.n_members, dtype=np.int64)
        unit[self.members[self.tested]] = self.clusters[self.tested]
        return unit

    def evaluate(
        self,
        statistics: Callable[[Floats], Mapping[str, npt.ArrayLike]],
        *,
        resampled: bool,
        weighed: bool = True,
    ) -> dict[str, Floats]:
        """Apply statistics of patients' weights to the cohort, and without each unit.

        Parameters
        ----------
        statistics
            Maps weights of the ``members``, shape (b, n_members), to b values by name.
        resampled
            Whether to apply them to the resamples as well.
        weighed
            Whether to weigh as ``weights`` says; else all that belongs to a patient counts 1.

        Returns
        -------
        dict
            By name, shape (1 + n_jackknife,) or (1 + n_jackknife + n_boot,).
        """
        rows = self.resamples if resampled else self.resamples.left_out
        same = not weighed or self.weights == "tiles"
        if same and self.members is self.clusters:
            return rows.evaluate_all(statistics)
        own = np.ones(1) if same else self.member_tiles.max() / self.member_tiles
        return rows.evaluate_all(lambda weights: statistics(weights[:, self.unit_of_member] * own))

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

    def _sides(self, folds: npt.NDArray[np.int16]) -> Ints:
        """Count the tiles of each unit on each side, the test folds last."""
        n_below = max(0, -int(folds.min()))
        n_sides = n_below + self.n_folds
        cells = self.clusters * n_sides + n_below + folds
        size = (int(self.clusters.max()) + 1) * n_sides
        return np.bincount(cells, minlength=size).reshape(-1, n_sides)

    def _count(self, tiles: Ints) -> int:
        return int(np.count_nonzero(tiles) if self.grouped else tiles.sum())


def _numbered(codes: Ints, tested: npt.NDArray[np.bool_]) -> tuple[Ints, int]:
    """Give codes that number what is tested from 0 on, then the rest; and how many are tested."""
    first = np.unique(codes[tested])
    order = np.concatenate([first, np.setdiff1d(codes, first)])
    numbers = np.zeros(int(order.max()) + 1, dtype=np.int64)
    numbers[order] = np.arange(len(order))
    return numbers[codes], len(first)


def _is_grouped(test_fold: npt.NDArray[np.int16], units: Ints) -> bool:
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    side = np.maximum(test_fold, -1)
    return bool(np.all(side == side[:, first[inverse]]))
