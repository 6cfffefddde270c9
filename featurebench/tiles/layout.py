"""What a folder of somebody's tiles looks like: manifest, column names, patients in file names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from featurebench.errors import ManifestError
from featurebench.tiles.readers import PARQUET_SUFFIXES, read_header
from featurebench.tiles.table import KNOWN_COLUMNS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    import pandas as pd

FEWEST_PATIENTS = 5
# Headings as they are met in practice, the likeliest first; compared in lower case with "_".
SYNONYMS = {
    "path": ("path", "file", "filename", "image_path", "filepath", "file_path", "file_name"),
    "label": ("label", "class", "target"),
    "patient_id": ("patient_id", "patient", "case", "case_id", "subject", "subject_id"),
    "slide_id": ("slide_id", "slide", "image", "image_id", "wsi"),
    "site": ("site", "center", "centre", "hospital", "institution"),
}
_ENDING = r"(_?(id|no|nr|number|name|code|key|barcode|uid))?"
# Columns that tell who or what a tile is of, whatever else they are called.
_UNUSED = {
    "patient_id": re.compile(rf"(patient|case|subject|participant|donor){_ENDING}"),
    "slide_id": re.compile(rf"(slide|wsi){_ENDING}"),
}
PATIENT_PATTERNS = (
    # A TCGA barcode up to its participant field: project, tissue source site, participant.
    r"(?P<patient>TCGA-[0-9A-Za-z]{2}-[0-9A-Za-z]{4})",
    r"(?:^|/)(?P<patient>[A-Za-z]*[0-9]+)[_-][^/]*$",
    r"(?:^|/)(?P<patient>[A-Za-z]+[_-][0-9]+)[_-][^/]*$",
    r"^[^/]+/(?P<patient>[^/]+)/",
)


def guess_columns(path: str | os.PathLike[str]) -> dict[str, str]:
    """Guess which columns of a table stand for ours.

    Parameters
    ----------
    path
        A CSV or Parquet table; only its header is read.

    Returns
    -------
    dict
        From our name to the table's, for those of our names that the table does not use itself;
        ready to be given as ``columns``.

    Raises
    ------
    ManifestError
        The table cannot be read.
    """
    header = read_header(Path(path))
    free = {_normal(name): name for name in reversed(header) if name not in KNOWN_COLUMNS}
    guessed: dict[str, str] = {}
    for ours, synonyms in SYNONYMS.items():
        theirs = next((free[name] for name in synonyms if name in free), None)
        if ours not in header and theirs is not None:
            guessed[ours] = theirs
            del free[_normal(theirs)]
    return guessed


def unused_ids(table: pd.DataFrame) -> tuple[str, ...]:
    """Say which columns look like ids of patients or slides that the table does not have.

    Parameters
    ----------
    table
        As in `TileManifest`.

    Returns
    -------
    tuple of str
        One sentence for ``patient_id`` and one for ``slide_id``, where such a column is unused.

    Examples
    --------
    >>> import pandas as pd
    >>> unused_ids(pd.DataFrame({"path": ["a.png"], "case": ["7"], "slide_id": ["s"]}))[0][:54]
    'Column case looks like patient_id and is not mapped to'
    """
    found = []
    for ours, pattern in _UNUSED.items():
        like = [name for name in map(str, table) if pattern.fullmatch(_normal(name))]
        if like and ours not in table:
            found.append(
                f"Column {like[0]} looks like {ours} and is not mapped to it, so no {ours} is "
                f"known: map it as columns: {{{ours}: {like[0]}}}."
            )
    return tuple(found)


def find_manifest(directory: str | os.PathLike[str]) -> Path | None:
    """Find the table of tiles in a folder: a CSV or Parquet file with paths and labels.

    Returns
    -------
    pathlib.Path or None
        The first by name, those called tiles or manifest before others; None where there is none.
    """
    suffixes = (".csv", *PARQUET_SUFFIXES)
    files = [
        file
        for file in sorted(Path(directory).iterdir())
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith(".")
    ]
    files.sort(key=lambda file: file.stem.lower() not in ("tiles", "manifest"))
    return next((file for file in files if _lists_tiles(file)), None)


def suggest_patient_regex(relative_paths: Iterable[str]) -> str | None:
    """Suggest an expression that finds the patient in each path, where there is a clear pattern.

    Parameters
    ----------
    relative_paths
        POSIX paths relative to the folder of classes, as in ``TileManifest.table["path"]``.

    Returns
    -------
    str or None
        An expression for `TileManifest.from_folder` that matches every path and finds at least
        five patients, fewer than there are paths. It is a guess: the user must confirm it.
    """
    paths = list(relative_paths)
    for pattern in PATIENT_PATTERNS:
        matches = [re.search(pattern, path) for path in paths]
        patients = {match["patient"] for match in matches if match}
        if all(matches) and FEWEST_PATIENTS <= len(patients) < len(paths):
            return pattern
    return None


def _normal(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _lists_tiles(file: Path) -> bool:
    try:
        named = {*read_header(file), *guess_columns(file)}
    except ManifestError:
        return False
    return {"path", "label"} <= named
