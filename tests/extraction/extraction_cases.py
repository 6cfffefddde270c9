"""Tiles, stores and stand-ins for networks that the tests of extraction share."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from reader_cases import SIDE, Pixels

from featurebench.backbones import Backbone
from featurebench.backbones.taps import Tap
from featurebench.extraction import EmbeddingReport, Settings, extract
from featurebench.store import FeatureStore
from featurebench.tiles import TileManifest, read_tile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from featurebench.backbones.protocols import Preparation

N_TILES = 22
BLOCK_ROWS = 8


class MeanColour:
    """Stands in for a network: an embedding is the tile's mean colour."""

    device = "cpu"

    def __init__(self, state: bytes = b"frozen") -> None:
        self.state = state
        self.n_embedded = 0
        self.loaded_sha256 = self.state_sha256()

    def run(self, pixels: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        self.n_embedded += len(pixels)
        means = pixels.to(torch.float64).mean(dim=(1, 2)).float()
        return [means.clone() for _ in taps]

    def state_sha256(self) -> str:
        return hashlib.sha256(self.state).hexdigest()


class Overflowing(MeanColour):
    """Embeds the first tiles of a batch beyond what float16 holds, or as no number at all."""

    def run(self, pixels: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        (rows,) = super().run(pixels, taps)
        rows[0] = torch.nan
        rows[1, 0] = 70_000
        return [rows]


class Drifting(MeanColour):
    """Changes its state while it embeds, as batch normalisation in training mode would."""

    def run(self, pixels: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        self.state += b"!"
        return super().run(pixels, taps)


class Cramped(MeanColour):
    """Has memory for a few tiles at once."""

    capacity = 3

    def run(self, pixels: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        if len(pixels) > self.capacity:
            raise torch.OutOfMemoryError("out of memory")
        return super().run(pixels, taps)


def as_backbone(
    frozen: MeanColour | None = None, *, prepare: Preparation | None = None, **recipe: Any
) -> Backbone:
    """Wrap a stand-in as a backbone."""
    stand_in = frozen or MeanColour()
    return Backbone(
        stand_in,
        tap=Tap(),
        dim=3,
        prepare=prepare or Pixels(),
        recipe={
            "model": "mean_colour",
            "tag": "none",
            "dim": 3,
            "weights_sha256": stand_in.loaded_sha256,
            "preprocessing": {},
            "view": "clean",
            **recipe,
        },
    )


def settings(**changes: Any) -> Settings:
    """Give settings with the small blocks of these tests."""
    return Settings(**{"block_rows": BLOCK_ROWS, **changes})


def extract_one(
    manifest: TileManifest, backbone: Backbone, store: FeatureStore, **changes: Any
) -> EmbeddingReport:
    """Make one embedding, and give its report."""
    (report,) = extract(manifest, backbone, store, settings(**changes)).embeddings
    return report


def new_manifest(folder: Path, n_tiles: int = N_TILES, side: int = SIDE) -> TileManifest:
    """Write tiles of noise and list them."""
    generator = np.random.default_rng(0)
    for row in range(n_tiles):
        target = folder / "ab"[row % 2]
        target.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(target / f"{row:02d}.png")
    return TileManifest.from_folder(folder)


def new_store(path: Path, manifest: TileManifest) -> FeatureStore:
    """Make an empty store of a manifest's tiles."""
    return FeatureStore.create(
        path,
        manifest.table,
        dataset="toy",
        classes=manifest.classes,
        manifest_sha256=manifest.sha256,
    )


def mean_colours(manifest: TileManifest) -> npt.NDArray[np.float16]:
    """Compute what `MeanColour` must give, shape (n, 3)."""
    tiles = [np.array(read_tile(manifest.path_of(row))) for row in range(len(manifest))]
    return np.array([tile.mean(axis=(0, 1)) for tile in tiles]).astype(np.float16)


def spoil(manifest: TileManifest, *rows: int) -> dict[int, bytes]:
    """Cut these tiles off in the middle; return what they were."""
    whole = {row: manifest.path_of(row).read_bytes() for row in rows}
    for row, content in whole.items():
        manifest.path_of(row).write_bytes(content[: len(content) // 2])
    return whole
