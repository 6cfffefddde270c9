"""eva of kaiko: a folder with ``manifest.csv`` and one ``.pt`` file per tile.

The layout, as ``ManifestManager`` and ``ClassificationEmbeddingsWriter`` of github.com/kaiko-ai/eva
(``core/callbacks/writers/embeddings``) write it: columns ``origin`` (the image, as the data set
names it), ``embeddings`` (a path below the folder, by default the origin's with ``.pt``),
``target`` and ``split``, then any further ones; each ``.pt`` a tensor of the tile, or, in later
versions and for several patches of one slide, a list of tensors. Neither names the network.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.errors import ExtractionError
from featurebench.extraction.foreign.names import match_origins, read_columns
from featurebench.extraction.foreign.sources import (
    EVA_MANIFEST,
    MAX_DIM,
    Located,
    Positions,
    Rows,
    Snapshot,
    SourceFile,
    as_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from featurebench.tiles import TileManifest

_COLUMNS = ("origin", "embeddings")
MAX_TENSOR_BYTES = 64 * 2**20
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    zipfile.BadZipFile,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


@dataclass(frozen=True)
class TensorFolder:
    """The tensor files of tiles that the manifest knows, by position."""

    snapshots: Mapping[int, Snapshot]
    dim: int
    digest: str
    attributes: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def file(self) -> SourceFile:
        """One entry for all tensor files."""
        return SourceFile("*.pt", self.digest, len(self.snapshots))

    def read(self, positions: Positions) -> Rows:
        """Read embeddings, shape (len(positions), dim)."""
        rows = np.empty((len(positions), self.dim), dtype=np.float32)
        for i, position in enumerate(positions.tolist()):
            snapshot = self.snapshots[position]
            embedding = _read_tensor(snapshot)
            if len(embedding) != self.dim:
                raise ExtractionError(
                    f"{snapshot.path.name} has {len(embedding)} columns, others {self.dim}; import "
                    "embeddings of one network"
                )
            rows[i] = embedding
        return rows


def locate_tensors(folders: Sequence[Path], manifest: TileManifest) -> Iterator[Located]:
    """Match the rows of each folder's ``manifest.csv`` with the tiles.

    Raises
    ------
    ExtractionError
        If a manifest or a tensor file cannot be read, or a path leaves its folder.
    """
    for folder in folders:
        table = read_columns(folder / EVA_MANIFEST, _COLUMNS)
        if len(table) < len(_COLUMNS):
            raise ExtractionError(
                f"{EVA_MANIFEST} lacks one of the columns {', '.join(_COLUMNS)}; give the folder "
                "that eva wrote"
            )
        paths = [_inside(folder, text) for text in table["embeddings"]]
        found = match_origins(table["origin"], manifest)
        positions = np.flatnonzero(found >= 0)
        if len(positions):
            source = _tensor_folder(paths, positions)
            yield Located("eva", source, found[positions], positions, len(paths))


def _tensor_folder(paths: Sequence[Path], positions: Positions) -> TensorFolder:
    snapshots = {position: Snapshot.take(paths[position]) for position in positions.tolist()}
    hashes = "\n".join(snapshot.sha256 for snapshot in snapshots.values())
    dim = len(_read_tensor(snapshots[int(positions[0])]))
    return TensorFolder(snapshots, dim, hashlib.sha256(hashes.encode()).hexdigest())


def _inside(folder: Path, text: str) -> Path:
    root = folder.resolve()
    try:
        path = (root / text).resolve()
        fits = path.is_relative_to(root) and path.suffix == ".pt"
    except (OSError, ValueError):  # a NUL, or a loop of links
        fits = False
    if not fits:
        raise ExtractionError(
            f"{EVA_MANIFEST} names {text!r}, which is no .pt file below its folder; such a table "
            "is not read"
        )
    return path


def _read_tensor(snapshot: Snapshot) -> Rows:
    """Read one embedding, shape (dim,); nothing in the file is run."""
    content = snapshot.read_bytes(MAX_TENSOR_BYTES)
    try:
        return _load(content)
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise ExtractionError(
            f"{snapshot.path.name} is not one plain tensor ({reason}); save each tile's embedding "
            "with torch.save(tensor, file)"
        ) from error


def _load(content: bytes) -> Rows:
    import torch

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_TENSOR_BYTES:
        raise ValueError(f"it unpacks to {unpacked} bytes")
    loaded: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if isinstance(loaded, list | tuple):
        if len(loaded) != 1:
            raise ValueError(f"it holds {len(loaded)} embeddings, as of several tiles")
        loaded = loaded[0]
    if not isinstance(loaded, torch.Tensor) or not loaded.dtype.is_floating_point:
        raise TypeError(f"it holds {type(loaded).__name__}, not floating-point numbers")
    if loaded.layout is not torch.strided or loaded.device.type != "cpu":
        raise ValueError(f"it is a {loaded.layout} tensor on {loaded.device}")
    if loaded.ndim == 0 or loaded.numel() != loaded.shape[-1] or not 1 <= loaded.numel() <= MAX_DIM:
        raise ValueError(f"it has shape {tuple(loaded.shape)}, not one row")
    return as_rows(loaded.detach().reshape(-1).to(torch.float32).numpy())
