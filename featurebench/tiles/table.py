"""Tiles from a CSV or Parquet table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from featurebench.errors import ManifestError
from featurebench.tiles.checks import (
    INTEGER_COLUMNS,
    TEXT_COLUMNS,
    Problems,
    check_ids,
    check_labels,
    check_paths,
    check_root,
    group_slides,
    nearest,
)
from featurebench.tiles.folder import NO_PATIENTS

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

KNOWN_COLUMNS = TEXT_COLUMNS + INTEGER_COLUMNS
REQUIRED = ("path", "label")
PARQUET_SUFFIXES = (".parquet", ".pq")
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
            problems.add(_missing_column(name, raw))
    if table.empty:
        problems.add("no rows: list one tile in each row")
    table = _convert(table, problems)
    if "path" in table:
        table["path"] = check_paths(problems, table["path"], folder)
    check_ids(problems, table)
    if "label" in table:
        check_labels(problems, table)
    problems.raise_all()
    if "tile_id" not in table:
        table["tile_id"] = table["path"]
    return folder, _ordered(table), (*warnings, *_warnings(table))


def read_header(file: Path) -> list[str]:
    """Read a table's column names only.

    Raises
    ------
    ManifestError
        The file is missing, empty or neither CSV in UTF-8 nor Parquet.
    """
    try:
        if file.suffix.lower() in PARQUET_SUFFIXES:
            return [str(name) for name in pq.read_schema(file).names]
        first = pd.read_csv(
            file, header=None, nrows=1, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ManifestError(_unreadable(file, error)) from None
    return [str(name).strip() for name in first.iloc[0]]


def read_csv(file: Path) -> pd.DataFrame:
    """Read a CSV file as text, cell by cell; the index holds line numbers, the header being 1.

    Raises
    ------
    ManifestError
        The file is missing, empty, not UTF-8, ragged or has the same heading twice.
    """
    try:
        # The header is read as a row, or pandas would rename repeated headings silently and take
        # the first column for an index where rows are longer than the header.
        cells = pd.read_csv(
            file,
            header=None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        ).fillna("")
    except (OSError, ValueError) as error:
        raise ManifestError(_unreadable(file, error)) from None
    cells.index = _line_numbers(cells)
    cells = cells[(cells != "").any(axis=1)]
    if cells.empty:
        raise ManifestError(f"{file.name}: the file is empty: it needs a header and rows")
    heading = [str(name).strip() for name in cells.iloc[0]]
    repeated = sorted({name for name in heading if heading.count(name) > 1})
    if repeated:
        raise ManifestError(f"{file.name}: column {repeated[0]!r} occurs twice: rename one of them")
    table = cells.iloc[1:].set_axis(heading, axis=1)
    # Rows that all end in a comma give a column without heading.
    return table if "" not in heading or (table[""] != "").any() else table.drop(columns="")


def read_parquet(file: Path) -> pd.DataFrame:
    """Read a Parquet file; the index holds data rows counted from 1.

    Raises
    ------
    ManifestError
        The file is missing or not Parquet.
    """
    try:
        # Nullable types, or a column of integers with a gap would come as floats.
        table = pd.read_parquet(file, dtype_backend="numpy_nullable")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ManifestError(_unreadable(file, error)) from None
    table = table.reset_index(drop=True).set_axis([str(name) for name in table], axis=1)
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table


def _unreadable(file: Path, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"{file.name}: not UTF-8 at byte {error.start}: save the table as UTF-8"
    if isinstance(error, pd.errors.EmptyDataError):
        return f"{file.name}: the file is empty: it needs a header and rows"
    reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
    return f"{file.name}: cannot be read ({reason}): name a CSV (UTF-8) or Parquet table"


def _line_numbers(cells: pd.DataFrame) -> pd.Index[int]:
    """Line of each record in an editor: quoted cells may run over several lines."""
    breaks = np.zeros(len(cells), dtype=np.int64)
    for name in cells:
        breaks += cells[name].str.count("\n").to_numpy(dtype=np.int64)
    starts = 1 + np.arange(len(cells)) + np.concatenate(([0], np.cumsum(breaks)[:-1]))
    return pd.Index(starts)


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


def _missing_column(name: str, raw: pd.DataFrame) -> str:
    present = [str(column) for column in raw]
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
    for name in map(str, table):
        column = table[name]
        if name in INTEGER_COLUMNS:
            converted[name] = _integers(column, problems)
        elif name in TEXT_COLUMNS:
            converted[name] = _text(column).str.strip()
        else:
            converted[name] = _plain(column)
    return pd.DataFrame(converted, index=table.index)


def _text(column: pd.Series[str]) -> pd.Series[str]:
    return column.astype("string").fillna("").astype(object)


def _plain(column: pd.Series[str]) -> pd.Series[str]:
    if pd.api.types.is_numeric_dtype(column.dtype) and not column.isna().any():
        return column.astype(getattr(column.dtype, "numpy_dtype", column.dtype))
    return _text(column)


def _integers(column: pd.Series[str], problems: Problems) -> pd.Series[int]:
    numbers = pd.to_numeric(column, errors="coerce").astype("Float64").astype(float)
    whole = np.isfinite(numbers) & (numbers == numbers.round())
    whole &= numbers.abs() <= LARGEST_INTEGER
    problems.add_rows(
        column.index[~whole], f"{column.name} is not an integer", "write whole numbers"
    )
    return numbers.where(whole, 0.0).astype(np.int64)


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Known columns first, further ones in the file's order; tiles of a slide together."""
    known = [name for name in KNOWN_COLUMNS if name in table]
    return group_slides(table[known + [name for name in table if name not in known]])


def _warnings(table: pd.DataFrame) -> list[str]:
    told = [] if "patient_id" in table else [NO_PATIENTS]
    empty = {name: int((table[name] == "").sum()) for name in ("slide_id", "site") if name in table}
    return told + [f"{name} is empty for {count} tiles" for name, count in empty.items() if count]
