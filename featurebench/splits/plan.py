"""SplitPlan: the one table of test folds on which every arm is trained and tested."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from featurebench.errors import SplitError
from featurebench.splits.draw import draw_folds, draw_holdout
from featurebench.splits.given import check_sides, code_sides
from featurebench.splits.groups import code_groups, plural, tabulate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TRAIN = -1
VALIDATION = -2
# Of the three sides of a hold-out; what is tested has fold 0.
_SIDE_CODES = np.array([TRAIN, VALIDATION, 0], dtype=np.int16)

Rows = npt.NDArray[np.int64]


class Split(NamedTuple):
    """One fold of one repeat, as row numbers in ascending order."""

    repeat: int
    fold: int
    train: Rows
    validation: Rows | None
    test: Rows


@dataclass(frozen=True, eq=False)
class SplitPlan:
    """Who is tested when; two plans with the same ``id`` are the same plan.

    Iterating gives ``(train, test)`` row numbers, repeat by repeat and fold by fold, so that a plan
    can be handed to scikit-learn as ``cv``.

    Parameters
    ----------
    test_fold
        Fold in which a tile is tested, int16, shape (n_repeats, n_tiles), read-only. `TRAIN` (-1)
        marks tiles that are always trained on, `VALIDATION` (-2) those that are neither trained on
        nor tested; in a hold-out the tested tiles have 0.
    tile_ids
        Unique names of the tiles, shape (n_tiles,), read-only.
    group
        Column whose values never stand on both sides of a fold; None if tiles were split singly.
    seed
        That the folds were drawn with.
    scheme
        ``kfold`` or ``holdout``.

    Raises
    ------
    SplitError
        If the shapes do not match, a tile id occurs twice, or a fold is empty.

    Examples
    --------
    >>> patients = ["a", "a", "b", "b", "c", "c", "d", "d"]
    >>> plan = SplitPlan.draw([0, 0, 1, 1, 0, 0, 1, 1], patients, folds=2)
    >>> [(train.size, test.size) for train, test in plan]
    [(4, 4), (4, 4)]
    """

    test_fold: npt.NDArray[np.int16]
    tile_ids: npt.NDArray[np.str_]
    group: str | None
    seed: int
    scheme: Literal["kfold", "holdout"]

    def __post_init__(self) -> None:
        test_fold = np.array(self.test_fold, dtype=np.int16, ndmin=2)
        tile_ids = np.array(self.tile_ids, dtype=np.str_)
        if test_fold.shape[1:] != tile_ids.shape:
            raise SplitError(f"{len(tile_ids)} tile ids for {test_fold.shape[1]} tiles")
        if len(set(tile_ids.tolist())) < len(tile_ids):
            raise SplitError("a tile_id occurs more than once: make them unique")
        for repeat, row in enumerate(test_fold):
            if not {*range(int(test_fold.max()) + 1)} <= {*np.unique(row).tolist()}:
                raise SplitError(f"repeat {repeat} has an empty test fold: draw the folds again")
        for name, array in (("test_fold", test_fold), ("tile_ids", tile_ids)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def n_repeats(self) -> int:
        """Number of repeats."""
        return len(self.test_fold)

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return len(self.tile_ids)

    @cached_property
    def n_folds(self) -> int:
        """Number of test folds in every repeat; 1 in a hold-out."""
        return int(self.test_fold.max()) + 1

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 over the tile ids and the table of folds."""
        digest = hashlib.sha256(repr(self.test_fold.shape).encode())
        digest.update("\0".join(self.tile_ids.tolist()).encode())
        digest.update(self.test_fold.astype("<i2").tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def draw(
        cls,
        labels: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        *,
        folds: int = 5,
        repeats: int = 1,
        seed: int = 0,
        tile_ids: npt.ArrayLike | None = None,
        group_name: str = "patient_id",
        classes: Sequence[str] | None = None,
    ) -> SplitPlan:
        """Draw repeated k-fold cross-validation, stratified by label and grouped.

        Every class is in every test fold. Fold sizes, class proportions and numbers of groups are
        balanced as well as a randomised search finds. Repeats differ from each other, and repeat r
        depends on the seed and r only, not on how many repeats follow. A group's fold does not
        depend on the order of the rows.

        Parameters
        ----------
        labels
            Class of every tile, codes or names, shape (n_tiles,).
        groups
            Group of every tile, shape (n_tiles,); without them every tile is its own group.
        folds, repeats, seed
            At least 2, 1 and 0.
        tile_ids
            Names of the tiles; row numbers by default.
        group_name
            Column that the groups come from.
        classes
            Names of the label codes, for messages; a named class without tiles is refused.

        Raises
        ------
        SplitError
            If such folds do not exist or were not found; the message has the numbers.
        """
        table = tabulate(labels, groups, classes=classes, group_name=group_name)
        parts = draw_folds(table, folds=folds, repeats=repeats, seed=seed)
        group = None if groups is None else group_name
        test_fold = parts[:, table.codes].astype(np.int16)
        return cls(test_fold, name_tiles(tile_ids, table.labels), group, seed, "kfold")

    @classmethod
    def holdout(
        cls,
        labels: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        *,
        fractions: Sequence[float] = (0.70, 0.15, 0.15),
        seed: int = 0,
        tile_ids: npt.ArrayLike | None = None,
        group_name: str = "patient_id",
        classes: Sequence[str] | None = None,
    ) -> SplitPlan:
        """Draw one stratified, grouped split into train, validation and test.

        Parameters
        ----------
        labels, groups, seed, tile_ids, group_name, classes
            As in `draw`.
        fractions
            Of the tiles in train, validation and test, met as nearly as whole groups allow;
            validation may be 0. Every class is in every part.

        Raises
        ------
        SplitError
            If such a split does not exist or was not found; the message has the numbers.
        """
        table = tabulate(labels, groups, classes=classes, group_name=group_name)
        parts = draw_holdout(table, fractions=fractions, seed=seed)
        code = _SIDE_CODES[parts][table.codes]
        group = None if groups is None else group_name
        return cls(code[None], name_tiles(tile_ids, table.labels), group, seed, "holdout")

    @classmethod
    def from_column(
        cls,
        values: npt.ArrayLike,
        labels: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        *,
        column: str = "split",
        seed: int = 0,
        tile_ids: npt.ArrayLike | None = None,
        group_name: str = "patient_id",
        classes: Sequence[str] | None = None,
    ) -> SplitPlan:
        """Take a hold-out as it is given, such as a benchmark's own; nothing is drawn.

        Parameters
        ----------
        values
            ``train``, ``val`` (or ``validation``) or ``test`` for every tile, shape (n_tiles,).
            There need be no validation tiles.
        labels, groups, tile_ids, group_name, classes
            As in `draw`.
        column
            Where the values come from, for messages.
        seed
            Of what the arms draw; the split does not depend on it.

        Raises
        ------
        SplitError
            If a value is another one, train or test is empty, a class has no training tiles, or a
            group stands on more than one side; the message has the numbers.

        Examples
        --------
        >>> plan = SplitPlan.from_column(["train", "train", "val", "test"], [0, 1, 1, 0])
        >>> plan.test_fold.tolist()
        [[-1, -1, -2, 0]]
        """
        table = tabulate(labels, groups, classes=classes, group_name=group_name)
        sides = code_sides(values, len(table.labels), column)
        check_sides(table, sides, column)
        group = None if groups is None else group_name
        test_fold = _SIDE_CODES[sides][None]
        return cls(test_fold, name_tiles(tile_ids, table.labels), group, seed, "holdout")

    def splits(self) -> Iterator[Split]:
        """Yield every fold of every repeat; ``validation`` is None where there is none."""
        for repeat, row in enumerate(self.test_fold):
            validation = np.flatnonzero(row == VALIDATION) if (row == VALIDATION).any() else None
            for fold in range(self.n_folds):
                train = np.flatnonzero((row != fold) & (row != VALIDATION))
                yield Split(repeat, fold, train, validation, np.flatnonzero(row == fold))

    def __iter__(self) -> Iterator[tuple[Rows, Rows]]:
        """Yield ``(train, test)`` row numbers, as scikit-learn's splitters do."""
        for split in self.splits():
            yield split.train, split.test

    def check_no_leak(self, groups: npt.ArrayLike, *, group_name: str | None = None) -> None:
        """Make sure that no group stands on both sides of a fold.

        Parameters
        ----------
        groups
            Group of every tile, shape (n_tiles,).
        group_name
            What the groups are, for the message; the plan's own ``group`` by default.

        Raises
        ------
        SplitError
            If a group is tested in one fold and trained on in the same; ids are not named.
        """
        name = group_name or self.group or "group"
        codes, n_groups = code_groups(groups, self.n_tiles, name)
        anchor = np.zeros(n_groups, dtype=np.int64)
        anchor[codes] = np.arange(self.n_tiles)
        for repeat, row in enumerate(self.test_fold):
            torn = np.unique(codes[row != row[anchor[codes]]])
            if torn.size:
                n_tiles = int(np.isin(codes, torn).sum())
                raise SplitError(
                    f"{torn.size} {plural(name)} ({n_tiles} tiles) stand on both sides of a "
                    f"fold in repeat {repeat}: draw the folds grouped by {name}"
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tile_id, repeat_0, repeat_1, ...`` as CSV, whole or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(_header(self.n_repeats))
                writer.writerows(zip(self.tile_ids.tolist(), *self.test_fold.tolist(), strict=True))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, group: str | None = None, seed: int = 0
    ) -> SplitPlan:
        """Read what `save` wrote; ``group`` and ``seed`` are not in the file and not in the id.

        Raises
        ------
        SplitError
            If the header is another one, or a row is short or holds no fold number.
        """
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if len(header) < 2 or header != _header(len(header) - 1):
                raise SplitError(
                    f"{Path(path).name} begins with {','.join(header[:3])!r}, not with "
                    "'tile_id,repeat_0': delete it to draw the folds again"
                )
            rows = list(reader)
        table = _parse(rows, len(header), Path(path).name)
        scheme: Literal["kfold", "holdout"] = "kfold" if table.max() > 0 else "holdout"
        return cls(table.T, np.array([row[0] for row in rows]), group, seed, scheme)


def name_tiles(tile_ids: npt.ArrayLike | None, labels: Rows) -> npt.NDArray[np.str_]:
    """Names of the tiles, row numbers by default, shape (n_tiles,)."""
    if tile_ids is None:
        return np.arange(len(labels)).astype(np.str_)
    named = np.asarray(tile_ids).astype(np.str_)
    if len(named) != len(labels):
        raise SplitError(f"{len(named)} tile ids for {len(labels)} labels")
    return named


def _header(n_repeats: int) -> list[str]:
    return ["tile_id", *(f"repeat_{repeat}" for repeat in range(n_repeats))]


def _parse(rows: list[list[str]], width: int, name: str) -> npt.NDArray[np.int16]:
    short = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if not rows or short is not None:
        raise SplitError(
            f"{name} is cut short at row {short or 0}: delete it to draw the folds again"
        )
    try:
        table = np.array([row[1:] for row in rows], dtype=np.int16)
    except (ValueError, OverflowError) as error:
        raise SplitError(f"{name} holds something that is no fold number: {error}") from error
    if table.min() < VALIDATION or table.max() < 0:
        raise SplitError(f"{name} has fold numbers from {table.min()} to {table.max()}")
    return table
