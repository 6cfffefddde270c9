"""What a store holds for AnnData users: the tile table in ``obs``, notes in ``uns``."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from featurebench.errors import StoreError
from featurebench.store.seals import seal_tree
from featurebench.store.spec import canonical_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from zarr.core.array_spec import ArrayConfigParams
    from zarr.core.common import JSON

CHUNK_ROWS = 65_536
# every name that AnnData or Zarr uses itself within the group of a data frame
_RESERVED = frozenset({"tile_id", "_index", "index", "zarr.json", "zarr", ""})


def write_skeleton(root: Path, obs: pd.DataFrame, classes: Sequence[str]) -> None:
    """Write an AnnData group with ``obs``, an empty ``var``, and no embeddings yet, sealed."""
    write_fixed(root)
    write_obs(root / "obs", obs, classes)


def write_fixed(root: Path) -> None:
    """Write what is the same in every store: the groups, and a ``var`` without rows."""
    _group(root, "anndata", "0.1.0")
    _group(root / "var", "dataframe", "0.2.0", {"_index": "_index", "column-order": []})
    _write_strings(root / "var", "_index", [])
    for folder in ("obsm", "uns", "uns/featurebench"):
        _group(root / folder, "dict", "0.1.0")
    seal_tree(root)


def write_obs(folder: Path, obs: pd.DataFrame, classes: Sequence[str]) -> None:
    """Write the tile table as an AnnData data frame whose index is ``tile_id``, sealed.

    Numbers and booleans keep their type, ``label`` becomes categorical in the order of
    ``classes``, everything else becomes text (missing values the empty text).

    Raises
    ------
    StoreError
        If the table lacks ``tile_id``, or a label is none of the classes.
    """
    if "tile_id" not in obs.columns:
        raise StoreError("the tile table has no column tile_id; give TileManifest.table")
    names = _column_names([str(c) for c in obs.columns if c != "tile_id"])
    columns = {"_index": "tile_id", "column-order": list(names.values())}
    _group(folder, "dataframe", "0.2.0", columns)
    _write_strings(folder, "tile_id", obs["tile_id"])
    for column, name in names.items():
        values = obs[column]
        if column == "label":
            _write_categorical(folder / name, values, classes)
        elif pd.api.types.is_bool_dtype(values.dtype) or _is_plain_number(values):
            _write_numbers(folder, name, values.to_numpy())
        else:
            _write_strings(folder, name, values)
    seal_tree(folder)


def obs_digest(obs: pd.DataFrame, classes: Sequence[str]) -> str:
    """Hash the tile table and the classes: it changes when the copy has to be written anew."""
    head = canonical_json([list(map(str, obs.columns)), list(classes)])
    digest = hashlib.sha256(head.encode())
    for start in range(0, len(obs), CHUNK_ROWS):
        rows = pd.util.hash_pandas_object(obs.iloc[start : start + CHUNK_ROWS], index=False)
        digest.update(rows.to_numpy().tobytes())
    return digest.hexdigest()


def read_strings(folder: Path) -> list[str]:
    """Read a column of texts."""
    return [str(text) for text in np.asarray(zarr.open_array(folder, mode="r")[:]).tolist()]


def write_notes(folder: Path, notes: Mapping[str, str]) -> None:
    """Write texts as an AnnData dictionary."""
    _group(folder, "dict", "0.1.0")
    for name, text in notes.items():
        array = zarr.create_array(
            folder,
            name=name,
            shape=(),
            dtype=str,
            compressors=_COMPRESSORS,
            fill_value="",
            attributes={"encoding-type": "string", "encoding-version": "0.2.0"},
            config=_CONFIG,
        )
        array[...] = text


def read_notes(folder: Path) -> dict[str, str]:
    """Read what `write_notes` wrote."""
    arrays = sorted(path.parent for path in folder.glob("*/zarr.json"))
    return {array.name: str(zarr.open_array(array, mode="r")[()]) for array in arrays}


# a chunk that is not there shall never be a chunk of fill values
_CONFIG: ArrayConfigParams = {"write_empty_chunks": True}
_COMPRESSORS = (ZstdCodec(level=1), Crc32cCodec())


def _group(folder: Path, kind: str, version: str, more: dict[str, Any] | None = None) -> None:
    attributes = {"encoding-type": kind, "encoding-version": version, **(more or {})}
    zarr.open_group(folder, mode="w", zarr_format=3, attributes=attributes)


def _write_strings(folder: Path, name: str, values: Collection[object]) -> None:
    column = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    data = np.empty(len(column), dtype=np.dtypes.StringDType())
    for start in range(0, len(column), CHUNK_ROWS):
        # Python's texts are several times as large, so there are never those of all rows at once.
        part = column.iloc[start : start + CHUNK_ROWS]
        pairs = zip(part.tolist(), part.isna().tolist(), strict=True)
        texts = ["" if absent else str(value) for value, absent in pairs]
        data[start : start + len(part)] = np.array(texts, dtype=np.dtypes.StringDType())
    _write_array(folder, name, data, "string-array", fill_value="")


def _write_numbers(folder: Path, name: str, values: npt.NDArray[Any]) -> None:
    _write_array(folder, name, values, "array", fill_value=0)


def _write_array(
    folder: Path, name: str, data: npt.NDArray[Any], kind: str, fill_value: object
) -> None:
    attributes: dict[str, JSON] = {"encoding-type": kind, "encoding-version": "0.2.0"}
    array = zarr.create_array(
        folder,
        name=name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=(max(1, min(len(data), CHUNK_ROWS)),),
        compressors=_COMPRESSORS,
        fill_value=fill_value,
        attributes=attributes,
        config=_CONFIG,
    )
    if len(data):
        array[:] = data


def _write_categorical(folder: Path, values: pd.Series[Any], classes: Sequence[str]) -> None:
    codes = pd.Categorical(values.astype(str), categories=list(classes)).codes
    if n_unknown := int((codes < 0).sum()):
        raise StoreError(f"{n_unknown} labels are none of the classes {list(classes)}")
    _group(folder, "categorical", "0.2.0", {"ordered": False})
    _write_numbers(folder, "codes", codes)
    _write_strings(folder, "categories", list(classes))


def _is_plain_number(values: pd.Series[Any]) -> bool:
    return isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf"


def _column_names(columns: Sequence[str]) -> dict[str, str]:
    """Give each column a name that may stand in a Zarr path, no two the same."""
    names: dict[str, str] = {}
    for column in columns:
        stem = re.sub(r"[^\w .()%+-]", "_", column).strip("._ ")[:60]
        tries = [stem, *(f"{stem or 'column'}_{k}" for k in range(2, len(columns) + 3))]
        taken = _RESERVED | set(names.values())
        names[column] = next(name for name in tries if name not in taken)
    return names
