"""Pictures that are one tile are told from pictures that are two."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from featurebench.audit import ALIKE, likeness
from featurebench.tiles import Cohort


def _tile(patient: int, tile: int) -> Image.Image:
    return Image.fromarray(Cohort(patients=6, size=96).draw(patient, tile))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("quality", [90, 50, 30])
@pytest.mark.parametrize("turn", [None, *Image.Transpose])
def test_one_tile_encoded_anew_any_way_round(quality: int, turn: Image.Transpose | None) -> None:
    tile = _tile(0, 0)
    other = _jpeg(tile if turn is None else tile.transpose(turn), quality)
    assert likeness(tile, other) > 0.99


def test_one_tile_at_half_the_size() -> None:
    tile = _tile(1, 0)
    assert likeness(tile, tile.resize((48, 48), Image.Resampling.BICUBIC)) > 0.95


def test_tiles_of_one_patient_and_of_two_are_not_alike() -> None:
    tiles = [_tile(p, t) for p in range(4) for t in range(3)]
    values = [likeness(a, b) for i, a in enumerate(tiles) for b in tiles[i + 1 :]]
    assert max(values) < ALIKE - 0.2


def test_likeness_of_two_pictures_is_symmetric_and_of_a_blank_one_none() -> None:
    a, b = _tile(0, 0), _tile(2, 1)
    assert likeness(a, b) == pytest.approx(likeness(b, a))
    blank = Image.fromarray(np.full((40, 40, 3), 200, dtype=np.uint8))
    assert likeness(a, blank) == pytest.approx(0.0)
    assert likeness(blank, blank) == pytest.approx(0.0)
