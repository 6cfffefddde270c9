"""TileManifest: the ordered table that says which tile is row i, in every array that follows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from featurebench.tiles.columns import TEXT, slices, to_arrow
from featurebench.tiles.folder import scan_folder
from featurebench.tiles.table import read_table

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, eq=False)
class TileManifest:
    """One row per tile; row i is the same tile in every array made from this manifest.

    Make one with `from_folder` or `from_table`, which check everything at the door.

    Parameters
    ----------
    table
        Columns ``tile_id``, ``path`` (POSIX, relative to ``root``) and ``label`` as text;
        optionally ``patient_id``, ``slide_id`` and ``site`` as text, ``x``, ``y`` and ``level`` as
        integers, and any others as they were found. Text is held by Arrow, so that ten million
        tiles fit into memory. The index is 0 to n - 1, and the tiles of a slide stand together.
    root
        Folder that all paths are relative to and stay under.
    classes
        The labels that occur, sorted; a class's code is its position.
    warnings
        What a reader of the results should know about these tiles.

    Examples
    --------
    >>> import tempfile
    >>> from featurebench.tiles import write_cohort
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tiles = write_cohort(folder, patients=4, tiles_per_patient=2, size=32)
    >>> len(tiles), tiles.classes
    (8, ('benign', 'malignant'))
    """

    table: pd.DataFrame
    root: Path
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_folder(
        cls, root: str | os.PathLike[str], *, patient_regex: str | None = None
    ) -> TileManifest:
        """Take the tiles of a folder that has one sub-folder per class.

        Parameters
        ----------
        root
            Its sub-folders name the classes; images (PNG, JPEG, TIFF by ending) are found at any
            depth below them. Names with a leading dot are ignored.
        patient_regex
            Regular expression with exactly one named group, searched in each path relative to
            ``root``; what the group matches is the ``patient_id``.

        Raises
        ------
        ManifestError
            All problems in one message.
        """
        folder, table, warnings = scan_folder(root, patient_regex)
        return cls(table, folder, _classes(table), warnings)

    @classmethod
    def from_table(
        cls,
        path: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> TileManifest:
        """Take the tiles that a CSV or Parquet table lists.

        Parameters
        ----------
        path
            The table. Text is read as text, so that a label ``01`` stays ``01``; blanks around it
            are removed.
        root
            Folder that paths are relative to and must stay under; the table's own by default.
        columns
            For our column names, the table's: ``{"patient_id": "patient"}``. Without a
            ``tile_id``, the path serves.

        Raises
        ------
        ManifestError
            All problems in one message, with row numbers: lines of a CSV file (the header is row
            1), data rows counted from 1 of a Parquet file.
        """
        folder, table, warnings = read_table(path, root=root, columns=columns or {})
        return cls(table, folder, _classes(table), warnings)

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.table)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class codes, positions in ``classes``; shape (n_tiles,)."""
        codes, found = pd.factorize(self.table["label"], use_na_sentinel=False)
        return pd.Index(self.classes).get_indexer(pd.Index(found))[codes].astype(np.int64)

    @property
    def sha256(self) -> str:
        """Digest of all tile ids and paths in order, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for part in slices(len(self)):
            rows = self.table.iloc[part]
            ids, paths = to_arrow(rows["tile_id"]), to_arrow(rows["path"])
            lines = pc.binary_join_element_wise(ids, paths, pa.scalar("\0", pa.large_string()))
            digest.update(("\n" * bool(part.start) + "\n".join(lines.to_pylist())).encode())
        return digest.hexdigest()

    def column(self, name: str) -> npt.NDArray[np.object_] | None:
        """Give a column's values as text, shape (n_tiles,); None where there is no such column."""
        if name not in self.table:
            return None
        values = self.table[name]
        if values.dtype != TEXT:
            return values.astype(str).to_numpy(dtype=object)
        # Rows of one value share one text.
        codes, found = pd.factorize(values)
        return np.asarray(found, dtype=object)[codes]

    def path_of(self, row: int) -> Path:
        """Give the file of the tile in this row."""
        return self.root / str(self.table["path"].iloc[row])

    def take(self, rows: npt.ArrayLike) -> TileManifest:
        """Keep these rows, in this order; the classes and so their codes stay as they are.

        Parameters
        ----------
        rows
            Row numbers, or one boolean per tile.
        """
        chosen: npt.NDArray[Any] = np.asarray(rows)
        table = self.table.iloc[chosen if chosen.size else []].reset_index(drop=True)
        return TileManifest(table, self.root, self.classes, self.warnings)


def _classes(table: pd.DataFrame) -> tuple[str, ...]:
    return tuple(sorted(table["label"].unique()))
