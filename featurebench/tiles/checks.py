"""Checks at the door: problems are collected, and told together in one ManifestError."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featurebench.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHOWN_ROWS = 5
# Lone surrogates are how Python spells file names that are not UTF-8.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


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

    def add_rows(self, rows: Iterable[int], what: str, remedy: str) -> None:
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


def list_rows(rows: Iterable[int]) -> str:
    """Write row numbers as ``rows 3, 7, 9, 12, 15 and 4 more``; empty where there are none."""
    numbers = [int(row) for row in rows]
    if len(numbers) <= 1:
        return "".join(f"row {number}" for number in numbers)
    more = f" and {len(numbers) - SHOWN_ROWS} more" if len(numbers) > SHOWN_ROWS else ""
    return "rows " + ", ".join(map(str, numbers[:SHOWN_ROWS])) + more


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


def relative_posix(path: str, root: Path) -> str | None:
    """Write a path relative to the root, with forward slashes; None where it leaves the root.

    Backslashes count as separators, so a table written on Windows is read anywhere. Links are
    followed only where the path is absolute or climbs with ``..``; see `locate_files`.
    """
    posix = path.replace("\\", "/")
    if re.match(r"[A-Za-z]:", posix) and os.name != "nt":
        return None
    if not posix.startswith("/") and ".." not in posix.split("/"):
        return str(PurePosixPath(posix))
    resolved = Path(os.path.realpath(root / posix))
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else None


def locate_files(paths: Sequence[str], root: Path) -> tuple[list[int], list[int]]:
    """Find which files are missing, and which lie outside the root when links are followed.

    Each folder is listed once, so that 100,000 rows cost a few directory reads and not as many
    calls of ``stat``.

    Parameters
    ----------
    paths
        POSIX paths relative to ``root``, without control characters.
    root
        The resolved data root.

    Returns
    -------
    missing, leaving
        Positions into ``paths``.
    """
    split = [path.rpartition("/") for path in paths]
    parents = pd.Series([parent for parent, _, _ in split], dtype=object)
    missing: list[int] = []
    leaving: list[int] = []
    for parent, rows in parents.groupby(parents, sort=False).groups.items():
        folder = Path(os.path.realpath(root / str(parent)))
        if not folder.is_relative_to(root):
            leaving.extend(int(row) for row in rows)
            continue
        regular, linked = _list_files(folder)
        for row in (int(row) for row in rows):
            name = split[row][2]
            if name in regular:
                continue
            # A name that the listing spells otherwise may still exist: case, Unicode form.
            if not os.path.isfile(folder / name):  # noqa: PTH113 - Path.is_file raises on long names
                missing.append(row)
            elif name in linked and not Path(os.path.realpath(folder / name)).is_relative_to(root):
                leaving.append(row)
    return missing, leaving


def _list_files(folder: Path) -> tuple[set[str], set[str]]:
    """Names of a folder's regular files and of its links; both empty where it cannot be read."""
    regular: set[str] = set()
    linked: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    linked.add(entry.name)
                elif entry.is_file():
                    regular.add(entry.name)
    except OSError:
        return set(), set()
    return regular, linked


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
    empty = paths == ""
    control = has_control_characters(paths)
    problems.add_rows(paths.index[empty], "path is empty", "name the tile's file")
    usable = paths[~(empty | control)]
    relative = pd.Series([relative_posix(p, root) for p in usable], usable.index, dtype=object)
    inside = relative[relative.notna()]
    missing, leaving = locate_files(list(inside), root)
    outside = usable.index[relative.isna()].append(inside.index[leaving])
    problems.add_rows(
        sorted(outside),
        "path leaves the data root",
        f"move the tiles under {root.name}/ or set root to a folder that holds them all",
    )
    problems.add_rows(
        inside.index[missing],
        "file is missing",
        f"check the path, which is read relative to {root.name}/, or set root",
    )
    checked = paths.copy()
    checked[inside.index] = inside
    return checked


def has_control_characters(values: pd.Series[str]) -> pd.Series[bool]:
    """Find values with NUL, line breaks, other control characters or bytes that are not UTF-8."""
    found = [UNPRINTABLE.search(value) is not None for value in values]
    return pd.Series(found, values.index, dtype=bool)


def check_ids(problems: Problems, table: pd.DataFrame) -> None:
    """Check tile_id, patient_id and the characters of all text columns that the software uses."""
    named = [name for name in TEXT_COLUMNS if name in table]
    for name in named:
        rows = table.index[has_control_characters(table[name])]
        problems.add_rows(
            rows, f"{name} has control characters or is not UTF-8", "write it as plain text"
        )
    if "tile_id" in table:
        empty = table["tile_id"] == ""
        problems.add_rows(table.index[empty], "tile_id is empty", "give every tile an id")
        repeated = table["tile_id"].duplicated(keep=False) & ~empty
        remedy = "give every tile an id of its own"
        problems.add_rows(table.index[repeated], "duplicate tile_id", remedy)
    elif "path" in table:
        repeated = table["path"].duplicated(keep=False) & (table["path"] != "")
        remedy = "list every file once, or add a column tile_id"
        problems.add_rows(table.index[repeated], "duplicate path, which serves as tile_id", remedy)
    if "patient_id" in table:
        problems.add_rows(
            table.index[table["patient_id"] == ""],
            "patient_id is empty",
            "fill it in, remove those tiles, or remove the column if no patient is known",
        )


def check_labels(problems: Problems, table: pd.DataFrame) -> None:
    """Check that no label is empty and that there are two classes or more."""
    label = table["label"]
    problems.add_rows(
        table.index[label == ""], "label is empty", "fill it in or remove those tiles"
    )
    classes = sorted(set(label) - {""})
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
    return table.iloc[np.argsort(slides, kind="stable")].reset_index(drop=True)


TEXT_COLUMNS = ("tile_id", "path", "label", "patient_id", "slide_id", "site")
INTEGER_COLUMNS = ("x", "y", "level")
