"""Assembly: one row per tile out of many files, looked through once before anything is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.errors import ExtractionError
from featurebench.extraction.badtiles import NOT_FINITE
from featurebench.store import storable_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from featurebench.extraction.foreign.sources import (
        Located,
        Positions,
        Rows,
        Source,
        SourceFile,
    )

NOT_FOUND = "not in the imported files"
CLASH = "has several different embeddings in the imported files"
SCAN_ROWS = 4096
# half precision rounds a value by at most 2**-11 of it, unless it is too small or too large
LARGEST_LOSS = 1e-3
SHOWN_VALUES = 8
# attributes that name the network
_NETWORK = ("encoder", "extractor", "model")


@dataclass(frozen=True)
class Assembly:
    """Which embedding each tile gets.

    Parameters
    ----------
    format
        Of all sources.
    sources
        In the order of their names.
    source_of, position_of
        For each row of the manifest, the source's index (-1: none) and the position in it.
    absent
        Rows without an embedding, and why, by row.
    dtype
        In which all embeddings can be stored.
    n_unmatched
        Embeddings of no tile.
    """

    format: str
    sources: tuple[Source, ...]
    source_of: npt.NDArray[np.int32]
    position_of: Positions
    absent: tuple[tuple[int, str], ...]
    dtype: str
    n_unmatched: int

    @property
    def dim(self) -> int:
        """Columns."""
        return self.sources[0].dim

    @cached_property
    def files(self) -> tuple[SourceFile, ...]:
        """Names and hashes of the sources."""
        return tuple(source.file for source in self.sources)

    @property
    def content_sha256(self) -> str:
        """Hash of all sources' hashes, in ascending order."""
        hashes = "\n".join(sorted(file.sha256 for file in self.files))
        return hashlib.sha256(hashes.encode()).hexdigest()

    @property
    def match_sha256(self) -> str:
        """Hash of which tile gets which embedding."""
        pairs = np.column_stack([self.source_of, self.position_of]).astype("<i8")
        return hashlib.sha256(pairs.tobytes()).hexdigest()

    @property
    def attributes(self) -> dict[str, list[str | float]]:
        """What the sources say about themselves: for each attribute, its first few values."""
        return {
            key: values[:SHOWN_VALUES] for key, values in _collect_attributes(self.sources).items()
        }

    def read(self, rows: range) -> Rows:
        """Read the embeddings of consecutive rows, shape (len(rows), dim); NaN where absent."""
        out: Rows = np.full((len(rows), self.dim), np.nan, dtype=np.float32)
        chosen = self.source_of[rows.start : rows.stop]
        for index in np.unique(chosen[chosen >= 0]).tolist():
            at = np.flatnonzero(chosen == index)
            out[at] = self.sources[index].read(self.position_of[rows.start + at])
        return out


def assemble(located: Iterable[Located], n_tiles: int) -> Assembly:
    """Give each tile its embedding, and look through all of them.

    Raises
    ------
    ExtractionError
        If the sources have different widths, name different networks or share a tile, or nothing
        fits a tile.
    """
    found = sorted(
        (entry for entry in located if len(entry.rows)),
        key=lambda entry: (entry.source.file.name, entry.source.file.sha256),
    )
    _check_alike(found)
    source_of: npt.NDArray[np.int32] = np.full(n_tiles, -1, dtype=np.int32)
    position_of: Positions = np.full(n_tiles, -1, dtype=np.intp)
    absent: dict[int, str] = {}
    fits = True
    for index, entry in enumerate(found):
        rows, positions, clashes = _one_each(entry)
        _check_free(found, source_of, rows, entry)
        source_of[rows], position_of[rows] = index, positions
        absent |= dict.fromkeys(clashes, CLASH)
        for chunk, embeddings in _scan(entry.source, rows, positions):
            finite = storable_rows(embeddings, "float32")
            absent |= dict.fromkeys(chunk[~finite].tolist(), NOT_FINITE)
            fits &= _fits_half(embeddings[finite])
    absent |= dict.fromkeys(
        (row for row in np.flatnonzero(source_of < 0).tolist() if row not in absent), NOT_FOUND
    )
    refused = np.array(sorted(absent), dtype=np.intp)
    source_of[refused] = position_of[refused] = -1
    return Assembly(
        found[0].format,
        tuple(entry.source for entry in found),
        source_of,
        position_of,
        tuple(sorted(absent.items())),
        "float16" if fits else "float32",
        sum(entry.n_embeddings - len(np.unique(entry.positions)) for entry in found),
    )


