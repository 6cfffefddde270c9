"""The files that paths in a table name: written relative to the data root, and found there."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurebench.tiles.columns import SLICE_ROWS, combine, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Empty, "." and ".." parts, backslashes and drives: all other paths are relative and plain.
_ODD: Final = r"(^|/)\.{0,2}(/|$)|\\|^[A-Za-z]:"
# For fewer files of a folder than this, asking for each costs less than listing the folder.
_FEW: Final = 8


def relative_paths(
    paths: pa.LargeStringArray, usable: npt.NDArray[np.bool_], root: Path
) -> pa.LargeStringArray:
    """Write paths relative to the root, with forward slashes.

    Backslashes count as separators, so a table written on Windows is read anywhere. Links are
    followed only where a path is absolute or climbs with ``..``; see `locate_files`.

    Parameters
    ----------
    paths
        As the user wrote them.
    usable
        Shape (n_paths,); others come out null.
    root
        The resolved data root.

    Returns
    -------
    pyarrow.LargeStringArray
        Null where a path leaves the root.
    """
    resolve = functools.lru_cache(maxsize=65_536)(os.path.realpath)
    parts = [paths.slice(p.start, p.stop - p.start) for p in slices(len(paths))]
    masks = [usable[p] for p in slices(len(paths))]
    written = [
        _relative_part(part, mask, root, resolve) for part, mask in zip(parts, masks, strict=True)
    ]
    same = all(new is old for new, old in zip(written, parts, strict=True))
    return paths if same else combine(pa.chunked_array(written))


def locate_files(
    paths: pa.LargeStringArray, root: Path
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find which files are missing, and which lie outside the root when links are followed.

    Each folder is listed once, so that a million rows cost some thousand directory reads and not
    a million calls of ``stat``.

    Parameters
    ----------
    paths
        POSIX paths relative to ``root``, without control characters; null ones are passed over.
    root
        The resolved data root.

    Returns
    -------
    missing, leaving
        Positions into ``paths``.
    """
    missing: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    leaving = missing.copy()
    for parent, rows in _by_folder(paths):
        folder = os.path.realpath(root / parent)
        if not Path(folder).is_relative_to(root):
            leaving.append(rows)
            continue
        names = pc.utf8_slice_codeunits(paths.take(pa.array(rows)), len(parent))
        unsure = np.ones(len(rows), dtype=bool)
        if len(rows) >= _FEW:
            unsure = ~np.asarray(pc.is_in(names.cast(pa.large_binary()), _list_files(folder)))
        # A name that the listing spells otherwise may still exist: case, Unicode form.
        lost, away = _ask_for_each(names.filter(pa.array(unsure)).to_pylist(), folder, root)
        missing.append(rows[unsure][lost])
        leaving.append(rows[unsure][away])
    return np.concatenate(missing), np.concatenate(leaving)


def _relative_part(
    paths: pa.LargeStringArray,
    usable: npt.NDArray[np.bool_],
    root: Path,
    resolve: Callable[[str], str],
) -> pa.LargeStringArray:
    odd = np.asarray(pc.match_substring_regex(paths, _ODD)) & usable
    if usable.all() and not odd.any():
        return paths
    mask = pa.array(odd)
    written = [_relative(path, root, resolve) for path in paths.filter(mask).to_pylist()]
    replaced = pc.replace_with_mask(paths, mask, pa.array(written, pa.large_string()))
    return pc.if_else(pa.array(usable), replaced, pa.scalar(None, pa.large_string()))


def _relative(path: str, root: Path, resolve: Callable[[str], str]) -> str | None:
    posix = path.replace("\\", "/")
    if re.match(r"[A-Za-z]:", posix) and os.name != "nt":
        return None
    if not posix.startswith("/") and ".." not in posix.split("/"):
        return str(PurePosixPath(posix))
    folder, slash, name = posix.rpartition("/")
    if name in ("", ".", ".."):
        file = os.path.realpath(root / posix)
    else:
        # The tiles of a folder share its resolution; only their own links are asked for.
        file = os.path.join(resolve(os.path.join(root, folder + slash)), name)  # noqa: PTH118
        file = os.path.realpath(file) if os.path.islink(file) else file  # noqa: PTH114
    if file == str(root):
        return "."
    inside = os.path.join(root, "")  # noqa: PTH118
    return file.removeprefix(inside).replace(os.sep, "/") if file.startswith(inside) else None


def _by_folder(paths: pa.LargeStringArray) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Yield each folder, as the paths begin, with the rows of its tiles in ascending order."""
    folders: dict[str, int] = {}
    codes = np.empty(len(paths), dtype=np.int32)
    for part in slices(len(paths)):
        piece = paths.slice(part.start, part.stop - part.start)
        parents = pc.replace_substring_regex(piece, "[^/]*$", "").dictionary_encode()
        known = [folders.setdefault(name, len(folders)) for name in parents.dictionary.to_pylist()]
        codes[part] = np.array([*known, -1])[np.asarray(parents.indices.fill_null(-1))]
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes + 1, minlength=len(folders) + 1))
    for code, name in enumerate(folders):
        yield name, order[ends[code] : ends[code + 1]]


def _list_files(folder: str) -> pa.LargeBinaryArray:
    """Names of a folder's regular files as bytes; none where it cannot be read."""
    parts = []
    with contextlib.suppress(OSError), os.scandir(os.fsencode(folder)) as entries:
        names = (entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        while batch := list(islice(names, SLICE_ROWS)):
            parts.append(pa.array(batch, pa.large_binary()))
    return combine(pa.chunked_array(parts, pa.large_binary()))


def _ask_for_each(names: Sequence[str], folder: str, root: Path) -> tuple[list[int], list[int]]:
    """Positions of the names that are no files, and of those that are links out of the root."""
    missing: list[int] = []
    leaving: list[int] = []
    for position, name in enumerate(names):
        file = os.path.join(folder, name)  # noqa: PTH118 - for millions of names
        if not os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises on long names
            missing.append(position)
        elif os.path.islink(file) and not Path(os.path.realpath(file)).is_relative_to(root):  # noqa: PTH114
            leaving.append(position)
    return missing, leaving
