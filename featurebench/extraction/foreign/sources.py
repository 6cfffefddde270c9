"""Sources of foreign embeddings: what each gives, and which file is of which format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from featurebench.errors import ExtractionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Positions = npt.NDArray[np.intp]
Rows = npt.NDArray[np.float32]

FORMATS = ("auto", "clam", "trident", "stamp", "eva", "npy")
HDF5_FORMATS = ("clam", "trident", "stamp")
HDF5_SUFFIXES = (".h5", ".hdf5")
EVA_MANIFEST = "manifest.csv"
MAX_DIM = 65_536
# one file may be held in memory whole
MAX_SOURCE_BYTES = 8 * 2**30


@dataclass(frozen=True)
class SourceFile:
    """One imported file, or a folder of small ones: its name without folders, and its content.

    ``sha256`` of several files is that of their own hashes, in the order of their names.
    """

    name: str
    sha256: str
    n_files: int = 1


class Source(Protocol):
    """Embeddings that stand together in one file or folder; position p is the p-th of them."""

    @property
    def file(self) -> SourceFile:
        """Name and hash, for the notes."""

    @property
    def dim(self) -> int:
        """Columns."""

    @property
    def attributes(self) -> Mapping[str, str | float]:
        """What the file says about itself."""

    def read(self, positions: Positions) -> Rows:
        """Read embeddings, shape (len(positions), dim)."""


@dataclass(frozen=True)
class Located:
    """A source, and which of its positions belongs to which row of the manifest.

    ``rows`` and ``positions`` go in pairs; a row may occur more than once. ``n_embeddings`` counts
    the source's positions, those that belong to no row included.
    """

    format: str
    source: Source
    rows: Positions
    positions: Positions
    n_embeddings: int


@dataclass(frozen=True)
class Snapshot:
    """A file's content, as it was when it was hashed."""

    path: Path
    sha256: str
    stamp: tuple[int, int]

    @classmethod
    def take(cls, path: Path) -> Snapshot:
        """Hash a file.

        Raises
        ------
        ExtractionError
            If it cannot be read.
        """
        try:
            # taken first, so that a change while hashing is noticed as well
            stamp = _stamp(path)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path, digest, stamp)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ExtractionError(
                f"{path.name} cannot be read ({reason}); check the path and its permissions"
            ) from error

    def read_bytes(self, limit: int) -> bytes:
        """Read the file that was hashed, unless it is larger than ``limit`` bytes.

        Raises
        ------
        ExtractionError
            If it is larger, or another by now.
        """
        self.require_unchanged()
        if self.stamp[0] > limit:
            raise ExtractionError(
                f"{self.path.name} has {self.stamp[0]} bytes; at most {limit} are read of one tile"
            )
        return self.path.read_bytes()

    def require_unchanged(self) -> None:
        """Refuse a file that is no longer the one that was hashed.

        Raises
        ------
        ExtractionError
            Of size and time of change, one is another.
        """
        try:
            same = _stamp(self.path) == self.stamp
        except OSError:
            same = False
        if not same:
            raise ExtractionError(
                f"{self.path.name} changed while it was imported; run the same command again"
            )


def list_sources(sources: Sequence[Path], format: str) -> tuple[str, list[Path]]:
    """Tell what kind of files were given, and list them: folders of HDF5 files are looked through.

    Returns
    -------
    kind, files
        ``hdf5``, ``eva`` (folders with a ``manifest.csv``) or ``npy`` (matrices and tables).

    Raises
    ------
    ExtractionError
        If there are none, the format is unknown, or they are of several kinds or another one.
    """
    if format not in FORMATS:
        raise ExtractionError(f"format {format!r} is unknown; use one of {', '.join(FORMATS)}")
    if not sources:
        raise ExtractionError("no file to import was given; name files or folders")
    listed = [(_kind(path), path) for path in map(Path, sources)]
    kinds = sorted({kind for kind, _ in listed})
    asked = "hdf5" if format in HDF5_FORMATS else format
    if len(kinds) > 1 or asked not in {"auto", kinds[0]}:
        raise ExtractionError(
            f"format {format!r} does not fit these files, which are {' and '.join(kinds)}; "
            "import one kind at a time"
        )
    files = [file for kind, path in listed for file in _expand(kind, path)]
    if not files:
        raise ExtractionError(f"{sources[0].name} holds no file ending in .h5; name another folder")
    return kinds[0], list(dict.fromkeys(files))


def as_rows(values: npt.NDArray[Any]) -> Rows:
    """Give numbers the type in which they are handed on; what does not fit becomes infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def check_size(label: str, n_rows: int, dim: int, itemsize: int) -> None:
    """Refuse what would not fit into memory, or cannot be an embedding, before it is read.

    Raises
    ------
    ExtractionError
        Naming the size.
    """
    if not 1 <= dim <= MAX_DIM or n_rows * dim * itemsize > MAX_SOURCE_BYTES:
        raise ExtractionError(
            f"{label} holds {n_rows} embeddings of {dim} columns; 1 to {MAX_DIM} columns and "
            f"{MAX_SOURCE_BYTES // 2**30} GiB a file are read, split it"
        )


def _kind(path: Path) -> str:
    if not path.exists():
        raise ExtractionError(f"{path} does not exist; check the path")
    if path.name == EVA_MANIFEST or (path / EVA_MANIFEST).is_file():
        return "eva"
    if path.is_dir() or path.suffix.lower() in HDF5_SUFFIXES:
        return "hdf5"
    if path.suffix.lower() in {".npy", ".csv"}:
        return "npy"
    raise ExtractionError(
        f"{path.name} is of no format that is read; give .h5 files or their folder, a .npy with "
        f"its .csv, or an eva folder with {EVA_MANIFEST}"
    )


def _expand(kind: str, path: Path) -> list[Path]:
    if kind == "eva":
        return [path.parent if path.name == EVA_MANIFEST else path]
    if kind == "hdf5" and path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix.lower() in HDF5_SUFFIXES)
    return [path]


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
