"""The checksums of a report's files, by which an edited or missing one is noticed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from featurebench.results import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHECKSUMS = "report.sha256"
"""Name of the file; ``sha256sum -c report.sha256`` reads it."""


def write_checksums(texts: Mapping[str, str], folder: Path) -> None:
    """List every file of a report with its SHA-256, and delete those of an earlier one.

    Deleted is only what an earlier report wrote, this one does not write, and nobody has edited.

    Parameters
    ----------
    texts
        Content by path below the folder.
    folder
        Of the report.
    """
    earlier = _read(folder)
    for name, digest in earlier.items():
        if name not in texts and _digest(folder / name) == digest:
            (folder / name).unlink()
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  {name}" for name, text in texts.items()]
    write_atomically(folder / CHECKSUMS, "\n".join(lines) + "\n")


def edited_files(folder: Path) -> tuple[str, ...]:
    """List the files of a report that are not as they were written, ``report.html`` first.

    Returns
    -------
    tuple of str
        Paths below the folder; the file of checksums itself where it cannot be read.
    """
    listed = _read(folder)
    if "report.html" not in listed:
        return (CHECKSUMS,)
    found = [name for name, digest in listed.items() if _digest(folder / name) != digest]
    return tuple(sorted(found, key=lambda name: (name != "report.html", name)))


def _read(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.split("  ", 1) for line in lines if "  " in line)
    return {name: digest for digest, name in pairs if _is_below(name)}


def _is_below(name: str) -> bool:
    """Whether a path stays below the folder: the file may have been edited too."""
    parts = name.split("/")
    return bool(name) and not name.startswith("/") and ".." not in parts and "\\" not in name


def _digest(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None
