"""CLAM, TRIDENT and STAMP: one HDF5 file per slide, matched by the places of its tiles.

The layouts, as the programs write them:

* CLAM (``compute_w_loader`` of github.com/mahmoodlab/CLAM, ``extract_features_fp.py``):
  ``h5_files/<slide_id>.h5`` with ``features`` (n, d) float32 and ``coords`` (n, 2) int32, the upper
  left corners of the tiles, x then y, in pixels of level 0.
* TRIDENT (``extract_patch_features`` of github.com/mahmoodlab/TRIDENT, ``wsi_objects/WSI.py``): the
  same two datasets in ``<slide>.h5``; ``coords`` carries ``patch_size``, ``patch_size_level0``,
  ``level0_magnification``, ``target_magnification`` and ``overlap``, ``features`` the folder it was
  saved to and, of late, ``encoder``.
* STAMP (``extract_`` of github.com/KatherLab/STAMP, ``preprocessing/__init__.py``): ``<slide>.h5``
  with ``feats`` (n, d) float16 and ``coords`` (n, 2) float32 in micrometres, and on the file
  ``unit`` ("um"), ``extractor``, ``stamp_version``, ``feat_type`` ("tile"), ``tile_size_um``
  (``tile_size`` before 2.1) and ``tile_size_px``, the side of the network's input. Before version
  2 there was no ``unit``, and the coordinates were pixels of the scaled tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.errors import ExtractionError
from featurebench.extraction.foreign.hdf5 import (
    has_entry,
    numeric_dataset,
    open_hdf5,
    plain_attributes,
)
from featurebench.extraction.foreign.places import Slides, match_micrometres, match_pixels
from featurebench.extraction.foreign.sources import (
    Located,
    Positions,
    Rows,
    Snapshot,
    SourceFile,
    as_rows,
    check_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import h5py

    from featurebench.tiles import TileManifest

_FEATURES = {"clam": "features", "trident": "features", "stamp": "feats"}


@dataclass(frozen=True)
class SlideFile:
    """The embeddings of one slide; ``batched`` where they have a leading axis of one."""

    snapshot: Snapshot
    format: str
    n_embeddings: int
    dim: int
    batched: bool
    attributes: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def file(self) -> SourceFile:
        """Name and hash, for the notes."""
        return SourceFile(self.snapshot.path.name, self.snapshot.sha256)

    def read(self, positions: Positions) -> Rows:
        """Read embeddings, shape (len(positions), dim), through one slice of the file."""
        self.snapshot.require_unchanged()
        label = self.snapshot.path.name
        first, stop = int(positions.min()), int(positions.max()) + 1
        with open_hdf5(self.snapshot.path) as file:
            dataset = numeric_dataset(file, _FEATURES[self.format], label)
            rows = slice(first, stop)
            part = np.asarray(dataset[0, rows] if self.batched else dataset[rows])
        return as_rows(part[positions - first])


def locate_slides(files: Sequence[Path], manifest: TileManifest, format: str) -> Iterator[Located]:
    """Match the files of slides that the manifest knows; other slides' files are left alone.

    Raises
    ------
    ManifestError
        If the manifest does not say which slide and place a tile is of.
    ExtractionError
        If a file is not what its format says, or two are of the same slide.
    """
    slides = Slides.of(manifest)
    known = [file for file in files if file.stem in slides.ids]
    stems = [file.stem for file in known]
    if twice := sorted({file.name for file in known if stems.count(file.stem) > 1}):
        raise ExtractionError(f"two of the files are of one slide ({twice[0]}); give one of them")
    for path in known:
        yield _locate(path, slides, format)


def _locate(path: Path, slides: Slides, format: str) -> Located:
    label = path.name
    snapshot = Snapshot.take(path)
    with open_hdf5(path) as file:
        kind = _detect(file, label) if format == "auto" else format
        features = numeric_dataset(file, _FEATURES[kind], label)
        shape, batched = _matrix_shape(features, label)
        check_size(label, *shape, features.dtype.itemsize)
        dataset = numeric_dataset(file, "coords", label)
        places = _read_places(dataset, shape[0], label)
        attributes = {
            key: value
            for holder in (file, features, dataset)
            for key, value in plain_attributes(holder).items()
        }
    _check_tiles(attributes, label)
    source = SlideFile(snapshot, kind, *shape, batched, attributes)
    if kind == "stamp":
        pairs = match_micrometres(slides, path.stem, places, attributes, label)
    else:
        pairs = match_pixels(slides, path.stem, places, label)
    return Located(kind, source, *pairs, n_embeddings=shape[0])


def _detect(file: h5py.File, label: str) -> str:
    if has_entry(file, "feats"):
        return "stamp"
    written = plain_attributes(numeric_dataset(file, "coords", label))
    return "trident" if {"patch_size_level0", "target_magnification"} & set(written) else "clam"


def _matrix_shape(dataset: h5py.Dataset, label: str) -> tuple[tuple[int, int], bool]:
    shape = tuple(int(side) for side in dataset.shape or ())
    batched = len(shape) == 3 and shape[0] == 1
    shape = shape[1:] if batched else shape
    if len(shape) != 2:
        raise ExtractionError(
            f"{dataset.name.strip('/')!r} in {label} has shape {dataset.shape}, not one row per "
            "tile; give the file with the tiles' embeddings, not the slide's"
        )
    return (shape[0], shape[1]), batched


def _read_places(dataset: h5py.Dataset, n: int, label: str) -> npt.NDArray[np.float64]:
    shape = dataset.shape or ()
    if shape not in {(n, 2), (1, n, 2)}:
        raise ExtractionError(
            f"'coords' in {label} has shape {shape}, its embeddings are {n}; give a file with x "
            "and y of each"
        )
    places = np.asarray(dataset[...]).reshape(n, 2).astype(np.float64)
    if not np.isfinite(places).all():
        raise ExtractionError(f"'coords' in {label} are not all finite; make the file anew")
    return places


def _check_tiles(attributes: Mapping[str, str | float], label: str) -> None:
    level = attributes.get("feat_type", "tile")
    if level != "tile":
        raise ExtractionError(
            f"{label} holds {level} embeddings (feat_type); give the file with those of tiles"
        )
