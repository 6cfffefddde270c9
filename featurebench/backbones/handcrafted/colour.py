"""Colour descriptors: histogram and moments of each channel in RGB, HSV and stain space.

References
----------
Stricker, M. and Orengo, M. (1995). Similarity of color images. Proc. SPIE 2420, 381-392 (moments
in the channel's own unit, which exist for a channel without any spread).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import PIL.Image

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.backbones.handcrafted.planes import Planes

CHANNELS: Final = (
    *("red", "green", "blue"),
    *("hue", "saturation", "value"),
    *("haematoxylin", "eosin", "residual"),
)
MOMENTS: Final = ("mean", "sd", "skewness", "kurtosis")
BINS: Final = 16
# The circle of hues is cut at green, which no stain of H&E has; at red it would cut eosin in two.
HUE_CUT: Final = 85

NAMES: Final = tuple(
    f"{channel}.{what}"
    for channel in CHANNELS
    for what in (*(f"bin{i}" for i in range(BINS)), *MOMENTS)
)
PARAMETERS: Final[dict[str, Any]] = {"bins": BINS, "hue_cut": HUE_CUT}


def describe(planes: Planes) -> npt.NDArray[np.float64]:
    """Histogram and moments of each of `CHANNELS`.

    Levels run from 0 to 1. With the central moments m2, m3 and m4, ``sd`` is their square root,
    ``skewness`` the cube root of m3 and ``kurtosis`` the fourth root of m4.

    Returns
    -------
    numpy.ndarray
        Shape (180,), as `NAMES`; histograms are fractions of the tile's pixels.
    """
    levels = _levels(planes)
    histogram = levels.reshape(len(CHANNELS), BINS, -1).sum(axis=2)
    return np.hstack([histogram, _moments(levels)]).ravel()


def _levels(planes: Planes) -> npt.NDArray[np.float64]:
    """Fraction of the pixels at each of 256 levels: shape (9, 256)."""
    stains = PIL.Image.fromarray(planes.stains)
    counts = np.array([image.histogram() for image in (planes.image, planes.hsv, stains)])
    levels = counts.reshape(len(CHANNELS), 256) / planes.grey.size
    hue = CHANNELS.index("hue")
    levels[hue] = np.roll(levels[hue], -HUE_CUT)
    return levels


def _moments(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values = np.linspace(0.0, 1.0, 256)
    mean = levels @ values
    centred = values - mean[:, None]
    second, third, fourth = (np.sum(levels * centred**order, axis=1) for order in (2, 3, 4))
    return np.stack([mean, np.sqrt(second), np.cbrt(third), fourth**0.25], axis=1)
