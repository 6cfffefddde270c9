"""Haralick's texture: statistics of how often two grey levels stand a distance apart.

References
----------
Haralick, R. M., Shanmugam, K. and Dinstein, I. (1973). Textural features for image classification.
IEEE Transactions on Systems, Man, and Cybernetics SMC-3(6), 610-621.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from featurebench.backbones.handcrafted.planes import TEXTURES

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.backbones.handcrafted.planes import Planes

LEVELS: Final = 32
DISTANCES: Final = (1, 3, 5)
ANGLES: Final = (0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4)
# f1 to f13 of the paper, in its order.
STATISTICS: Final = (
    "angular_second_moment",
    "contrast",
    "correlation",
    "variance",
    "inverse_difference_moment",
    "sum_average",
    "sum_variance",
    "sum_entropy",
    "entropy",
    "difference_variance",
    "difference_entropy",
    "information_1",
    "information_2",
)
NAMES: Final = tuple(
    f"{plane}.d{distance}.{statistic}.{over}"
    for plane in TEXTURES
    for distance in DISTANCES
    for statistic in STATISTICS
    for over in ("mean", "range")
)
PARAMETERS: Final[dict[str, Any]] = {
    "levels": LEVELS,
    "distances": DISTANCES,
    "angles": len(ANGLES),
}


def describe(planes: Planes) -> npt.NDArray[np.float64]:
    """Haralick's 13 statistics, their mean and range over four directions.

    Returns
    -------
    numpy.ndarray
        Shape (156,), as `NAMES`.
    """
    return np.concatenate([_texture(planes.textures[name]) for name in TEXTURES])


def statistics(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Haralick's f1 to f13, for grey levels that run from 0 to 1; entropies are in nats.

    Parameters
    ----------
    matrices
        Symmetric co-occurrence matrices, each of sum 1; shape (..., L, L).

    Returns
    -------
    numpy.ndarray
        Shape (..., 13), as `STATISTICS`. Where only one grey level occurs, the correlation is 1
        and both information measures are 0. The sum variance is taken about the sum average; the
        paper prints the sum entropy in its place.
    """
    count = matrices.shape[-1]
    values = np.arange(count) / (count - 1)
    margin = matrices.sum(axis=-1)
    sums, differences = _along_diagonals(matrices)
    sum_values, steps = np.arange(2 * count - 1) / (count - 1), np.arange(count)
    _, variance = _mean_and_variance(margin, values)
    sum_average, sum_variance = _mean_and_variance(sums, sum_values)
    _, difference_variance = _mean_and_variance(differences, values)
    contrast = differences @ values**2
    entropy = _entropy(matrices.reshape(*matrices.shape[:-2], -1))
    # Both margins are equal, so HXY1 and HXY2 of the paper are twice the entropy HX of one.
    margin_entropy = _entropy(margin)
    shared = np.maximum(2 * margin_entropy - entropy, 0.0)
    return np.stack(
        [
            np.sum(matrices**2, axis=(-2, -1)),
            contrast,
            1.0 - _ratio(contrast, 2 * variance),
            variance,
            differences @ (1.0 / (1.0 + steps**2)),
            sum_average,
            sum_variance,
            _entropy(sums),
            entropy,
            difference_variance,
            _entropy(differences),
            -_ratio(shared, margin_entropy),
            np.sqrt(-np.expm1(-2.0 * shared)),
        ],
        axis=-1,
    )


def _texture(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    from skimage.feature import graycomatrix

    coarse = plane // (256 // LEVELS)
    counts = graycomatrix(  # type: ignore[no-untyped-call]
        coarse, DISTANCES, ANGLES, levels=LEVELS, symmetric=True
    )
    matrices = np.moveaxis(counts, (2, 3), (0, 1)) / counts.sum(axis=(0, 1))[..., None, None]
    values = statistics(matrices)
    return np.stack([values.mean(axis=1), np.ptp(values, axis=1)], axis=-1).ravel()


def _along_diagonals(
    matrices: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distribution of the sum and of the absolute difference of two levels."""
    flat = matrices.reshape(*matrices.shape[:-2], -1)
    sums, differences = _diagonals(matrices.shape[-1])
    return flat @ sums, flat @ differences


@lru_cache(maxsize=4)
def _diagonals(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Which sum and which difference each pair of levels has, as columns of zeros and ones."""
    rows, columns = np.indices((count, count)).reshape(2, -1)
    return np.eye(2 * count - 1)[rows + columns], np.eye(count)[np.abs(rows - columns)]


def _mean_and_variance(
    weights: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mean = weights @ values
    return mean, np.sum(weights * (values - mean[..., None]) ** 2, axis=-1)


def _entropy(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    entropy: npt.NDArray[np.float64] = -np.sum(
        weights * np.log(weights, where=weights > 0, out=np.zeros_like(weights)), axis=-1
    )
    return entropy


def _ratio(
    top: npt.NDArray[np.float64], bottom: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Quotient, 0 where there is nothing to divide by."""
    return np.divide(top, bottom, where=bottom > 1e-12, out=np.zeros_like(top))
