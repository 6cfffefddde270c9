"""Tiles read, transformed and batched in the order of their rows, here or in worker processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.utils.data

from featurebench.errors import TileError
from featurebench.tiles import read_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import PIL.Image

    from featurebench.store import Block
    from featurebench.tiles import TileManifest

Sample = tuple[int, torch.Tensor | str]


@dataclass(frozen=True)
class TileBatch:
    """Some rows of the manifest.

    Parameters
    ----------
    rows
        Of the tiles that could be read.
    pixels
        Their tensors, shape (len(rows), 3, height, width); None where no tile could be read.
    unreadable
        Row and reason of each of the others.
    """

    rows: tuple[int, ...]
    pixels: torch.Tensor | None
    unreadable: tuple[tuple[int, str], ...]

    def __len__(self) -> int:
        """Count the tiles, readable or not."""
        return len(self.rows) + len(self.unreadable)


class TileLoader:
    """Batches of a block's tiles; the workers, if any, live as long as the loader.

    The batches of a block are the same in every run, so that a resumed extraction gives the bits
    of an undisturbed one.

    Parameters
    ----------
    manifest
        Of the tiles.
    transform
        Image to tensor; must be picklable where there are workers.
    batch_size
        Tiles of a batch.
    workers
        Processes that read tiles; 0 reads them in this one.
    """

    def __init__(
        self,
        manifest: TileManifest,
        transform: Callable[[PIL.Image.Image], torch.Tensor],
        *,
        batch_size: int,
        workers: int = 0,
    ) -> None:
        self._batches = _BlockBatches(batch_size)
        self._loader: torch.utils.data.DataLoader[Sample] = torch.utils.data.DataLoader(
            _Tiles(manifest.root, manifest.table["path"].tolist(), transform),
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_collate,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
        )

    def batches(self, block: Block) -> Iterator[TileBatch]:
        """Read a block's tiles in order."""
        self._batches.rows = range(block.start, block.stop)
        yield from self._loader


class _Tiles(torch.utils.data.Dataset[Sample]):
    """Row to tensor, or to the reason why there is none."""

    def __init__(
        self,
        root: Path,
        paths: list[str],
        transform: Callable[[PIL.Image.Image], torch.Tensor],
    ) -> None:
        self.root = root
        self.paths = paths
        self.transform = transform

    def __getitem__(self, row: int) -> Sample:
        try:
            return row, self.transform(read_tile(self.root / self.paths[row]))
        except TileError as error:
            return row, str(error)


class _BlockBatches(torch.utils.data.Sampler[list[int]]):
    """Consecutive rows of the block that was set last."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.rows = range(0)

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.rows), self.batch_size):
            yield list(self.rows[start : start + self.batch_size])


def _collate(samples: list[Sample]) -> TileBatch:
    read = [(row, pixels) for row, pixels in samples if isinstance(pixels, torch.Tensor)]
    return TileBatch(
        rows=tuple(row for row, _ in read),
        pixels=torch.stack([pixels for _, pixels in read]) if read else None,
        unreadable=tuple((row, why) for row, why in samples if isinstance(why, str)),
    )
