"""Tiles from a file of the medmnist package, unpacked once as PNG files and then read as those."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from featurebench.errors import ManifestError
from featurebench.tiles.columns import TEXT
from featurebench.tiles.manifest import TileManifest
from featurebench.tiles.npz import PackedArray

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    Track = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]

SPLITS: Final = ("train", "val", "test")
TABLE_FILE: Final = "tiles.csv"
DONE_FILE: Final = "medmnist.json"
STARTED_FILE: Final = "medmnist.started.json"
# Changes whenever the same file would be unpacked in another way.
LAYOUT_VERSION: Final = 1
NO_PATIENTS: Final = (
    "no patient_id: files of the medmnist package name no patients, so tiles of one patient may be "
    "in both training and test"
)
# Files of a folder; more of them make some file systems slow.
_FOLDER_TILES: Final = 1000


@dataclass(frozen=True)
class _Side:
    """Train, validation or test: its packed images, and its class codes of shape (n,)."""

    name: str
    images: PackedArray
    codes: npt.NDArray[np.int64]

    def path_of(self, row: int) -> str:
        return f"{self.name}/{row // _FOLDER_TILES:03d}/{row:06d}.png"


@contextlib.contextmanager
def _untracked(label: str, total: int) -> Iterator[Callable[[int], object]]:
    yield lambda n: None


def unpack_medmnist(
    file: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    track: Track = _untracked,
) -> TileManifest:
    """Take the tiles of a file in the format of the ``medmnist`` package (Yang et al. 2023).

    Such an ``.npz`` file holds ``train_images``, ``val_images`` and ``test_images``, uint8 of shape
    (n, height, width) or (n, height, width, 3), and ``train_labels``, ``val_labels`` and
    ``test_labels``, integers from 0 of shape (n, 1) or (n,). At the first call every image is
    written as a PNG file, without loss, with a table ``tiles.csv`` (``tile_id``, ``path``,
    ``label``, ``split``); ``medmnist.json`` is written last and binds the folder to the file's
    SHA-256. A call that was killed is gone on with; later calls read the folder alone, and the
    ``.npz`` file may be gone by then.

    Parameters
    ----------
    file
        The ``.npz`` file. Its name is part of every ``tile_id``, so that the same images at another
        resolution are other tiles.
    root
        Folder of the PNG files: new, empty, or that of the same file. By default the file's own
        name with the ending ``.tiles``.
    class_names
        Name of each code from 0; without them the labels are the codes. Not kept in the folder.
    track
        Called with a label and the number of tiles where there is something to unpack; its context
        gives a function that is called with the number of tiles done.

    Returns
    -------
    TileManifest
        Rows of train, val and test in the file's order; the column ``split`` says which.

    Raises
    ------
    ManifestError
        The file is missing, damaged or of another format; it has several labels for an image; the
        folder is another file's or cannot be written; or the class names do not fit.

    References
    ----------
    Yang et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image
    classification", Scientific Data 10:41, 2023.
    """
    source = Path(file)
    folder = source.with_suffix(".tiles") if root is None else Path(root)
    try:
        tiles = _read_folder(source, folder, track)
    except OSError as error:
        raise ManifestError(
            f"cannot unpack {source.name} into {folder.name}/ ({error.strerror or error}): make "
            "room there, or give another folder as data.root; what is written stays"
        ) from error
    tiles = replace(tiles, warnings=(NO_PATIENTS, *tiles.warnings[1:]))
    return tiles if class_names is None else _name_classes(tiles, class_names, source.name)


def _read_folder(source: Path, folder: Path, track: Track) -> TileManifest:
    """Read the unpacked tiles, after unpacking what is not there yet or no more."""
    if not _is_unpacked(source, folder):
        _unpack(source, folder, track)
    try:
        return TileManifest.from_table(folder / TABLE_FILE)
    except ManifestError:
        # Files may have been lost since the folder was complete.
        if not source.is_file():
            raise
        _unpack(source, folder, track)
        return TileManifest.from_table(folder / TABLE_FILE)


def _is_unpacked(source: Path, folder: Path) -> bool:
    """Tell whether the folder holds all tiles of the file, and refuse one that holds others."""
    done = _read_marker(folder / DONE_FILE)
    if done is None:
        if not source.is_file():
            raise ManifestError(
                f"no file {source.name} in {source.parent.name or '.'}/: download it, or mend "
                "data.medmnist"
            )
        return False
    if not source.is_file():
        # Unpacked tiles need their file no longer.
        if done["source"] != source.name:
            raise _other_file(folder, done["source"])
        return True
    stat = source.stat()
    known = (done["version"], done["bytes"], done["mtime_ns"])
    if known != (LAYOUT_VERSION, stat.st_size, stat.st_mtime_ns):
        identity = _identify(source)
        _check_same(folder, done, identity)
        _publish(folder / DONE_FILE, _as_json({**done, "mtime_ns": identity["mtime_ns"]}))
    return True


def _unpack(source: Path, folder: Path, track: Track) -> None:
    sides = [_read_side(source, name) for name in SPLITS]
    identity = {
        **_identify(source),
        "tiles": {side.name: len(side.codes) for side in sides},
    }
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, identity)
    total = sum(len(side.codes) for side in sides)
    with track(f"unpacking {source.name}", total) as advance, ThreadPoolExecutor() as pool:
        for side in sides:
            start = 0
            for images in side.images.blocks():
                files = [folder / side.path_of(start + i) for i in range(len(images))]
                for parent in {file.parent for file in files}:
                    parent.mkdir(parents=True, exist_ok=True)
                for _ in pool.map(_write_missing, files, images):
                    advance(1)
                start += len(images)
    _publish(folder / TABLE_FILE, _table(source.stem, sides))
    _publish(folder / DONE_FILE, _as_json(identity))
    (folder / STARTED_FILE).unlink(missing_ok=True)


def _read_side(source: Path, name: str) -> _Side:
    """Read one side's labels and the header of its images, and refuse what are no tiles."""
    images = PackedArray.find(source, f"{name}_images")
    labels = PackedArray.find(source, f"{name}_labels")
    if len(labels.shape) == 2 and labels.shape[1] > 1:
        raise ManifestError(
            f"{source.name} is a multi-label set ({labels.name} has {labels.shape[1]} columns): a "
            "tile has one label here, so use a set whose labels have one column"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in (
        images.shape[:1],
        (*images.shape[:1], 1),
    ):
        raise ManifestError(
            f"{source.name}: {labels.name} is {labels.dtype} of shape {labels.shape} for images of "
            f"shape {images.shape}: give one integer for each image"
        )
    grey = len(images.shape) == 3
    if images.dtype != np.uint8 or not (grey or (len(images.shape) == 4 and images.shape[3] == 3)):
        raise ManifestError(
            f"{source.name}: {images.name} is {images.dtype} of shape {images.shape}: tiles are "
            "uint8 of shape (n, height, width) or (n, height, width, 3), and volumes are no tiles"
        )
    codes = labels.read().reshape(-1).astype(np.int64)
    if codes.size and codes.min() < 0:
        raise ManifestError(
            f"{source.name}: {labels.name} has the label {codes.min()}: count from 0"
        )
    return _Side(name, images, codes)


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    """Bind a new folder to the file, and refuse one that holds another file's tiles or others."""
    if all(path.name.startswith(".") for path in folder.iterdir()):
        _publish(folder / STARTED_FILE, _as_json(identity))
    # Another process may finish in between and leave the second instead of the first.
    claimed = _read_marker(folder / STARTED_FILE) or _read_marker(folder / DONE_FILE)
    if claimed is None:
        raise ManifestError(
            f"folder {folder.name}/ holds files but no {DONE_FILE}: give a new or empty folder as "
            "data.root"
        )
    _check_same(folder, claimed, identity)


def _check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    if any(found[key] != wanted[key] for key in ("version", "sha256")):
        raise _other_file(folder, found["source"])


def _other_file(folder: Path, source: str) -> ManifestError:
    return ManifestError(
        f"folder {folder.name}/ holds the tiles of another {source}: give another folder as "
        "data.root, or remove this one to unpack the file anew"
    )


def _identify(source: Path) -> dict[str, Any]:
    stat = source.stat()
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {
        "version": LAYOUT_VERSION,
        "source": source.name,
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": digest,
    }


def _read_marker(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    keys = {"version", "source", "bytes", "mtime_ns", "sha256"}
    if not isinstance(found, dict) or not keys <= set(found):
        raise ManifestError(f"{path.name} is damaged: remove folder {path.parent.name}/")
    return found


def _name_classes(tiles: TileManifest, names: Sequence[str], source: str) -> TileManifest:
    codes = tiles.table["label"].astype(np.int64)
    n_classes = int(codes.max()) + 1
    if len(names) != n_classes or len({name.strip() for name in names} - {""}) != n_classes:
        raise ManifestError(
            f"{source} has labels from 0 to {n_classes - 1}, and class_names are "
            f"{', '.join(map(repr, names))}: give {n_classes} different names, in their order"
        )
    label = codes.map(dict(enumerate(name.strip() for name in names))).astype(TEXT)
    table = tiles.table.assign(label=label)
    return replace(tiles, table=table, classes=tuple(sorted(label.unique())))


def _write_missing(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    if path.exists():
        return
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    _publish(path, buffer.getvalue())


def _table(stem: str, sides: Sequence[_Side]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("tile_id", "path", "label", "split"))
    for side in sides:
        for row, code in enumerate(side.codes.tolist()):
            tile_id = f"{stem}_{side.name}_{row:06d}"
            writer.writerow((tile_id, side.path_of(row), code, side.name))
    return buffer.getvalue().encode()


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _publish(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, also where several machines write the same one."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
