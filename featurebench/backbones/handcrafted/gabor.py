"""Gabor filters: how much of each scale and direction a tile holds, and how unevenly.

References
----------
Manjunath, B. S. and Ma, W. Y. (1996). Texture features for browsing and retrieval of image data.
IEEE Transactions on Pattern Analysis and Machine Intelligence 18(8), 837-842.
Moisan, L. (2011). Periodic plus smooth image decomposition. Journal of Mathematical Imaging and
Vision 39(2), 161-179.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.backbones.handcrafted.planes import Planes

# Cycles per pixel, an octave apart.
FREQUENCIES: Final = (0.05, 0.1, 0.2, 0.4)
ORIENTATIONS: Final = 6
# Below this response a filter counts as zero.
CUT: Final = 0.01

NAMES: Final = tuple(
    f"f{frequency}.deg{180 * orientation // ORIENTATIONS}.{statistic}"
    for frequency in FREQUENCIES
    for orientation in range(ORIENTATIONS)
    for statistic in ("mean", "sd")
)
PARAMETERS: Final[dict[str, Any]] = {
    "frequencies": FREQUENCIES,
    "orientations": ORIENTATIONS,
    "cut": CUT,
}


def describe(planes: Planes) -> npt.NDArray[np.float64]:
    """Mean and standard deviation over the tile of each filter's amplitude.

    Grey runs from 0 to 1 and a filter passes its own frequency unchanged, so that a sine wave of
    that frequency has as its mean half its amplitude. Neighbouring filters meet at half height.

    Returns
    -------
    numpy.ndarray
        Shape (48,), as `NAMES`.
    """
    from scipy import fft

    spectrum = _spectrum(planes.grey.astype(np.float32) / 255.0)
    values = []
    for rows, columns, response in _bank(spectrum.shape):
        # The filtered tile holds no other frequencies than these, so that as many samples tell it:
        # a transform of the whole tile for each filter would take long.
        amplitude = np.abs(fft.ifft2(spectrum[rows, columns] * response, norm="forward"))
        values += [amplitude.mean(dtype=np.float64), amplitude.std(dtype=np.float64)]
    return np.array(values)


class _Filter(NamedTuple):
    """Where a filter is not zero, and its response there."""

    rows: slice
    columns: slice
    response: npt.NDArray[np.float32]


def _spectrum(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
    """Spectrum of the plane's periodic part, zero frequency removed and in the middle.

    A tile does not go on at its other side; taken as periodic, its border would be an edge. What
    is taken off is the smooth picture that has these jumps and nothing else (Moisan 2011).
    """
    from scipy import fft

    jumps = np.zeros_like(plane)
    jumps[0] = plane[-1] - plane[0]
    jumps[-1] = -jumps[0]
    sides = plane[:, -1] - plane[:, 0]
    jumps[:, 0] += sides
    jumps[:, -1] -= sides
    spectrum = fft.fft2(plane, norm="forward")
    spectrum -= fft.fft2(jumps, norm="forward") * _smoothing(plane.shape)
    spectrum[0, 0] = 0.0
    return np.fft.fftshift(spectrum)


@lru_cache(maxsize=16)
def _smoothing(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    rows, columns = (2.0 * np.cos(2.0 * math.pi * np.fft.fftfreq(side)) for side in shape)
    laplacian = rows[:, None] + columns - 4.0
    laplacian[0, 0] = 1.0
    smoothing: npt.NDArray[np.float64] = 1.0 / laplacian
    return smoothing.astype(np.float32)


@lru_cache(maxsize=16)
def _bank(shape: tuple[int, int]) -> tuple[_Filter, ...]:
    return tuple(
        _make_filter(shape, frequency, math.pi * orientation / ORIENTATIONS)
        for frequency in FREQUENCIES
        for orientation in range(ORIENTATIONS)
    )


def _make_filter(shape: tuple[int, int], frequency: float, angle: float) -> _Filter:
    """Gaussian about a frequency; its widths are those of the paper's appendix."""
    down, right = (np.fft.fftshift(np.fft.fftfreq(side)) for side in shape)
    # Angles run counter-clockwise as the tile is looked at, rows downwards.
    along = right * math.cos(angle) - down[:, None] * math.sin(angle) - frequency
    across = right * math.sin(angle) + down[:, None] * math.cos(angle)
    half = math.sqrt(2.0 * math.log(2.0))
    length = frequency / 3.0 / half
    breadth = frequency * math.tan(math.pi / (2 * ORIENTATIONS)) / half
    response = np.exp(-0.5 * ((along / length) ** 2 + (across / breadth) ** 2))
    rows, columns = (_extent(response.max(axis=axis)) for axis in (1, 0))
    return _Filter(rows, columns, response[rows, columns].astype(np.float32))


def _extent(response: npt.NDArray[np.float64]) -> slice:
    """From the first to the last place above the cut; the highest alone if there is none."""
    above = np.flatnonzero(response >= min(CUT, response.max()))
    return slice(int(above[0]), int(above[-1]) + 1)
