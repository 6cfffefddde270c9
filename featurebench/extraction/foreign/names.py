"""Names: tables that say by tile id or path which tile an embedding is of."""

from __future__ import annotations

import csv
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from featurebench.errors import ExtractionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from featurebench.extraction.foreign.sources import Positions
    from featurebench.tiles import TileManifest

# how a cell begins that a spreadsheet would compute; exports put an apostrophe before it
_ESCAPED = ("'=", "'+", "'-", "'@", "''", "'\t", "'\r")


def read_columns(path: Path, wanted: Sequence[str]) -> dict[str, list[str]]:
    """Read those of the wanted columns that a CSV file in UTF-8 has, as text.

    Raises
    ------
    ExtractionError
        If it cannot be read, has none of them, or a line has another length than the heading.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            heading = [name.strip() for name in next(lines, [])]
            present = [name for name in wanted if name in heading]
            if not present:
                raise ExtractionError(
                    f"{path.name} has no column {' or '.join(wanted)}; give the table that was "
                    "written with the embeddings"
                )
            return _cells(lines, heading, present, path.name)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExtractionError(
            f"{path.name} cannot be read as CSV in UTF-8 ({error}); save it anew"
        ) from error


def match_ids(texts: Sequence[str], ids: Sequence[str]) -> Positions:
    """Find each text among the rows' ids; -1 where no id, or more than one, is equal.

    An apostrophe that keeps a spreadsheet from computing a cell is taken off.
    """
    rows = _unique(ids)
    plain = (text[1:] if text.startswith(_ESCAPED) else text for text in texts)
    return np.array([rows.get(text, -1) for text in plain], dtype=np.intp)


def match_origins(origins: Sequence[str], manifest: TileManifest) -> Positions:
    """Find the tile that each origin is: by path, else by tile id, whole, last part or its stem.

    Returns
    -------
    ndarray of int, shape (len(origins),)
        Rows; -1 where there is none, or where parts of the origin point to different tiles.
    """
    paths = _unique(manifest.table["path"])
    ids = _unique(manifest.table["tile_id"])
    named = ((PurePosixPath(origin.replace("\\", "/")), origin) for origin in origins)
    rows = [_find(path, origin, paths, ids) for path, origin in named]
    return np.array(rows, dtype=np.intp)


def _find(path: PurePosixPath, origin: str, paths: dict[str, int], ids: dict[str, int]) -> int:
    for known, text in ((paths, str(path)), (ids, origin)):
        if (row := known.get(text, -1)) >= 0:
            return row
    found = {ids[part] for part in (path.name, path.stem) if part in ids}
    return found.pop() if len(found) == 1 else -1


def _unique(names: Iterable[str]) -> dict[str, int]:
    rows: dict[str, int] = {}
    repeated = set()
    for row, name in enumerate(map(str, names)):
        if name in rows:
            repeated.add(name)
        rows[name] = row
    return {name: row for name, row in rows.items() if name not in repeated}


def _cells(
    lines: Iterable[list[str]], heading: Sequence[str], present: Sequence[str], label: str
) -> dict[str, list[str]]:
    places = {name: heading.index(name) for name in present}
    cells: dict[str, list[str]] = {name: [] for name in present}
    for number, line in enumerate(lines, 2):
        if line and len(line) != len(heading):
            raise ExtractionError(
                f"record {number} of {label} has {len(line)} cells, its heading {len(heading)}; "
                "mend that line"
            )
        for name, place in places.items() if line else ():
            cells[name].append(line[place])
    return cells
