"""Columns of text, kept by Arrow: bytes side by side instead of one Python object for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

# Missing values are NaN and comparisons give plain booleans, as with columns of Python strings.
TEXT: Final = pd.StringDtype("pyarrow", na_value=np.nan)
# What has to become Python objects does so for so many rows at a time.
SLICE_ROWS: Final = 65_536


def as_text(column: pd.Series[Any]) -> pd.Series[str]:
    """Write every value as text; missing ones become the empty text."""
    if column.dtype == TEXT:
        return column.fillna("") if column.hasnans else column
    parts = [
        column.iloc[part].astype("string").fillna("").astype(TEXT) for part in slices(len(column))
    ]
    return pd.concat(parts)


def to_arrow(column: pd.Series[Any]) -> pa.LargeStringArray:
    """Give a column of text as one Arrow array, without a copy where it is one already."""
    text = pa.array(as_text(column))
    return text if isinstance(text, pa.Array) else combine(text)


def to_series(text: pa.Array | pa.ChunkedArray, index: pd.Index[Any]) -> pd.Series[str]:
    """Make a pandas column of Arrow's text, without a copy."""
    frame = pa.table({"text": text}).to_pandas(types_mapper={pa.large_string(): TEXT}.get)
    column: pd.Series[str] = frame["text"].set_axis(index)
    return column


def combine(text: pa.ChunkedArray) -> pa.LargeStringArray:
    """Join the chunks of a column to one array; a single chunk stays as it is."""
    return text.chunk(0) if text.num_chunks == 1 else text.combine_chunks()


def slices(n_rows: int) -> Iterator[slice]:
    """Cut rows into slices of `SLICE_ROWS`; without rows there is one slice, an empty one."""
    for start in range(0, max(n_rows, 1), SLICE_ROWS):
        yield slice(start, min(start + SLICE_ROWS, n_rows))
