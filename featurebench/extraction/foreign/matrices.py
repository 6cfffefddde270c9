"""A NumPy matrix and a table beside it whose rows name the tiles."""

from __future__ import annotations

import tokenize
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.errors import ExtractionError
from featurebench.extraction.foreign.names import match_ids, read_columns
from featurebench.extraction.foreign.sources import (
    MAX_DIM,
    Located,
    Positions,
    Rows,
    Snapshot,
    SourceFile,
    as_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from featurebench.tiles import TileManifest

# what a damaged header makes `numpy.load` raise
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    SyntaxError,
    ArithmeticError,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class MatrixFile:
    """A matrix on disk; only the rows asked for are read."""

    snapshot: Snapshot
    dim: int
    attributes: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def file(self) -> SourceFile:
        """Name and hash, for the notes."""
        return SourceFile(self.snapshot.path.name, self.snapshot.sha256)

    def read(self, positions: Positions) -> Rows:
        """Read embeddings, shape (len(positions), dim)."""
        self.snapshot.require_unchanged()
        return as_rows(np.asarray(_map(self.snapshot.path)[positions]))


def locate_matrices(files: Sequence[Path], manifest: TileManifest) -> Iterator[Located]:
    """Match the rows of each matrix by the ``tile_id``, or else the ``path``, of its table.

    The table is the ``.csv`` of the same name beside the ``.npy``, or the only one that was given.

    Raises
    ------
    ExtractionError
        If a matrix is not one of numbers, or its table is missing or of another length.
    """
    matrices = [file for file in files if file.suffix.lower() == ".npy"]
    tables = [file for file in files if file.suffix.lower() == ".csv"]
    if not matrices:
        raise ExtractionError(f"{files[0].name} comes without a matrix; give the .npy as well")
    for path in matrices:
        snapshot, matrix = Snapshot.take(path), _map(path)
        found = _match(_table_of(path, matrices, tables), len(matrix), manifest)
        positions = np.flatnonzero(found >= 0)
        source = MatrixFile(snapshot, matrix.shape[1])
        yield Located("npy", source, found[positions], positions, len(matrix))


def _map(path: Path) -> npt.NDArray[Any]:
    """Map a matrix of numbers into memory; pickled objects are never loaded."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise ExtractionError(
            f"{path.name} is not a plain .npy matrix ({reason}); save it with "
            "numpy.save(file, matrix, allow_pickle=False)"
        ) from error
    if not isinstance(matrix, np.ndarray):
        matrix.close()
        raise ExtractionError(f"{path.name} is an .npz archive; save its matrix alone, as .npy")
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not 1 <= matrix.shape[1] <= MAX_DIM:
        raise ExtractionError(
            f"{path.name} holds {matrix.dtype} of shape {matrix.shape}; give numbers, one row per "
            f"tile, 1 to {MAX_DIM} columns"
        )
    return matrix


def _table_of(path: Path, matrices: Sequence[Path], tables: Sequence[Path]) -> Path:
    beside = path.with_suffix(".csv")
    if len(matrices) == 1 and len(tables) == 1:
        return tables[0]
    if not beside.is_file():
        raise ExtractionError(
            f"{path.name} has no {beside.name} beside it; write one with a column tile_id, a row "
            "per row of the matrix"
        )
    return beside


def _match(table: Path, n: int, manifest: TileManifest) -> Positions:
    columns = read_columns(table, ("tile_id", "path"))
    key = next(iter(columns))
    if len(columns[key]) != n:
        raise ExtractionError(
            f"{table.name} has {len(columns[key])} rows, its matrix {n}; give the two that were "
            "written together"
        )
    return match_ids(columns[key], manifest.table[key].tolist())
