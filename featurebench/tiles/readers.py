"""What CSV and Parquet tables hold: text and numbers by column, and the number of each row."""

from __future__ import annotations

import codecs
import csv
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from featurebench.errors import ManifestError
from featurebench.tiles.columns import SLICE_ROWS, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARQUET_SUFFIXES = (".parquet", ".pq")
_BLOCK_BYTES: Final = 2**23
# Nullable types, or a column of integers with a gap would come as floats.
_DTYPES: Final = {
    pa.large_string(): TEXT,
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.float32(): pd.Float32Dtype(),
    pa.float64(): pd.Float64Dtype(),
}


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
        heading = next((cells for _, cells in _records(file)), [])
    except ManifestError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ManifestError(_unreadable(file, error)) from None
    if not heading:
        raise ManifestError(_no_rows(file))
    return [name.strip() for name in heading]


def read_csv(file: Path) -> pd.DataFrame:
    """Read a CSV file as text, cell by cell; the index holds line numbers, the header being 1.

    Rows without any content are left out, and rows that end early get empty cells.

    Raises
    ------
    ManifestError
        The file is missing, empty, not UTF-8, ragged or has the same heading twice.
    """
    try:
        cells, lines = _read_plain(file) or _read_records(file)
    except ManifestError:
        raise
    except (OSError, ValueError) as error:
        raise ManifestError(_unreadable(file, error)) from None
    if not len(cells):
        raise ManifestError(_no_rows(file))
    heading = [column[0].as_py().strip() for column in cells.columns]
    repeated = sorted({name for name in heading if heading.count(name) > 1})
    if repeated:
        raise ManifestError(f"{file.name}: column {repeated[0]!r} occurs twice: rename one of them")
    table = cells.rename_columns(heading).slice(1)
    # Rows that all end in a comma give a column without heading.
    if "" in heading and not pc.any(pc.not_equal(table[""], "")).as_py():
        table = table.drop_columns("")
    frame: pd.DataFrame = table.to_pandas(types_mapper=_DTYPES.get)
    return frame.set_axis(lines[1:], axis=0)


def read_parquet(file: Path) -> pd.DataFrame:
    """Read a Parquet file; the index holds data rows counted from 1.

    Raises
    ------
    ManifestError
        The file is missing or not Parquet, or its text is not UTF-8.
    """
    try:
        table = pq.read_table(file)
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ManifestError(_unreadable(file, error)) from None
    kept = pa.table({str(name): _widened(table[name]) for name in _own_columns(table)})
    frame: pd.DataFrame = kept.to_pandas(types_mapper=_DTYPES.get)
    return frame.set_axis(pd.RangeIndex(1, len(table) + 1), axis=0)


def _own_columns(table: pa.Table) -> list[str]:
    """Names of a table's columns without those that hold the index of a data frame."""
    index = (table.schema.pandas_metadata or {}).get("index_columns", [])
    return [name for name in table.column_names if name not in index]


def _widened(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give text, also a dictionary's, the one type for text that holds more than 2 GB."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return column.cast(pa.large_string()) if any(holds(kind) for holds in texts) else column


def _read_plain(file: Path) -> tuple[pa.Table, pd.Index[Any]] | None:
    """Read a file that has no quotes and equally long rows, which most have, with Arrow.

    Returns
    -------
    cells, lines
        All filled rows, the heading among them, and the line each stands on; None where the file
        is of another kind or has faults: `_read_records` knows the line.
    """
    width = _plain_width(file) if file.is_file() else 0
    if not width:
        return None
    names = [str(number) for number in range(width)]
    texts = dict.fromkeys(names, pa.large_string())
    try:
        with arrow_csv.open_csv(
            file,
            arrow_csv.ReadOptions(column_names=names, block_size=_BLOCK_BYTES, use_threads=False),
            arrow_csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(column_types=texts),
        ) as reader:
            cells = reader.read_all()
    except pa.ArrowInvalid:
        return None
    filled = pc.not_equal(cells[0], "")
    if pc.all(filled).as_py():
        return cells, pd.RangeIndex(1, len(cells) + 1)
    for column in cells.columns[1:]:
        filled = pc.or_(filled, pc.not_equal(column, ""))
    lines: npt.NDArray[np.int64] = np.flatnonzero(filled) + 1
    return cells.filter(filled), pd.Index(lines)


def _plain_width(file: Path) -> int:
    """Count the cells of the first line; 0 where quotes or lone carriage returns make it unsafe."""
    with file.open("rb") as raw:
        width = raw.readline().count(b",") + 1
        raw.seek(0)
        while block := raw.read(_BLOCK_BYTES):
            if block.endswith(b"\r"):
                block += raw.read(1)
            lone = b"\r" in block and block.count(b"\r") != block.count(b"\r\n")
            if lone or b'"' in block:
                return 0
    return width


def _read_records(file: Path) -> tuple[pa.Table, pd.Index[Any]]:
    """Read any file record by record, in the form of `_read_plain`."""
    records = _records(file)
    lines: list[npt.NDArray[np.int64]] = []
    batches: list[pa.RecordBatch] = []
    width = 0
    while batch := list(islice(records, SLICE_ROWS)):
        width = width or len(batch[0][1])
        lines.append(np.array([line for line, _ in batch], dtype=np.int64))
        rows = [_fitted(file, line, cells, width) for line, cells in batch]
        columns = [pa.array(column, pa.large_string()) for column in zip(*rows, strict=True)]
        batches.append(pa.record_batch(columns, names=[str(number) for number in range(width)]))
    if not batches:
        return pa.table({}), pd.RangeIndex(0)
    return pa.Table.from_batches(batches), pd.Index(np.concatenate(lines))


def _records(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each filled record starts, as an editor counts, and its cells."""
    ended = False

    def lines() -> Iterator[str]:
        nonlocal ended
        yield from text
        ended = True

    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(lines())
        start = 1
        try:
            for cells in reader:
                if ended:
                    raise ManifestError(_unclosed(file, start))
                if any(cells):
                    yield start, cells
                start = reader.line_num + 1
        except csv.Error:
            raise ManifestError(_unclosed(file, start)) from None


def _fitted(file: Path, line: int, cells: list[str], width: int) -> list[str]:
    if len(cells) > width:
        raise ManifestError(
            f"{file.name}: row {line} has {len(cells)} cells and the header {width}: put cells "
            "that hold commas in quotation marks"
        )
    return cells if len(cells) == width else cells + [""] * (width - len(cells))


def _no_rows(file: Path) -> str:
    return f"{file.name}: the file is empty: it needs a header and rows"


def _unclosed(file: Path, line: int) -> str:
    return (
        f"{file.name}: a cell in row {line} does not end (its quotation mark is not closed, or it "
        f"has more than {csv.field_size_limit()} characters): mend that row"
    )


def _unreadable(file: Path, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        byte, line = _find_foreign_byte(file)
        return f"{file.name}: not UTF-8 at byte {byte} in row {line}: save the table as UTF-8"
    reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
    return f"{file.name}: cannot be read ({reason}): name a CSV (UTF-8) or Parquet table"


def _find_foreign_byte(file: Path) -> tuple[int, int]:
    """Find the first byte, counted from 0, that is not UTF-8, and its line, counted from 1."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    read, line = 0, 1
    with file.open("rb") as raw:
        while True:
            block = raw.read(_BLOCK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                before = error.object[: error.start].count(b"\n")
                return read - pending + error.start, line + before
            read += len(block)
            if not block:
                return read, line
