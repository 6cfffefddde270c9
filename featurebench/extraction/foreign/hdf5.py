"""HDF5 files of strangers: plain numbers that stand in the file itself, and nothing else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.errors import ExtractionError, FeatureBenchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py

# deflate, shuffle, fletcher32, szip, nbit, scale-offset and h5py's own LZF: other numbers would
# make the HDF5 library look for a plugin to load
FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32_000})
MAX_ATTRIBUTES = 64
MAX_TEXT = 200
# of no use elsewhere, or the path of a folder of the machine that wrote it
_SKIPPED_ATTRIBUTES = frozenset({"name", "savetodir"})
_BROKEN = (OSError, RuntimeError, ValueError, TypeError, KeyError)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file to read; damage that shows while it is open is told as an error of ours.

    Raises
    ------
    ExtractionError
        If it is not HDF5, or is damaged.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except FeatureBenchError:
        raise
    except _BROKEN as error:
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise ExtractionError(
            f"{path.name} cannot be read as HDF5 ({reason}); give a whole .h5 file"
        ) from error


def has_entry(file: h5py.File, name: str) -> bool:
    """Tell whether the file has something of this name, without following a link to it."""
    return bool(file.id.links.exists(name.encode()))


def numeric_dataset(file: h5py.File, name: str, label: str) -> h5py.Dataset:
    """Find a dataset of numbers whose values all stand in this file.

    Links, virtual datasets and external storage can name any file of this machine, and types
    other than plain numbers can hold anything: all are refused before a value is read.

    Parameters
    ----------
    file, name
        Where; ``name`` in the root group.
    label
        Name of the file, for errors.

    Raises
    ------
    ExtractionError
        Naming what was found instead.
    """
    import h5py

    if not has_entry(file, name):
        raise ExtractionError(f"{label} has no dataset {name!r}; give the file with the embeddings")
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ExtractionError(
            f"{name!r} in {label} is a link, and links are not followed; copy the data"
        )
    dataset = file[name]
    problem = _problem(dataset) if isinstance(dataset, h5py.Dataset) else "is not a dataset"
    if problem:
        raise ExtractionError(f"{name!r} in {label} {problem}; store plain numbers in the file")
    return dataset


def plain_attributes(holder: h5py.File | h5py.Dataset) -> dict[str, str | float]:
    """Read the attributes that are one number or one short text; others are left out."""
    found: dict[str, str | float] = {}
    for name in sorted(holder.attrs)[:MAX_ATTRIBUTES]:
        if name not in _SKIPPED_ATTRIBUTES and _is_plain(holder, name):
            value = np.asarray(holder.attrs[name]).reshape(-1)[0]
            plain = _plain_value(value)
            if plain is not None:
                found[str(name)[:MAX_TEXT]] = plain
    return found


def _problem(dataset: h5py.Dataset) -> str:
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if dataset.dtype.kind not in "fiu":
        return f"holds {dataset.dtype} values, not numbers"
    if dataset.is_virtual or plist.get_external_count():
        return "keeps its values in other files"
    if unknown := sorted(set(filters) - FILTERS):
        return f"is packed with the HDF5 filters {unknown}, which are not loaded"
    return ""


def _is_plain(holder: h5py.File | h5py.Dataset, name: str) -> bool:
    import h5py

    attribute = holder.attrs.get_id(name)
    try:
        dtype = attribute.dtype
    except TypeError:  # a type that NumPy does not know
        return False
    text = h5py.check_string_dtype(dtype) is not None
    return attribute.shape in {(), (1,)} and (text or dtype.kind in "fiub")


def _plain_value(value: Any) -> str | float | None:  # noqa: ANN401
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return None if _is_path(value) else value[:MAX_TEXT]
    number = float(value)
    if not np.isfinite(number):
        return None
    return int(number) if number.is_integer() else number


def _is_path(text: str) -> bool:
    return text.startswith(("/", "~", ".")) or "\\" in text or text[1:2] == ":"
