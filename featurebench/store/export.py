"""export_embedding(): the committed rows of an embedding as a file that other programs read."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.errors import MissingRowsError, StoreError
from featurebench.store.exporters import WRITERS, Part, guard_cell
from featurebench.store.files import (
    disk_errors,
    disk_now,
    fsync_file,
    make_folder,
    move,
    owner_is_gone,
    private_name,
    remove,
)
from featurebench.store.tilecolumns import TileColumns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from featurebench.store.spec import EmbeddingSpec
    from featurebench.store.store import FeatureStore

FORMATS = {"npy": (".npy",), "parquet": (".parquet", ".pq"), "hdf5": (".h5", ".hdf5")}
PENDING = "not extracted yet"
TABLE_ROWS = 65_536


@dataclass(frozen=True)
class Export:
    """What was written.

    Parameters
    ----------
    path
        The file with the embeddings.
    files
        All files, that one first: ``.npy`` has a ``.csv`` beside it that names the tile of each
        row; ``.left_out.csv`` names the tiles without an embedding, if there are any.
    n_rows, n_refused, n_pending
        Rows written, and rows left out: refused tiles, and those of blocks not committed yet.
    """

    path: Path
    files: tuple[Path, ...]
    n_rows: int
    n_refused: int
    n_pending: int


def export_embedding(
    store: FeatureStore,
    spec: EmbeddingSpec,
    target: Path,
    *,
    format: str = "auto",
    rows: npt.NDArray[np.intp] | None = None,
    overwrite: bool = False,
) -> Export:
    """Write the rows that are committed and not refused, in the store's order; no other is filled.

    Files appear whole or not at all, the one with the embeddings last. No more than a block is
    held in memory.

    Parameters
    ----------
    store, spec
        The embedding; see `find_spec`.
    target
        File to write.
    format
        ``npy``: a matrix of the stored type, and a CSV with ``row`` and ``tile_id``.
        ``parquet``: ``tile_id``, the columns of the tile table, and ``embedding``, a list of fixed
        length of float32. ``hdf5``: ``features``, ``row``, ``tile_id``, and ``slide_id`` and
        ``coords`` (x, y) where the tile table has them. ``auto``: by the file's ending.
    rows
        Which to write of the store's rows; all if None.
    overwrite
        Whether to replace files that are there.

    Raises
    ------
    StoreError
        If the ending does not fit, a file is there, or the disk refuses.
    MissingRowsError
        If none of the rows is committed, or one is not in the store.
    StoreCorruptError
        If the store is damaged where it is read.
    """
    target = Path(target).absolute()
    kind = _format(target, format)
    plan = _plan(store, spec, _asked(store, rows))
    tables = _companions(target, kind, plan)
    if not overwrite:
        _require_free([target, *tables])
    with disk_errors(f"the export {target.name}", target.parent):
        make_folder(target.parent)
        _remove_left_behind([target, *tables])
        _write_all(kind, plan, target, tables)
    refused, pending = len(plan.refused), len(plan.pending)
    return Export(target, (target, *tables), len(plan.rows), refused, pending)


def find_spec(store: FeatureStore, name: str) -> EmbeddingSpec:
    """Find the embedding of this name, or the only one whose name begins so.

    Raises
    ------
    StoreError
        If none or several fit; the names are listed.
    """
    specs = store.embeddings()
    found = [spec for spec in specs if spec.name == name]
    found = found or [spec for spec in specs if spec.name.startswith(name)]
    if len(found) != 1:
        listed = ", ".join(spec.name for spec in found or specs) or "none"
        what = f"{len(found)} embeddings that begin with" if found else "no embedding"
        raise StoreError(f"{store.path.name} holds {what} {name!r}; choose one of: {listed}")
    return found[0]


@dataclass(frozen=True)
class _Plan:
    """Rows to write and rows to leave out, as the store stood when the export began."""

    store: FeatureStore
    spec: EmbeddingSpec
    columns: TileColumns
    rows: npt.NDArray[np.intp]
    refused: Sequence[tuple[int, str]]
    pending: npt.NDArray[np.intp]

    def parts(self) -> Iterator[Part]:
        """Read the rows of one block after the other."""
        for block in self.store.blocks(self.spec):
            first, stop = np.searchsorted(self.rows, [block.start, block.stop])
            if len(rows := self.rows[first:stop]):
                yield Part(rows, self.store.load(self.spec, rows))

    def facts(self) -> dict[str, Any]:
        """Tell what the file holds, JSON-ready."""
        return {
            "embedding": self.spec.name,
            "fingerprint": self.spec.fingerprint,
            "spec": self.spec.to_dict(),
            "dataset": self.store.dataset,
            "manifest_sha256": self.store.manifest_sha256,
            "n_tiles": self.store.n_tiles,
            "n_rows": len(self.rows),
            "n_refused": len(self.refused),
            "n_pending": len(self.pending),
        }


@dataclass(frozen=True)
class _Table:
    """Rows of the store as a CSV file: row, tile id and, where there are any, the reasons."""

    columns: TileColumns
    rows: npt.NDArray[np.intp]
    reasons: Mapping[int, str] | None = None

    def write(self, path: Path) -> None:
        """Write a new file."""
        with path.open("x", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["row", "tile_id", *(["reason"] if self.reasons else [])])
            for start in range(0, len(self.rows), TABLE_ROWS):
                rows = self.rows[start : start + TABLE_ROWS]
                for row, tile_id in zip(rows.tolist(), self.columns.tile_ids(rows), strict=True):
                    reason = [guard_cell(self.reasons[row])] if self.reasons else []
                    lines.writerow([row, guard_cell(tile_id), *reason])


def _plan(store: FeatureStore, spec: EmbeddingSpec, asked: npt.NDArray[np.intp]) -> _Plan:
    present = np.zeros(store.n_tiles, dtype=np.bool_)
    present[asked] = True
    waiting = np.zeros(store.n_tiles, dtype=np.bool_)
    for block in store.pending(spec):
        waiting[block.start : block.stop] = True
    refused = [(r.row, r.reason) for r in store.refused(spec) if present[r.row]]
    pending = np.flatnonzero(present & waiting)
    present &= ~waiting
    present[[row for row, _ in refused]] = False
    if not present.any():
        raise MissingRowsError(
            f"none of the {len(asked)} rows of {spec.name} is committed, so there is nothing to "
            "export; run `featurebench extract`"
        )
    columns = TileColumns.open(store.path / "embeddings.zarr" / "obs", store.n_tiles)
    return _Plan(store, spec, columns, np.flatnonzero(present), refused, pending)


def _asked(store: FeatureStore, rows: npt.NDArray[np.intp] | None) -> npt.NDArray[np.intp]:
    if rows is None:
        return np.arange(store.n_tiles)
    asked = np.asarray(rows)
    if asked.ndim != 1 or (asked.size and not np.issubdtype(asked.dtype, np.integer)):
        raise StoreError(f"rows are whole numbers in one dimension, not {asked.dtype} values")
    if len(outside := asked[(asked < 0) | (asked >= store.n_tiles)]):
        raise MissingRowsError(f"row {outside[0]} is asked of a store of {store.n_tiles} tiles")
    return np.unique(asked.astype(np.intp))


def _format(target: Path, format: str) -> str:
    fitting = [kind for kind, endings in FORMATS.items() if target.suffix.lower() in endings]
    kind = fitting[0] if fitting and format == "auto" else format
    if kind not in FORMATS or kind not in fitting:
        endings = FORMATS.get(kind) or [ending for some in FORMATS.values() for ending in some]
        raise StoreError(
            f"{target.name} and the format {format!r} do not fit together; formats are "
            f"{', '.join(FORMATS)}, end the name in {' or '.join(endings)}"
        )
    return kind


def _companions(target: Path, kind: str, plan: _Plan) -> dict[Path, _Table]:
    """List the tables that come with the file, and the rows of each."""
    tables = {}
    if kind == "npy":
        tables[target.with_suffix(".csv")] = _Table(plan.columns, plan.rows)
    if plan.refused or len(plan.pending):
        left_out = dict.fromkeys(plan.pending.tolist(), PENDING) | dict(plan.refused)
        rows = np.array(sorted(left_out), dtype=np.intp)
        tables[_left_out(target)] = _Table(plan.columns, rows, left_out)
    return tables


def _left_out(target: Path) -> Path:
    return target.with_suffix(".left_out.csv")


def _require_free(files: Sequence[Path]) -> None:
    for file in files:
        if file.exists():
            raise StoreError(f"{file.name} is there already; give another name, or overwrite it")


def _remove_left_behind(files: Sequence[Path]) -> None:
    """Remove what killed exports to the same files left."""
    starts = tuple(f"{file.name}." for file in files)
    left = [path for path in files[0].parent.glob("*.tmp") if path.name.startswith(starts)]
    now = disk_now(files[0].parent) if left else 0.0
    for path in left:
        if owner_is_gone(path, now):
            remove(path)


def _write_all(kind: str, plan: _Plan, target: Path, tables: Mapping[Path, _Table]) -> None:
    private = {
        file: file.with_name(f"{file.name}.{private_name()}.tmp") for file in (*tables, target)
    }
    try:
        WRITERS[kind](private[target], plan.facts(), plan.columns, plan.parts())
        for file, table in tables.items():
            table.write(private[file])
        for path in private.values():
            fsync_file(path)
        # a matrix never stands beside a table of another export, so the old one goes first
        for stale in (target, _left_out(target)):
            stale.unlink(missing_ok=True)
        for file, path in private.items():
            move(path, file)
    finally:
        for path in private.values():
            path.unlink(missing_ok=True)