def _check_alike(found: Sequence[Located]) -> None:
    if not found:
        raise ExtractionError(
            "none of the embeddings in these files is of a tile of the manifest; HDF5 files are "
            "matched by their name (slide_id), x and y, others by tile_id or path: check these"
        )
    for what, values in (
        ("are of the formats", {entry.format for entry in found}),
        ("have widths", {entry.source.dim for entry in found}),
    ):
        if len(values) > 1:
            raise ExtractionError(
                f"these files {what} {', '.join(map(str, sorted(values)))}; import embeddings of "
                "one network and one program at a time"
            )
    attributes = _collect_attributes([entry.source for entry in found])
    for key in _NETWORK:
        if len(names := attributes.get(key, [])) > 1:
            raise ExtractionError(
                f"these files name different networks ({key}: {names[0]}, {names[1]}); import "
                "embeddings of one network at a time"
            )


def _one_each(entry: Located) -> tuple[Positions, Positions, list[int]]:
    """Keep one position per row; rows whose embeddings differ are named and left out."""
    order = np.argsort(entry.rows, kind="stable")
    rows, positions = entry.rows[order], entry.positions[order]
    first = np.concatenate(([True], rows[1:] != rows[:-1]))
    original = np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
    again = np.flatnonzero(~first)
    clashes: set[int] = set()
    for start in range(0, len(again), SCAN_ROWS):
        part = again[start : start + SCAN_ROWS]
        pairs = entry.source.read(positions[np.concatenate((original[part], part))])
        ours, theirs = np.split(pairs, 2)
        same = ((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))).all(axis=1)
        clashes.update(rows[part[~same]].tolist())
    kept = first & ~np.isin(rows, list(clashes))
    return rows[kept], positions[kept], sorted(clashes)


def _check_free(
    found: Sequence[Located], source_of: npt.NDArray[np.int32], rows: Positions, entry: Located
) -> None:
    taken = source_of[rows]
    if (taken >= 0).any():
        other = found[int(taken[taken >= 0][0])].source.file.name
        raise ExtractionError(
            f"{int((taken >= 0).sum())} tiles have an embedding in both {other} and "
            f"{entry.source.file.name}; give one of them"
        )


def _scan(
    source: Source, rows: Positions, positions: Positions
) -> Iterator[tuple[Positions, Rows]]:
    """Read all embeddings that are used, in the order of the file."""
    order = np.argsort(positions)
    for start in range(0, len(order), SCAN_ROWS):
        part = order[start : start + SCAN_ROWS]
        yield rows[part], source.read(positions[part])


def _fits_half(rows: Rows) -> bool:
    """Tell whether half precision holds these rows to within its rounding."""
    if not storable_rows(rows, "float16").all():
        return False
    loss = np.linalg.norm(rows - rows.astype(np.float16).astype(np.float32), axis=1)
    return bool((loss <= LARGEST_LOSS * np.linalg.norm(rows, axis=1)).all())


def _collect_attributes(sources: Sequence[Source]) -> dict[str, list[str | float]]:
    values: dict[str, dict[str | float, None]] = {}
    for source in sources:
        for key, value in source.attributes.items():
            values.setdefault(key, {})[value] = None
    return {key: list(found) for key, found in values.items()}
