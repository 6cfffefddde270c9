"""Checks at the door: problems are collected, and told together in one ManifestError."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from featurebench.errors import ManifestError
from featurebench.tiles.columns import TEXT, slices, to_arrow, to_series
from featurebench.tiles.files import locate_files, relative_paths

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

TEXT_COLUMNS = ("tile_id", "path", "label", "patient_id", "slide_id", "site")
INTEGER_COLUMNS = ("x", "y", "level")
SHOWN_ROWS = 5
CONTROL = r"[\x00-\x1f\x7f]"
# Lone surrogates are how Python spells file names that are not UTF-8.
UNPRINTABLE = re.compile(CONTROL[:-1] + r"\ud800-\udfff]")
# Cyrillic and Greek letters that are drawn like Latin ones.
_LATIN: Final = str.maketrans(
    "АВЕЅІЈКМНОРСТХУаеѕіјорсхуΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABESIJKMHOPCTXYaesijopcxyABEZHIKMNOPTYXo"
)


@dataclass
class Problems:
    """What is wrong with one source of tiles, collected before anything is refused.

    Parameters
    ----------
    source
        Name of the table or folder, as the message shall call it.
    """

    source: str
    found: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        """Note a problem, told with its remedy."""
        self.found.append(problem)

    def add_rows(self, rows: Sequence[int] | pd.Index[int], what: str, remedy: str) -> None:
        """Note a problem of some rows; nothing is noted where there are none."""
        listed = list_rows(rows)
        if listed:
            self.add(f"{what} in {listed}: {remedy}")

    def raise_all(self) -> None:
        """Raise one ManifestError with every problem, where there is any.

        Raises
        ------
        ManifestError
            One line for a single problem; otherwise a heading and a line for each.
        """
        if len(self.found) == 1:
            raise ManifestError(f"{self.source}: {self.found[0]}")
        if self.found:
            lines = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(self.found, 1))
            raise ManifestError(f"{self.source} has {len(self.found)} problems:{lines}")


def list_rows(rows: Sequence[int] | pd.Index[int]) -> str:
    """Write row numbers as ``rows 3, 7, 9, 12, 15 and 4 more``; empty where there are none."""
    numbers = [str(int(row)) for row in rows[:SHOWN_ROWS]]
    if len(rows) <= 1:
        return "".join(f"row {number}" for number in numbers)
    more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return "rows " + ", ".join(numbers) + more


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names was meant, as `` (did you mean 'label'?)``, or nothing."""
    spelled = {candidate.casefold(): candidate for candidate in known}
    match = get_close_matches(name.casefold(), spelled, n=1, cutoff=0.6)
    return f" (did you mean {spelled[match[0]]!r}?)" if match else ""


