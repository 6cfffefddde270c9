"""Jitter: a tile as another laboratory would stain it, or another objective magnify it.

References
----------
Tellez, D. et al. (2018). Whole-slide mitosis detection in H&E breast histology using PHH3 as a
reference to train distilled stain-invariant convolutional networks. IEEE Transactions on Medical
Imaging 37(9), 2126-2136 (stain augmentation in haematoxylin-eosin space).
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from featurebench.tiles.staining import restaining

if TYPE_CHECKING:
    from featurebench.tiles.views import View

STAIN_SIGMA: Final = 0.05
ZOOM_LIMIT: Final = 1.2

# One grey level more than there are, so that black has a density and comes back as black.
_DENSITY: Final = -np.log10((np.arange(256, dtype=np.float32) + 1.0) / 256.0)


def jitter_tile(image: Image.Image, view: View, tile_id: str) -> Image.Image:
    """Show a tile with another stain or at another magnification, the same in every run.

    ``stain`` separates the optical density into haematoxylin, eosin and the rest, and turns each
    amount c into ``a c + b``, a drawn from 0.95 to 1.05 and b from -0.05 to 0.05 (Tellez et al.
    2018, the light variant), where an amount of 1 has the stain's unit vector as decadic optical
    density. ``zoom`` magnifies about the centre by a factor drawn from 1/1.2 to 1.2, uniform in
    its logarithm; what lies outside the tile is mirrored at its border.

    Parameters
    ----------
    image
        The tile, RGB.
    view
        Its symmetry is left to `turn_pixels`.
    tile_id
        Each tile has its own draws. With the view they fix the random numbers, whichever process
        draws them and in whichever order.

    Returns
    -------
    PIL.Image.Image
        RGB, of the tile's size; `image` itself where the view has no jitter.
    """
    if view.jitter is None:
        return image
    rng = _generator(view, tile_id)
    return _restain(image, rng) if view.jitter == "stain" else _zoom(image, rng)


def _generator(view: View, tile_id: str) -> np.random.Generator:
    key = json.dumps([tile_id, view.jitter, view.draw, view.seed])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))


def _restain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = rng.uniform(1 - STAIN_SIGMA, 1 + STAIN_SIGMA, 3)
    offset = rng.uniform(-STAIN_SIGMA, STAIN_SIGMA, 3)
    mixing, shift = restaining(factor, offset)
    density = _DENSITY[np.asarray(image)] @ mixing.astype(np.float32)
    density += shift.astype(np.float32)
    light = 256.0 * np.exp(-math.log(10.0) * density) - 1.0
    return Image.fromarray(np.clip(np.rint(light), 0, 255).astype(np.uint8))


def _zoom(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = ZOOM_LIMIT ** rng.uniform(-1.0, 1.0)
    width, height = image.size
    # A margin for the window of the widest view, and for the kernel that resizes it.
    margin = 2 + math.ceil(max(width, height) * (ZOOM_LIMIT - 1.0) / 2)
    edges = ((margin, margin), (margin, margin), (0, 0))
    padded = Image.fromarray(np.pad(np.asarray(image), edges, mode="symmetric"))
    left = margin + (width - width / factor) / 2
    top = margin + (height - height / factor) / 2
    window = (left, top, left + width / factor, top + height / factor)
    return padded.resize((width, height), Image.Resampling.BICUBIC, box=window)
