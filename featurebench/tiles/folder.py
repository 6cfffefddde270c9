"""Tiles from a folder that has one sub-folder per class."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from featurebench.tiles.checks import (
    Problems,
    check_ids,
    check_root,
    list_rows,
)
from featurebench.tiles.columns import TEXT

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
NO_PATIENTS = (
    "no patient_id: folds cannot be grouped by patient, so tiles of one patient may be in both "
    "training and test; give patient_regex, or a table with a patient_id column"
)


@dataclass
class _Found:
    """What a walk through the folder came across."""

    images: list[str] = field(default_factory=list)
    others: int = 0
    loose: int = 0
    linked_folders: int = 0
    leaving: int = 0


def scan_folder(
    root: str | os.PathLike[str], patient_regex: str | None = None
) -> tuple[Path, pd.DataFrame, tuple[str, ...]]:
    """Find the tiles of a folder with one sub-folder per class; see `TileManifest.from_folder`.

    Returns
    -------
    root, table, warnings
        The resolved root, the tiles sorted by path, and what was left out.

    Raises
    ------
    ManifestError
        All problems in one message.
    """
    source = f"folder {Path(root).name or str(root)!r}"
    folder = check_root(root, source)
    problems = Problems(source)
    pattern = _compile(patient_regex, problems)
    found = _walk(folder)
    images = sorted(found.images)
    table = pd.DataFrame({"path": images}, dtype=object)
    table["label"] = pd.Series([path.partition("/")[0] for path in images], dtype=object)
    _check_classes(problems, folder, found, set(table["label"]))
    if pattern is not None:
        table["patient_id"] = _patients(images, pattern, problems)
    table.index = pd.RangeIndex(1, len(table) + 1)
    check_ids(problems, table.drop(columns="patient_id", errors="ignore"))
    problems.raise_all()
    table.insert(0, "tile_id", table["path"])
    return (
        folder,
        table.reset_index(drop=True).astype(TEXT),
        _warnings(found, grouped=pattern is not None),
    )


def is_image(name: str) -> bool:
    """Tell by its ending whether a file name is that of a PNG, JPEG or TIFF image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def class_folders(root: Path) -> list[str]:
    """Names of the sub-folders that stand for classes: all but hidden ones, sorted."""
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _walk(root: Path) -> _Found:
    """Go through all folders below the root, without following links to folders."""
    found = _Found()
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    _visit(entry, prefix, root, found, pending)
    return found


def _visit(
    entry: os.DirEntry[str], prefix: str, root: Path, found: _Found, pending: list[str]
) -> None:
    linked = entry.is_symlink()
    if linked and not Path(os.path.realpath(entry.path)).is_relative_to(root):
        found.leaving += entry.is_dir() or is_image(entry.name)
    elif entry.is_dir():
        if linked:
            found.linked_folders += 1
        else:
            pending.append(f"{prefix}{entry.name}/")
    elif not is_image(entry.name) or not entry.is_file():
        found.others += 1
    elif not prefix:
        found.loose += 1
    else:
        found.images.append(f"{prefix}{entry.name}")


def _check_classes(problems: Problems, root: Path, found: _Found, with_images: set[str]) -> None:
    if found.leaving:
        problems.add(
            f"{found.leaving} links lead out of the data root: copy the tiles into the folder, or "
            "list them in a table whose root holds them all"
        )
    if not with_images:
        problems.add(
            "no images in sub-folders: put the PNG, JPEG or TIFF tiles into one sub-folder per "
            "class, or list them in a table"
        )
        return
    empty = [name for name in class_folders(root) if name not in with_images]
    if empty:
        names = ", ".join(map(repr, empty))
        problems.add(
            f"no PNG, JPEG or TIFF images in class folder {names}: remove it, or rename it with a "
            "leading dot to have it ignored"
        )
    if len(with_images) == 1:
        problems.add(
            f"all tiles are in the one class folder {min(with_images)!r}: a comparison needs one "
            "sub-folder for each of two classes or more"
        )


def _compile(patient_regex: str | None, problems: Problems) -> re.Pattern[str] | None:
    """Compile the expression; what is wrong with it is noted, and then there is no pattern."""
    if patient_regex is None:
        return None
    try:
        pattern = re.compile(patient_regex)
    except re.error as error:
        problems.add(f"patient_regex {patient_regex!r} is not a regular expression: {error}")
        return None
    if len(pattern.groupindex) == 1:
        return pattern
    names = ", ".join(pattern.groupindex)
    problems.add(
        f"patient_regex {patient_regex!r} has "
        + (f"the named groups {names}" if names else "no named group")
        + ": write exactly one, such as (?P<patient>[^_/]+); slide and site come from a table"
    )
    return None


def _patients(images: list[str], pattern: re.Pattern[str], problems: Problems) -> list[str]:
    """Read each path's patient; file names may identify people, so problems give only counts."""
    (name,) = pattern.groupindex
    matches = [pattern.search(path) for path in images]
    patients = [(match and match[name]) or "" for match in matches]
    rows = list_rows([row for row, patient in enumerate(patients, 1) if not patient])
    if rows:
        problems.add(
            f"patient_regex {pattern.pattern!r} finds no patient in {rows} of {len(images)} "
            "(files sorted by path): mend the expression or move those files away"
        )
    return patients


def _warnings(found: _Found, *, grouped: bool) -> tuple[str, ...]:
    told = [] if grouped else [NO_PATIENTS]
    if found.others:
        told.append(f"{found.others} files ignored: not PNG, JPEG or TIFF by their ending")
    if found.loose:
        told.append(f"{found.loose} images ignored: not in a class folder")
    if found.linked_folders:
        told.append(f"{found.linked_folders} linked folders not followed")
    return tuple(told)
