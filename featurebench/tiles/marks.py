"""The fine texture: a lattice of small marks, dark in the middle in one class, light in another."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

# The centre of a mark, the 8 pixels around it, the 16 around those: values whose sum and whose sum
# of cubes are 0. So a mark and its negative have the same mean, variance and skewness.
CENTRE: Final = 1.924146
RING: Final = -1.0
RIM: Final = 0.379741
# Relative change of stain by a value of 1 where the contrast is 1.
STRENGTH: Final = 0.32


def draw_relief(size: int, contrast: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw the factor by which marks change the amounts of both stains.

    Marks of 5 x 5 pixels stand side by side from a random corner; they look the same turned and
    mirrored. The factors of ``contrast`` and ``-contrast`` add up to 2 everywhere, so their power
    spectra are the same, and so are mean, variance and skewness. Both stains change alike. What
    remains is the sign of what is in the middle.

    Parameters
    ----------
    size
        Width and height in pixels.
    contrast
        0 for no marks; the sign says which of the two kinds. Beyond 1.6 the factor would fall
        below 0 in the middle of a light mark, and is kept there.
    rng
        The tile's own generator.

    Returns
    -------
    numpy.ndarray
        Shape (size, size), at least 0; 1 on average over whole marks.
    """
    mark = np.full((5, 5), RIM)
    mark[1:4, 1:4] = RING
    mark[2, 2] = CENTRE
    top, left = rng.integers(0, len(mark), 2)
    lattice = np.tile(mark, (size // len(mark) + 2,) * 2)[top : top + size, left : left + size]
    return np.maximum(1.0 + STRENGTH * contrast * lattice, 0.0).astype(np.float32)
