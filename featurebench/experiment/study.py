"""The tiles of an experiment: read the manifest, leave out what cannot be used, draw the folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.errors import ConfigError, ExtractionError, SplitError, TileError
from featurebench.splits import SplitPlan
from featurebench.tiles import (
    TileManifest,
    read_tile,
    unpack_medmnist,
    unused_ids,
    write_cohort,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from featurebench.config import DataConfig, ExperimentConfig, SplitConfig
    from featurebench.experiment.console import Console

DEFAULT_GROUP = "patient_id"


@dataclass(frozen=True)
class BadTile:
    """A tile that no arm uses, and why; ``row`` counts in the whole manifest."""

    row: int
    tile_id: str
    reason: str


@dataclass(frozen=True)
class Study:
    """What every arm shares: the usable tiles in order, and who is tested when.

    Parameters
    ----------
    tiles
        The usable tiles; row i of every array that follows.
    rows
        Their rows in the whole manifest and so in the store, shape (n_tiles,).
    bad_tiles
        The others.
    plan
        Test folds of the usable tiles.
    groups, grouped_by
        Value of the grouping column of each tile, or None where folds are not grouped, and that
        column's name.
    """

    tiles: TileManifest
    rows: npt.NDArray[np.intp]
    bad_tiles: tuple[BadTile, ...]
    plan: SplitPlan
    groups: npt.NDArray[np.object_] | None
    grouped_by: str = DEFAULT_GROUP

    @property
    def patients(self) -> npt.NDArray[np.int64] | None:
        """Codes 0..P-1 of each tile's patient, or None where no patient is known."""
        return self.codes(DEFAULT_GROUP)

    def codes(self, column: str) -> npt.NDArray[np.int64] | None:
        """Codes from 0 on of a column's values; None where it is absent or not known everywhere."""
        values = self.tiles.column(column)
        if values is None or (values.astype(str) == "").any():
            return None
        return np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)

    @property
    def unit_codes(self) -> npt.NDArray[np.int64] | None:
        """Codes of what folds keep together where that is more than patients, such as sites."""
        patients = self.patients
        if self.groups is None or self.grouped_by == DEFAULT_GROUP or patients is None:
            return None
        codes = np.unique(self.groups.astype(str), return_inverse=True)[1].astype(np.int64)
        pairs = np.unique(np.column_stack([patients, codes]), axis=0)
        return codes if len(pairs) == len(np.unique(patients)) else None

    @property
    def slides(self) -> npt.NDArray[np.int64] | None:
        """Codes of each tile's slide, -1 where it is empty; None where no slide is known."""
        ids = self.tiles.column("slide_id")
        if ids is None:
            return None
        codes = np.unique(ids.astype(str), return_inverse=True)[1].astype(np.int64)
        return np.where(ids.astype(str) == "", -1, codes)


def load_tiles(config: ExperimentConfig, console: Console) -> TileManifest:
    """Read the manifest or folder, unpack the medmnist file, or draw the cohort by the store."""
    tiles = _read_source(config.data, config.store, console)
    for warning in (*tiles.warnings, *unused_ids(tiles.table)):
        console.say("warning", warning)
    patients = tiles.column(DEFAULT_GROUP)
    n_patients = "" if patients is None else f"{len(set(patients))} patients, "
    console.say("tiles", f"{len(tiles):,} tiles, {n_patients}{len(tiles.classes)} classes")
    return tiles


def make_study(
    config: ExperimentConfig, tiles: TileManifest, bad_tiles: Iterable[BadTile]
) -> Study:
    """Drop the bad tiles and draw the plan over the rest.

    Raises
    ------
    ConfigError
        If the tiles have no such column as the experiment file groups or splits scores by.
    """
    bad = tuple(sorted(bad_tiles, key=lambda tile: tile.row))
    rows = np.setdiff1d(np.arange(len(tiles)), [tile.row for tile in bad]).astype(np.intp)
    usable = tiles.take(rows)
    if config.compare.subgroups is not None:
        from featurebench.comparison.subgroups import subgroup_columns

        subgroup_columns(usable, config.compare.subgroups)
    group = _group_column(config.splits, tiles)
    groups = None if group is None else usable.column(group)
    plan = _draw(config.splits, usable, groups, group)
    if groups is not None:
        plan.check_no_leak(groups)
    return Study(usable, rows, bad, plan, groups, group or DEFAULT_GROUP)


def find_bad_tiles(tiles: TileManifest, max_share: float, console: Console) -> list[BadTile]:
    """Decode every tile once, where no extraction has done so.

    Raises
    ------
    ExtractionError
        If more than ``max_share`` of the tiles cannot be used.
    """
    bad: list[BadTile] = []
    ids = tiles.table["tile_id"].tolist()
    with console.track("checking tiles", len(tiles)) as advance:
        for row, tile_id in enumerate(ids):
            try:
                read_tile(tiles.path_of(row))
            except TileError as error:
                bad.append(BadTile(row, tile_id, str(error)))
            advance(1)
    if len(bad) > max_share * len(tiles):
        raise ExtractionError(
            f"{len(bad)} of {len(tiles)} tiles cannot be used (first: {bad[0].tile_id}: "
            f"{bad[0].reason}): mend them or raise data.max_bad_tiles from {max_share:g}"
        )
    return bad


def _read_source(data: DataConfig, store: Path, console: Console) -> TileManifest:
    if data.synthetic is not None:
        folder = store.with_suffix(".tiles")
        return write_cohort(folder, **data.synthetic.model_dump())
    if data.folder is not None:
        return TileManifest.from_folder(data.folder, patient_regex=data.patient_regex)
    if data.medmnist is not None:
        return unpack_medmnist(
            data.medmnist, root=data.root, class_names=data.class_names, track=console.track
        )
    manifest = data.manifest or Path()
    return TileManifest.from_table(manifest, root=data.root, columns=data.columns)


def _group_column(splits: SplitConfig, tiles: TileManifest) -> str | None:
    """Choose the column that folds are grouped by: patients where nothing else is asked for."""
    if splits.group is None:
        return DEFAULT_GROUP if tiles.column(DEFAULT_GROUP) is not None else None
    if tiles.column(splits.group) is None:
        known = ", ".join(map(str, tiles.table.columns))
        raise ConfigError(
            f"splits.group: the tiles have no column {splits.group!r}; they have {known}"
        )
    return splits.group


def _draw(
    splits: SplitConfig,
    tiles: TileManifest,
    groups: npt.NDArray[np.object_] | None,
    group: str | None,
) -> SplitPlan:
    shared: dict[str, Any] = {
        "seed": splits.seed,
        "tile_ids": tiles.table["tile_id"].to_numpy(dtype=str),
        "group_name": group or DEFAULT_GROUP,
        "classes": tiles.classes,
    }
    try:
        if splits.given is not None:
            sides = _given_sides(splits.given, tiles)
            return SplitPlan.from_column(sides, tiles.labels, groups, column=splits.given, **shared)
        if splits.holdout is not None:
            return SplitPlan.holdout(tiles.labels, groups, fractions=splits.holdout, **shared)
        return SplitPlan.draw(
            tiles.labels, groups, folds=splits.folds, repeats=splits.repeats, **shared
        )
    except SplitError as error:
        raise SplitError(f"splits: {error}") from error


def _given_sides(given: str, tiles: TileManifest) -> npt.NDArray[np.object_]:
    sides = tiles.column(given)
    if sides is None:
        known = ", ".join(map(str, tiles.table.columns))
        raise ConfigError(f"splits.given: the tiles have no column {given!r}; they have {known}")
    return sides
