"""The tiles' pixels at one size: decoded once into memory where they fit, else read on the fly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from featurebench.errors import ConfigError, TileError
from featurebench.tiles import TileManifest, read_tile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CACHE_BYTES = 2 * 2**30
_FILL_ROWS = 64


@dataclass(frozen=True)
class _Undecodable:
    row: int
    reason: str


class _Reader(Dataset[torch.Tensor | _Undecodable]):
    """Decodes one tile; also in a worker process, whose failure must come back in one line."""

    def __init__(self, paths: Sequence[Path], size: int, resample: Image.Resampling) -> None:
        self.paths, self.size, self.resample = paths, size, resample

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor | _Undecodable:
        try:
            image = read_tile(self.paths[row])
        except TileError as error:
            return _Undecodable(row, str(error))
        if image.size != (self.size, self.size):
            image = ImageOps.fit(image, (self.size, self.size), method=self.resample)
        return torch.from_numpy(np.array(image, dtype=np.uint8))


class TilePixels:
    """Uint8 RGB pixels of a manifest's tiles, every tile brought to one square size.

    A tile that is not square loses the longer side's margins, never its proportions.

    Parameters
    ----------
    manifest
        Row i is tile i.
    size
        Side in pixels.
    interpolation
        Name of a pillow filter: ``nearest``, ``bilinear``, ``bicubic``, ``lanczos`` ...
    workers
        Processes that decode; 0 decodes in this one.
    cache_bytes
        Tiles are kept decoded if all of them fit into so much memory (default 2 GiB: 14,000
        tiles of 224 pixels), otherwise each is read again whenever it is used.
    """

    def __init__(
        self,
        manifest: TileManifest,
        size: int,
        interpolation: str,
        *,
        workers: int = 0,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        rows = range(len(manifest))
        self._tile_ids = manifest.table["tile_id"].astype(str).to_list()
        self._reader = _Reader([manifest.path_of(r) for r in rows], size, resampling(interpolation))
        self._workers = workers
        self._shape = (len(manifest), size, size, 3)
        self._fits = math.prod(self._shape) <= cache_bytes
        self._cache: npt.NDArray[np.uint8] | None = None
        self._decoded = np.zeros(len(manifest), dtype=bool)

    @property
    def cached(self) -> bool:
        """Whether tiles are kept decoded in memory."""
        return self._fits

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the pixels: another process decodes what it needs."""
        return self.__dict__ | {"_cache": None, "_decoded": np.zeros_like(self._decoded)}

    def batches(self, batches: Sequence[npt.NDArray[np.intp]]) -> Iterator[torch.Tensor]:
        """Yield the pixels of each batch of rows.

        Returns
        -------
        Iterator of torch.Tensor
            Uint8, shape (rows, 3, size, size), channels last in memory.

        Raises
        ------
        TileError
            If a tile does not decode; the message names its ``tile_id``.
        """
        if not self._fits:
            yield from self._read(batches)
            return
        if self._cache is None:
            self._cache = np.empty(self._shape, dtype=np.uint8)
        self._fill(self._cache, np.unique(np.concatenate(batches)))
        for rows in batches:
            yield _channels_first(torch.from_numpy(self._cache[rows]))

    def _fill(self, cache: npt.NDArray[np.uint8], rows: npt.NDArray[np.intp]) -> None:
        missing = rows[~self._decoded[rows]]
        if not len(missing):
            return
        parts = np.array_split(missing, -(-len(missing) // _FILL_ROWS))
        for part, pixels in zip(parts, self._read(parts), strict=True):
            cache[part] = pixels.permute(0, 2, 3, 1).numpy()
            self._decoded[part] = True

    def _read(self, batches: Sequence[npt.NDArray[np.intp]]) -> Iterator[torch.Tensor]:
        loader = DataLoader(
            self._reader,
            batch_sampler=[rows.tolist() for rows in batches],
            num_workers=self._workers,
            collate_fn=_stack,
            # The loader draws a seed; from its own generator, training's random stream is left be.
            generator=torch.Generator(),
        )
        for pixels in loader:
            if isinstance(pixels, _Undecodable):
                tile = self._tile_ids[pixels.row]
                raise TileError(f"tile {tile!r}: {pixels.reason}; take it out of the manifest")
            yield _channels_first(pixels)


def resampling(interpolation: str) -> Image.Resampling:
    """Return pillow's filter of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    try:
        return Image.Resampling[interpolation.upper()]
    except KeyError:
        known = ", ".join(sorted(r.name.lower() for r in Image.Resampling))
        raise ConfigError(f"interpolation {interpolation!r} is unknown: use {known}") from None


def _channels_first(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2)


def _stack(tiles: Sequence[torch.Tensor | _Undecodable]) -> torch.Tensor | _Undecodable:
    decoded = []
    for tile in tiles:
        if isinstance(tile, _Undecodable):
            return tile
        decoded.append(tile)
    return torch.stack(decoded)
