"""Columns of a store's copy of the tile table, a slice of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr

from featurebench.errors import StoreCorruptError, StoreError
from featurebench.store.layout import CODECS, require_codecs
from featurebench.store.seals import read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TILE_ID = "tile_id"
# how zarr writes texts
_ALLOWED = CODECS | {"vlen-utf8"}
_REMEDY = "run `featurebench store verify`"


@dataclass(frozen=True)
class TileColumns:
    """The tile table in ``obs``: column name to array, text or numbers."""

    arrays: Mapping[str, zarr.Array[Any]]
    categories: Mapping[str, npt.NDArray[np.object_]]

    @classmethod
    def open(cls, obs: Path, n_tiles: int) -> TileColumns:
        """Open the table; nothing but the categories' names is read yet.

        Raises
        ------
        StoreError
            If a column is of a kind that is not read, or needs a codec that is not allowed.
        StoreCorruptError
            If the table is missing, damaged or of another length.
        """
        arrays, categories = {}, {}
        for name in (TILE_ID, *_column_order(obs)):
            kind = _metadata(obs / name)["attributes"].get("encoding-type")
            if kind == "categorical":
                arrays[name] = _open(obs / name / "codes")
                categories[name] = np.asarray(_open(obs / name / "categories")[:], dtype=object)
            elif kind in {"array", "string-array"}:
                arrays[name] = _open(obs / name)
            else:
                raise StoreError(
                    f"column {name!r} of the tile table is a {kind}, which is not read"
                )
            if arrays[name].shape != (n_tiles,):
                raise StoreCorruptError(
                    f"column {name!r} of the tile table has shape {arrays[name].shape}, the store "
                    f"{n_tiles} tiles; {_REMEDY}"
                )
        return cls(arrays, categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Columns, ``tile_id`` first."""
        return tuple(self.arrays)

    def numeric(self, name: str) -> np.dtype[Any] | None:
        """Give the type of a column of numbers or booleans; None of text or a missing one."""
        if name not in self.arrays or name in self.categories:
            return None
        dtype = np.dtype(self.arrays[name].dtype)
        return dtype if dtype.kind in "biuf" else None

    def read(self, name: str, rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Read a column at ascending rows, through one slice; texts come as objects."""
        first = int(rows[0])
        values = np.asarray(self.arrays[name][first : int(rows[-1]) + 1])[rows - first]
        if name in self.categories:
            values = self.categories[name][values]
        return values if self.numeric(name) is not None else values.astype(object)

    def tile_ids(self, rows: npt.NDArray[np.intp]) -> list[str]:
        """Read the ids of tiles at ascending rows.

        Raises
        ------
        StoreCorruptError
            If one is missing.
        """
        ids = [str(tile_id) for tile_id in self.read(TILE_ID, rows).tolist()]
        if not all(ids):
            raise StoreCorruptError(f"tile ids are missing from the tile table; {_REMEDY}")
        return ids


def _column_order(obs: Path) -> list[str]:
    try:
        return [str(name) for name in _metadata(obs)["attributes"]["column-order"]]
    except (KeyError, TypeError) as error:
        raise StoreCorruptError(f"the tile table lacks {error}; {_REMEDY}") from error


def _metadata(folder: Path) -> dict[str, Any]:
    try:
        return read_metadata(folder / "zarr.json", folder.name)
    except FileNotFoundError as error:
        raise StoreCorruptError(f"the tile table lacks {folder.name}; {_REMEDY}") from error


def _open(folder: Path) -> zarr.Array[Any]:
    require_codecs(_metadata(folder), folder.name, _ALLOWED)
    return zarr.open_array(folder, mode="r", zarr_format=3)