def check_root(root: str | os.PathLike[str], source: str) -> Path:
    """Resolve the folder that all tile paths must stay under.

    Raises
    ------
    ManifestError
        The folder does not exist.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ManifestError(
            f"{source}: the data root {str(root)!r} is not a folder: name an existing one"
        )
    return folder.resolve()


def check_paths(problems: Problems, paths: pd.Series[str], root: Path) -> pd.Series[str]:
    """Check that every path is a file under the root.

    Parameters
    ----------
    problems
        Collects what is wrong.
    paths
        Paths as the user wrote them; the index holds the row numbers that messages show.
    root
        The resolved data root.

    Returns
    -------
    pandas.Series
        POSIX paths relative to the root, in place where a path is refused.
    """
    empty = np.asarray(paths == "")
    control = has_control_characters(paths)
    problems.add_rows(paths.index[empty], "path is empty", "name the tile's file")
    relative = relative_paths(to_arrow(paths), ~(empty | control), root)
    missing, leaving = locate_files(relative, root)
    outside = np.asarray(relative.is_null()) & ~(empty | control)
    outside[leaving] = True
    problems.add_rows(
        paths.index[outside],
        "path leaves the data root",
        f"move the tiles under {root.name}/ or set root to a folder that holds them all",
    )
    problems.add_rows(
        paths.index[np.sort(missing)],
        "file is missing",
        f"check the path, which is read relative to {root.name}/, or set root",
    )
    return to_series(pc.coalesce(relative, to_arrow(paths)), paths.index)


def has_control_characters(values: pd.Series[str]) -> npt.NDArray[np.bool_]:
    """Find values with NUL, line breaks, other control characters or bytes that are not UTF-8."""
    if values.dtype != TEXT:
        return np.array([UNPRINTABLE.search(value) is not None for value in values], dtype=bool)
    text = to_arrow(values)
    # A look at the bytes of all values together is many times faster, and mostly enough.
    content = np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)
    parts = (content[start : start + 2**20] for start in range(0, len(content), 2**20))
    if not any(((part < 32) | (part == 127)).any() for part in parts):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(pc.match_substring_regex(text, CONTROL))


def check_ids(problems: Problems, table: pd.DataFrame) -> None:
    """Check tile_id, patient_id and the characters of all text columns that the software uses."""
    for name in (name for name in TEXT_COLUMNS if name in table):
        rows = table.index[has_control_characters(table[name])]
        problems.add_rows(
            rows, f"{name} has control characters or is not UTF-8", "write it as plain text"
        )
    if "tile_id" in table:
        rows = table.index[table["tile_id"] == ""]
        problems.add_rows(rows, "tile_id is empty", "give every tile an id")
        rows = table.index[_repeated(table["tile_id"])]
        problems.add_rows(rows, "duplicate tile_id", "give every tile an id of its own")
    elif "path" in table:
        rows = table.index[_repeated(table["path"])]
        remedy = "list every file once, or add a column tile_id"
        problems.add_rows(rows, "duplicate path, which serves as tile_id", remedy)
    if "patient_id" in table:
        problems.add_rows(
            table.index[table["patient_id"] == ""],
            "patient_id is empty",
            "fill it in, remove those tiles, or remove the column if no patient is known",
        )


def _repeated(values: pd.Series[str]) -> npt.NDArray[np.bool_]:
    repeated: npt.NDArray[np.bool_]
    filled = np.asarray(values != "")
    if values.dtype != TEXT:
        repeated = filled & np.asarray(values.duplicated(keep=False))
        return repeated
    # Hashes take less memory than texts; those that agree are few, and their texts are compared.
    parts = (values.iloc[part].to_numpy(dtype=object) for part in slices(len(values)))
    hashes = np.concatenate([pd.util.hash_array(part, categorize=False) for part in parts])
    repeated = filled & np.asarray(pd.Series(hashes).duplicated(keep=False))
    codes, _ = pd.factorize(values[repeated])
    repeated[repeated] = np.bincount(codes)[codes] > 1
    return repeated


def check_lookalikes(problems: Problems, table: pd.DataFrame) -> None:
    """Check that no group is spelled in two ways which look the same, or it would be two groups.

    Compared are values in Unicode's compatibility form (NFKC), without invisible characters, and
    with Latin letters for those Cyrillic and Greek ones that are drawn like them.
    """
    for name in ("label", "patient_id", "slide_id", "site"):
        if name in table and not pc.all(pc.string_is_ascii(to_arrow(table[name]))).as_py():
            codes, values = pd.factorize(table[name])
            shown = pd.Index([_look(str(value)) for value in values])
            twins = shown.duplicated(keep=False) & np.asarray(shown != values)
            problems.add_rows(
                table.index[twins[codes]],
                f"{name} looks like another {name} but has other Unicode characters",
                "spell it alike in all rows",
            )


def _look(value: str) -> str:
    visible = [char for char in value if unicodedata.category(char) != "Cf"]
    return unicodedata.normalize("NFKC", "".join(visible)).translate(_LATIN).strip()


def check_labels(problems: Problems, table: pd.DataFrame) -> None:
    """Check that no label is empty and that there are two classes or more."""
    label = table["label"]
    problems.add_rows(
        table.index[label == ""], "label is empty", "fill it in or remove those tiles"
    )
    classes = sorted(set(label.unique()) - {""})
    if len(classes) == 1:
        problems.add(
            f"all tiles have the one label {classes[0]!r}: a comparison needs two classes or more"
        )


def group_slides(table: pd.DataFrame) -> pd.DataFrame:
    """Bring the tiles of a slide together, in order of first appearance; else keep the order."""
    keys = [name for name in ("patient_id", "slide_id") if name in table]
    if "slide_id" not in keys:
        return table.reset_index(drop=True)
    slides = table.groupby(keys, sort=False).ngroup().to_numpy()
    if (slides[1:] >= slides[:-1]).all():
        return table.reset_index(drop=True)
    order = np.argsort(slides, kind="stable")
    # Column by column, so that only one of them is there twice.
    ordered = {name: table.pop(name).array.take(order) for name in map(str, list(table))}
    return pd.DataFrame(ordered)
