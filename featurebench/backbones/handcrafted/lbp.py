"""Uniform local binary patterns: which neighbours on a circle are at least as bright.

References
----------
Ojala, T., Pietikainen, M. and Maenpaa, T. (2002). Multiresolution gray-scale and rotation
invariant texture classification with local binary patterns. IEEE Transactions on Pattern Analysis
and Machine Intelligence 24(7), 971-987.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from featurebench.backbones.handcrafted.planes import TEXTURES

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.backbones.handcrafted.planes import Planes

# Neighbours and radius in pixels.
CIRCLES: Final = ((8, 1), (16, 2))
# Places between pixels are known to 1/1024 of a pixel, so that all sums are of whole numbers: a
# flat neighbourhood is flat exactly, and no processor rounds otherwise than another.
STEPS: Final = 1024

NAMES: Final = tuple(
    f"{plane}.r{radius}.bin{i}"
    for plane in TEXTURES
    for points, radius in CIRCLES
    for i in range(points + 2)
)
PARAMETERS: Final[dict[str, Any]] = {"circles": CIRCLES, "steps": STEPS}


def describe(planes: Planes) -> npt.NDArray[np.float64]:
    """Histograms of the uniform patterns on each circle.

    Returns
    -------
    numpy.ndarray
        Shape (56,), as `NAMES`: fractions of the pixels whose circle lies within the tile.
    """
    histograms = [
        _histogram(planes.textures[name], points, radius)
        for name in TEXTURES
        for points, radius in CIRCLES
    ]
    return np.concatenate(histograms)


def patterns(plane: npt.NDArray[np.uint8], points: int, radius: int) -> npt.NDArray[np.uint8]:
    """Rotation-invariant uniform pattern of each pixel (LBP-riu2, equation 9 of the paper).

    Parameters
    ----------
    plane
        Shape (h, w).
    points
        Neighbours on the circle.
    radius
        Of the circle in pixels.

    Returns
    -------
    numpy.ndarray
        Shape (h - 2 radius, w - 2 radius). The number of brighter neighbours, 0 to `points`,
        where they stand together; ``points + 1`` where they do not.
    """
    wide = plane.astype(np.int32)
    height, width = (side - 2 * radius for side in plane.shape)
    threshold = wide[radius : radius + height, radius : radius + width] * STEPS**2
    brighter = np.empty((points, height, width), dtype=bool)
    for point in range(points):
        angle = 2 * math.pi * point / points
        row, column = radius - radius * math.sin(angle), radius + radius * math.cos(angle)
        np.greater_equal(
            _interpolated(wide, row, column, (height, width)), threshold, out=brighter[point]
        )
    changes = (brighter ^ np.roll(brighter, 1, axis=0)).sum(axis=0, dtype=np.uint8)
    count = brighter.sum(axis=0, dtype=np.uint8)
    return np.where(changes <= 2, count, np.uint8(points + 1))


def _histogram(plane: npt.NDArray[np.uint8], points: int, radius: int) -> npt.NDArray[np.float64]:
    found = patterns(plane, points, radius)
    return np.bincount(found.ravel(), minlength=points + 2) / found.size


def _interpolated(
    plane: npt.NDArray[np.int32], row: float, column: float, shape: tuple[int, int]
) -> npt.NDArray[np.int32]:
    """Bilinear value at (row, column) from each pixel, times ``STEPS ** 2``."""
    top, down = divmod(round(row * STEPS), STEPS)
    left, right = divmod(round(column * STEPS), STEPS)
    height, width = shape
    rows = plane[top : top + height + bool(down)]
    across = rows[:, left : left + width] * (STEPS - right)
    if right:
        across += rows[:, left + 1 : left + 1 + width] * right
    if not down:
        return across * STEPS
    return across[:-1] * (STEPS - down) + across[1:] * down
