"""Tiles from a CSV or Parquet table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from featurebench.tiles.checks import (
    INTEGER_COLUMNS,
    TEXT_COLUMNS,
    Problems,
    check_ids,
    check_labels,
    check_lookalikes,
    check_paths,
    check_root,
    group_slides,
    nearest,
)
from featurebench.tiles.columns import as_text, to_arrow, to_series
from featurebench.tiles.folder import NO_PATIENTS
from featurebench.tiles.readers import PARQUET_SUFFIXES, read_csv, read_parquet

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

KNOWN_COLUMNS = TEXT_COLUMNS + INTEGER_COLUMNS
REQUIRED = ("path", "label")
# Beyond this, a float that a table holds for an integer is no longer exact.
LARGEST_INTEGER = 2**53


def read_table(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str],
) -> tuple[Path, pd.DataFrame, tuple[str, ...]]:
    """Read and check the tiles that a table lists; see `TileManifest.from_table`.

    Returns
    -------
    root, table, warnings
        The resolved root, the tiles with those of a slide together, and what a reader should know.

    Raises
    ------
    ManifestError
        All problems in one message, with row numbers.
    """
    file = Path(path)
    raw = read_parquet(file) if file.suffix.lower() in PARQUET_SUFFIXES else read_csv(file)
    folder = check_root(file.parent if root is None else root, file.name)
    problems = Problems(file.name)
    table, warnings = _rename(raw, columns, problems)
    for name in REQUIRED:
        if name not in table and name not in columns:
            problems.add(_missing_column(name, list(map(str, raw))))
    del raw
    if not len(table):
        problems.add("no rows: list one tile in each row")
    table = _convert(table, problems)
    if "path" in table:
        table["path"] = check_paths(problems, table["path"], folder)
    check_ids(problems, table)
    if "label" in table:
        check_labels(problems, table)
    check_lookalikes(problems, table)
    problems.raise_all()
    if "tile_id" not in table:
        table["tile_id"] = table["path"]
    return folder, _ordered(table), (*warnings, *_warnings(table))


def _rename(
    raw: pd.DataFrame, columns: Mapping[str, str], problems: Problems
) -> tuple[pd.DataFrame, list[str]]:
    """Give columns our names; a column of the file whose name is taken over steps aside."""
    present = {str(name) for name in raw}
    usable: dict[str, str] = {}
    for ours, theirs in columns.items():
        if ours not in KNOWN_COLUMNS:
            problems.add(
                f"columns: {ours!r} is not a column of ours{nearest(ours, KNOWN_COLUMNS)}: map "
                f"only {', '.join(KNOWN_COLUMNS)}; other columns are kept as they are"
            )
        elif theirs not in present:
            problems.add(
                f"columns maps {ours} to {theirs!r}, which the table does not have"
                f"{nearest(theirs, present)}: it has {', '.join(map(str, raw))}"
            )
        else:
            usable[ours] = theirs
    replaced = [ours for ours, theirs in usable.items() if ours in present and ours != theirs]
    moved = [theirs for ours, theirs in usable.items() if ours != theirs]
    kept = raw.drop(columns=[*replaced, *(name for name in moved if name not in usable)])
    table = kept.assign(**{ours: raw[theirs] for ours, theirs in usable.items()})
    shadowed = [name for name in replaced if name not in usable.values()]
    return table, [
        f"the table's own column {name!r} is not used: columns maps {name} to {usable[name]!r}"
        for name in shadowed
    ]


def _missing_column(name: str, present: list[str]) -> str:
    if len(present) == 1 and any(mark in present[0] for mark in ";\t"):
        return f"no column {name}, and cells are not separated by commas: save it with commas"
    hint = nearest(name, present)
    return (
        f"no column {name}{hint}: rename one, or map it as columns: {{{name}: NAME}}; the table "
        f"has {', '.join(present)}"
    )


def _convert(table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Make our columns text or integers, and further ones plain numpy numbers or text."""
    converted: dict[str, pd.Series[Any]] = {}
    index = table.index
    for name in list(map(str, table)):
        # Taken out, so that what was read of it is not kept beside what it becomes.
        column = table.pop(name)
        if name in INTEGER_COLUMNS:
            converted[name] = _integers(column, problems)
        elif name in TEXT_COLUMNS:
            converted[name] = _stripped(column)
        else:
            converted[name] = _plain(column)
    return pd.DataFrame(converted, index=index)


def _plain(column: pd.Series[Any]) -> pd.Series[Any]:
    if pd.api.types.is_numeric_dtype(column.dtype) and not column.isna().any():
        return column.astype(getattr(column.dtype, "numpy_dtype", column.dtype))
    return to_series(to_arrow(column), column.index)


def _stripped(column: pd.Series[Any]) -> pd.Series[str]:
    return to_series(pc.utf8_trim_whitespace(to_arrow(column)), column.index)


def _integers(column: pd.Series[Any], problems: Problems) -> pd.Series[Any]:
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = column.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    else:
        codes, found = pd.factorize(as_text(column))
        values = pd.to_numeric(pd.Series(found, dtype=object), errors="coerce")
        numbers = values.to_numpy(dtype=float)[codes]
    whole = np.isfinite(numbers) & (numbers == np.round(numbers))
    whole &= np.abs(numbers) <= LARGEST_INTEGER
    problems.add_rows(
        column.index[~whole], f"{column.name} is not an integer", "write whole numbers"
    )
    integers: npt.NDArray[np.int64] = np.where(whole, numbers, 0.0).astype(np.int64)
    return pd.Series(integers, column.index)


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Known columns first, further ones in the file's order; tiles of a slide together."""
    known = [name for name in KNOWN_COLUMNS if name in table]
    return group_slides(table[known + [name for name in table if name not in known]])


def _warnings(table: pd.DataFrame) -> list[str]:
    told = [] if "patient_id" in table else [NO_PATIENTS]
    empty = {name: int((table[name] == "").sum()) for name in ("slide_id", "site") if name in table}
    told += [f"{name} is empty for {count} tiles" for name, count in empty.items() if count]
    n_shared = _shared_slides(table)
    if n_shared:
        told.append(
            f"{n_shared} slide_id occur with several patients and count as one slide each: where "
            "slide_id only numbers the slides of a patient, write the patient into it"
        )
    return told


def _shared_slides(table: pd.DataFrame) -> int:
    """Count the slides that have tiles of several patients."""
    if not {"patient_id", "slide_id"} <= set(table):
        return 0
    pairs = table.loc[table["slide_id"] != "", ["slide_id", "patient_id"]].drop_duplicates()
    return int(pairs.loc[pairs["slide_id"].duplicated(), "slide_id"].nunique())
