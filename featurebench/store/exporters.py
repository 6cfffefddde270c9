"""Writers of exported embeddings: NumPy, Parquet and HDF5, one block of rows after the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import h5py
    import pyarrow as pa

    from featurebench.store.encoding import Rows
    from featurebench.store.tilecolumns import TileColumns

CHUNK_ROWS = 256
EMBEDDING = "embedding"
# a spreadsheet would compute a cell that begins so; an apostrophe gets one too, to be told apart
COMPUTED = ("=", "+", "-", "@", "'", "\t", "\r")


@dataclass(frozen=True)
class Part:
    """Rows of one block, ascending, and their embeddings, shape (len(rows), dim)."""

    rows: npt.NDArray[np.intp]
    embeddings: Rows


def guard_cell(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would compute.

    Examples
    --------
    >>> guard_cell("=1+1"), guard_cell("tile 1")
    ("'=1+1", 'tile 1')
    """
    return f"'{text}" if text.startswith(COMPUTED) else text


def write_npy(
    path: Path, facts: Mapping[str, Any], columns: TileColumns, parts: Iterator[Part]
) -> None:
    """Write a matrix of the stored type, little-endian, in C order."""
    spec = facts["spec"]
    dtype = np.dtype(spec["dtype"]).newbyteorder("<")
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (facts["n_rows"], spec["dim"]),
    }
    with path.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part.embeddings, dtype=dtype).data)


def write_parquet(
    path: Path, facts: Mapping[str, Any], columns: TileColumns, parts: Iterator[Part]
) -> None:
    """Write the tile table with a column of float32 lists; a row group per block, zstd."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    dim = int(facts["spec"]["dim"])
    matrix = EMBEDDING if EMBEDDING not in columns.names else str(facts["embedding"])
    fields = [(name, _arrow_type(columns, name)) for name in columns.names]
    metadata = {"featurebench": json.dumps(dict(facts), sort_keys=True)}
    schema = pa.schema([*fields, (matrix, pa.list_(pa.float32(), dim))], metadata=metadata)
    plain = list(columns.names)
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=plain) as writer:
        for part in parts:
            flat = pa.array(part.embeddings.astype(np.float32).reshape(-1))
            arrays = [
                *(pa.array(_column(columns, name, part), type_) for name, type_ in fields),
                pa.FixedSizeListArray.from_arrays(flat, dim),
            ]
            writer.write_table(pa.table(arrays, schema=schema), row_group_size=len(part.rows))


def write_hdf5(
    path: Path, facts: Mapping[str, Any], columns: TileColumns, parts: Iterator[Part]
) -> None:
    """Write ``features``, ``row``, ``tile_id`` and, where known, ``slide_id`` and ``coords``."""
    import h5py

    n = int(facts["n_rows"])
    with h5py.File(path, "x") as file:
        for key, value in facts.items():
            file.attrs[key] = json.dumps(value, sort_keys=True) if key == "spec" else value
        datasets = _make_datasets(file, facts["spec"], columns, n)
        start = 0
        for part in parts:
            stop = start + len(part.rows)
            datasets["features"][start:stop] = part.embeddings
            datasets["row"][start:stop] = part.rows
            for name in {"tile_id", "slide_id"} & set(datasets):
                datasets[name][start:stop] = _column(columns, name, part)
            if "coords" in datasets:
                places = [columns.read(axis, part.rows) for axis in ("x", "y")]
                datasets["coords"][start:stop] = np.column_stack(places)
            start = stop


WRITERS = {"npy": write_npy, "parquet": write_parquet, "hdf5": write_hdf5}


def _make_datasets(
    file: h5py.File, spec: Mapping[str, Any], columns: TileColumns, n: int
) -> dict[str, h5py.Dataset]:
    import h5py

    text = h5py.string_dtype("utf-8")
    rows = min(CHUNK_ROWS, n)
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "features": ((spec["dim"],), np.dtype(spec["dtype"])),
        "row": ((), np.dtype(np.int64)),
        "tile_id": ((), text),
    }
    if "slide_id" in columns.names:
        shapes["slide_id"] = ((), text)
    axes = [dtype for axis in ("x", "y") if (dtype := columns.numeric(axis)) is not None]
    if len(axes) == 2:
        shapes["coords"] = ((2,), np.result_type(*axes))
    return {
        name: file.create_dataset(name, (n, *shape), dtype, chunks=(rows, *shape))
        for name, (shape, dtype) in shapes.items()
    }


def _arrow_type(columns: TileColumns, name: str) -> pa.DataType:
    import pyarrow as pa

    dtype = columns.numeric(name)
    return pa.string() if dtype is None else pa.from_numpy_dtype(dtype)


def _column(columns: TileColumns, name: str, part: Part) -> npt.NDArray[Any]:
    if name == "tile_id":
        return np.array(columns.tile_ids(part.rows), dtype=object)
    values = columns.read(name, part.rows)
    if columns.numeric(name) is None:
        return np.array([str(value) for value in values.tolist()], dtype=object)
    return values
