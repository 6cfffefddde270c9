"""Pixels on their way to the network: decoding, cache, workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from featurebench.errors import ConfigError, TileError
from featurebench.finetuning import dataset
from featurebench.finetuning.dataset import TilePixels
from featurebench.tiles import TileManifest, read_tile

if TYPE_CHECKING:
    from pathlib import Path

MakeCohort = Callable[..., TileManifest]


@pytest.fixture
def tiles(make_cohort: MakeCohort) -> TileManifest:
    return make_cohort(patients=4, tiles=2, size=40)


def _all(pixels: TilePixels, *batches: list[int]) -> list[torch.Tensor]:
    return list(pixels.batches([np.array(batch) for batch in batches]))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache_bytes", [0, dataset.CACHE_BYTES])
def test_pixels_are_pillows_and_never_touch_the_random_stream(
    tiles: TileManifest, workers: int, cache_bytes: int
) -> None:
    pixels = TilePixels(tiles, 24, "bicubic", workers=workers, cache_bytes=cache_bytes)
    assert pixels.cached == bool(cache_bytes)
    before = torch.get_rng_state()
    batches = [[5, 0, 5], [7, 1]]
    for rows, batch in zip(batches, _all(pixels, *batches), strict=True):
        assert batch.dtype == torch.uint8
        for row, tile in zip(rows, batch, strict=True):
            with Image.open(tiles.path_of(row)) as image:
                expected = np.asarray(image.resize((24, 24), Image.Resampling.BICUBIC))
            np.testing.assert_array_equal(tile.permute(1, 2, 0).numpy(), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_tile_is_decoded_once_if_all_fit(
    tiles: TileManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(path: Path) -> Image.Image:
        read.append(str(path))
        return read_tile(path)

    monkeypatch.setattr(dataset, "read_tile", counting)
    needed = 8 * 24 * 24 * 3
    for cache_bytes, n_reads in ((needed, 4), (needed - 1, 9)):
        read.clear()
        pixels = TilePixels(tiles, 24, "bilinear", cache_bytes=cache_bytes)
        _all(pixels, [0, 1, 2], [2, 1])
        _all(pixels, [0, 1, 2, 3])
        assert len(read) == n_reads


def test_oblong_tile_loses_margins_not_proportions(tiles: TileManifest) -> None:
    oblong = np.zeros((40, 80, 3), dtype=np.uint8)
    oblong[:, 20:60] = 255
    Image.fromarray(oblong).save(tiles.path_of(0))
    (batch,) = _all(TilePixels(tiles, 20, "nearest"), [0])
    assert batch.shape == (1, 3, 20, 20)
    assert (batch == 255).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_tile_is_named_in_one_line(tiles: TileManifest, workers: int) -> None:
    tiles.path_of(3).unlink()
    pixels = TilePixels(tiles, 24, "bicubic", workers=workers, cache_bytes=0)
    assert len(_all(pixels, [0, 1])) == 1
    with pytest.raises(TileError, match=r"^tile 't01_1': [^\n]+; take it out of the manifest$"):
        _all(pixels, [2, 3])


def test_unknown_interpolation(tiles: TileManifest) -> None:
    with pytest.raises(ConfigError, match="interpolation 'psychic' is unknown: use bicubic, bil"):
        TilePixels(tiles, 24, "psychic")
