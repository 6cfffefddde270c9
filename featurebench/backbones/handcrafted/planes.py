"""The planes of a tile that descriptors are measured on: grey, colour spaces, stains.

References
----------
Ruifrok, A. C. and Johnston, D. A. (2001). Quantification of histochemical staining by color
deconvolution. Analytical and Quantitative Cytology and Histology 23(4), 291-299.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import PIL.Image

# Optical density of haematoxylin, eosin and DAB as the paper has them and as "HED" is commonly
# understood; the third, absent in H&E, takes up what the first two leave.
RGB_FROM_HED: Final = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
# Amount of a stain that becomes level 255; one pixel in a thousand of stained tissue is above.
STAIN_RANGE: Final = 1.0


class Planes:
    """A tile, and what is derived from it once for all groups of descriptors.

    Parameters
    ----------
    image
        RGB.
    """

    def __init__(self, image: PIL.Image.Image) -> None:
        self.image = image

    @cached_property
    def grey(self) -> npt.NDArray[np.uint8]:
        """Luma of ITU-R 601, shape (h, w)."""
        return np.asarray(self.image.convert("L"))

    @cached_property
    def hsv(self) -> PIL.Image.Image:
        """Hue, saturation and value, each 0 to 255."""
        return self.image.convert("HSV")

    @cached_property
    def stains(self) -> npt.NDArray[np.uint8]:
        """Amounts of haematoxylin, eosin and the rest, 255 for `STAIN_RANGE`; shape (h, w, 3)."""
        density = _DENSITY[np.asarray(self.image)]
        levels: npt.NDArray[np.float32] = np.clip(density @ _LEVELS_FROM_DENSITY + 0.5, 0, 255)
        return levels.astype(np.uint8)

    @cached_property
    def textures(self) -> dict[str, npt.NDArray[np.uint8]]:
        """The planes on which texture is measured, each of shape (h, w)."""
        return {"grey": self.grey, "haematoxylin": self.stains[..., 0]}


TEXTURES: Final = ("grey", "haematoxylin")

# One grey level more than there are, so that black has a density.
_DENSITY: Final = -np.log10((np.arange(256, dtype=np.float32) + 1.0) / 256.0)
_LEVELS_FROM_DENSITY: Final = (np.linalg.inv(np.array(RGB_FROM_HED)) * 255.0 / STAIN_RANGE).astype(
    np.float32
)
